import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ListenerInForce } from './listener-in-force.ts'

const after = (ms: number, versions: readonly string[]): ListenerInForce => {
  let nowMs = 0
  const listener = new ListenerInForce(() => nowMs)
  listener.written('new')
  nowMs = ms
  for (const version of versions) listener.seen(version)
  return listener
}
const old = (count: number): string[] => Array(count).fill('old')

test('ten requests through the previous listener, and none through the new one, prove a refusal', () => {
  assert.equal(after(6000, old(10)).isRefused, true)
})

test('right after the write such requests prove nothing: connections move over one by one', () => {
  assert.equal(after(4000, old(1000)).isRefused, false)
})

test('a few such requests may come from connections that were idle', () => {
  assert.equal(after(60_000, old(9)).isRefused, false)
})

test('one request through the new listener proves that it is in force, whatever other connections do', () => {
  assert.equal(after(6000, ['new', ...old(100)]).isRefused, false)
  assert.equal(after(6000, [...old(100), 'new']).isRefused, false)
})

test('a refusal is reported once, and a newly written listener starts afresh', () => {
  let nowMs = 0
  const listener = new ListenerInForce(() => nowMs)
  listener.written('a')
  nowMs = 6000
  assert.deepEqual(
    old(12)
      .map((version) => listener.seen(version))
      .filter(Boolean),
    [true],
  )
  listener.written('b')
  assert.equal(listener.isRefused, false)
})

test('nothing is refused before the first write', () => {
  assert.equal(new ListenerInForce(() => 1e9).seen('old'), false)
})
