import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as fc from 'fast-check'
import { decoded, messages } from '../../test/support/dns-messages.ts'
import { decodeMessage, isMalformed } from './decode.ts'
import { encodeMessage } from './encode.ts'

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
