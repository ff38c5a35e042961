import assert from 'node:assert/strict'
import { test } from 'node:test'
import { clockThroughSuspension, now } from './clock.ts'

test('time goes on while the machine is suspended', () => {
  const [clock, at] = clocks()
  at.monotonicMs += 5000
  at.uptimeMs += 5000 + 3_600_000
  assert.equal(clock(), 3_605_000)
  at.monotonicMs += 1500
  at.uptimeMs += 1500 + 60_000
  assert.equal(clock(), 3_666_500)
})

test('a small difference between the two readings does not move the clock', () => {
  const [clock, at] = clocks()
  for (let second = 1; second <= 100; second++) {
    at.monotonicMs += 1000
    at.uptimeMs = at.monotonicMs + 5_000_000 + (second % 2 === 0 ? 900 : -900)
    assert.equal(clock(), at.monotonicMs)
  }
})

test('it only moves forwards', () => {
  const [clock, at] = clocks()
  at.monotonicMs += 2000
  at.uptimeMs -= 4_000_000
  assert.equal(clock(), 2000)
  at.monotonicMs += 2000
  at.uptimeMs += 10_000_000
  assert.ok(clock() >= 4000)
})

test('the uptime is read once a second', () => {
  let readings = 0
  let monotonicMs = 0
  const clock = clockThroughSuspension(
    () => monotonicMs,
    () => {
      readings++
      return monotonicMs
    },
  )
  for (; monotonicMs < 10_000; monotonicMs++) clock()
  assert.ok(readings <= 11, `${readings} readings`)
})

test('the clock in use is that of the system', () => {
  assert.ok(Math.abs(now() - performance.now()) < 1000)
})

function clocks(): [clock: () => number, at: { monotonicMs: number; uptimeMs: number }] {
  const at = { monotonicMs: 0, uptimeMs: 5_000_000 }
  return [
    clockThroughSuspension(
      () => at.monotonicMs,
      () => at.uptimeMs,
    ),
    at,
  ]
}
