import assert from 'node:assert/strict'
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { copyFileSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, suite, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { freePort } from '../support/ports.ts'
import { startProcessorAlone, type TestProcessor } from '../support/processor.ts'

/** A real Prometheus, with the configuration that ships: it scrapes with the token, and can read what is asked of it. */
const ROOT = fileURLToPath(new URL('../..', import.meta.url))
const TOKEN = 'a-token-of-this-test'
const WITHIN_MS = 60_000

const installed = spawnSync('prometheus', ['--version']).error === undefined
let folder: string
let processor: TestProcessor
let prometheus: ChildProcess
let port: number

suite('Prometheus', { skip: !installed && 'prometheus is not installed (Debian: prometheus)' }, () => {
  before(async () => {
    folder = mkdtempSync(join(tmpdir(), 'zonegate-prometheus-'))
    processor = await startProcessorAlone({ listen: { httpToken: TOKEN } })
    port = await freePort()
    writeFileSync(join(folder, 'token'), TOKEN)
    copyFileSync(join(ROOT, 'deploy/prometheus/alerts.yaml'), join(folder, 'alerts.yaml'))
    const config = readFileSync(join(ROOT, 'deploy/prometheus/prometheus.yml'), 'utf8')
      .replace('processor:9003', `127.0.0.1:${processor.port}`)
      .replace('/run/secrets/zonegate_http_token', join(folder, 'token'))
      .replace('envoy:9902', '127.0.0.1:9') // nobody is there
      .replaceAll('15s', '1s')
    writeFileSync(join(folder, 'prometheus.yml'), config)
    const options = [`--config.file=${folder}/prometheus.yml`, `--storage.tsdb.path=${folder}/data`]
    prometheus = spawn('prometheus', [...options, `--web.listen-address=127.0.0.1:${port}`], {
      stdio: 'ignore',
    })
  })
  after(async () => {
    prometheus.kill('SIGKILL')
    await once(prometheus, 'exit')
    await processor.stop()
    rmSync(folder, { recursive: true, force: true })
  })

  test('scrapes the processor with the token', async () => {
    const deadline = performance.now() + WITHIN_MS
    for (let value = ''; value !== '1'; value = await sampleOf('up{job="zonegate"}').catch(() => '')) {
      assert.ok(performance.now() < deadline, 'not scraped in time')
      await sleep(200)
    }
    assert.equal(await sampleOf('count(zonegate_build_info)'), '1')
  })

  test('has taken all alerts over, and none of them is in error', async () => {
    const { data } = await ask<{ groups: { rules: { name: string; health: string }[] }[] }>('rules')
    const rules = data.groups.flatMap(({ rules }) => rules)
    const written = readFileSync(join(ROOT, 'deploy/prometheus/alerts.yaml'), 'utf8').match(/- alert:/g) ?? []
    assert.equal(rules.length, written.length)
    for (const { name, health } of rules) assert.notEqual(health, 'err', name)
  })

  test("understands each of the dashboard's queries", async () => {
    const { panels } = JSON.parse(readFileSync(join(ROOT, 'deploy/grafana/zonegate.json'), 'utf8')) as {
      panels: { title: string; targets?: { expr: string }[] }[]
    }
    for (const { title, targets = [] } of panels)
      for (const { expr } of targets) {
        const query = expr.replaceAll('$__rate_interval', '1m').replaceAll('$__range', '1h')
        const { status, error } = await ask('query', query)
        assert.equal(status, 'success', `${title}: ${error}: ${query}`)
      }
  })
})

interface Reply<T> {
  readonly status: string
  readonly error?: string
  readonly data: T
}

async function ask<T>(path: string, query?: string): Promise<Reply<T>> {
  const parameters = query === undefined ? '' : `?query=${encodeURIComponent(query)}`
  return (await (await fetch(`http://127.0.0.1:${port}/api/v1/${path}${parameters}`)).json()) as Reply<T>
}

/** Of a query with one result; empty where there is none yet. */
async function sampleOf(query: string): Promise<string> {
  const { data } = await ask<{ result: { value: [number, string] }[] }>('query', query)
  return data.result[0]?.value[1] ?? ''
}
