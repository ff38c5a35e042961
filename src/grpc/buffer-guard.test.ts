import assert from 'node:assert/strict'
import { test } from 'node:test'
import { BUFFERED_OCTETS_MAX, BufferGuard } from './buffer-guard.ts'

const peer = (bytesRead: number) => {
  const made = {
    bytesRead,
    closed: false,
    destroy: () => {
      made.closed = true
      return made as never
    },
  }
  return made
}

test('over the bound, the connection that has sent most of late is closed, and the next only after a pause', () => {
  let now = 0
  let buffered = BUFFERED_OCTETS_MAX
  const told: number[] = []
  const guard = new BufferGuard({
    now: () => now,
    buffered: () => buffered,
    onClosed: ({ received }) => told.push(received),
    onBug: assert.fail,
  })
  // One has sent more in its whole life, the other more of late.
  const [old, fresh, idle] = [peer(1e9), peer(0), peer(0)]
  for (const each of [old, fresh, idle]) guard.add(each)
  for (now of [5000, 10_000]) guard.look()
  old.bytesRead += 2e7
  fresh.bytesRead += 1e8
  guard.look()
  assert.ok(!old.closed && !fresh.closed, 'at the bound')
  buffered += 1
  guard.look()
  assert.ok(fresh.closed && !old.closed)
  assert.deepEqual(told, [1e8])
  now += 1000
  guard.look()
  assert.ok(!old.closed, 'so soon')
  now += 1000
  guard.look()
  assert.ok(old.closed)
  now += 2000
  guard.look()
  assert.ok(!idle.closed, 'it has sent next to nothing')
})
