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

test('requests by the listener before, and none by the one that was written: it is refused', () => {
  assert.equal(after(6000, old(10)).isRefused, true)
})

test('right after it was written they say nothing, as connections change over one by one', () => {
  assert.equal(after(4000, old(1000)).isRefused, false)
})

test('a few are of connections that were idle', () => {
  assert.equal(after(60_000, old(9)).isRefused, false)
})

test('one request by the one that was written: it is in force, whatever comes over connections of the other', () => {
  assert.equal(after(6000, ['new', ...old(100)]).isRefused, false)
  assert.equal(after(6000, [...old(100), 'new']).isRefused, false)
})

test('another one that is written is another matter, and it is told once', () => {
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

test('before anything was written nothing is refused', () => {
  assert.equal(new ListenerInForce(() => 1e9).seen('old'), false)
})
