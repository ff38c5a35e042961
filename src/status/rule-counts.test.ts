import assert from 'node:assert/strict'
import { test } from 'node:test'
import { rulesOf } from '../config/rules.ts'
import { configSchema } from '../config/schema.ts'
import { decide } from '../routing/decision.ts'
import { isZone, type RequestHead, zoneOf } from '../routing/rules.ts'
import { RuleCounts } from './rule-counts.ts'

const rules = rulesOf(
  configSchema.parse({
    rules: [
      { name: 'pay', match: { paths: ['/pay/*'] }, id: { query: 'id' } },
      { name: 'rest', match: { paths: ['/r/*'] }, services: { mail: { paths: ['/r/mail'] }, default: {} } },
    ],
  }),
)
const counted = (...followed: string[]): RuleCounts => {
  const counts = new RuleCounts()
  counts.follow(rules.filter(({ name }) => followed.length === 0 || followed.includes(name)))
  return counts
}

/** One request, decided as the processor does, with an answer of DNS. */
function ask(counts: RuleCounts, path: string, more: Partial<RequestHead> = {}, resolves = true): void {
  const head: RequestHead = { method: 'POST', path, authority: '', headers: {}, ...more }
  const zone = zoneOf(head, rules, 's.test')
  if (!isZone(zone)) {
    counts.count({ kind: 'reject', ...zone })
    return
  }
  const { name } = zone
  const addresses = ['10.0.0.1']
  counts.count(
    resolves
      ? decide(zone, { kind: 'positive', name, addresses, denied: [], ttlSeconds: 5, stale: false }, 0)
      : decide(zone, { kind: 'nxdomain', name, ttlSeconds: 5, nameserver: 'n' }, 0),
  )
}

test('requests are counted by the rule that decides, refusals by reason, before and after DNS', () => {
  const counts = counted()
  ask(counts, '/pay/x?id=1')
  ask(counts, '/pay/x?id=1', {}, false)
  ask(counts, '/pay/x', { method: 'GET' })
  ask(counts, '/pay/x')
  ask(counts, '/r/x', { headers: { server: ['1'] } })
  assert.deepEqual(counts.list(), [
    {
      name: 'pay',
      requests: 4,
      hot: 0,
      forwarded: 1,
      refused: { name_not_found: 1, method_not_allowed: 1, id_missing: 1 },
      requestsPerSecond: 0,
    },
    { name: 'rest', requests: 1, hot: 0, forwarded: 1, refused: {}, requestsPerSecond: 0 },
  ])
})

test('a request that no rule fits counts for none', () => {
  const counts = counted()
  ask(counts, '/x')
  assert.deepEqual(
    counts.list().map(({ requests }) => requests),
    [0, 0],
  )
})

test('hot requests count for the rule of their service; those of no service for none', () => {
  const counts = counted()
  for (const [service, requests] of [
    ['pay', 5],
    ['rest.mail', 2],
    ['rest.default', 1],
    ['gone', 9],
  ] as const)
    counts.countHot(service, requests)
  assert.deepEqual(
    counts.list().map(({ name, requests, hot }) => [name, requests, hot]),
    [
      ['pay', 5, 5],
      ['rest', 3, 3],
    ],
  )
})

test('a rule that stays goes on counting, one that is no more is forgotten', () => {
  const counts = counted()
  ask(counts, '/pay/x?id=1')
  ask(counts, '/r/x')
  counts.follow(rules.filter(({ name }) => name === 'rest'))
  ask(counts, '/pay/x?id=1') // a request that waited for DNS meanwhile
  assert.deepEqual(
    counts.list().map(({ name, requests }) => [name, requests]),
    [['rest', 1]],
  )
  counts.follow(rules)
  assert.equal(counts.list()[0]?.requests, 0)
})

test('the rate is that of the last two whole slots', () => {
  const counts = counted()
  const rate = (): number | undefined => counts.list()[0]?.requestsPerSecond
  counts.countHot('pay', 30)
  assert.equal(rate(), 0)
  counts.nextSlot()
  ask(counts, '/pay/x')
  assert.equal(rate(), 3)
  counts.nextSlot()
  assert.equal(rate(), 3.1)
  counts.nextSlot()
  assert.equal(rate(), 0.1)
  counts.nextSlot()
  assert.equal(rate(), 0)
})
