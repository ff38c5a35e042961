import assert from 'node:assert/strict'
import { test } from 'node:test'
import { targets } from './targets.ts'

/** A short run with the same cases each time. `npm run fuzz` draws new cases, for as long as you like. */
const RUNS = 500
const TIMEOUT_MS = 4000
const SEED = 1

for (const { name, check } of targets) {
  test(name, async () => {
    const { failure } = await check({ seed: SEED, runs: RUNS, timeoutMs: TIMEOUT_MS })
    assert.equal(failure, null)
  })
}
