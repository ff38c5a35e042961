import assert from 'node:assert/strict'
import { test } from 'node:test'
import { EdnsSupport } from './edns-support.ts'

const SECOND_MS = 1000
const MINUTE_MS = 60 * SECOND_MS

test('a refusal that an answer without OPT follows switches OPT off, for 15 minutes', () => {
  const edns = new EdnsSupport()
  edns.failed(0, true)
  assert.equal(edns.answeredWithout(1), true)
  assert.deepEqual([edns.isOff, edns.next(2), edns.next(14 * MINUTE_MS)], [true, false, false])
})

test('after that one query tries it again, while others go on without', () => {
  const edns = new EdnsSupport()
  edns.failed(0, true)
  edns.answeredWithout(1)
  assert.deepEqual([edns.next(16 * MINUTE_MS), edns.next(16 * MINUTE_MS)], [true, false])
  edns.answered(16 * MINUTE_MS)
  assert.deepEqual([edns.isOff, edns.next(16 * MINUTE_MS)], [false, true])
})

test('a refusal that nothing better follows switches nothing off', () => {
  const edns = new EdnsSupport()
  edns.failed(0, true)
  assert.equal(edns.next(1), true)
})

test('a refusal of a nameserver that took OPT a moment ago is not remembered', () => {
  const edns = new EdnsSupport()
  edns.answered(0)
  edns.failed(1, true)
  assert.equal(edns.answeredWithout(2), false)
  assert.equal(edns.next(3), true)
})

test('silence counts once for all that were silent together', () => {
  const edns = new EdnsSupport()
  for (let asked = 0; asked < 10; asked++) edns.failed(asked, false)
  assert.deepEqual([edns.answeredWithout(400), edns.answeredWithout(401), edns.isOff], [false, false, false])
  edns.failed(500, false)
  assert.equal(edns.answeredWithout(900), true)
})

test('an answer to OPT ends the count', () => {
  const edns = new EdnsSupport()
  edns.failed(0, false)
  edns.answeredWithout(1)
  edns.answered(2)
  edns.failed(5 * MINUTE_MS, false)
  assert.equal(edns.answeredWithout(5 * MINUTE_MS + 1), false)
})
