/** Encodes DNS messages. Compresses owner names, and names in CNAME and SOA, as RFC 1035 section 4.1.4 allows. */
import { type DomainName, NAME_OCTETS_MAX, parentOf, writeLabel, writeName } from '../src/dns/domain-name.ts'
import { ipOctets } from '../src/dns/ip-address.ts'
import { type Message, RecordClass, RecordType, type ResourceRecord } from '../src/dns/message.ts'

/** A compression pointer has 14 bits. */
const POINTER_OFFSET_MAX = 0x3fff
/** Every message starts in this buffer, which has room for any query. */
const scratch = Buffer.allocUnsafe(512)

export function encodeMessage(message: Message): Buffer {
  return new Writer().message(message)
}

class Writer {
  #buffer: Buffer = scratch
  #length = 0
  /** Offsets of names that later names may point to; null in a message with one name. */
  #offsets: Map<DomainName, number> | null = null

  message(message: Message): Buffer {
    const { questions, answers, authorities, additionals, edns } = message
    if (questions.length + answers.length + authorities.length + additionals.length > 1)
      this.#offsets = new Map()
    this.#uint16(message.id)
    this.#uint16(flagsOf(message))
    this.#uint16(questions.length)
    this.#uint16(answers.length)
    this.#uint16(authorities.length)
    this.#uint16(additionals.length + (edns === null ? 0 : 1))
    for (const question of questions) {
      this.#name(question.name)
      this.#uint16(question.type)
      this.#uint16(question.class)
    }
    for (const record of answers) this.#record(record)
    for (const record of authorities) this.#record(record)
    for (const record of additionals) this.#record(record)
    if (edns !== null) {
      this.#uint8(0)
      this.#uint16(RecordType.OPT)
      this.#uint16(edns.udpPayloadOctets)
      this.#uint8(message.rcode >> 4)
      this.#uint8(edns.version)
      this.#uint16(edns.dnssecOk ? 0x8000 : 0)
      this.#uint16(edns.options.length)
      this.#octets(edns.options)
    }
    return Buffer.from(this.#buffer.subarray(0, this.#length))
  }

  #record(record: ResourceRecord): void {
    this.#name(record.name)
    this.#uint16(record.type === 'other' ? record.typeCode : RecordType[record.type])
    this.#uint16(record.type === 'other' ? record.class : RecordClass.IN)
    this.#uint32(record.ttlSeconds)
    this.#uint16(0)
    const start = this.#length
    this.#rdata(record)
    this.#buffer.writeUInt16BE(this.#length - start, start - 2)
  }

  #rdata(record: ResourceRecord): void {
    switch (record.type) {
      case 'A':
      case 'AAAA':
        this.#octets(ipOctets(record.address))
        return
      case 'CNAME':
        this.#name(record.target)
        return
      case 'SOA':
        this.#name(record.primary)
        this.#name(record.mailbox)
        this.#uint32(record.serial)
        this.#uint32(record.refreshSeconds)
        this.#uint32(record.retrySeconds)
        this.#uint32(record.expireSeconds)
        this.#uint32(record.minimumSeconds)
        return
      case 'SRV':
        this.#uint16(record.priority)
        this.#uint16(record.weight)
        this.#uint16(record.port)
        this.#wholeName(record.target)
        return
      case 'other':
        this.#octets(record.octets)
        return
    }
  }

  #name(name: DomainName): void {
    if (this.#offsets === null) {
      this.#wholeName(name)
      return
    }
    for (let rest = name; rest !== ''; ) {
      const offset = this.#offsets.get(rest)
      if (offset !== undefined) {
        this.#uint16(0xc000 | offset)
        return
      }
      if (this.#length <= POINTER_OFFSET_MAX) this.#offsets.set(rest, this.#length)
      const parent = parentOf(rest) ?? ('' as DomainName)
      this.#reserve(64)
      this.#length = writeLabel(rest, parent, this.#buffer, this.#length)
      rest = parent
    }
    this.#uint8(0)
  }

  #wholeName(name: DomainName): void {
    this.#reserve(NAME_OCTETS_MAX)
    this.#length = writeName(name, this.#buffer, this.#length)
  }

  #uint8(value: number): void {
    this.#reserve(1)
    this.#buffer[this.#length++] = value
  }

  /** The low 16 bits. */
  #uint16(value: number): void {
    this.#reserve(2)
    this.#buffer[this.#length++] = value >> 8
    this.#buffer[this.#length++] = value
  }

  #uint32(value: number): void {
    this.#reserve(4)
    this.#length = this.#buffer.writeUInt32BE(value, this.#length)
  }

  #octets(octets: Buffer): void {
    this.#reserve(octets.length)
    octets.copy(this.#buffer, this.#length)
    this.#length += octets.length
  }

  #reserve(octets: number): void {
    if (this.#length + octets <= this.#buffer.length) return
    const larger = Buffer.allocUnsafe(2 * (this.#length + octets))
    this.#buffer.copy(larger, 0, 0, this.#length)
    this.#buffer = larger
  }
}

function flagsOf(message: Message): number {
  return (
    (message.response ? 0x8000 : 0) |
    (message.opcode << 11) |
    (message.authoritative ? 0x0400 : 0) |
    (message.truncated ? 0x0200 : 0) |
    (message.recursionDesired ? 0x0100 : 0) |
    (message.recursionAvailable ? 0x0080 : 0) |
    (message.rcode & 0xf)
  )
}
