/** Message → octets. Owner names and names in RDATA are compressed (RFC 1035 §4.1.4; only types that RFC allows it for). */
import { type DomainName, firstLabel, parentOf } from './domain-name.ts'
import { ipOctets } from './ip-address.ts'
import { type Message, RecordClass, RecordType, type ResourceRecord } from './message.ts'

/** Pointers have 14 bits. */
const POINTER_OFFSET_MAX = 0x3fff

export function encodeMessage(message: Message): Buffer {
  return new Writer().message(message)
}

class Writer {
  readonly #parts: Buffer[] = []
  readonly #offsets = new Map<DomainName, number>()
  #length = 0

  message(message: Message): Buffer {
    this.#uint16(message.id)
    this.#uint16(
      (message.response ? 0x8000 : 0) |
        (message.opcode << 11) |
        (message.authoritative ? 0x0400 : 0) |
        (message.truncated ? 0x0200 : 0) |
        (message.recursionDesired ? 0x0100 : 0) |
        (message.recursionAvailable ? 0x0080 : 0) |
        (message.rcode & 0xf),
    )
    this.#uint16(message.questions.length)
    this.#uint16(message.answers.length)
    this.#uint16(message.authorities.length)
    this.#uint16(message.additionals.length + (message.edns === null ? 0 : 1))
    for (const question of message.questions) {
      this.#name(question.name)
      this.#uint16(question.type)
      this.#uint16(question.class)
    }
    for (const record of message.answers) this.#record(record)
    for (const record of message.authorities) this.#record(record)
    for (const record of message.additionals) this.#record(record)
    if (message.edns !== null) this.#opt(message)
    return Buffer.concat(this.#parts, this.#length)
  }

  #opt({ edns, rcode }: Message): void {
    if (edns === null) return
    this.#octets(Buffer.from([0]))
    this.#uint16(RecordType.OPT)
    this.#uint16(edns.udpPayloadOctets)
    this.#octets(Buffer.from([rcode >> 4, edns.version, edns.dnssecOk ? 0x80 : 0, 0]))
    this.#uint16(edns.options.length)
    this.#octets(edns.options)
  }

  #record(record: ResourceRecord): void {
    this.#name(record.name)
    this.#uint16(record.type === 'other' ? record.typeCode : RecordType[record.type])
    this.#uint16(record.type === 'other' ? record.class : RecordClass.IN)
    this.#uint32(record.ttlSeconds)
    const length = this.#octets(Buffer.alloc(2))
    const start = this.#length
    this.#rdata(record)
    length.writeUInt16BE(this.#length - start, 0)
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
      case 'other':
        this.#octets(record.octets)
        return
    }
  }

  #name(name: DomainName): void {
    let rest: DomainName | null = name
    while (rest !== null && rest !== '') {
      const offset = this.#offsets.get(rest)
      if (offset !== undefined) {
        this.#uint16(0xc000 | offset)
        return
      }
      if (this.#length <= POINTER_OFFSET_MAX) this.#offsets.set(rest, this.#length)
      const label = firstLabel(rest)
      this.#octets(Buffer.from([label.length]))
      this.#octets(label)
      rest = parentOf(rest)
    }
    this.#octets(Buffer.from([0]))
  }

  #uint16(value: number): void {
    const octets = Buffer.alloc(2)
    octets.writeUInt16BE(value, 0)
    this.#octets(octets)
  }

  #uint32(value: number): void {
    const octets = Buffer.alloc(4)
    octets.writeUInt32BE(value, 0)
    this.#octets(octets)
  }

  #octets(octets: Buffer): Buffer {
    this.#parts.push(octets)
    this.#length += octets.length
    return octets
  }
}
