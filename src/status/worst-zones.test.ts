import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Zone } from '../routing/rules.ts'
import { WorstZones } from './worst-zones.ts'
import { HISTORY_POINTS, ZoneActivity } from './zone-activity.ts'

const zone = (id: string): Zone => ({
  id,
  service: { name: 'pay', label: 'pay', rule: 'default', port: 8101 },
  name: `zone${id}.s.test`,
})

function worstZones(most = 10) {
  const activity = new ZoneActivity({ coldMax: 10_000, idleMs: 1e9 }, () => 0)
  const bound = { most }
  const worst = new WorstZones(activity, () => bound.most)
  return {
    bound,
    worst,
    ids: () => worst.list().map(({ id }) => id),
    load: (id: string, requests: number, errors: number) => {
      activity.used(zone(id))
      activity.reported('e', { service: 'pay', id }, { requests: requests - 1, errors })
    },
    refuse: (id: string, times: number) => {
      for (let i = 0; i < times; i += 1) worst.refused(zone(id))
    },
    slots: (count = 3) => {
      for (let slot = 0; slot < count; slot += 1) {
        activity.nextSlot()
        worst.nextSlot()
      }
    },
  }
}

test('zones with the most errors and the most refusals are listed, with all that is known of them', () => {
  const { worst, load, refuse, slots } = worstZones()
  load('good', 1000, 0)
  load('bad', 100, 50)
  load('worse', 100, 90)
  refuse('gone', 20)
  refuse('bad', 7)
  slots()
  assert.deepEqual(worst.list(), [
    { service: 'pay', id: 'worse', name: 'zoneworse.s.test', requests: 100, errors: 90, refusals: 0 },
    { service: 'pay', id: 'bad', name: 'zonebad.s.test', requests: 100, errors: 50, refusals: 7 },
    { service: 'pay', id: 'gone', name: 'zonegone.s.test', requests: 0, errors: 0, refusals: 20 },
  ])
})

test('no more zones are listed than the bound, whatever happens, and none with 0', () => {
  const { worst, ids, bound, load, refuse, slots } = worstZones(10)
  for (let id = 0; id < 3000; id += 1) {
    load(`e${id}`, 20, 10)
    refuse(`r${id}`, 10)
  }
  slots()
  assert.equal(ids().length, 10)
  bound.most = 3
  assert.equal(ids().length, 3)
  bound.most = 0
  assert.deepEqual(ids(), [])
  slots()
  assert.deepEqual(worst.failing, [0, 0, 0])
})

test('refusals, which callers can cause, take no place of a zone with errors', () => {
  const { ids, load, refuse, slots } = worstZones(4)
  for (const id of ['1', '2', '3']) load(id, 100, 10)
  for (let id = 0; id < 50; id += 1) refuse(`r${id}`, 1000)
  slots()
  assert.deepEqual(ids().slice(0, 2), ['1', '2'])
  assert.equal(ids().length, 4)
})

test('a scan of random ids lists none of them, and hides no zone that is refused often', () => {
  const { ids, refuse, slots } = worstZones()
  for (let id = 0; id < 100_000; id += 1) {
    refuse(`scan${id}`, 1)
    if (id % 100 === 0) refuse('gone', 1)
  }
  slots()
  assert.deepEqual(ids(), ['gone'])
})

test('of two zones that are nearly alike the first stays; one twice as bad takes its place', () => {
  const { ids, load, slots } = worstZones(1)
  load('a', 100, 10)
  slots()
  load('b', 100, 19)
  slots()
  assert.deepEqual(ids(), ['a'])
  load('b', 100, 2)
  slots()
  assert.deepEqual(ids(), ['b'])
})

test('a zone is gone five minutes after its last error', () => {
  const { ids, load, refuse, slots } = worstZones()
  load('1', 100, 10)
  refuse('2', 10)
  slots()
  assert.deepEqual(ids(), ['1', '2'])
  slots(HISTORY_POINTS - 12)
  assert.deepEqual(ids(), ['1', '2'])
  slots(15)
  assert.deepEqual(ids(), [])
})

test('zones are counted by how much of them fails', () => {
  const { worst, load, slots } = worstZones()
  load('1', 100, 0)
  load('2', 100, 1)
  load('3', 100, 6)
  load('4', 100, 200)
  slots()
  assert.deepEqual(worst.failing, [3, 2, 1])
})
