/**
 * DNS messages (RFC 1035 §4, RFC 2782, RFC 3596, RFC 6891): their values, the octets of a query, the check that a
 * response belongs to it, and the decoder.
 *
 * The decoder rejects the whole message for one broken record: a message that is wrong in one place can't be trusted
 * in another. It accepts two harmless faults of real nameservers: OPT in any section, and octets behind the last
 * record. The message's own length bounds work and memory. Counts are compared with it before anything is created,
 * names point backwards only, a name that is reached again by a pointer is the same string, and pointers can't make
 * many long names out of few octets.
 */
import { type DomainName, lowerCase, NAME_OCTETS_MAX, readName, writeName } from './domain-name.ts'
import { ipv4Text, ipv6Text } from './ip-address.ts'

/** RFC 1035 §3.2.2, RFC 3596 §2.1, RFC 2782, RFC 6891 §6.1.1. */
export const RecordType = { A: 1, NS: 2, CNAME: 5, SOA: 6, AAAA: 28, SRV: 33, OPT: 41 } as const
export const RecordClass = { IN: 1 } as const
export type AddressType = 'A' | 'AAAA'
/** The types that this client asks for. */
export type QuestionType = AddressType | 'SRV'

/** RFC 1035 §4.1.1, RFC 6895 §2.3. Codes from 16 on need OPT. */
export const Rcode = {
  NOERROR: 0,
  FORMERR: 1,
  SERVFAIL: 2,
  NXDOMAIN: 3,
  NOTIMP: 4,
  REFUSED: 5,
  BADVERS: 16,
} as const

const RCODE_TEXTS: ReadonlyMap<number, string> = new Map(
  Object.entries(Rcode).map(([text, code]) => [code, text]),
)

export function rcodeText(rcode: number): string {
  return RCODE_TEXTS.get(rcode) ?? `RCODE${rcode}`
}

const HEADER_OCTETS = 12

export interface Message {
  readonly id: number
  /** QR. */
  readonly response: boolean
  /** 0: a standard query. */
  readonly opcode: number
  readonly authoritative: boolean
  readonly truncated: boolean
  readonly recursionDesired: boolean
  readonly recursionAvailable: boolean
  /** With the upper eight bits that OPT carries. */
  readonly rcode: number
  readonly questions: readonly Question[]
  readonly answers: readonly ResourceRecord[]
  readonly authorities: readonly ResourceRecord[]
  /** Without OPT, which is `edns`. */
  readonly additionals: readonly ResourceRecord[]
  readonly edns: Edns | null
}

interface Question {
  readonly name: DomainName
  readonly type: number
  readonly class: number
}

/** RFC 6891 §6.1.2, §6.1.3. Options stay octets: this client uses none. */
export interface Edns {
  readonly udpPayloadOctets: number
  readonly version: number
  readonly dnssecOk: boolean
  readonly options: Buffer
}

export type ResourceRecord = AddressRecord | CnameRecord | SoaRecord | SrvRecord | OtherRecord

interface RecordHead {
  readonly name: DomainName
  /** 0 where the top bit was set on the wire (RFC 2181 §8). */
  readonly ttlSeconds: number
}

/** Class IN. The address is canonical text. */
export interface AddressRecord extends RecordHead {
  readonly type: AddressType
  readonly address: string
}

/** Class IN. */
export interface CnameRecord extends RecordHead {
  readonly type: 'CNAME'
  readonly target: DomainName
}

/** Class IN. */
export interface SoaRecord extends RecordHead {
  readonly type: 'SOA'
  readonly primary: DomainName
  readonly mailbox: DomainName
  readonly serial: number
  readonly refreshSeconds: number
  readonly retrySeconds: number
  readonly expireSeconds: number
  readonly minimumSeconds: number
}

/** Class IN. */
export interface SrvRecord extends RecordHead {
  readonly type: 'SRV'
  /** Lower is used first. */
  readonly priority: number
  readonly weight: number
  readonly port: number
  /** The root where the service is not available (RFC 2782). */
  readonly target: DomainName
}

/** A record of any other type or class: it keeps its octets. */
export interface OtherRecord extends RecordHead {
  readonly type: 'other'
  readonly typeCode: number
  readonly class: number
  readonly octets: Buffer
}

/** Fits an unfragmented packet on any path (DNS Flag Day 2020; RFC 9715 §3.1 says 1400 at most). */
const UDP_PAYLOAD_OCTETS = 1232
const QR = 0x80
const OPCODE_MASK = 0x78
const RCODE_MASK = 0x0f

const RD = 0x01
/** Type, class, and OPT without options: root name, type, payload size, extended RCODE and flags, length. */
const TAIL_OCTETS = 4 + 11

