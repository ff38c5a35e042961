import assert from 'node:assert/strict'
import { test } from 'node:test'
import { targets } from './targets.ts'

/** Short, with a seed of its own for each day; `npm run fuzz` goes on for as long as one likes. */
const RUNS = 500
const TIMEOUT_MS = 4000
const seed = Math.floor(Date.now() / 86_400_000)

for (const { name, check } of targets) {
  test(name, async () => {
    const { failure } = await check({ seed, runs: RUNS, timeoutMs: TIMEOUT_MS })
    assert.equal(failure, null)
  })
}
