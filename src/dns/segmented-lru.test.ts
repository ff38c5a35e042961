import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { SegmentedLru } from './segmented-lru.ts'

// The same cases each time: what is drawn at random fails at random. `npm run fuzz` draws others.
fc.configureGlobal({ seed: 1 })

/** What the cache does for a name that is asked for and answered. */
function set<V>(lru: SegmentedLru<V>, key: string, value: V): void {
  lru.hold(key, value)
  lru.release(key)
}

test('entries asked for twice outlive a scan', () => {
  const lru = new SegmentedLru<number>(10)
  for (let at = 0; at < 5; at++) set(lru, `used${at}`, at)
  for (let at = 0; at < 5; at++) lru.get(`used${at}`)
  for (let at = 0; at < 1000; at++) set(lru, `scan${at}`, at)
  assert.equal(lru.size, 10)
  for (let at = 0; at < 5; at++) assert.equal(lru.get(`used${at}`), at)
})

test('names that are no longer in use make room', () => {
  const lru = new SegmentedLru<number>(10)
  for (let at = 0; at < 100; at++) {
    set(lru, `name${at}`, at)
    lru.get(`name${at}`)
  }
  assert.equal(lru.size, 10)
  assert.equal(lru.peek('name0'), undefined)
  assert.equal(lru.peek('name99'), 99)
})

test('peeking is no use', () => {
  const lru = new SegmentedLru<number>(2)
  set(lru, 'a', 1)
  lru.peek('a')
  set(lru, 'b', 2)
  set(lru, 'c', 3)
  assert.equal(lru.peek('a'), undefined)
})

test('pinned entries stay and do not count, until they are unpinned', () => {
  const lru = new SegmentedLru<number>(4)
  lru.pin('kept', 0)
  for (let at = 0; at < 100; at++) set(lru, `scan${at}`, at)
  assert.equal(lru.size, 5)
  assert.equal(lru.get('kept'), 0)
  lru.unpin('kept')
  assert.equal(lru.size, 4)
  lru.delete('kept')
  assert.equal(lru.peek('kept'), undefined)
})

test('what is held is not evicted, by itself or by others, and takes no place of theirs', () => {
  const lru = new SegmentedLru<number>(10)
  for (let at = 0; at < 8; at++) set(lru, `used${at}`, at)
  for (let at = 0; at < 8; at++) lru.get(`used${at}`)
  for (let at = 0; at < 50; at++) lru.hold(`flight${at}`, at)
  for (let at = 0; at < 50; at++) assert.equal(lru.peek(`flight${at}`), at)
  set(lru, 'answered', 1)
  set(lru, 'answered too', 1)
  assert.deepEqual([lru.peek('answered'), lru.peek('answered too'), lru.size], [1, 1, 60])
  for (let at = 0; at < 50; at++) lru.release(`flight${at}`)
  assert.deepEqual([lru.size, lru.peek('used0'), lru.peek('flight49')], [10, 0, 49])
})

test('what is used while it is held is protected when it is released', () => {
  const lru = new SegmentedLru<number>(10)
  lru.hold('a', 1)
  lru.get('a')
  lru.release('a')
  for (let at = 0; at < 100; at++) set(lru, `scan${at}`, at)
  assert.equal(lru.peek('a'), 1)
})

test('what is released comes back to where it was', () => {
  const lru = new SegmentedLru<number>(10)
  set(lru, 'a', 1)
  lru.get('a')
  lru.hold('a', 1)
  lru.release('a')
  for (let at = 0; at < 100; at++) set(lru, `scan${at}`, at)
  assert.equal(lru.peek('a'), 1)
})

test('it never holds more than it may, and always what was set last', () => {
  const key = fc.integer({ min: 0, max: 30 }).map(String)
  const operation = fc.tuple(
    fc.constantFrom('get', 'hold', 'release', 'delete', 'pin', 'unpin', 'clear'),
    key,
  )
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 12 }),
      // Without its size fast-check makes arrays of ten or so, and nothing is ever evicted.
      fc.array(operation, { maxLength: 300, size: 'max' }),
      (max, operations) => {
        const lru = new SegmentedLru<string>(max)
        const pinned = new Set<string>()
        const held = new Set<string>()
        for (const [name, at] of operations) {
          if (name === 'get') lru.get(at)
          else if (name === 'clear') {
            lru.clear()
            pinned.clear()
            held.clear()
          } else if (name === 'delete') {
            lru.delete(at) // a pinned entry stays
            held.delete(at)
          } else if (name === 'unpin') {
            lru.unpin(at)
            pinned.delete(at)
          } else if (name === 'release') {
            lru.release(at)
            held.delete(at)
          } else {
            lru[name](at, at)
            if (name === 'pin') held.delete(at)
            if (name === 'pin') pinned.add(at)
            else if (!pinned.has(at)) held.add(at)
            assert.equal(lru.peek(at), at)
          }
          assert.ok(lru.size <= max + pinned.size + held.size)
          for (const one of [...pinned, ...held]) assert.equal(lru.peek(one), one)
          assert.equal([...lru.values()].length, lru.size)
        }
      },
    ),
  )
})

test('a key that is set again has the new value', () => {
  const lru = new SegmentedLru<number>(4)
  set(lru, 'a', 1)
  set(lru, 'a', 2)
  assert.deepEqual([lru.get('a'), lru.size], [2, 1])
})
