import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Answer } from '../dns/answer.ts'
import type { Decision } from '../routing/decision.ts'
import type { Zone } from '../routing/rules.ts'
import { RequestTrace } from './request-trace.ts'

const PARENT = { traceId: '0af7651916cd43dd8448eb211c80319c', spanId: 'b7ad6b7169203331', sampled: true }
const zone: Zone = {
  id: '12',
  service: { name: 'pay', label: 'pay', rule: 'pay', port: 8101 },
  name: 'zone12-pay.s.test',
}
const positive: Answer = {
  kind: 'positive',
  name: zone.name,
  addresses: ['10.0.0.5'],
  denied: [],
  ttlSeconds: 5,
  stale: false,
}
const failure: Answer = { kind: 'failure', name: zone.name, cause: 'timeout', tries: [] }
const forward = (answer: Answer, of = zone): Decision => ({
  kind: 'forward',
  zone: of,
  authority: '10.0.0.5:8101',
  answer,
})
const query = (outcome: string) => ({
  name: zone.name,
  try: { nameserver: '10.0.0.1:53', outcome, milliseconds: 3, type: 'A', transport: 'udp' } as const,
  endMs: 1010,
})

const CASES: [
  title: string,
  decision: Decision,
  waited: boolean,
  queries: number,
  expected: string | undefined,
][] = [
  ['the cache', forward(positive), false, 0, 'fresh'],
  ['the cache, past its lifetime', forward({ ...positive, stale: true }), false, 0, 'stale'],
  ['a nameserver', forward(positive), true, 1, 'asked'],
  ['the query of another request', forward(positive), true, 0, 'waited_for_another'],
  [
    'a failure of a moment ago',
    { kind: 'reject', reason: 'nameservers_failed', zone, answer: failure },
    false,
    0,
    'failed_lately',
  ],
  ['nothing: no zone', { kind: 'reject', reason: 'no_rule' }, false, 0, undefined],
]
for (const [title, decision, waited, queries, expected] of CASES)
  test(`the address is from ${title}: ${expected}`, () => {
    const trace = new RequestTrace(1000)
    trace.waited = waited
    for (let count = 0; count < queries; count += 1) trace.add(query('NOERROR'))
    const [own, ...others] = trace.decided(decision, PARENT, 1020)
    assert.equal(own?.attributes['zonegate.dns.cache'], expected)
    assert.equal(others.length, queries)
  })

test('a query is a span of its own time, and an error where it has no answer', () => {
  const trace = new RequestTrace(1000)
  for (const outcome of ['timeout', 'NXDOMAIN']) trace.add(query(outcome))
  const [, ...queries] = trace.decided(forward(positive), PARENT, 1020)
  assert.deepEqual(
    queries.map(({ name, startMs, endMs, isError }) => [name, startMs, endMs, isError]),
    [
      ['dns A', 1007, 1010, true],
      ['dns A', 1007, 1010, false],
    ],
  )
})

test('queries are bounded, and one that ends behind the decision is no part of the request', () => {
  const trace = new RequestTrace(1000)
  for (let count = 0; count < 1000; count += 1) trace.add(query('timeout'))
  const spans = trace.decided(forward(positive), PARENT, 1020)
  trace.add(query('NOERROR'))
  assert.equal(spans.length, 33)
})
