import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Zone } from '../routing/rules.ts'
import { HISTORY_POINTS, SLOT_SECONDS, ZoneActivity } from './zone-activity.ts'

const zone = (id: string): Zone => ({
  id,
  service: { name: 'default', label: 'default', rule: 'default', port: 8101 },
  name: `zone${id}-default.s.test`,
})
const ref = (id: string) => ({ service: 'default', id })
const load = { requests: 50, errors: 2 }

function activity(coldMax = 10) {
  const clock = { now: 1_000_000 }
  const made = new ZoneActivity({ coldMax, idleMs: 60_000 }, () => clock.now)
  const ids = (): string[] => [...made.list(false)].map(({ id }) => id)
  const slots = (count: number): void => {
    for (let slot = 0; slot < count; slot += 1) {
      clock.now += SLOT_SECONDS * 1000
      made.nextSlot()
    }
  }
  return { made, clock, ids, slots }
}

test('a zone is listed from its first forwarded request, and has a rate in the next slot', () => {
  const { made, slots } = activity()
  for (let i = 0; i < 10; i += 1) made.used(zone('1'))
  assert.equal(made.find(ref('1'))?.requestsPerSecond, 0)
  slots(1)
  assert.equal(made.find(ref('1'))?.requestsPerSecond, 1)
  assert.equal(made.find(ref('1'))?.name, 'zone1-default.s.test')
})

test('a cold zone goes when it is idle, when its name is gone, and when there are too many', () => {
  const { made, ids, slots } = activity(2)
  made.used(zone('1'))
  made.notFound(zone('1'))
  assert.deepEqual(ids(), [])
  for (const id of ['1', '2', '1', '3']) made.used(zone(id))
  assert.deepEqual(ids(), ['1', '3'])
  slots(12)
  assert.deepEqual(ids(), [])
})

test('a learned zone stays though it is idle, and whatever else is asked for', () => {
  const { made, ids, slots } = activity(1)
  made.changed(ref('1'), 'learned', 'n1')
  for (const id of ['2', '3']) made.used(zone(id))
  slots(20)
  assert.deepEqual(ids(), ['1'])
  assert.equal(made.learnedCount, 1)
})

test('a zone that goes back to asking stays listed, unless its name is gone', () => {
  const { made, ids } = activity()
  for (const id of ['1', '2']) {
    made.used(zone(id))
    made.changed(ref(id), 'learned', `n${id}`)
  }
  made.changed(ref('1'), 'idle', 'n1')
  made.changed(ref('2'), 'nxdomain', 'n2')
  assert.deepEqual(ids(), ['1'])
  assert.equal(made.find(ref('1'))?.learned, false)
})

for (const change of ['renamed', 'rekeyed', 'unknown', 'policy', 'evicted'] as const)
  test(`a zone that is forgotten as ${change} stays listed as cold until it is idle, with its requests`, () => {
    const { made, clock, ids, slots } = activity()
    made.used(zone('1'))
    made.changed(ref('1'), 'learned', 'n1')
    clock.now += 50_000
    made.reported('envoy-a', ref('1'), load)
    made.changed(ref('1'), change, 'other')
    slots(11)
    const use = made.find(ref('1'))
    assert.deepEqual([use?.learned, use?.name, use?.errors], [false, 'n1', 2])
    assert.equal(made.sumsOf(ref('1'))?.requests, 51)
    slots(1)
    assert.deepEqual(ids(), [])
  })

test('a request that a learned zone asked the processor for is a use, and so is a zone that an Envoy still had', () => {
  const { made, clock, ids, slots } = activity()
  made.used(zone('1'))
  made.changed(ref('1'), 'learned', 'n1')
  clock.now += 60_000
  made.used(zone('1'))
  made.changed(ref('2'), 'adopted', 'n2')
  for (const id of ['1', '2']) made.changed(ref(id), 'renamed', `n${id}`)
  slots(11)
  assert.deepEqual(ids(), ['1', '2'])
})

