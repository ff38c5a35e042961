import assert from 'node:assert/strict'
import { test } from 'node:test'
import { rulesOf } from '../config/rules.ts'
import { configSchema } from '../config/schema.ts'
import type { Answer } from '../dns/answer.ts'
import { createDecider } from './decider.ts'
import { authorityOf, decide } from './decision.ts'

const zone = { id: '1', service: { name: 'default', port: 8101 }, name: 'zone1-default.s.test' }
const { name } = zone
const positive = (addresses: string[], denied: string[] = []): Answer => ({
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

test('an IPv6 address stands in brackets', () =>
  assert.equal(authorityOf('2001:db8::1', 80), '[2001:db8::1]:80'))

test('a cached answer decides without waiting', () => {
  const decide1 = createDecider(
    rulesOf(configSchema.parse({})),
    () => 's.test',
    () => positive(['10.0.0.1']),
  )
  const decision = decide1({ method: 'POST', path: '/', ids: ['1'] })
  assert.ok(!(decision instanceof Promise))
  assert.equal(decision.kind === 'forward' && decision.authority, '10.0.0.1:8101')
})

test('a request that is refused by rule asks no DNS', () => {
  const decide1 = createDecider(
    rulesOf(configSchema.parse({})),
    () => 's.test',
    () => assert.fail('asked'),
  )
  const decision = decide1({ method: 'GET', path: '/', ids: ['1'] })
  assert.deepEqual(decision, { kind: 'reject', reason: 'method_not_allowed' })
})