/** The octets of a query with one question. `id` is from 0 to 65,535. */
export function encodeQuery(id: number, name: DomainName, type: QuestionType, edns: boolean): Buffer {
  // A name's text is never shorter than its wire form less two octets.
  const room = HEADER_OCTETS + Math.min(NAME_OCTETS_MAX, name.length + 2) + TAIL_OCTETS
  const octets = Buffer.allocUnsafe(room)
  octets.fill(0, 0, HEADER_OCTETS)
  octets[0] = id >> 8
  octets[1] = id & 0xff
  octets[2] = RD
  octets[5] = 1
  if (edns) octets[11] = 1
  const at = writeName(name, octets, HEADER_OCTETS)
  octets.fill(0, at)
  octets[at + 1] = RecordType[type]
  octets[at + 3] = RecordClass.IN
  if (!edns) return octets.subarray(0, at + 4)
  octets[at + 6] = RecordType.OPT
  octets[at + 7] = UDP_PAYLOAD_OCTETS >> 8
  octets[at + 8] = UDP_PAYLOAD_OCTETS & 0xff
  const length = at + TAIL_OCTETS
  return length === room ? octets : octets.subarray(0, length)
}

/**
 * True where QR is set, and id, opcode and the one question are those of the query (RFC 5452 §9.1). Letter case doesn't
 * count (RFC 4343). A nameserver that refuses a query may leave out the question (RFC 1035 §4.1.1, FORMERR).
 */
export function isResponseTo(query: Buffer, response: Buffer): boolean {
  if (response.length < HEADER_OCTETS) return false
  if (response[0] !== query[0] || response[1] !== query[1]) return false
  const flags = response[2] ?? 0
  if ((flags & QR) === 0 || (flags & OPCODE_MASK) !== ((query[2] ?? 0) & OPCODE_MASK)) return false
  const questions = questionsOf(response)
  if (questions === 0) return isRefusal((response[3] ?? 0) & RCODE_MASK)
  if (questions !== 1) return false
  return sameQuestion(query, response)
}

/** QDCOUNT. The response has a header. */
export function questionsOf(response: Buffer): number {
  return response.readUInt16BE(4)
}

function isRefusal(rcode: number): boolean {
  return rcode !== Rcode.NOERROR && rcode !== Rcode.NXDOMAIN
}

/** Compares octets: a question's name is never compressed, and length octets are smaller than letters. */
function sameQuestion(query: Buffer, response: Buffer): boolean {
  const end = questionEnd(query)
  if (response.length < end) return false
  for (let at = HEADER_OCTETS; at < end - 4; at++)
    if (lowerCase(query[at] ?? 0) !== lowerCase(response[at] ?? 0)) return false
  for (let at = end - 4; at < end; at++) if (query[at] !== response[at]) return false
  return true
}

function questionEnd(query: Buffer): number {
  let at = HEADER_OCTETS
  for (let length = query[at] ?? 0; length > 0; length = query[at] ?? 0) at += 1 + length
  return at + 5
}

/** TC: the sections behind the question may be cut anywhere. */
export function isTruncated(response: Buffer): boolean {
  return ((response[2] ?? 0) & 0x02) !== 0
}

/** The shortest question is the root's name, type and class; the shortest record the root's name and ten octets. */
const QUESTION_OCTETS_MIN = 5
const RECORD_OCTETS_MIN = 11
const NO_OPTIONS = Buffer.alloc(0)
/** The octets that pointers may add to all names together: far more than they save in any real answer. */
const POINTED_OCTETS_MAX = 16_384
const TTL_TOP_BIT = 0x8000_0000

interface Malformed {
  /** Why the message was rejected. */
  readonly malformed: string
}

class Rejection extends Error {}

export function decodeMessage(octets: Buffer): Message | Malformed {
  try {
    return new Decoder(octets).message()
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

class Decoder {
  readonly #octets: Buffer
  /** Most names point to the question's, so a map for others is created only when one is needed. */
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
    // Most sections have one record, for which a literal takes less room (decision 41).
    const records = first === null ? [] : [first]
    for (let left = count; left > 1; left--) {
      const record = this.#record()
      if (record !== null) records.push(record)
    }
    return records
  }

  /** Null for OPT, which belongs to the message (RFC 6891 §6.1.1: at most one). */
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

  /** Null for a type that keeps its octets. */
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
    const options = this.#at === end ? NO_OPTIONS : this.#octets.subarray(this.#at, end)
    while (this.#at < end) {
      this.#uint16()
      const length = this.#uint16()
      this.#at += length
    }
    if (this.#at !== end) throw new Rejection('EDNS options do not fit OPT')
    return { udpPayloadOctets, version: (ttl >>> 16) & 0xff, dnssecOk: (ttl & 0x8000) !== 0, options }
  }

  /** Skips RDATA of a fixed length and returns its offset. */
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
    // That name was read in full before this one, so the pointer leads backwards.
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
