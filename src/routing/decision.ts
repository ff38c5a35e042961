import type { Answer, FailedAnswer } from '../dns/answer.ts'
import type { RejectReason } from './reject-reason.ts'
import type { Zone } from './rules.ts'

/** What happens to a request. */
export type Decision =
  | { readonly kind: 'forward'; readonly zone: Zone; readonly authority: string; readonly answer: Answer }
  | { readonly kind: 'reject'; readonly reason: RejectReason; readonly zone?: Zone; readonly answer?: Answer }

/**
 * Joins a zone with what DNS said of its name.
 * @param turn counts requests, so that they go round the addresses
 */
export function decide(zone: Zone, answer: Answer, turn: number): Decision {
  const reject = (reason: RejectReason): Decision => ({ kind: 'reject', reason, zone, answer })
  switch (answer.kind) {
    case 'positive': {
      const address = answer.addresses[turn % answer.addresses.length]
      if (address === undefined) return reject('address_denied')
      return { kind: 'forward', zone, authority: authorityOf(address, zone.service.port), answer }
    }
    case 'nxdomain':
      return reject('name_not_found')
    case 'nodata':
      return reject('no_address')
    case 'failure':
      return reject(REASON_OF_CAUSE[answer.cause])
  }
}

const REASON_OF_CAUSE = {
  nameservers_failed: 'nameservers_failed',
  timeout: 'nameservers_failed',
  invalid_name: 'nameservers_failed',
  overloaded: 'resolver_overloaded',
  rate_limited: 'lookup_rate_limited',
} as const satisfies Record<FailedAnswer['cause'], RejectReason>

/** `IP:port`, an IPv6 address in brackets (RFC 3986 section 3.2.2). */
export function authorityOf(address: string, port: number): string {
  return address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`
}
