import assert from 'node:assert/strict'
import { test } from 'node:test'
import { nodeTimers } from './timers.ts'

test("a time beyond the limit of Node's timers doesn't end at once", async (context) => {
  const timers = nodeTimers(() => performance.now(), assert.fail)
  let ended = 0
  const timer = timers.start(() => ended++, 60 * 86_400_000)
  context.after(() => timer.cancel())
  await new Promise((done) => setTimeout(done, 50))
  assert.equal(ended, 0)
})
