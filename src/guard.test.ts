import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { guarded } from './guard.ts'
import { nodeTimers } from './timers.ts'
import { watchFileForChanges } from './watch-file.ts'

const bug = new Error('a bug')
const fail = (): void => {
  throw bug
}

test('an exception and a rejection go to onBug, and no further', async () => {
  const bugs: unknown[] = []
  guarded((error) => bugs.push(error), fail)()
  guarded(
    (error) => bugs.push(error),
    async () => fail(),
  )()
  await new Promise((resolve) => setImmediate(resolve))
  assert.deepEqual(bugs, [bug, bug])
})

test('arguments are handed on', () => {
  const seen: unknown[] = []
  guarded(assert.fail, (...args: unknown[]) => void seen.push(...args))(1, 'two')
  assert.deepEqual(seen, [1, 'two'])
})

test('an exception in a timer goes to onBug, and the process goes on', async () => {
  const error = await new Promise((resolve) => nodeTimers(() => 0, resolve).start(fail, 1))
  assert.equal(error, bug)
})

test('a watcher whose callback has failed still sees the next change', async (context) => {
  const folder = mkdtempSync(join(tmpdir(), 'zonegate-guard-'))
  const file = join(folder, 'file')
  writeFileSync(file, '0')
  let told: (error: unknown) => void = () => undefined
  const stop = watchFileForChanges(file, { pollMs: 20, settleMs: 20, onBug: (error) => told(error) }, fail)
  context.after(() => {
    stop()
    rmSync(folder, { recursive: true })
  })
  for (const text of ['one', 'another']) {
    const caught = new Promise((resolve) => {
      told = resolve
    })
    // A write before the watch's first look is no change, so write until it sees one.
    const writing = setInterval(() => writeFileSync(file, `${text} ${performance.now()}`), 100)
    assert.equal(await caught, bug)
    clearInterval(writing)
  }
})
