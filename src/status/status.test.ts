import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Answer } from '../dns/answer.ts'
import type { NameStatus } from '../dns/dns.ts'
import type { Said } from '../routing/said.ts'
import { stateOf, type ZoneStatus, zoneStatus } from './status.ts'
import type { ZoneUse } from './zone-activity.ts'

const positive = (addresses: string[], stale = false, ttlSeconds = 5): Answer => ({
  kind: 'positive',
  name: 'n',
  addresses,
  denied: [],
  ttlSeconds,
  stale,
})
const STATES: [answer: Answer | null, expected: string][] = [
  [positive(['10.0.0.1']), 'fresh'],
  [positive(['10.0.0.1'], true), 'stale'],
  [positive(['10.0.0.1'], false, 0), 'uncached'],
  [positive(['10.0.0.1'], true, 0), 'stale'],
  [positive([]), 'denied'],
  [positive([], false, 0), 'denied'],
  [{ kind: 'nxdomain', name: 'n', ttlSeconds: 1, nameserver: 's' }, 'nxdomain'],
  [{ kind: 'nodata', name: 'n', ttlSeconds: 1, nameserver: 's' }, 'nodata'],
  [{ kind: 'failure', name: 'n', cause: 'timeout', tries: [] }, 'failed'],
  [null, 'unknown'],
]
for (const [answer, expected] of STATES)
  test(`${answer?.kind ?? 'nothing'} is ${expected}`, () => assert.equal(stateOf(answer), expected))

const use: ZoneUse = {
  service: 'default',
  id: '1',
  name: 'n',
  learned: true,
  envoys: [],
  requestsPerSecond: 0,
  errors: 0,
}
const known: NameStatus = {
  name: 'n',
  answer: positive(['10.0.0.1']),
  secondsLeft: 12.34,
  expired: false,
  kept: true,
}

const shown = (of: ZoneUse, answer: NameStatus | undefined, at: number, said?: Said): ZoneStatus =>
  zoneStatus(of, answer, at, () => 'asked_once', said)

test('a zone is cold, learned once it is pushed, hot once an Envoy reports it', () => {
  const routeOf = (given: Partial<ZoneUse>): string => shown({ ...use, ...given }, known, 0).route
  assert.deepEqual(
    [routeOf({ learned: false }), routeOf({}), routeOf({ envoys: ['e'] })],
    ['cold', 'learned', 'hot'],
  )
})

test('a zone that is not hot has a reason, if it has an address', () => {
  const reasonOf = (given: Partial<ZoneUse>, answer: NameStatus | undefined): string | null =>
    shown({ ...use, ...given }, answer, 0).coldReason
  assert.equal(reasonOf({ learned: false }, known), 'asked_once')
  assert.equal(reasonOf({}, known), 'asked_once')
  assert.equal(reasonOf({ envoys: ['e'] }, known), null)
  assert.equal(reasonOf({ learned: false }, { ...known, answer: positive([]) }), null)
  assert.equal(reasonOf({ learned: false }, undefined), null)
})

test('the end of a lifetime is the same moment, whenever it is told', () => {
  assert.equal(shown(use, known, 1_000_000).expiresAt, 1_012_300)
  assert.equal(shown(use, { ...known, secondsLeft: 11.34 }, 1_001_000).expiresAt, 1_012_300)
})

test('a zone past its TTL is expired while nobody asks, and stale while nameservers fail', () => {
  const past = { ...known, answer: positive(['10.0.0.1'], true), secondsLeft: -5 }
  const { state, addresses } = shown(use, { ...past, expired: true }, 0)
  assert.deepEqual([state, addresses], ['expired', ['10.0.0.1']])
  assert.equal(shown(use, past, 0).state, 'stale')
})

test('a zone with TTL 0 has the addresses of its last request, and no lifetime', () => {
  const uncached = { ...known, answer: positive(['10.0.0.1'], false, 0), secondsLeft: null }
  const { state, addresses, expiresAt } = shown(use, uncached, 0)
  assert.deepEqual([state, addresses, expiresAt], ['uncached', ['10.0.0.1'], null])
})

test('a zone whose name is not cached has no addresses and no lifetime', () => {
  const { state, addresses, expiresAt } = shown(use, undefined, 0)
  assert.deepEqual([state, addresses, expiresAt], ['unknown', [], null])
})

test('a pinned zone has the addresses of its pin, and one in maintenance none, whatever DNS says', () => {
  const pinned = { addresses: ['10.9.9.9'], denied: [], by: { key: 'zones.1' } }
  const maintenance = { key: 'zones.1', text: 'x', status: 503, retryAfterSeconds: null }
  const told = (said: Said): unknown[] => {
    const { state, addresses, expiresAt } = shown(use, known, 0, said)
    return [state, addresses, expiresAt]
  }
  assert.deepEqual(told({ pinned }), ['pinned', ['10.9.9.9'], null])
  assert.deepEqual(told({ pinned: { ...pinned, addresses: [], denied: ['127.0.0.1'] } }), [
    'denied',
    [],
    null,
  ])
  assert.deepEqual(told({ maintenance }), ['maintenance', [], null])
  assert.deepEqual(told({ merged: { id: '2', key: 'zones.1' } }), ['fresh', ['10.0.0.1'], 12_300])
})
