import assert from 'node:assert/strict'
import { mkdirSync, mkdtempSync, readFileSync, rmdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { RunFolder } from './run-folder.ts'

test('a failed write is a fault, and the folder tries again until it succeeds', () => {
  const [startedIn, folder] = [process.cwd(), mkdtempSync(join(tmpdir(), 'zonegate-run-'))]
  const lines: string[] = []
  const waiting: (() => void)[] = []
  const written: unknown[] = []
  const log = { info: () => undefined, warn: (_: unknown, text?: string) => void lines.push(text ?? '') }
  const timers = {
    now: () => 0,
    start: (callback: () => void) => {
      waiting.push(callback)
      return { cancel: () => void waiting.splice(waiting.indexOf(callback) >>> 0, 1) }
    },
  }
  const goOff = (): void => waiting.shift()?.()
  try {
    process.chdir(folder)
    const run = new RunFolder(true, { log, timers, onWritten: (rendered) => void written.push(rendered) })
    mkdirSync('run/routes.yaml', { recursive: true })
    run.write({ listener: 'of before', routes: 'resources: []' })
    run.write({ listener: 'resources: [1]' })
    assert.match(run.fault ?? '', /^run\/: the processor can't write Envoy's files \(.*\); it tries again/)
    goOff()
    assert.deepEqual([waiting.length, written, lines.length], [1, [], 1])
    rmdirSync('run/routes.yaml')
    goOff()
    assert.deepEqual([run.fault, waiting.length], [undefined, 0])
    assert.deepEqual(written, [{ listener: 'resources: [1]', routes: 'resources: []' }])
    assert.equal(readFileSync('run/routes.yaml', 'utf8'), 'resources: []')
    assert.equal(readFileSync('run/listener.yaml', 'utf8'), 'resources: [1]')
  } finally {
    process.chdir(startedIn)
    rmSync(folder, { recursive: true, force: true })
  }
})
