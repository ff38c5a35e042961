import {
  type Addresses,
  type Answer,
  areEndpoints,
  type Endpoint,
  type FailedAnswer,
  type PositiveAnswer,
} from '../dns/answer.ts'
import type { RejectReason } from './reject-reason.ts'
import { isZone, type RequestHead, type Rule, type Rules, type Zone, zoneOf, zoneOfRef } from './rules.ts'
import { NOTHING_SAID, type SaidOfZones } from './said.ts'

/** What happens to a request. */
export type Decision =
  | { readonly kind: 'forward'; readonly zone: Zone; readonly authority: string; readonly answer: Answer }
  | {
      readonly kind: 'reject'
      readonly reason: RejectReason
      /** The rule that refused it. With a zone, its service has the rule. */
      readonly rule?: Rule
      readonly zone?: Zone
      readonly answer?: Answer
    }

/**
 * Decides for a zone with the DNS answer of its name.
 * @param turn how many requests this answer has served before: requests take its addresses in turn
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

/** The address whose turn it is. */
function addressOf(addresses: Addresses, turn: number): string | Endpoint | undefined {
  return areEndpoints(addresses) ? endpointOf(addresses, turn) : addresses[turn % addresses.length]
}

/** The fractions of its multiples spread evenly over 0 to 1, however many there are. */
const GOLDEN_RATIO = (Math.sqrt(5) - 1) / 2

/** Chooses among the endpoints of priority 0, each as often as its weight says. */
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
 * @param port for an address without one
 */
export function authorityOf(address: string | Endpoint, port: number): string {
  if (typeof address !== 'string') return authorityOf(address.address, address.port)
  return address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`
}

/** Decides one request, at once where the answer is cached. No request and no DNS answer makes it throw or reject. */
export type Decider = (head: RequestHead) => Decision | Promise<Decision>

/** Asks DNS: an answer at once from the cache, or a promise of one within `dns.budgetMs`. */
export type Lookup = (name: string) => Answer | Promise<Answer>

export interface DeciderSeams {
  /** What `zones` and pins say now: pins come and go while the rules stay. */
  readonly said?: () => SaidOfZones
  /** From 0 to 1, exclusive. */
  readonly random?: () => number
}

/** @param search the search domain in force; read for each request, because resolv.conf may change */
export function createDecider(
  rules: Rules,
  search: () => string,
  lookup: Lookup,
  { said = () => NOTHING_SAID, random = Math.random }: DeciderSeams = {},
): Decider {
  const turnOf = turns(random)
  const decideBy = (zone: Zone, answer: Answer): Decision | Promise<Decision> => {
    const other = answer.kind === 'nxdomain' ? insteadOf(zone, rules, search(), said()) : null
    return other === null ? decide(zone, answer, turnOf(answer)) : decideZone(other)
  }
  const decideZone = (zone: Zone): Decision | Promise<Decision> => {
    if (zone.said?.maintenance !== undefined) return { kind: 'reject', reason: 'maintenance', zone }
    const answer = pinnedAnswer(zone) ?? lookup(zone.name)
    return answer instanceof Promise ? answer.then((found) => decideBy(zone, found)) : decideBy(zone, answer)
  }
  return (head) => {
    const zone = zoneOf(head, rules, search(), said())
    return isZone(zone) ? decideZone(zone) : { kind: 'reject', ...zone }
  }
}

/** The answer that a pin gives instead of DNS; null: the zone is not pinned. */
export function pinnedAnswer({ name, said }: Zone): PositiveAnswer | null {
  if (said?.pinned === undefined) return null
  const { addresses, denied } = said.pinned
  return { kind: 'positive', name, addresses, denied, ttlSeconds: Number.POSITIVE_INFINITY, stale: false }
}

/** The fallback zone for a zone that is not in DNS; null: there is none. A fallback has no fallback. */
export function insteadOf(zone: Zone, rules: Rules, search: string, said: SaidOfZones): Zone | null {
  const fallback = zone.insteadOf === undefined ? said.fallbackOf(zone.service) : undefined
  if (fallback === undefined) return null
  const other = zoneOfRef(zone.service.name, fallback.id, rules, search, said)
  return other && { ...other, insteadOf: zone.id }
}

const FIRST_TURNS = 65_536

/**
 * Counts the requests of each answer, so that they take its addresses in turn. With one counter for all zones, two zones that
 * alternate would each see every second number. Plain addresses are already shuffled; with weights the first turn is random,
 * or the first request of each answer would go to the same endpoint.
 */
function turns(random: () => number): (answer: Answer) => number {
  const next = new WeakMap<Addresses, number>()
  return (answer) => {
    if (answer.kind !== 'positive' || answer.addresses.length < 2) return 0
    const turn =
      next.get(answer.addresses) ?? (areEndpoints(answer.addresses) ? Math.floor(random() * FIRST_TURNS) : 0)
    next.set(answer.addresses, turn + 1)
    return turn
  }
}
