/** The queries of this client, and which response belongs to one. */
import { type DomainName, lowerCase, NAME_OCTETS_MAX, writeName } from './domain-name.ts'
import { HEADER_OCTETS, type QuestionType, RecordClass, RecordType } from './message.ts'

/** What fits an unfragmented packet on any path (DNS Flag Day 2020; RFC 9715 §3.1 says 1400 at most). */
const UDP_PAYLOAD_OCTETS = 1232
const QR = 0x80
const OPCODE_MASK = 0x78
const RCODE_MASK = 0x0f

const RD = 0x01
/** Type, class, and OPT without options: root name, type, payload size, extended RCODE and flags, length. */
const TAIL_OCTETS = 4 + 11

/** Written in place: a message of one question needs neither compression nor a message as a value. */
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
 * QR is set; id, opcode and the one question are the query's (RFC 5452 §9.1). Letter case isn't compared (RFC 4343).
 * A nameserver that refuses a query may leave out the question: it didn't have to read it (RFC 1035 §4.1.1, FORMERR).
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

/** QDCOUNT. */
export function questionsOf(response: Buffer): number {
  return response.readUInt16BE(4)
}

function isRefusal(rcode: number): boolean {
  return rcode !== 0 && rcode !== 3
}

/** Octet by octet: a question's name is never compressed, and length octets lie below the letters. */
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

/** TC: what follows the question may be cut anywhere and isn't read. */
export function isTruncated(response: Buffer): boolean {
  return ((response[2] ?? 0) & 0x02) !== 0
}
