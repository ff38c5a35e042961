import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { EnvoyListeners } from '../xds/envoy-stream.ts'
import { ListenerInForce } from './listener-in-force.ts'

const LONG_MS = 60_000
const envoy = (listeners: readonly string[], connectedMs = LONG_MS, name = 'e'): EnvoyListeners => ({
  envoy: name,
  connectedMs,
  listeners: new Set(listeners),
})
/** Some time after `new` was written. */
const refusing = (ms: number, ...envoys: readonly EnvoyListeners[]): string[] => {
  let nowMs = 0
  const listener = new ListenerInForce(
    () => nowMs,
    () => envoys,
  )
  listener.written(['new'])
  nowMs = ms
  return listener.refusing()
}

test('an Envoy that still has only the previous listener after 5 s refuses the new one', () => {
  assert.deepEqual(refusing(4999, envoy(['old'])), [])
  assert.deepEqual(refusing(5000, envoy(['old'])), ['e'])
})

test('an Envoy that has both uses the new one: the previous one drains', () => {
  assert.deepEqual(refusing(LONG_MS, envoy(['old', 'new'])), [])
})

test('an Envoy that has just connected may start, and has more time', () => {
  assert.deepEqual(refusing(LONG_MS, envoy([], 9999)), [])
  assert.deepEqual(refusing(LONG_MS, envoy([], 10_000)), ['e'])
})

test('each Envoy counts by itself, and Envoys of one name count once', () => {
  assert.deepEqual(refusing(LONG_MS, envoy(['new']), envoy([], LONG_MS, 'b'), envoy([], LONG_MS, 'b')), ['b'])
})

test('of two listeners Envoy must use both', () => {
  let nowMs = 0
  const listener = new ListenerInForce(
    () => nowMs,
    () => [envoy(['a.0'])],
  )
  listener.written(['a.0', 'a.1'])
  nowMs = LONG_MS
  assert.deepEqual(listener.refusing(), ['e'])
})

test('a refusal is news once, and again for another listener', () => {
  let nowMs = 0
  const listener = new ListenerInForce(
    () => nowMs,
    () => [envoy([])],
  )
  listener.written(['a'])
  nowMs = LONG_MS
  assert.deepEqual([listener.refusingSinceLast(), listener.refusingSinceLast()], [['e'], []])
  listener.written(['a'])
  assert.deepEqual(listener.refusingSinceLast(), [])
  listener.written(['b'])
  nowMs += LONG_MS
  assert.deepEqual(listener.refusingSinceLast(), ['e'])
})

test('nothing is refused before the first write', () => {
  const listener = new ListenerInForce(
    () => LONG_MS,
    () => [envoy([])],
  )
  assert.deepEqual(listener.refusing(), [])
})
