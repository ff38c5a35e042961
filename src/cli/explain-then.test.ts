import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import { HistoryRecorder } from '../processor/record-history.ts'
import { type ExplainedThen, endedBy } from '../status/explain-then.ts'
import { REASONS } from '../status/reasons.ts'
import { type LoggedLine, lineOfRefusal, loggedText, parsed } from './explain-then.ts'
import { paintFor } from './text.ts'

const paint = paintFor({ colour: false } as Parameters<typeof paintFor>[0])
const then: ExplainedThen = {
  at: 0,
  request: { method: 'POST', authority: '', path: '/x', ids: ['12'] },
  rule: 'default',
  zone: null,
  config: null,
  decision: { result: 'forward', addresses: ['10.0.0.1:8101'], path: 'cold' },
  steps: [{ step: 'decision', ok: true, text: 'forward to 10.0.0.1:8101 (cold)' }],
}
const textOf = (line: LoggedLine, then: ExplainedThen): string => loggedText({ line, then }, paint)
const LINE: LoggedLine = { time: '2026-01-01T00:00:00Z', request_id: 'r', uri: '/x' }

suite('a request that Envoy answered', () => {
  const line = { ...LINE, status: 502, reason: 'upstream_unreachable', details: 'refused{111}' }
  test('ends with the reason, the details, the cause and the way out', () => {
    const text = textOf(line, endedBy(then, line))
    assert.match(text, /^ {2}no {2}ended {6}502 upstream_unreachable, details: refused\{111\}$/m)
    const { cause, wayOut } = REASONS.upstream_unreachable
    assert.ok(text.endsWith(`\nCause:   ${cause}\nWay out: ${wayOut}\n`), text)
  })
  test('is refused in JSON, too', () => {
    const { decision } = endedBy(then, line)
    assert.equal(decision.result === 'refuse' && decision.reason, 'upstream_unreachable')
  })
  test('and one that was forwarded stays as it is', () => assert.equal(endedBy(then, LINE), then))
})

suite('a request that Envoy forwarded', () => {
  const line = { ...LINE, status: 200, path: 'hot', address: '10.0.0.9:8101' }
  const refusal = { reason: 'name_not_found', status: '502', cause: '', wayOut: '' }
  for (const decision of [then.decision, { result: 'refuse', ...refusal }, { result: 'unknown' }] as const)
    test(`goes where its line says, even if the history says ${decision.result}`, () => {
      const found = endedBy({ ...then, decision }, line)
      assert.deepEqual(found.decision, { result: 'forward', addresses: ['10.0.0.9:8101'], path: 'hot' })
      assert.match(
        textOf(line, found),
        /^ {2}ok {2}ended {6}forwarded to 10\.0\.0\.9:8101 \(hot\), status 200$/m,
      )
      assert.doesNotMatch(textOf(line, found), /Cause:|unknown/)
    })
  test('has nothing to add if both say the same', () => {
    const same = { ...line, path: 'cold', address: '10.0.0.1:8101' }
    assert.equal(endedBy(then, same), then)
  })
})

test('what is empty in a line is left out', () => {
  const line = parsed('envoy | {"request_id":"r","reason":"server_header_missing","zone":"","uri":"/x"}')
  assert.deepEqual(line, { request_id: 'r', reason: 'server_header_missing', uri: '/x' })
  assert.match(
    loggedText({ line: { ...LINE, ...line }, then }, paint).split('\n')[0] ?? '',
    /, reason server_header_missing$/,
  )
})

test('the first answer of a name that is not in DNS is kept where a fallback has its requests', () => {
  const keptWith = (hasFallback: boolean): object[] => {
    const kept: object[] = []
    const recorder = new HistoryRecorder(
      (event) => kept.push(event),
      () => 0,
      () => hasFallback,
    )
    const changed = { kind: 'answer_changed', name: 'zone9.test', before: null, nameserver: 'n' } as const
    const negative = { name: 'zone9.test', ttlSeconds: 5, nameserver: 'n' }
    recorder.dns({ ...changed, answer: { kind: 'nxdomain', ...negative } })
    recorder.dns({ ...changed, answer: { kind: 'nodata', ...negative } })
    return kept
  }
  assert.deepEqual(keptWith(false), [])
  assert.equal(keptWith(true).length, 1)
})

suite('a refusal that is kept', () => {
  const kept: object[] = []
  const recorder = new HistoryRecorder(
    (event) => kept.push(event),
    () => 0,
    () => false,
  )
  const request = { method: 'GET', authority: 'a.test', headers: {}, requestId: 'r', traceparent: '' }
  recorder.refused(
    { kind: 'reject', reason: 'no_rule' },
    { ...request, path: `/x${'y'.repeat(600)}?token=1` },
  )
  recorder.refused({ kind: 'reject', reason: 'id_missing' }, { ...request, path: '/x?token=1' })

  test('has its method, host and path, cut and without the query', () => {
    const [long, short] = kept as [{ path: string }, Parameters<typeof lineOfRefusal>[0]]
    assert.equal(long.path.length, 512)
    const { method, host, uri } = lineOfRefusal({ ...short, at: 0 })
    assert.deepEqual([method, host, uri], ['GET', 'a.test', '/x'])
  })
  test('without a path says so', () => {
    const line = lineOfRefusal({ kind: 'refused', reason: 'no_rule', requestId: 'r', leftOut: 0, at: 0 })
    assert.match(loggedText({ line, then }, paint), /URL path unknown/)
  })
})
