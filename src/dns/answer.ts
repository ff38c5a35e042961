/**
 * The answer to a look-up of a name. Its class decides how it is cached (RFC 2308, RFC 8767). Addresses are canonical
 * texts: dotted quads, or RFC 5952 for IPv6.
 */
export type Answer = PositiveAnswer | NegativeAnswer | FailedAnswer

/** Addresses of a host, or endpoints of a service. Only endpoints have ports. */
export type Addresses = readonly string[] | readonly Endpoint[]

export interface Endpoint {
  readonly address: string
  readonly port: number
  /** From 0, without gaps. Clients use an endpoint only if none with a lower number can be reached. */
  readonly priority: number
  /** An integer from 1: the endpoint's share among those of the same priority. */
  readonly weight: number
  /** The SRV record in DNS; absent where the endpoint comes from elsewhere. */
  readonly srv?: { readonly target: string; readonly priority: number; readonly weight: number }
}

/** True for the endpoints of a service; false for addresses, and for an empty list. */
export function areEndpoints(addresses: Addresses): addresses is readonly Endpoint[] {
  return typeof addresses[0] === 'object'
}

export interface PositiveAnswer {
  readonly kind: 'positive'
  /** The name of the look-up: absolute, lower case, without the final dot. */
  readonly name: string
  /** The admitted addresses, shuffled at each refresh. Empty where all addresses were denied. */
  readonly addresses: Addresses
  /** Denied addresses, and SRV targets with a denied port. For logs only: never connect to them. */
  readonly denied: readonly string[]
  /**
   * The remaining lifetime, seconds, within the configured bounds. 0: the answer is for the look-ups that waited for it,
   * and serves again only as a stale one.
   */
  readonly ttlSeconds: number
  /** True where the lifetime is over and no nameserver gives a newer answer (RFC 8767). */
  readonly stale: boolean
  /** The addresses are those of one family; the other family could not be asked. */
  readonly incomplete?: true
}

export interface NegativeAnswer {
  readonly kind: 'nxdomain' | 'nodata'
  readonly name: string
  readonly ttlSeconds: number
  /** `address:port` of the nameserver that answered. */
  readonly nameserver: string
  /** NODATA: an SRV record says that the service is not available (RFC 2782, target "."). */
  readonly notOffered?: true
}

export interface FailedAnswer {
  readonly kind: 'failure'
  readonly name: string
  /**
   * `nameservers_failed`: no nameserver gave a usable answer. `timeout`: the budget ended. `overloaded`: too many queries
   * are in flight. `rate_limited`: the limit on queries for unknown names is reached. `invalid_name`: no domain name.
   */
  readonly cause: 'nameservers_failed' | 'timeout' | 'overloaded' | 'rate_limited' | 'invalid_name'
  /** In order. */
  readonly tries: readonly Try[]
}

/** One query sent to one nameserver. */
export interface Try {
  readonly nameserver: string
  /**
   * The RCODE (`NOERROR`, `SERVFAIL`, `REFUSED`, …), or why the reply is unusable: `timeout`, `unreachable`, `truncated`,
   * `malformed`, `lame`, `cname_chain`, `aborted`.
   */
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

/** True where both answers mean the same. TTL, order and nameserver don't count. */
export function meansTheSame(one: Answer, other: Answer): boolean {
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
