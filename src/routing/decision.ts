import { type Addresses, type Answer, areEndpoints, type Endpoint, type FailedAnswer } from '../dns/answer.ts'
import type { RejectReason } from './reject-reason.ts'
import type { Rule, Zone } from './rules.ts'

/** What happens to a request. */
export type Decision =
  | { readonly kind: 'forward'; readonly zone: Zone; readonly authority: string; readonly answer: Answer }
  | {
      readonly kind: 'reject'
      readonly reason: RejectReason
      /** The rule that refused it; of a zone, its service says that. */
      readonly rule?: Rule
      readonly zone?: Zone
      readonly answer?: Answer
    }

/**
 * Joins a zone with what DNS said of its name.
 * @param turn counts the requests of this answer, so that they go round its addresses
 */
export function decide(zone: Zone, answer: Answer, turn: number): Decision {
  const reject = (reason: RejectReason): Decision => ({ kind: 'reject', reason, zone, answer })
  switch (answer.kind) {
    case 'positive': {
      const address = addressOf(answer.addresses, turn)
      if (address === undefined) return reject('address_denied')
      return { kind: 'forward', zone, authority: authorityOf(address, zone.service.port), answer }
    }
    case 'nxdomain':
      return reject('name_not_found')
    case 'nodata':
      return reject(answer.notOffered ? 'service_not_offered' : 'no_address')
    case 'failure':
      return reject(REASON_OF_CAUSE[answer.cause])
  }
}

/** Of several, the turns go round. */
function addressOf(addresses: Addresses, turn: number): string | Endpoint | undefined {
  return areEndpoints(addresses) ? endpointOf(addresses, turn) : addresses[turn % addresses.length]
}

/** Multiples of it, less their whole part, lie evenly between 0 and 1 however many there are. */
const GOLDEN_RATIO = (Math.sqrt(5) - 1) / 2

/** Of those that are used first, each as often as its weight says. */
function endpointOf(endpoints: readonly Endpoint[], turn: number): Endpoint | undefined {
  const first = endpoints.filter(({ priority }) => priority === 0)
  const total = first.reduce((sum, { weight }) => sum + weight, 0)
  let rest = ((turn * GOLDEN_RATIO) % 1) * total
  for (const endpoint of first) {
    rest -= endpoint.weight
    if (rest < 0) return endpoint
  }
  return first[0]
}

const REASON_OF_CAUSE = {
  nameservers_failed: 'nameservers_failed',
  timeout: 'nameservers_failed',
  invalid_name: 'nameservers_failed',
  overloaded: 'resolver_overloaded',
  rate_limited: 'lookup_rate_limited',
} as const satisfies Record<FailedAnswer['cause'], RejectReason>

/**
 * `IP:port`, an IPv6 address in brackets (RFC 3986 section 3.2.2).
 * @param port of an address that brings none
 */
export function authorityOf(address: string | Endpoint, port: number): string {
  if (typeof address !== 'string') return authorityOf(address.address, address.port)
  return address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`
}
