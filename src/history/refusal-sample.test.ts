import assert from 'node:assert/strict'
import { test } from 'node:test'
import { RefusalSample } from './refusal-sample.ts'

test('the first refusal of each reason and zone is kept, then one a minute, with how many were left out', () => {
  let nowMs = 0
  const sample = new RefusalSample(() => nowMs)
  const take = (zone = 'mail/12', reason = 'name_not_found'): number | null => sample.take(reason, zone)
  assert.deepEqual(
    [take(), take(), take(), take('mail/13'), take('mail/12', 'no_address')],
    [0, null, null, 0, 0],
  )
  nowMs = 60_000
  assert.deepEqual([take(), take()], [2, null])
})

test('a scan of ids leaves room: so many at once, and so many a second', () => {
  let nowMs = 0
  const sample = new RefusalSample(() => nowMs)
  const scan = (): number =>
    Array.from({ length: 10_000 }, (_, id) => sample.take('name_not_found', `mail/${nowMs}-${id}`)).filter(
      (taken) => taken !== null,
    ).length
  assert.equal(scan(), 500)
  nowMs = 10_000
  assert.equal(scan(), 100)
})
