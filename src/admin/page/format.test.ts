import assert from 'node:assert/strict'
import { describe, it } from 'node:test'

const { count, counted, duration, milliseconds, rate } = await import(
  new URL('format.js', import.meta.url).href
)

describe('what the page writes', () => {
  const cases: readonly (readonly [written: string, wanted: string])[] = [
    [count(1234567), '1,234,567'],
    [counted(1, 'zone'), '1 zone'],
    [counted(2000, 'zone'), '2,000 zones'],
    [rate(0), '0'],
    [rate(0.04), '0.0'],
    [rate(12.34), '12.3'],
    [rate(99.96), '100'],
    [rate(33_919.4), '33,919'],
    [milliseconds(0.84), '0.8 ms'],
    [milliseconds(12.4), '12 ms'],
    [milliseconds(1500), '1.5 s'],
    [duration(-5), '0 s'],
    [duration(42_400), '42 s'],
    [duration(119_400), '119 s'],
    [duration(12 * 60_000), '12 min'],
    [duration(3 * 3_600_000 + 5 * 60_000), '3 h 05 min'],
    [duration(9 * 86_400_000 + 4 * 3_600_000), '9 d 4 h'],
  ]
  for (const [written, wanted] of cases) it(`is ${wanted}`, () => assert.equal(written, wanted))
})
