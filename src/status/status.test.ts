import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Answer } from '../dns/answer.ts'
import type { NameStatus } from '../dns/dns.ts'
import { stateOf, zoneStatus } from './status.ts'
import type { ZoneUse } from './zone-activity.ts'

const positive = (addresses: string[], stale = false): Answer => ({
  kind: 'positive',
  name: 'n',
  addresses,
  denied: [],
  ttlSeconds: 5,
  stale,
})
const STATES: [answer: Answer | null, expected: string][] = [
  [positive(['10.0.0.1']), 'fresh'],
  [positive(['10.0.0.1'], true), 'stale'],
  [positive([]), 'denied'],
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
const known: NameStatus = { name: 'n', answer: positive(['10.0.0.1']), secondsLeft: 12.34, kept: true }

test('a zone is cold, learned once it is pushed, hot once an Envoy reports it', () => {
  const routeOf = (given: Partial<ZoneUse>): string => zoneStatus({ ...use, ...given }, known, 0).route
  assert.deepEqual(
    [routeOf({ learned: false }), routeOf({}), routeOf({ envoys: ['e'] })],
    ['cold', 'learned', 'hot'],
  )
})

test('the end of a lifetime is the same moment, whenever it is told', () => {
  assert.equal(zoneStatus(use, known, 1_000_000).expiresAt, 1_012_300)
  assert.equal(zoneStatus(use, { ...known, secondsLeft: 11.34 }, 1_001_000).expiresAt, 1_012_300)
})

test('a zone whose name is not cached has no addresses and no lifetime', () => {
  const { state, addresses, expiresAt } = zoneStatus(use, undefined, 0)
  assert.deepEqual([state, addresses, expiresAt], ['unknown', [], null])
})
