/** DNS messages for property tests. */
import * as fc from 'fast-check'
import { type DomainName, parseDomainName } from '../../src/dns/domain-name.ts'
import { ipv4Text, ipv6Text } from '../../src/dns/ip-address.ts'
import type { Edns, Message, ResourceRecord } from '../../src/dns/message.ts'
import { decodeMessage, isMalformed } from '../../src/dns/message.ts'

/** `deepEqual` compares prototypes. */
function recordOf<T extends object>(model: { [K in keyof T]: fc.Arbitrary<T[K]> }): fc.Arbitrary<T> {
  return fc.record(model as never, { noNullPrototype: true }) as fc.Arbitrary<T>
}

const uint16 = fc.integer({ min: 0, max: 0xffff })
const uint32 = fc.integer({ min: 0, max: 0xffff_ffff })
const ttlSeconds = fc.oneof(fc.integer({ min: 0, max: 600 }), fc.integer({ min: 0, max: 0x7fff_ffff }))
/** Types for private use (RFC 6895 §3.1): nobody gives their octets a meaning. */
const privateType = fc.integer({ min: 0xff00, max: 0xfffe })

const plainLabel = fc.stringMatching(/^[a-z0-9_][a-z0-9_-]{0,14}$/)
const anyLabel = fc
  .uint8Array({ minLength: 1, maxLength: 63 })
  .map((octets) => [...octets].map((octet) => `\\${String(octet).padStart(3, '0')}`).join(''))

function namesOf(label: fc.Arbitrary<string>): fc.Arbitrary<DomainName> {
  // A few labels again and again, so that names have endings in common.
  const ending = fc.constantFrom('', 'test', 'game.test', 'a.b.game.test')
  return fc
    .tuple(fc.array(label, { maxLength: 3 }), ending)
    .map(([labels, rest]) => parseDomainName([...labels, ...(rest === '' ? [] : [rest])].join('.') || '.'))
    .filter((name) => name !== null)
}

/** What most names are made of. */
export const plainNames = namesOf(plainLabel)
/** Labels of any octets. */
export const anyNames = namesOf(fc.oneof(plainLabel, anyLabel))

function addressesOf(octets: number, text: (octets: Uint8Array) => string): fc.Arbitrary<string> {
  const octet = fc.oneof(fc.constant(0), fc.constant(0xff), fc.integer({ min: 0, max: 0xff }))
  return fc.array(octet, { minLength: octets, maxLength: octets }).map((all) => text(Uint8Array.from(all)))
}

export function recordsOf(names: fc.Arbitrary<DomainName>): fc.Arbitrary<ResourceRecord> {
  const head = { name: names, ttlSeconds }
  return fc.oneof(
    recordOf({ ...head, type: fc.constant('A' as const), address: addressesOf(4, ipv4Text) }),
    recordOf({ ...head, type: fc.constant('AAAA' as const), address: addressesOf(16, ipv6Text) }),
    recordOf({ ...head, type: fc.constant('CNAME' as const), target: names }),
    recordOf({
      ...head,
      type: fc.constant('SRV' as const),
      priority: uint16,
      weight: uint16,
      port: uint16,
      target: names,
    }),
    recordOf({
      ...head,
      type: fc.constant('SOA' as const),
      primary: names,
      mailbox: names,
      serial: uint32,
      refreshSeconds: uint32,
      retrySeconds: uint32,
      expireSeconds: uint32,
      minimumSeconds: fc.integer({ min: 0, max: 0x7fff_ffff }),
    }),
  )
}

const otherRecords: fc.Arbitrary<ResourceRecord> = recordOf({
  name: anyNames,
  ttlSeconds,
  type: fc.constant('other' as const),
  typeCode: privateType,
  class: fc.constantFrom(1, 3),
  octets: fc.uint8Array({ maxLength: 40 }).map((octets) => Buffer.from(octets)),
})

const edns: fc.Arbitrary<Edns> = recordOf({
  udpPayloadOctets: fc.integer({ min: 512, max: 4096 }),
  version: fc.constant(0),
  dnssecOk: fc.boolean(),
  options: fc
    .option(fc.tuple(fc.integer({ min: 0xfde9, max: 0xfffe }), fc.uint8Array({ maxLength: 20 })))
    .map((option) => (option === null ? Buffer.alloc(0) : ednsOption(...option))),
})

function ednsOption(code: number, octets: Uint8Array): Buffer {
  const head = Buffer.alloc(4)
  head.writeUInt16BE(code, 0)
  head.writeUInt16BE(octets.length, 2)
  return Buffer.concat([head, octets])
}

function messagesOf(
  names: fc.Arbitrary<DomainName>,
  records: fc.Arbitrary<ResourceRecord>,
  optRecord: fc.Arbitrary<Edns | null>,
): fc.Arbitrary<Message> {
  const section = fc.array(records, { maxLength: 5 })
  return recordOf({
    id: uint16,
    response: fc.boolean(),
    opcode: fc.constant(0),
    authoritative: fc.boolean(),
    truncated: fc.boolean(),
    recursionDesired: fc.boolean(),
    recursionAvailable: fc.boolean(),
    rcode: fc.integer({ min: 0, max: 23 }),
    questions: fc.array(
      recordOf({ name: names, type: fc.constantFrom(1, 5, 6, 28, 33), class: fc.constant(1) }),
      {
        maxLength: 1,
      },
    ),
    answers: section,
    authorities: section,
    additionals: section,
    edns: optRecord,
  }).map((message) => (message.edns === null ? { ...message, rcode: message.rcode & 0xf } : message))
}

/** What any nameserver may say. */
export const messages = messagesOf(anyNames, fc.oneof(recordsOf(anyNames), otherRecords), fc.option(edns))
/** Without what dns2 has no word for: escapes, OPT, other types. */
export const plainMessages = messagesOf(plainNames, recordsOf(plainNames), fc.constant(null))

export function decoded(octets: Buffer): Message {
  const message = decodeMessage(octets)
  if (isMalformed(message)) throw new Error(`${message.malformed}: ${octets.toString('hex')}`)
  return message
}
