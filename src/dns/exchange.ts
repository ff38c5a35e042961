/**
 * One exchange with one nameserver: octets out, the first response that belongs to the query in. Whatever else
 * arrives is ignored while the timer runs on (RFC 5452 §9.1), so that nobody who can't see the query can answer it,
 * end it, or make it last longer.
 */
export interface NameserverAddress {
  /** IPv4, or IPv6 with an optional scope id. */
  readonly host: string
  readonly port: number
  /** `address:port`, `[address]:port`. */
  readonly text: string
}

export type ExchangeOutcome =
  | { readonly kind: 'response'; readonly octets: Buffer }
  /**
   * `unreachable`: ICMP, an error of the send, a refused or broken connection, no socket to be had. `malformed`: what came
   * over TCP is no answer to the query.
   */
  | { readonly kind: 'timeout' | 'unreachable' | 'malformed' | 'aborted' }

export interface ExchangeOptions {
  readonly nameserver: NameserverAddress
  readonly query: Buffer
  /** On the clock of the transport's timers. */
  readonly deadlineMs: number
  readonly signal: AbortSignal
  /** UDP: no other query uses the port. */
  readonly ownPort: boolean
}

/** An exchange as the ways to a nameserver see it. The first outcome counts. */
export interface Settles {
  readonly query: Buffer
  settle(outcome: ExchangeOutcome): void
}

/** What waits for a response to an exchange, until that is settled. */
export interface Waiting {
  end(exchange: Settles): void
}

/** A literal address needs no look-up: the default one would wait for a thread of libuv's pool. */
export function literalLookup(
  host: string,
  _options: unknown,
  callback: (error: null, address: string, family: number) => void,
): void {
  callback(null, host, host.includes(':') ? 6 : 4)
}
