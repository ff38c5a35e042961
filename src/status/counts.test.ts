import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Answer } from '../dns/answer.ts'
import { DecisionCounts, DnsQueryCounts, Histogram } from './counts.ts'

const zone = { id: '1', service: { name: 'default', label: 'default', rule: 'default', port: 1 }, name: 'n' }
const positive = (stale: boolean): Answer => ({
  kind: 'positive',
  name: 'n',
  addresses: ['10.0.0.1'],
  denied: [],
  ttlSeconds: 5,
  stale,
})

test('a histogram counts what is at most as large as each bound', () => {
  const histogram = new Histogram([1, 2, 5])
  for (const value of [0.5, 1, 1.5, 5, 9]) histogram.observe(value)
  assert.deepEqual(histogram.cumulative(), [2, 3, 4])
  assert.deepEqual([histogram.count, histogram.sum], [5, 17])
})

test('decisions are counted by result, reason and class of answer', () => {
  const counts = new DecisionCounts()
  counts.count({ kind: 'forward', zone, authority: 'a', answer: positive(false) })
  counts.count({ kind: 'forward', zone, authority: 'a', answer: positive(true) })
  counts.count({ kind: 'reject', reason: 'method_not_allowed' })
  counts.count({
    kind: 'reject',
    reason: 'name_not_found',
    zone,
    answer: { kind: 'nxdomain', name: 'n', ttlSeconds: 1, nameserver: 's' },
  })
  assert.equal(counts.forwarded, 2)
  assert.deepEqual([counts.refused.method_not_allowed, counts.refused.name_not_found], [1, 1])
  assert.deepEqual(counts.answers, { positive: 1, stale: 1, nxdomain: 1, nodata: 0, failure: 0 })
})

test('the time of a decision includes the wait for DNS', async () => {
  const counts = new DecisionCounts()
  let now = 0
  const wait = Promise.withResolvers<void>()
  const head = { method: 'POST', path: '/', authority: '', headers: {} }
  const refusal = { kind: 'reject', reason: 'no_address' } as const
  counts.timed(
    () => refusal,
    () => now,
  )(head)
  assert.deepEqual([counts.seconds.count, counts.seconds.sum], [1, 0])
  const decision = counts.timed(
    () => wait.promise.then(() => refusal),
    () => now,
  )(head)
  now = 250
  wait.resolve()
  assert.equal(await decision, refusal)
  assert.deepEqual([counts.seconds.count, counts.seconds.sum], [2, 0.25])
})

test('queries are counted by nameserver and outcome; RCODEs without a name are one outcome', () => {
  const counts = new DnsQueryCounts()
  const query = { type: 'A', transport: 'udp', milliseconds: 2 } as const
  for (const outcome of ['NOERROR', 'RCODE99', 'RCODE1234', 'timeout'])
    counts.count({ ...query, nameserver: '10.0.0.1:53', outcome })
  assert.deepEqual(Object.fromEntries(counts.byNameserver.get('10.0.0.1:53')?.outcomes ?? []), {
    NOERROR: 1,
    other: 2,
    timeout: 1,
  })
})

test('nameservers are bounded, whatever names them', () => {
  const counts = new DnsQueryCounts()
  for (let i = 0; i < 100; i += 1)
    counts.count({
      nameserver: `10.0.0.${i}:53`,
      outcome: 'NOERROR',
      milliseconds: 1,
      type: 'A',
      transport: 'udp',
    })
  assert.equal(counts.byNameserver.size, 16)
  assert.ok(counts.byNameserver.has('10.0.0.99:53'))
})
