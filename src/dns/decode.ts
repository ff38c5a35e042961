/**
 * Octets → message. Strict where it counts: one broken record rejects the whole message, since a message that lies in one
 * place can't be trusted in another. What some nameservers do and nobody is misled by is let pass: OPT in any section, and
 * octets behind the last record that was counted. Work and memory are bounded by the message's own length: counts are
 * checked against it before anything is made, names lead backwards only, a name met again by pointer is the same text, and
 * pointers don't make many long names out of few octets.
 */
import { type DomainName, readName } from './domain-name.ts'
import { ipv4Text, ipv6Text } from './ip-address.ts'
import {
  type Edns,
  HEADER_OCTETS,
  type Message,
  type Question,
  RecordClass,
  RecordType,
  type ResourceRecord,
} from './message.ts'

/** The least a question takes: root name, type, class. The least a record takes: root name and ten octets. */
const QUESTION_OCTETS_MIN = 5
const RECORD_OCTETS_MIN = 11
const NONE = Buffer.alloc(0)
/** What names may have together, beyond what stands in the message: far more than pointers save in any answer. */
const POINTED_OCTETS_MAX = 16_384
const TTL_TOP_BIT = 0x8000_0000

/** Why a message was rejected. */
export interface Malformed {
  readonly malformed: string
}

class Rejection extends Error {}

export function decodeMessage(octets: Buffer): Message | Malformed {
  try {
    return new Reader(octets).message()
  } catch (error) {
    if (error instanceof Rejection) return { malformed: error.message }
    throw error
  }
}

export function isMalformed(decoded: Message | Malformed): decoded is Malformed {
  return 'malformed' in decoded
}

interface OptRecord {
  readonly edns: Edns
  readonly extendedRcode: number
}

const NO_RECORDS: readonly ResourceRecord[] = []

class Reader {
  readonly #octets: Buffer
  /** The first name, the question's, is what most others point to. The map of the others is made when there is one. */
  #firstName: DomainName | undefined
  #firstNameAt = -1
  #namesByOffset: Map<number, DomainName> | null = null
  #at = 0
  #opt: OptRecord | null = null
  #pointedOctetsLeft = POINTED_OCTETS_MAX

  constructor(octets: Buffer) {
    this.#octets = octets
  }

