/**
 * What a look-up of a zone's name found. Classified first, cached by class afterwards (RFC 2308, RFC 8767).
 * Addresses are canonical texts: dotted quads, or RFC 5952 for IPv6.
 */
export type Answer = PositiveAnswer | NegativeAnswer | FailedAnswer

/** Addresses whose port is known elsewhere, or addresses that bring theirs. */
export type Addresses = readonly string[] | readonly Endpoint[]

export interface Endpoint {
  readonly address: string
  readonly port: number
  /** 0 is used first, a higher one where none below can be reached. 0 is there, and no number between is left out. */
  readonly priority: number
  /** Its part of what its priority gets, in proportion to the others' weights: an integer from 1 up. */
  readonly weight: number
  /** The SRV record that it is from, as that stands in DNS; absent: from elsewhere. */
  readonly srv?: { readonly target: string; readonly priority: number; readonly weight: number }
}

export function areEndpoints(addresses: Addresses): addresses is readonly Endpoint[] {
  return typeof addresses[0] === 'object'
}

export interface PositiveAnswer {
  readonly kind: 'positive'
  /** Owner name that was asked for: absolute, lower case, without the final dot. */
  readonly name: string
  /** The admitted addresses, shuffled once per refresh. Empty when every address was denied. */
  readonly addresses: Addresses
  /** Addresses that policy denied, and SRV targets whose port it denied: never connected to, kept for logs only. */
  readonly denied: readonly string[]
  /**
   * Remaining lifetime at the moment of the answer, seconds, after clamping. 0: for those who waited only, never learned;
   * it serves again only stale.
   */
  readonly ttlSeconds: number
  /** True when the lifetime is over and no nameserver gives a newer answer (RFC 8767). */
  readonly stale: boolean
  /** Of the two families one has these addresses, and the other could not be asked. */
  readonly incomplete?: true
}

export interface NegativeAnswer {
  readonly kind: 'nxdomain' | 'nodata'
  readonly name: string
  readonly ttlSeconds: number
  /** The nameserver that said so, `address:port`. */
  readonly nameserver: string
  /** NODATA: its SRV record says that the service is not to be had there. */
  readonly notOffered?: true
}

export interface FailedAnswer {
  readonly kind: 'failure'
  readonly name: string
  /** `overloaded`: queries in flight are at their bound. `rate_limited`: unknown names have used up what they may cost. `timeout`: the budget ended. `invalid_name`: not a domain name. */
  readonly cause: 'nameservers_failed' | 'timeout' | 'overloaded' | 'rate_limited' | 'invalid_name'
  /** Each try in order, for the log line and for explanations. */
  readonly tries: readonly Try[]
}

/** One query sent to one nameserver. */
export interface Try {
  readonly nameserver: string
  /** `NOERROR`, `SERVFAIL`, `REFUSED` ..., or why there is no RCODE: `timeout`, `unreachable`, `truncated`, `malformed`, `lame`, `cname_chain`, `aborted`. */
  readonly outcome: string
  readonly milliseconds: number
  readonly type: 'A' | 'AAAA' | 'SRV'
  readonly transport: 'udp' | 'tcp'
}

/** A name that is resolved again before each answer expires. */
export interface KeptName {
  readonly name: string
  /** The current answer, stale where there is no newer one; null before the first answer. */
  current(): Answer | null
  /** When the current answer expires, on the clock of the resolver; null where there is none. */
  expiresAtMs(): number | null
  /** Ends it: no callback comes afterwards. Further calls do nothing. */
  release(): void
}

/** True where both say the same of a name: for how long, in which order and by whom is of no matter. */
export function saysTheSame(one: Answer, other: Answer): boolean {
  if (one.kind === 'failure') return other.kind === 'failure' && one.cause === other.cause
  if (one.kind !== 'positive')
    return one.kind === other.kind && one.notOffered === (other as NegativeAnswer).notOffered
  if (other.kind !== 'positive') return false
  return (
    isSameSet(one.addresses.map(textOf), other.addresses.map(textOf)) && isSameSet(one.denied, other.denied)
  )
}

function textOf(address: string | Endpoint): string {
  if (typeof address === 'string') return address
  return `${address.address}:${address.port} ${address.priority} ${address.weight}`
}

function isSameSet(one: readonly string[], other: readonly string[]): boolean {
  return one.length === other.length && one.every((text) => other.includes(text))
}
