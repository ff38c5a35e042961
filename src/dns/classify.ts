/** What a response says about the addresses, or the services, of one name: its class, by which it is cached (RFC 2308). */
import { type DomainName, isWithin } from './domain-name.ts'
import {
  decodeMessage,
  isMalformed,
  isTruncated,
  type Message,
  type QuestionType,
  questionsOf,
  Rcode,
  RecordType,
  rcodeText,
  type SoaRecord,
  type SrvRecord,
} from './message.ts'

/** More CNAMEs than any sane zone has; resolvers stop at 8 to 16. This ends loops, too. */
export const CNAME_CHAIN_MAX = 8
/** Of one answer; far more than the resolver uses. Each costs a comparison with the denied addresses. */
const ADDRESSES_MAX = 1024
/** For a negative answer without SOA, which RFC 2308 §5 doesn't cache: long enough to end a storm of queries. */
const NEGATIVE_TTL_SECONDS_WITHOUT_SOA = 5

export type Finding =
  | {
      readonly kind: 'positive'
      readonly addresses: readonly string[]
      /** In place of addresses, where the question was for SRV. */
      readonly services?: readonly SrvRecord[]
      readonly ttlSeconds: number
    }
  | { readonly kind: 'nxdomain' | 'nodata'; readonly ttlSeconds: number }
  /** The answer ends at an alias, without its target's records: the next question is for `target`. */
  | {
      readonly kind: 'alias'
      readonly target: DomainName
      readonly links: number
      readonly ttlSeconds: number
    }
  /** The next nameserver is asked. */
  | {
      readonly kind: 'unusable'
      /** The RCODE, or why there is none. */
      readonly outcome: string
      /**
       * An error without a question. An attacker who guesses one of the ids in flight on a port can send it without
       * knowing the question, so it doesn't count on a shared port.
       */
      readonly questionless: boolean
    }

interface Question {
  readonly name: DomainName
  readonly type: QuestionType
  /** CNAMEs that led to `name` in earlier responses. */
  readonly links: number
}

/** Decodes and classifies a response that belongs to the question. */
export function readResponse(octets: Buffer, protocol: 'udp' | 'tcp', question: Question): Finding {
  // RFC 2181 §9: a truncated response is not used at all. What it cuts may not even decode.
  if (isTruncated(octets)) return unusable(protocol === 'tcp' ? 'malformed' : 'truncated', octets)
  const message = decodeMessage(octets)
  if (isMalformed(message)) return unusable('malformed', octets)
  const finding = classify(message, question)
  return typeof finding === 'string' ? unusable(finding, octets) : finding
}

function unusable(outcome: string, octets: Buffer): Finding {
  return { kind: 'unusable', outcome, questionless: questionsOf(octets) === 0 }
}

/** The RCODE of a response, or why there is no usable one. */
export function outcomeOf(finding: Finding): string {
  if (finding.kind === 'unusable') return finding.outcome
  return finding.kind === 'nxdomain' ? 'NXDOMAIN' : 'NOERROR'
}

/** @returns a text where the response is unusable: its RCODE, or why */
function classify(message: Message, { name, type, links: linksBefore }: Question): Finding | string {
  if (message.rcode !== Rcode.NOERROR && message.rcode !== Rcode.NXDOMAIN) {
    return rcodeText(message.rcode)
  }
  const chain = followChain(message, name, linksBefore)
  if (chain === null) return 'cname_chain'
  if (message.rcode === Rcode.NXDOMAIN) return { kind: 'nxdomain', ttlSeconds: negativeTtl(message, chain) }
  if (type === 'SRV') {
    const services = servicesOf(message, chain)
    if (services !== null) return services
  }
  let addresses: string[] | null = null
  let { ttlSeconds } = chain
  for (const record of message.answers) {
    if (record.type !== type || record.type === 'SRV' || record.name !== chain.end) continue
    // A literal for the first takes less room (decision 41).
    if (addresses === null) addresses = [record.address]
    else if (addresses.length < ADDRESSES_MAX) addresses.push(record.address)
    ttlSeconds = Math.min(ttlSeconds, record.ttlSeconds)
  }
  if (addresses !== null) return { kind: 'positive', addresses, ttlSeconds }
  if (soaOf(message, chain.end) !== null) return { kind: 'nodata', ttlSeconds: negativeTtl(message, chain) }
  if (chain.links > linksBefore) {
    return { kind: 'alias', target: chain.end, links: chain.links, ttlSeconds: chain.ttlSeconds }
  }
  if (isLame(message)) return 'lame'
  return { kind: 'nodata', ttlSeconds: negativeTtl(message, chain) }
}

function servicesOf(message: Message, { end, ttlSeconds }: Chain): Finding | null {
  const services = message.answers
    .filter((record) => record.type === 'SRV' && record.name === end)
    .slice(0, ADDRESSES_MAX) as SrvRecord[]
  if (services.length === 0) return null
  const least = Math.min(ttlSeconds, ...services.map((record) => record.ttlSeconds))
  return { kind: 'positive', addresses: [], services, ttlSeconds: least }
}

interface Chain {
  readonly end: DomainName
  readonly links: number
  /** The lowest TTL of its CNAMEs; Infinity where there are none. */
  readonly ttlSeconds: number
}

/** Follows the CNAMEs of the answer section from `name`; their order doesn't matter. Null: too many, or a loop. */
function followChain(message: Message, name: DomainName, linksBefore: number): Chain | null {
  let end = name
  let links = linksBefore
  let ttlSeconds = Number.POSITIVE_INFINITY
  for (;;) {
    const alias = message.answers.find((record) => record.type === 'CNAME' && record.name === end)
    if (alias?.type !== 'CNAME') return { end, links, ttlSeconds }
    if (++links > CNAME_CHAIN_MAX) return null
    end = alias.target
    ttlSeconds = Math.min(ttlSeconds, alias.ttlSeconds)
  }
}

/** RFC 2308 §5: the lower one of the SOA's own TTL and its MINIMUM, and no longer than the aliases that led there. */
function negativeTtl(message: Message, chain: Chain): number {
  const soa = soaOf(message, chain.end)
  const ttlSeconds =
    soa === null ? NEGATIVE_TTL_SECONDS_WITHOUT_SOA : Math.min(soa.ttlSeconds, soa.minimumSeconds)
  return Math.min(ttlSeconds, chain.ttlSeconds)
}

/** The SOA of a zone that contains the name: the SOA of another zone says nothing about it. */
function soaOf(message: Message, name: DomainName): SoaRecord | null {
  for (const record of message.authorities) {
    if (record.type === 'SOA' && isWithin(name, record.name)) return record
  }
  return null
}

/**
 * True where the response has no answer and no reason for that: the nameserver neither knows the zone nor recurses, it
 * refers to others (RFC 2308 §2.2: NS without SOA), or its records are about something else.
 */
function isLame(message: Message): boolean {
  const referral = message.authorities.some(
    (record) => record.type === 'other' && record.typeCode === RecordType.NS,
  )
  return referral || message.answers.length > 0 || !(message.authoritative || message.recursionAvailable)
}
