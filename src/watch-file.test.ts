import assert from 'node:assert/strict'
import fs, { mkdirSync, mkdtempSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { syncBuiltinESMExports } from 'node:module'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import type { Timers } from './timers.ts'
import { type FileState, fileState, watchFileForChanges } from './watch-file.ts'

const POLL_MS = 2000
const SETTLE_MS = 50

/** Timers that go off when the test says so. */
class ManualTimers implements Timers {
  readonly #started = new Map<object, { callback: () => void; milliseconds: number }>()

  now(): number {
    return 0
  }

  start(callback: () => void, milliseconds: number): { cancel(): void } {
    const timer = { cancel: (): void => void this.#started.delete(timer) }
    this.#started.set(timer, { callback, milliseconds })
    return timer
  }

  has(milliseconds: number): boolean {
    return [...this.#started.values()].some((timer) => timer.milliseconds === milliseconds)
  }

  goOff(milliseconds: number): void {
    for (const [timer, { callback, milliseconds: time }] of [...this.#started])
      if (time === milliseconds && this.#started.delete(timer)) callback()
  }
}

function watched(context: TestContext) {
  const folder = mkdtempSync(join(tmpdir(), 'zonegate-watch-'))
  const path = join(folder, 'file')
  const timers = new ManualTimers()
  let changes = 0
  const start = (since?: FileState): void => {
    const onBug = (error: unknown): never => assert.fail(error as Error)
    const options = {
      pollMs: POLL_MS,
      settleMs: SETTLE_MS,
      onBug,
      timers,
      ...(since !== undefined && { since }),
    }
    const stop = watchFileForChanges(path, options, () => {
      changes++
    })
    context.after(stop)
  }
  context.after(() => rmSync(folder, { recursive: true }))
  return { folder, path, timers, start, changes: () => changes }
}

async function until(condition: () => boolean): Promise<void> {
  for (let left = 5000; !condition(); left--) {
    assert.ok(left > 0, `not in time: ${condition}`)
    await new Promise((done) => setTimeout(done, 2))
  }
}
/** Long enough for a `stat`. */
const moment = (): Promise<void> => new Promise((done) => setTimeout(done, 50))

test('the watch sees a new or replaced file at once, and reports it after it has settled', async (context) => {
  const { path, timers, start, changes } = watched(context)
  start()
  writeFileSync(path, 'one')
  for (const count of [1, 2]) {
    await until(() => timers.has(SETTLE_MS))
    assert.equal(changes(), count - 1)
    await until(() => {
      timers.goOff(SETTLE_MS)
      return changes() === count
    })
    writeFileSync(`${path}.new`, `text ${count}`)
    renameSync(`${path}.new`, path)
  }
})

test('a file that changes again while it settles has to settle again', async (context) => {
  const { path, timers, start, changes } = watched(context)
  writeFileSync(path, 'one')
  start()
  // The first half of a save. The directory's watch sees it, or else the poll.
  writeFileSync(path, 'tw')
  await until(() => timers.has(SETTLE_MS))
  await moment()
  writeFileSync(path, 'two three')
  timers.goOff(SETTLE_MS)
  await moment()
  assert.equal(changes(), 0)
  await until(() => {
    timers.goOff(SETTLE_MS)
    return changes() === 1
  })
})

test('the poll sees a swapped symlink', async (context) => {
  const { folder, path, timers, start, changes } = watched(context)
  const elsewhere = join(folder, 'elsewhere')
  mkdirSync(elsewhere)
  const swap = (text: string): void => {
    writeFileSync(join(elsewhere, text), text)
    symlinkSync(text, join(elsewhere, 'next'))
    renameSync(join(elsewhere, 'next'), join(elsewhere, 'current'))
  }
  swap('one')
  symlinkSync(join(elsewhere, 'current'), path)
  start()
  await moment()
  swap('another')
  await moment()
  assert.ok(!timers.has(SETTLE_MS), 'its own directory has not changed')
  timers.goOff(POLL_MS)
  await until(() => timers.has(SETTLE_MS))
  await until(() => {
    timers.goOff(SETTLE_MS)
    return changes() === 1
  })
})

test('a save between the reading of a file and the start of its watch is seen', async (context) => {
  const { path, timers, start, changes } = watched(context)
  writeFileSync(path, 'one')
  const since = fileState(path)
  writeFileSync(path, 'one two')
  start(since)
  timers.goOff(POLL_MS)
  await until(() => timers.has(SETTLE_MS))
  await until(() => {
    timers.goOff(SETTLE_MS)
    return changes() === 1
  })
})

test('while a look hangs, as on a network file system, there is no other; the change is seen afterwards', async (context) => {
  const { path, timers, start, changes } = watched(context)
  writeFileSync(path, 'one')
  const { stat } = fs
  const hanging: (() => void)[] = []
  const hang = (...args: Parameters<typeof stat>): void => void hanging.push(() => stat(...args))
  context.mock.method(fs, 'stat', hang)
  syncBuiltinESMExports()
  context.after(() => {
    context.mock.restoreAll()
    syncBuiltinESMExports()
  })
  start()
  for (let look = 0; look < 5; look++) timers.goOff(POLL_MS)
  assert.equal(hanging.length, 1)
  writeFileSync(path, 'one two')
  await until(() => {
    hanging.shift()?.()
    timers.goOff(SETTLE_MS)
    return changes() === 1
  })
})
