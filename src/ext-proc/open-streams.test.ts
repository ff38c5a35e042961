import assert from 'node:assert/strict'
import { test } from 'node:test'
import { HEAD_WITHIN_MS, OpenStreams, STREAMS_MAX } from './open-streams.ts'

test('one stream more than the most is turned away, and let in when another has closed', () => {
  const streams = new OpenStreams<number>(() => 0)
  for (let stream = 0; stream < STREAMS_MAX; stream++) assert.ok(streams.open(stream))
  assert.equal(streams.open(-1), false)
  assert.equal(streams.size, STREAMS_MAX)
  streams.close(7)
  assert.ok(streams.open(-1))
})

test('a stream that says nothing is overdue after its time, once; one that spoke or closed is not', () => {
  let now = 0
  const streams = new OpenStreams<string>(() => now)
  for (const stream of ['silent', 'spoke', 'closed']) streams.open(stream)
  now = HEAD_WITHIN_MS / 2
  streams.open('later')
  streams.spoke('spoke')
  streams.close('closed')
  assert.deepEqual([...streams.overdue()], [])
  now = HEAD_WITHIN_MS
  assert.deepEqual([...streams.overdue()], ['silent'])
  assert.deepEqual([...streams.overdue()], [])
})