test('a zone whose new name is not in DNS stays in use: it was forwarded to another name', () => {
  const { made, ids } = activity()
  made.used(zone('1'))
  made.notFound({ ...zone('1'), name: 'other.s.test' })
  assert.deepEqual(ids(), ['1'])
  made.notFound(zone('1'))
  assert.deepEqual(ids(), [])
})

test("Envoys' reports make rates and errors, of all Envoys together", () => {
  const { made, slots } = activity()
  made.changed(ref('1'), 'learned', 'n1')
  made.reported('envoy-a', ref('1'), load)
  made.reported('envoy-b', ref('1'), load)
  slots(1)
  const use = made.find(ref('1'))
  assert.deepEqual(use?.envoys, ['envoy-a', 'envoy-b'])
  assert.deepEqual([use?.requestsPerSecond, use?.errors], [10, 4])
})

test('an Envoy that reports a zone no more has it no more', () => {
  const { made, slots } = activity()
  made.changed(ref('1'), 'learned', 'n1')
  made.reported('envoy-a', ref('1'), { requests: 0, errors: 0 })
  slots(2)
  assert.deepEqual(made.find(ref('1'))?.envoys, ['envoy-a'])
  slots(1)
  assert.deepEqual(made.find(ref('1'))?.envoys, [])
})

test('a report of a zone that nobody knows is nothing', () => {
  const { made, ids } = activity()
  made.reported('envoy-a', ref('1'), load)
  assert.deepEqual(ids(), [])
})

test('the history has its points, oldest first, and forgets what is older', () => {
  const { made, slots } = activity()
  made.changed(ref('1'), 'learned', 'n1')
  made.reported('e', ref('1'), load)
  slots(1)
  const history = (): readonly number[] => [...made.list(true)][0]?.history ?? []
  assert.equal(history().length, HISTORY_POINTS)
  assert.equal(history().at(-1), 5)
  slots(HISTORY_POINTS + 2)
  assert.ok(history().every((rate) => rate === 0))
  assert.equal(made.find(ref('1'))?.errors, 0)
})

test('a report that slips into the neighbouring slot leaves the rate as it is', () => {
  const { made, slots } = activity()
  made.changed(ref('1'), 'learned', 'n1')
  made.reported('e', ref('1'), load)
  slots(1)
  slots(1) // this one's report is late
  made.reported('e', ref('1'), load)
  made.reported('e', ref('1'), load)
  slots(1)
  assert.equal(made.find(ref('1'))?.requestsPerSecond, 10)
})

test('counts are right again when a zone is looked at after many slots', () => {
  for (const pause of [
    1,
    HISTORY_POINTS - 2,
    HISTORY_POINTS + 1,
    HISTORY_POINTS + 2,
    HISTORY_POINTS + 3,
    1000,
  ]) {
    const { made, clock, slots } = activity()
    const looked = activity()
    for (const each of [made, looked.made]) {
      each.changed(ref('1'), 'learned', 'n1')
      each.reported('a', ref('1'), load)
    }
    slots(pause)
    for (let slot = 0; slot < pause; slot += 1) {
      looked.slots(1)
      assert.notEqual(looked.made.find(ref('1')), null)
    }
    const seen = (of: ZoneActivity) => [[...of.list(true)], [...of.failing()], of.sumsOf(ref('1'))]
    assert.deepEqual(seen(made), seen(looked.made), `${pause} slots`)
    const { errors } = made.sumsOf(ref('1')) ?? {}
    assert.equal(errors, pause < HISTORY_POINTS + 2 ? load.errors : 0, `${pause} slots`)
    made.reported('a', ref('1'), load)
    assert.equal(made.sumsOf(ref('1'))?.errors, (errors ?? 0) + load.errors)
    assert.equal(clock.now, looked.clock.now)
  }
})
