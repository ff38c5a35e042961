import assert from 'node:assert/strict'
import { test } from 'node:test'
import { TokenBucket } from './token-bucket.ts'

test('a full bucket gives its burst at once and then nothing', () => {
  const bucket = new TokenBucket(10, 3, () => 0)
  assert.deepEqual(
    [1, 2, 3, 4].map(() => bucket.take()),
    [true, true, true, false],
  )
})

test('it fills at its rate, and no further than its burst', () => {
  let nowMs = 0
  const bucket = new TokenBucket(10, 3, () => nowMs)
  while (bucket.take());
  nowMs += 150
  assert.equal(bucket.tokens, 1.5)
  assert.equal(bucket.take(), true)
  assert.equal(bucket.take(), false)
  nowMs += 60_000
  assert.equal(bucket.tokens, 3)
})

test('the wait for a token ends when there is one', () => {
  let nowMs = 0
  const bucket = new TokenBucket(10, 1, () => nowMs)
  assert.equal(bucket.msUntilNext(), 0)
  bucket.take()
  assert.equal(bucket.msUntilNext(), 100)
  nowMs += 30
  assert.equal(Math.round(bucket.msUntilNext()), 70)
})

test('however time passes, no more is taken than the burst and what was earned', () => {
  let nowMs = 5000
  let taken = 0
  const bucket = new TokenBucket(500, 50, () => nowMs)
  for (let step = 0; step < 10_000; step++) {
    nowMs += (step % 7) * 0.13
    if (bucket.take()) taken++
    assert.ok(taken <= 50 + (500 * (nowMs - 5000)) / 1000 + 1e-6)
  }
  assert.ok(taken > 1000)
})
