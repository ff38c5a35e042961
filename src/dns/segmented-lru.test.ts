import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { SegmentedLru } from './segmented-lru.ts'

// The same cases each time: what is drawn at random fails at random. `npm run fuzz` draws others.
fc.configureGlobal({ seed: 1 })

test('entries asked for twice outlive a scan', () => {
  const lru = new SegmentedLru<number>(10)
  for (let at = 0; at < 5; at++) lru.set(`used${at}`, at)
  for (let at = 0; at < 5; at++) lru.get(`used${at}`)
  for (let at = 0; at < 1000; at++) lru.set(`scan${at}`, at)
  assert.equal(lru.size, 10)
  for (let at = 0; at < 5; at++) assert.equal(lru.get(`used${at}`), at)
})

test('names that are no longer in use make room', () => {
  const lru = new SegmentedLru<number>(10)
  for (let at = 0; at < 100; at++) {
    lru.set(`name${at}`, at)
    lru.get(`name${at}`)
  }
  assert.equal(lru.size, 10)
  assert.equal(lru.peek('name0'), undefined)
  assert.equal(lru.peek('name99'), 99)
})

test('peeking is no use', () => {
  const lru = new SegmentedLru<number>(2)
  lru.set('a', 1)
  lru.peek('a')
  lru.set('b', 2)
  lru.set('c', 3)
  assert.equal(lru.peek('a'), undefined)
})

test('pinned entries stay and do not count, until they are unpinned', () => {
  const lru = new SegmentedLru<number>(4)
  lru.pin('kept', 0)
  for (let at = 0; at < 100; at++) lru.set(`scan${at}`, at)
  assert.equal(lru.size, 5)
  assert.equal(lru.get('kept'), 0)
  lru.unpin('kept')
  assert.equal(lru.size, 4)
  lru.delete('kept')
  assert.equal(lru.peek('kept'), undefined)
})

test('it never holds more than it may, and always what was set last', () => {
  const key = fc.integer({ min: 0, max: 30 }).map(String)
  const operation = fc.tuple(fc.constantFrom('get', 'set', 'delete', 'pin', 'unpin'), key)
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 12 }),
      // Without its size fast-check makes arrays of ten or so, and nothing is ever evicted.
      fc.array(operation, { maxLength: 300, size: 'max' }),
      (max, operations) => {
        const lru = new SegmentedLru<string>(max)
        const pinned = new Set<string>()
        for (const [name, at] of operations) {
          if (name === 'get') lru.get(at)
          else if (name === 'delete')
            lru.delete(at) // a pinned entry stays
          else if (name === 'unpin') {
            lru.unpin(at)
            pinned.delete(at)
          } else {
            lru[name](at, at)
            if (name === 'pin') pinned.add(at)
            assert.equal(lru.peek(at), at)
          }
          assert.ok(lru.size <= max + pinned.size)
          for (const one of pinned) assert.equal(lru.peek(one), one)
          assert.equal([...lru.values()].length, lru.size)
        }
      },
    ),
  )
})

test('a key that is set again has the new value', () => {
  const lru = new SegmentedLru<number>(4)
  lru.set('a', 1)
  lru.set('a', 2)
  assert.deepEqual([lru.get('a'), lru.size], [2, 1])
})
