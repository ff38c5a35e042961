import assert from 'node:assert/strict'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import { eventually, startProcessorAlone } from '../support/processor.ts'

/** Writes which of OpenTelemetry's packages are loaded into a file, one a line. */
const HOOK = `
import { appendFileSync } from 'node:fs'
import { registerHooks } from 'node:module'
registerHooks({
  load(url, context, next) {
    const [, name] = /@opentelemetry[/]([^/]+)/.exec(url) ?? []
    if (name !== undefined) appendFileSync('loaded.txt', name + '\\n')
    return next(url, context)
  },
})
`

test("OpenTelemetry's packages are loaded with tracing, and none of them without", async () => {
  const processor = await startProcessorAlone({
    prepare: (folder) => {
      writeFileSync(join(folder, 'loaded.txt'), '')
      writeFileSync(join(folder, 'hook.mjs'), HOOK)
    },
    // Options of Node are read where it starts.
    environment: { NODE_OPTIONS: '--import ./hook.mjs' },
  })
  try {
    const loaded = (): Set<string> =>
      new Set(readFileSync(join(processor.folder, 'loaded.txt'), 'utf8').split('\n').filter(Boolean))
    // prom-client loads the api by itself.
    const own = (): string[] => [...loaded()].filter((name) => name !== 'api')
    await processor.ask('/metrics')
    await processor.ask('/api/explain?id=12')
    assert.deepEqual(own(), [])
    const file = join(processor.folder, 'zonegate.yaml')
    writeFileSync(file, `${readFileSync(file, 'utf8')}\ntracing: { otlp: "http://127.0.0.1:9" }\n`)
    processor.signal('SIGHUP')
    await eventually('the packages are loaded', () => loaded().has('exporter-trace-otlp-grpc'))
  } finally {
    await processor.stop()
  }
})
