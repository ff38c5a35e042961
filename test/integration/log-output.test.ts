import assert from 'node:assert/strict'
import { type ChildProcessByStdio, spawn } from 'node:child_process'
import { once } from 'node:events'
import type { Readable } from 'node:stream'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'

/** The log of a process whose reader stands still, or is gone: real pipes, since what they do is the point. */
const LOG = fileURLToPath(new URL('../../src/log.ts', import.meta.url))

type Program = ChildProcessByStdio<null, Readable, null> & { stdout: Readable }

/** A process that logs, and does what `body` says. */
function start(body: string): Program {
  const program = `
    import { createLog } from ${JSON.stringify(LOG)}
    const log = createLog({ level: 'info', pretty: false, colour: false, output: process.stdout })
    const tick = (ms) => new Promise((done) => setTimeout(done, ms))
    ${body}`
  const args = ['--disable-warning=ExperimentalWarning', '--input-type=module', '--eval', program]
  return spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit', 'ipc'] }) as Program
}

const FILLER = 'x'.repeat(1000)

test('a process ends though the reader of its log is gone', async () => {
  const child = start(`
    process.on('SIGTERM', () => { log.info('last words'); log.flush(() => process.exit(0)) })
    log.info('one')
    setInterval(() => {}, 1000)`)
  await once(child.stdout, 'data')
  child.stdout.destroy()
  child.kill('SIGTERM')
  assert.deepEqual(await once(child, 'exit'), [0, null])
})

test('a process ends though the reader of its log stands still', async () => {
  const child = start(`
    for (let line = 0; line < 1000; line++) log.info({ line }, '${FILLER}')
    await tick(50)
    log.flush(() => process.exit(0))`)
  const [code] = await once(child, 'exit')
  assert.equal(code, 0)
  child.stdout.destroy()
})

test('what a reader does not take in time is left out, and it is told how much; nothing is cut', async () => {
  const child = start(`
    for (let line = 0; line < 20_000; line++) log.info({ line }, '${FILLER}')
    await tick(200)
    log.info('after')
    process.on('SIGTERM', () => log.flush(() => process.exit(0)))
    process.send('logged')
    setInterval(() => {}, 1000)`)
  await once(child, 'message')
  let text = ''
  const giveUp = setTimeout(() => child.kill('SIGTERM'), 10_000)
  for await (const chunk of child.stdout) {
    text += chunk
    if (text.includes('lines are missing')) child.kill('SIGTERM')
  }
  clearTimeout(giveUp)
  assert.ok(text.endsWith('\n'), 'the last line is whole')
  const lines = text
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line))
  const missing = lines.find(({ msg }) => /lines are missing/.test(msg))?.lines
  const seen = lines.filter(({ line }) => line !== undefined).length
  assert.ok(seen > 3000 && seen < 20_000, `${seen} lines`)
  const later = lines.some(({ msg }) => msg === 'after') ? 0 : 1 // a short line may fit where no long one does
  assert.equal(seen + missing, 20_000 + later)
})

test('a log that grows without end is written at 1 MiB a second, and it is told how much is missing', async () => {
  const started = performance.now()
  const child = start(`
    for (let line = 0; line < 20_000; line++) {
      log.info({ line }, '${FILLER}')
      if (line % 100 === 0) await tick(1)
    }
    await tick(100)
    log.info('after')
    log.flush(() => process.exit(0))`)
  let text = ''
  for await (const chunk of child.stdout) text += chunk
  const mebibytes = text.length / 1024 / 1024
  const seconds = (performance.now() - started) / 1000
  assert.ok(mebibytes > 3 && mebibytes < 4 + seconds, `${mebibytes} MiB in ${seconds} s`)
  const lines = text
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line))
  const missing = lines.reduce((sum, { lines: few = 0 }) => sum + few, 0)
  assert.equal(lines.filter(({ line }) => line !== undefined).length + missing, 20_000)
})

test('the last line before the end is there', async () => {
  const child = start(`
    log.fatal('the end')
    log.flush(() => process.exit(1))`)
  let text = ''
  for await (const chunk of child.stdout) text += chunk
  assert.match(text, /"msg":"the end"/)
})
