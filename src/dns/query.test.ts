import assert from 'node:assert/strict'
import { test } from 'node:test'
import { encodeMessage } from '../../demo/dns-encode.ts'
import { type DomainName, parseDomainName } from './domain-name.ts'
import type { Message } from './message.ts'
import { decodeMessage, encodeQuery, isMalformed, isResponseTo, isTruncated } from './message.ts'

const NAME = parseDomainName('zone1-mail.game.test') as DomainName
const query = encodeQuery(0x1234, NAME, 'A', true)
const asked = decodeMessage(query)
if (isMalformed(asked)) throw new Error('a query decodes')
const [question] = asked.questions
if (question === undefined) throw new Error('a query has a question')
const response = (change: Partial<Message> = {}): Buffer =>
  Buffer.from(encodeMessage({ ...asked, response: true, ...change }))
const changed = (at: number, value: number): Buffer => {
  const octets = response()
  octets[at] = value
  return octets
}

test('a query asks one question, with recursion and 1232 octets of room', () => {
  const { id, response: isResponse, opcode, recursionDesired, questions, edns } = asked
  assert.deepEqual([id, isResponse, opcode, recursionDesired], [0x1234, false, 0, true])
  assert.deepEqual(questions, [{ name: NAME, type: 1, class: 1 }])
  assert.deepEqual([edns?.udpPayloadOctets, edns?.version, edns?.dnssecOk], [1232, 0, false])
  const without = decodeMessage(encodeQuery(1, NAME, 'AAAA', false))
  assert.ok(!isMalformed(without))
  assert.deepEqual([without.edns, without.questions[0]?.type], [null, 28])
})

/** Of the question; the eleven octets behind it are OPT. */
const LAST = query.length - 12
const CASES: [title: string, octets: Buffer, isOne: boolean][] = [
  ['with the same question', response(), true],
  ['in other letter case', changed(13, 'Z'.charCodeAt(0)), true],
  ['without its question, of a refusal', response({ questions: [], rcode: 1 }), true],
  ['without its question, of a success', response({ questions: [], rcode: 0 }), false],
  ['without its question, of NXDOMAIN', response({ questions: [], rcode: 3 }), false],
  ['with the question twice', response({ questions: [question, question] }), false],
  ['that is the query itself', query, false],
  ['of another id, first octet', changed(0, 0x13), false],
  ['of another id, second octet', changed(1, 0x35), false],
  ['of another opcode', response({ opcode: 4 }), false],
  ['of another name', changed(14, 'x'.charCodeAt(0)), false],
  ['of another name, last letter', changed(LAST - 5, 'x'.charCodeAt(0)), false],
  ['of another type', changed(LAST - 2, 28), false],
  ['of another class', changed(LAST, 3), false],
  ['cut in its question', response().subarray(0, LAST), false],
  ['cut in its header', response().subarray(0, 11), false],
]
for (const [title, octets, isOne] of CASES) {
  test(`a response ${title} is ${isOne ? 'the' : 'no'} answer`, () =>
    assert.equal(isResponseTo(query, octets), isOne))
}

test('TC is one bit', () => {
  assert.equal(isTruncated(response({ truncated: true })), true)
  assert.equal(isTruncated(response({ authoritative: true, recursionDesired: true })), false)
})
