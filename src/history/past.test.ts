import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import type { HistoryEvent, Recorded } from './event.ts'
import { gatewayAt, nameAt, startAfter } from './past.ts'

const started = (awayMs: number | null, config: object = {}): HistoryEvent => ({
  kind: 'started',
  version: '1',
  awayMs,
  fallback: false,
  file: 'z.yaml',
  config,
  search: 'game.test',
})
const recorded = (...events: readonly [at: number, HistoryEvent][]): Recorded[] =>
  events.map(([at, event], index) => ({ ...event, at, seq: index + 1 }))
const config = (key: string, after: unknown): HistoryEvent => ({
  kind: 'config',
  file: 'z.yaml',
  changes: [{ key, after }],
})

suite('the gateway at a moment', () => {
  test('has the configuration that it began with, and each change since', () => {
    const events = recorded(
      [10, started(null, { dns: { budgetMs: 1 }, zones: { 12: {} } })],
      [20, config('dns.budgetMs', 2)],
      [30, config('zones.12', undefined)],
      [40, config('zones.__proto__', { as: '1' })],
    )
    assert.deepEqual(gatewayAt(events, 15).config?.values, { dns: { budgetMs: 1 }, zones: { 12: {} } })
    assert.deepEqual(gatewayAt(events, 30).config?.values, { dns: { budgetMs: 2 }, zones: {} })
    assert.equal(gatewayAt(events, 30).config?.since, 30)
    assert.equal((Object.prototype as { as?: string }).as, undefined)
    assert.equal(Object.keys((gatewayAt(events, 40).config?.values['zones'] ?? {}) as object).length, 1)
  })

  test('had no processor after one was told to stop, or was killed, until the next', () => {
    const events = recorded(
      [100, started(null)],
      [200, { kind: 'stopped', why: 'SIGTERM' }],
      [300, started(100)],
      [900, started(200)],
    )
    const state = (at: number): unknown => {
      const { processor } = gatewayAt(events, at)
      return processor.state === 'away' ? [processor.since, processor.until] : processor.state
    }
    assert.deepEqual([50, 150, 250, 350, 750, 950].map(state), [
      'unknown',
      'serving',
      [200, 300],
      'serving',
      [700, 900],
      'serving',
    ])
    assert.equal(startAfter(events, 250)?.seq, 3)
  })

  test('passes a moment twice where the clock was set back: the second time counts', () => {
    const events = recorded(
      [100, started(null)],
      [300, { kind: 'nameserver_failing', nameserver: 'a:53', outcome: 'timeout' }],
      [120, { kind: 'clock_set', byMs: -200 }],
      [140, { kind: 'nameserver_recovered', nameserver: 'a:53' }],
    )
    assert.equal(gatewayAt(events, 130).failing.size, 1)
    assert.equal(gatewayAt(events, 150).failing.size, 0)
  })
})

test('a name has its last answer; what was known before the first one that is kept; and what served while none came', () => {
  const answer = (address: string | null, before: string | null): HistoryEvent => ({
    kind: 'answer',
    name: 'a.test',
    result: address === null ? 'failure' : 'positive',
    addresses: address === null ? [] : [address],
    before: before === null ? null : { result: 'positive', addresses: [before] },
  })
  const events = recorded([100, answer('10.0.0.2', '10.0.0.1')], [200, answer(null, '10.0.0.2')])
  const at = (ms: number) => nameAt(events, ms, 0)
  assert.deepEqual([at(50).answer?.addresses, at(50).answer?.since], [['10.0.0.1'], null])
  assert.deepEqual([at(150).answer?.addresses, at(150).answer?.since], [['10.0.0.2'], 100])
  assert.deepEqual(at(250).lastGood, { addresses: ['10.0.0.2'], failingSince: 200 })
  assert.equal(nameAt(events, 250, 2).answer, null, 'another processor knew nothing of it')
})
