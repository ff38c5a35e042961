/** The message codec against two others that know nothing of it: npm's dns2 and PyPI's dnspython. */
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { test } from 'node:test'
import dns2 from 'dns2'
import * as fc from 'fast-check'
import { encodeMessage } from '../../demo/dns-encode.ts'
import { ipOctets } from '../../src/dns/ip-address.ts'
import { type Message, RecordType, type ResourceRecord } from '../../src/dns/message.ts'
import { decoded, messages, plainMessages } from '../support/dns-messages.ts'

interface Dns2Packet {
  header: Record<string, number>
  questions: object[]
  answers: object[]
  authorities: object[]
  additionals: object[]
  toBuffer(): Buffer
}
type Dns2PacketClass = { new (): Dns2Packet; parse(octets: Buffer): Dns2Packet }
const Packet = dns2.Packet as unknown as Dns2PacketClass

function dns2Header(message: Message): Record<string, number> {
  return {
    id: message.id,
    qr: Number(message.response),
    opcode: message.opcode,
    aa: Number(message.authoritative),
    tc: Number(message.truncated),
    rd: Number(message.recursionDesired),
    ra: Number(message.recursionAvailable),
    rcode: message.rcode,
  }
}

function dns2Record(record: ResourceRecord): Record<string, unknown> {
  assert.ok(record.type !== 'other')
  const head = { name: record.name, type: RecordType[record.type], class: 1, ttl: record.ttlSeconds }
  switch (record.type) {
    case 'A':
      return { ...head, address: record.address }
    case 'AAAA':
      // dns2 writes all groups of what it reads, and wants whole groups only.
      return { ...head, address: (ipOctets(record.address).toString('hex').match(/.{4}/g) ?? []).join(':') }
    case 'CNAME':
      return { ...head, domain: record.target }
    case 'SRV': {
      const { priority, weight, port, target } = record
      return { ...head, priority, weight, port, target }
    }
    case 'SOA':
      return {
        ...head,
        primary: record.primary,
        admin: record.mailbox,
        serial: record.serial,
        refresh: record.refreshSeconds,
        retry: record.retrySeconds,
        expiration: record.expireSeconds,
        minimum: record.minimumSeconds,
      }
  }
}

function comparable(record: object): object {
  const { address, ...rest } = record as { address?: string }
  return address === undefined ? { ...rest } : { ...rest, address: ipOctets(address).toString('hex') }
}

const SECTIONS = ['answers', 'authorities', 'additionals'] as const

test('dns2 reads in our octets what we wrote', () => {
  fc.assert(
    fc.property(plainMessages, (message) => {
      const packet = Packet.parse(encodeMessage(message))
      const header = dns2Header(message)
      for (const [field, value] of Object.entries(header)) assert.equal(packet.header[field], value, field)
      assert.deepEqual(packet.questions.map(comparable), message.questions.map(comparable))
      for (const section of SECTIONS) {
        assert.deepEqual(packet[section].map(comparable), message[section].map(dns2Record).map(comparable))
      }
    }),
    { numRuns: 300 },
  )
})

test('we read in octets of dns2 what it wrote', () => {
  fc.assert(
    fc.property(plainMessages, (message) => {
      const packet = new Packet()
      packet.header = dns2Header(message)
      packet.questions = [...message.questions]
      for (const section of SECTIONS) packet[section] = message[section].map(dns2Record)
      assert.deepEqual(decoded(packet.toBuffer()), message)
    }),
    { numRuns: 300 },
  )
})

/** Reads each message and writes it anew, by dnspython's own means. */
const PYTHON = `
import sys, dns.message
for line in sys.stdin:
    message = dns.message.from_wire(bytes.fromhex(line.strip()), one_rr_per_rrset=True)
    print(message.to_wire(max_size=65535).hex())
`
const python = process.env['PYTHON'] ?? 'python3'
const hasDnspython = spawnSync(python, ['-c', 'import dns.message']).status === 0

test('dnspython reads our octets, and we read the same message in what it writes', {
  skip: !hasDnspython && 'no python3 with dnspython here',
}, () => {
  const sample = fc.sample(messages, 500).map((message) => ({ ...message, truncated: false }))
  const input = sample.map((message) => `${encodeMessage(message).toString('hex')}\n`).join('')
  const { stdout, stderr, status } = spawnSync(python, ['-c', PYTHON], {
    input,
    encoding: 'utf8',
    maxBuffer: 1 << 26,
  })
  assert.equal(status, 0, stderr)
  const lines = stdout.trim().split('\n')
  assert.equal(lines.length, sample.length)
  for (const [at, line] of lines.entries()) assert.deepEqual(decoded(Buffer.from(line, 'hex')), sample[at])
})
