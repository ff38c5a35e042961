import assert from 'node:assert/strict'
import { test } from 'node:test'
import { rulesOf } from '../config/rules.ts'
import { configSchema } from '../config/schema.ts'
import type { Addresses, Answer, Endpoint } from '../dns/answer.ts'
import { authorityOf, createDecider, decide } from './decision.ts'

const zone = {
  id: '1',
  service: { name: 'default', label: 'default', rule: 'default', port: 8101 },
  name: 'zone1-default.s.test',
}
const { name } = zone
const positive = (addresses: Addresses, denied: string[] = []): Answer => ({
  kind: 'positive',
  name,
  addresses,
  denied,
  ttlSeconds: 5,
  stale: false,
})

const REFUSED: [Answer, string][] = [
  [{ kind: 'nxdomain', name, ttlSeconds: 5, nameserver: 'n' }, 'name_not_found'],
  [{ kind: 'nodata', name, ttlSeconds: 5, nameserver: 'n' }, 'no_address'],
  [{ kind: 'failure', name, cause: 'nameservers_failed', tries: [] }, 'nameservers_failed'],
  [{ kind: 'failure', name, cause: 'timeout', tries: [] }, 'nameservers_failed'],
  [{ kind: 'failure', name, cause: 'overloaded', tries: [] }, 'resolver_overloaded'],
  [{ kind: 'failure', name, cause: 'rate_limited', tries: [] }, 'lookup_rate_limited'],
  [positive([], ['127.0.0.1']), 'address_denied'],
]
for (const [answer, reason] of REFUSED) {
  test(`${answer.kind}${answer.kind === 'failure' ? ` (${answer.cause})` : ''} is refused as ${reason}`, () => {
    const decision = decide(zone, answer, 0)
    assert.equal(decision.kind === 'reject' && decision.reason, reason)
  })
}

test('requests go round the addresses', () => {
  const authorities = [0, 1, 2]
    .map((turn) => decide(zone, positive(['10.0.0.1', '10.0.0.2']), turn))
    .map((made) => made.kind === 'forward' && made.authority)
  assert.deepEqual(authorities, ['10.0.0.1:8101', '10.0.0.2:8101', '10.0.0.1:8101'])
})

const endpoint = (port: number, priority: number, weight: number): Endpoint => ({
  address: '10.0.0.1',
  port,
  priority,
  weight,
})

test('of addresses that bring a port, those of priority 0 are used, each as often as its weight says', () => {
  const answer = positive([endpoint(9003, 1, 1), endpoint(9001, 0, 1), endpoint(9002, 0, 9)])
  const counts = new Map<string, number>()
  const firstTurn = 40_000
  for (let turn = firstTurn; turn < firstTurn + 1000; turn++) {
    const made = decide(zone, answer, turn)
    const authority = made.kind === 'forward' ? made.authority : made.reason
    counts.set(authority, (counts.get(authority) ?? 0) + 1)
  }
  assert.deepEqual([...counts.keys()].sort(), ['10.0.0.1:9001', '10.0.0.1:9002'])
  const few = counts.get('10.0.0.1:9001') ?? 0
  assert.ok(few >= 95 && few <= 105, `${few} of 1,000`)
})

test('an IPv6 address stands in brackets', () =>
  assert.equal(authorityOf('2001:db8::1', 80), '[2001:db8::1]:80'))

test('a port that an address brings stands before that of the service', () =>
  assert.equal(authorityOf({ ...endpoint(9001, 0, 1), address: '2001:db8::1' }, 80), '[2001:db8::1]:9001'))

test('a cached answer decides without waiting', () => {
  const decide1 = createDecider(
    rulesOf(configSchema.parse({})),
    () => 's.test',
    () => positive(['10.0.0.1']),
  )
  const decision = decide1({ method: 'POST', path: '/', authority: '', headers: { server: ['1'] } })
  assert.ok(!(decision instanceof Promise))
  assert.equal(decision.kind === 'forward' && decision.authority, '10.0.0.1:8101')
})

test('a request that is refused by rule asks no DNS', () => {
  const decide1 = createDecider(
    rulesOf(configSchema.parse({})),
    () => 's.test',
    () => assert.fail('asked'),
  )
  const decision = decide1({ method: 'GET', path: '/', authority: '', headers: { server: ['1'] } })
  assert.ok(!(decision instanceof Promise) && decision.kind === 'reject')
  assert.deepEqual([decision.reason, decision.rule?.name], ['method_not_allowed', 'default'])
})