  message(): Message {
    if (this.#octets.length < HEADER_OCTETS) throw new Rejection('shorter than a header')
    const id = this.#uint16()
    const flags = this.#uint16()
    const counts = [this.#uint16(), this.#uint16(), this.#uint16(), this.#uint16()] as const
    const octetsMin =
      counts[0] * QUESTION_OCTETS_MIN + (counts[1] + counts[2] + counts[3]) * RECORD_OCTETS_MIN
    if (octetsMin > this.#octets.length - HEADER_OCTETS) throw new Rejection('counts exceed the length')
    const questions = counts[0] === 0 ? [] : [this.#question()]
    for (let left = counts[0]; left > 1; left--) questions.push(this.#question())
    const answers = this.#section(counts[1])
    const authorities = this.#section(counts[2])
    const additionals = this.#section(counts[3])
    return {
      id,
      response: (flags & 0x8000) !== 0,
      opcode: (flags >> 11) & 0xf,
      authoritative: (flags & 0x0400) !== 0,
      truncated: (flags & 0x0200) !== 0,
      recursionDesired: (flags & 0x0100) !== 0,
      recursionAvailable: (flags & 0x0080) !== 0,
      rcode: (flags & 0xf) | ((this.#opt?.extendedRcode ?? 0) << 4),
      questions,
      answers,
      authorities,
      additionals,
      edns: this.#opt?.edns ?? null,
    }
  }

  #question(): Question {
    return { name: this.#name(), type: this.#uint16(), class: this.#uint16() }
  }

  #section(count: number): readonly ResourceRecord[] {
    if (count === 0) return NO_RECORDS
    const first = this.#record()
    // Most have one: a literal has room for that, where `push` makes room for seventeen.
    const records = first === null ? [] : [first]
    for (let left = count; left > 1; left--) {
      const record = this.#record()
      if (record !== null) records.push(record)
    }
    return records
  }

  /** Null for OPT, which isn't a record but the message's own (RFC 6891 §6.1.1: at most one). */
  #record(): ResourceRecord | null {
    const name = this.#name()
    const typeCode = this.#uint16()
    const recordClass = this.#uint16()
    const ttl = this.#uint32()
    const length = this.#uint16()
    const end = this.#at + length
    if (end > this.#octets.length) throw new Rejection('RDATA is cut off')
    if (typeCode === RecordType.OPT) {
      if (this.#opt !== null || name !== '') throw new Rejection('OPT out of place')
      this.#opt = { edns: this.#edns(recordClass, ttl, end), extendedRcode: ttl >>> 24 }
      return null
    }
    const ttlSeconds = ttl >= TTL_TOP_BIT ? 0 : ttl
    const record =
      recordClass === RecordClass.IN ? this.#knownRecord(name, ttlSeconds, typeCode, length) : null
    if (record !== null) {
      if (this.#at !== end) throw new Rejection('RDLENGTH does not fit the RDATA')
      return record
    }
    this.#at = end
    const octets = this.#octets.subarray(end - length, end)
    return { name, ttlSeconds, type: 'other', typeCode, class: recordClass, octets }
  }

  /** Null for a type that is kept as octets. */
  #knownRecord(
    name: DomainName,
    ttlSeconds: number,
    typeCode: number,
    length: number,
  ): ResourceRecord | null {
    switch (typeCode) {
      case RecordType.A:
        return { name, ttlSeconds, type: 'A', address: ipv4Text(this.#octets, this.#fixed(length, 4)) }
      case RecordType.AAAA:
        return { name, ttlSeconds, type: 'AAAA', address: ipv6Text(this.#octets, this.#fixed(length, 16)) }
      case RecordType.CNAME:
        return { name, ttlSeconds, type: 'CNAME', target: this.#name() }
      case RecordType.SOA:
        return {
          name,
          ttlSeconds,
          type: 'SOA',
          primary: this.#name(),
          mailbox: this.#name(),
          serial: this.#uint32(),
          refreshSeconds: this.#uint32(),
          retrySeconds: this.#uint32(),
          expireSeconds: this.#uint32(),
          minimumSeconds: this.#uint32(),
        }
      case RecordType.SRV:
        return {
          name,
          ttlSeconds,
          type: 'SRV',
          priority: this.#uint16(),
          weight: this.#uint16(),
          port: this.#uint16(),
          target: this.#name(),
        }
      default:
        return null
    }
  }

  #edns(udpPayloadOctets: number, ttl: number, end: number): Edns {
    const options = this.#at === end ? NONE : this.#octets.subarray(this.#at, end)
    while (this.#at < end) {
      this.#uint16()
      const length = this.#uint16()
      this.#at += length
    }
    if (this.#at !== end) throw new Rejection('EDNS options do not fit OPT')
    return { udpPayloadOctets, version: (ttl >>> 16) & 0xff, dnssecOk: (ttl & 0x8000) !== 0, options }
  }

  /** Steps over RDATA of a fixed length and returns where it began. */
  #fixed(length: number, expected: number): number {
    if (length !== expected) throw new Rejection('address of a wrong length')
    this.#at += expected
    return this.#at - expected
  }

  #name(): DomainName {
    const start = this.#at
    const first = this.#octets[start] ?? 0
    const pointer = first >= 0xc0 ? ((first & 0x3f) << 8) | (this.#octets[start + 1] ?? 0) : -1
    const known = pointer < 0 ? undefined : this.#nameAt(pointer)
    // A name kept under an offset was read there in full, from before `start`: the pointer leads backwards.
    if (known !== undefined && start + 2 <= this.#octets.length) {
      this.#at += 2
      return known
    }
    const read = readName(this.#octets, start)
    if (read === null) throw new Rejection('broken name')
    this.#pointedOctetsLeft -= Math.max(0, read.octets - (read.end - start))
    if (this.#pointedOctetsLeft < 0) throw new Rejection('names without end')
    this.#keepName(pointer < 0 ? start : pointer, read.name)
    this.#at = read.end
    return read.name
  }

  #nameAt(offset: number): DomainName | undefined {
    return offset === this.#firstNameAt ? this.#firstName : this.#namesByOffset?.get(offset)
  }

  #keepName(offset: number, name: DomainName): void {
    if (this.#firstNameAt < 0) {
      this.#firstName = name
      this.#firstNameAt = offset
      return
    }
    this.#namesByOffset ??= new Map()
    this.#namesByOffset.set(offset, name)
  }

  #uint16(): number {
    if (this.#at + 2 > this.#octets.length) throw new Rejection('cut off')
    this.#at += 2
    return this.#octets.readUInt16BE(this.#at - 2)
  }

  #uint32(): number {
    if (this.#at + 4 > this.#octets.length) throw new Rejection('cut off')
    this.#at += 4
    return this.#octets.readUInt32BE(this.#at - 4)
  }
}
