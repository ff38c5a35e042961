/** What a response says about the addresses, or the services, of one name. Classified first, cached by class afterwards (RFC 2308). */
import { type DomainName, isWithin } from './domain-name.ts'
import {
  type Message,
  type QuestionType,
  Rcode,
  RecordType,
  rcodeText,
  type SoaRecord,
  type SrvRecord,
} from './message.ts'

/** More CNAMEs than any sane zone has; resolvers stop at 8 to 16. Ends loops, too. */
export const CNAME_CHAIN_MAX = 8
/** Of one answer; far more than are kept. Each is compared with the addresses that are denied. */
const ADDRESSES_MAX = 1024
/** For a negative answer without SOA, which RFC 2308 §5 would not cache: long enough to end a storm. */
const NEGATIVE_TTL_SECONDS_WITHOUT_SOA = 5

export type Finding =
  | {
      readonly kind: 'positive'
      readonly addresses: readonly string[]
      /** Instead of addresses, where SRV was asked for. */
      readonly services?: readonly SrvRecord[]
      readonly ttlSeconds: number
    }
  | { readonly kind: 'nxdomain' | 'nodata'; readonly ttlSeconds: number }
  /** The answer ends at an alias, without its target's records: `target` is to be asked for. */
  | {
      readonly kind: 'alias'
      readonly target: DomainName
      readonly links: number
      readonly ttlSeconds: number
    }
  /** Nothing to be used: the next nameserver is asked. */
  | { readonly kind: 'unusable'; readonly outcome: string }

/** `linksBefore`: CNAMEs that led to `name` in earlier responses. */
export function classify(message: Message, name: DomainName, type: QuestionType, linksBefore = 0): Finding {
  if (message.rcode !== Rcode.NOERROR && message.rcode !== Rcode.NXDOMAIN) {
    return { kind: 'unusable', outcome: rcodeText(message.rcode) }
  }
  const chain = followChain(message, name, linksBefore)
  if (chain === null) return { kind: 'unusable', outcome: 'cname_chain' }
  if (message.rcode === Rcode.NXDOMAIN) return { kind: 'nxdomain', ttlSeconds: negativeTtl(message, chain) }
  if (type === 'SRV') {
    const services = servicesOf(message, chain)
    if (services !== null) return services
  }
  let addresses: string[] | null = null
  let { ttlSeconds } = chain
  for (const record of message.answers) {
    if (record.type !== type || record.type === 'SRV' || record.name !== chain.end) continue
    // As in decode.ts: a literal for the first.
    if (addresses === null) addresses = [record.address]
    else if (addresses.length < ADDRESSES_MAX) addresses.push(record.address)
    ttlSeconds = Math.min(ttlSeconds, record.ttlSeconds)
  }
  if (addresses !== null) return { kind: 'positive', addresses, ttlSeconds }
  if (soaOf(message, chain.end) !== null) return { kind: 'nodata', ttlSeconds: negativeTtl(message, chain) }
  if (chain.links > linksBefore) {
    return { kind: 'alias', target: chain.end, links: chain.links, ttlSeconds: chain.ttlSeconds }
  }
  if (isLame(message)) return { kind: 'unusable', outcome: 'lame' }
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
  /** The least TTL of its CNAMEs; Infinity where there are none. */
  readonly ttlSeconds: number
}

/** Follows the CNAMEs of the answer section from `name`, in whatever order they stand there. Null: too many, or a loop. */
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

/** RFC 2308 §5: the least of the SOA's own TTL and its MINIMUM; and no longer than the aliases that led there. */
function negativeTtl(message: Message, chain: Chain): number {
  const soa = soaOf(message, chain.end)
  const ttlSeconds =
    soa === null ? NEGATIVE_TTL_SECONDS_WITHOUT_SOA : Math.min(soa.ttlSeconds, soa.minimumSeconds)
  return Math.min(ttlSeconds, chain.ttlSeconds)
}

/** The SOA of a zone that holds the name; another zone's says nothing about it. */
function soaOf(message: Message, name: DomainName): SoaRecord | null {
  for (const record of message.authorities) {
    if (record.type === 'SOA' && isWithin(name, record.name)) return record
  }
  return null
}

/**
 * No answer and no word on why: a nameserver that neither knows the zone nor recurses, a referral (RFC 2308 §2.2:
 * NS without SOA), or records that nobody asked for.
 */
function isLame(message: Message): boolean {
  const referral = message.authorities.some(
    (record) => record.type === 'other' && record.typeCode === RecordType.NS,
  )
  return referral || message.answers.length > 0 || !(message.authoritative || message.recursionAvailable)
}
