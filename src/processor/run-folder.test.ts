import assert from 'node:assert/strict'
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmdirSync, rmSync, writeFileSync } from 'node:fs'
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

test('files of certificates that no cluster names are removed, and stay where they can not be', () => {
  const [startedIn, folder] = [process.cwd(), mkdtempSync(join(tmpdir(), 'zonegate-run-'))]
  const log = { info: () => undefined, warn: () => undefined }
  const timers = { now: () => 0, start: () => ({ cancel: () => undefined }) }
  try {
    process.chdir(folder)
    const run = new RunFolder(false, { log, timers, onWritten: () => undefined })
    const names = ['upstream-ca.0a.yaml', 'upstream-certificate.0b.yaml', 'routes.yaml']
    mkdirSync('run')
    for (const name of names) writeFileSync(`run/${name}`, '')
    run.removeSecrets((name) => name.includes('0b'))
    assert.deepEqual(readdirSync('run').sort(), ['routes.yaml', 'upstream-certificate.0b.yaml'])
    mkdirSync('run/upstream-ca.0c.yaml')
    run.removeSecrets(() => true)
    run.removeSecrets(() => false)
    assert.deepEqual(readdirSync('run/upstream-ca.0c.yaml'), [])
  } finally {
    process.chdir(startedIn)
    rmSync(folder, { recursive: true, force: true })
  }
})
