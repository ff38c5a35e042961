import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { encodeMessage } from '../../demo/dns-encode.ts'
import { decoded, messages } from '../../test/support/dns-messages.ts'
import { type DomainName, parseDomainName } from './domain-name.ts'
import {
  decodeMessage,
  encodeQuery,
  isMalformed,
  isResponseTo,
  isTruncated,
  type Message,
} from './message.ts'

// The same cases each time: what is drawn at random fails at random. `npm run fuzz` draws others.
fc.configureGlobal({ seed: 1 })

test('what is encoded decodes to the same message', () => {
  fc.assert(
    fc.property(messages, (message) => {
      assert.deepEqual(decoded(encodeMessage(message)), message)
    }),
    { numRuns: 300 },
  )
})

test('every message cut short is rejected', () => {
  fc.assert(
    fc.property(messages, fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }), (message, part) => {
      const octets = encodeMessage(message)
      assert.ok(isMalformed(decodeMessage(octets.subarray(0, Math.floor(octets.length * part)))))
    }),
    { numRuns: 300 },
  )
})

test('no octets make the decoder throw', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 600 }), (octets) => void decodeMessage(Buffer.from(octets))),
    { numRuns: 2000 },
  )
})

test('a message with changed octets is rejected, or decodes to one that holds together', () => {
  const change = fc.tuple(
    fc.nat(),
    fc.oneof(fc.constantFrom(0, 0x3f, 0x40, 0x80, 0xc0, 0xff), fc.nat({ max: 255 })),
  )
  fc.assert(
    fc.property(messages, fc.array(change, { minLength: 1, maxLength: 8 }), (message, changes) => {
      const octets = Buffer.from(encodeMessage(message))
      for (const [at, value] of changes) octets[at % octets.length] = value
      const result = decodeMessage(octets)
      if (!isMalformed(result)) assert.deepEqual(decoded(encodeMessage(result)), result)
    }),
    { numRuns: 2000 },
  )
})

/** 64 KiB of records; each owner is a pointer to the end of `names`. */
function pointingMessage(names: Buffer, pointer: number): Buffer {
  const header = Buffer.alloc(12)
  const record = Buffer.from([0xc0 | (pointer >> 8), pointer & 0xff, 0xff, 0, 0, 1, 0, 0, 0, 1, 0, 0])
  const count = Math.floor((65_535 - 12 - names.length) / record.length)
  header.writeUInt16BE(1, 4)
  header.writeUInt16BE(count, 6)
  return Buffer.concat([header, names, ...new Array<Buffer>(count).fill(record)])
}

test('a message of pointers to pointers is rejected at once', () => {
  const question = Buffer.from([0, 0, 1, 0, 1])
  const pointers = Buffer.alloc(16_000)
  for (let at = 0; at < pointers.length; at += 2)
    pointers.writeUInt16BE(0xc000 | Math.max(12, 12 + 5 + at - 2), at)
  const before = process.cpuUsage()
  const filler = Buffer.concat([question, Buffer.from([0, 0xff, 0, 0, 1, 0, 0, 0, 1, 0x3e, 0x80]), pointers])
  assert.ok(isMalformed(decodeMessage(pointingMessage(filler, 16_000))))
  const { user, system } = process.cpuUsage(before)
  assert.ok(user + system < 100_000, `${user + system} µs of CPU time, where 500 will do`)
})

test('five thousand names of 255 octets by pointer cost no more memory than one', () => {
  const label = Buffer.concat([Buffer.of(61), Buffer.alloc(61, 0x80)])
  const question = Buffer.concat([label, label, label, label, Buffer.from([0, 0, 1, 0, 1])])
  const octets = pointingMessage(question, 12)
  const before = process.memoryUsage().heapUsed
  const message = decoded(octets)
  const grownOctets = process.memoryUsage().heapUsed - before
  assert.ok(message.answers.length > 5000)
  assert.ok(grownOctets < 100 * octets.length, `${grownOctets} octets`)
})

/** 64 KiB whose CNAMEs point to as many different names of 250 octets, all of them inside the same 16 KiB. */
function messageOfLongNames(): Buffer {
  const question = Buffer.from([1, 0x61, 0, 0, 1, 0, 1])
  const filler = Buffer.alloc(16_000)
  // Labels of one octet each, whatever octet one begins at; they need escapes as text.
  for (let at = 0; at < filler.length; at++) filler[at] = at % 252 >= 250 ? 0 : 1
  const head = Buffer.from([0, 0xff, 0, 0, 1, 0, 0, 0, 1, filler.length >> 8, filler.length & 0xff])
  const first = 12 + question.length + head.length
  const records: Buffer[] = []
  for (let at = first; at < first + 7000; at += 2) {
    const pointers = [0xc000 | at, 0xc000 | (at + 1)].map((pointer) => [pointer >> 8, pointer & 0xff])
    records.push(Buffer.from([...(pointers[0] ?? []), 0, 5, 0, 1, 0, 0, 0, 1, 0, 2, ...(pointers[1] ?? [])]))
  }
  const header = Buffer.alloc(12)
  header.writeUInt16BE(1, 4)
  header.writeUInt16BE(1 + records.length, 6)
  return Buffer.concat([header, question, head, filler, ...records])
}

test('thousands of long names out of few octets are not worked through', () => {
  const octets = messageOfLongNames()
  assert.ok(octets.length < 0x10000)
  assert.deepEqual(decodeMessage(octets), { malformed: 'names without end' })
  const before = process.cpuUsage()
  for (let run = 0; run < 10; run++) decodeMessage(octets)
  const { user, system } = process.cpuUsage(before)
  assert.ok((user + system) / 10 < 50_000, `${(user + system) / 10} µs of CPU time each, where 5,000 will do`)
})

test('OPT is taken in any section, and octets behind the last record are not read', () => {
  const message = {
    id: 1,
    response: true,
    opcode: 0,
    authoritative: false,
    truncated: false,
    recursionDesired: true,
    recursionAvailable: true,
    rcode: 0,
    questions: [{ name: 'zone1.test' as DomainName, type: 1, class: 1 }],
    answers: [{ name: 'zone1.test' as DomainName, type: 'A', address: '10.0.0.1', ttlSeconds: 60 }],
    authorities: [],
    additionals: [],
    edns: null,
  } as const
  const octets = encodeMessage(message)
  assert.deepEqual(decoded(Buffer.concat([octets, Buffer.alloc(4)])), message)
  const questionEnd = 12 + 16
  const opt = Buffer.from([0, 0, 41, 4, 0xd0, 0, 0, 0, 0, 0, 0])
  const optFirst = Buffer.concat([octets.subarray(0, questionEnd), opt, octets.subarray(questionEnd)])
  optFirst.writeUInt16BE(2, 6)
  const { answers, edns } = decoded(optFirst)
  assert.deepEqual([answers, edns?.udpPayloadOctets], [message.answers, 1232])
})

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

test('a query has one question, with recursion and 1232 octets of room', () => {
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
