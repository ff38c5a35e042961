/**
 * A service's endpoints, as a new answer: the SRV records of its name (RFC 2782), and the addresses of their targets. A
 * service's name begins with an underscore (RFC 8552), as no host's does: that is how the two are told apart. Addresses that
 * come along in the additional section are not used: a target is asked for like any other name.
 */

import type { Timers } from '../timers.ts'
import type { AddressResolution, AddressResolver, AddressSettings, Asking } from './address-resolver.ts'
import {
  type Answer,
  areEndpoints,
  type Endpoint,
  type FailedAnswer,
  type NegativeAnswer,
  type PositiveAnswer,
  type Try,
} from './answer.ts'
import type { DomainName } from './domain-name.ts'
import type { DnsEvent } from './events.ts'
import type { SrvRecord } from './message.ts'
import type { Resolution } from './stub-resolver.ts'

/** Of one name: each target costs queries of its own. */
const SERVICES_MAX = 16
/** As many as addresses of one name. */
const ENDPOINTS_MAX = 32
/** What the weights of a priority add up to where they are no integers as they stand. */
const WEIGHTS_TOTAL = 1_000_000
/** A name that ends in a number would be an address (RFC 3696 section 2), and is none. */
const ENDS_IN_NUMBER = /(?:^|\.)\d+$/

/** Has targets looked up, within `deadlineMs`: an answer for each, in their order. */
export type AskTargets = (
  targets: readonly DomainName[],
  asking: Asking & { readonly deadlineMs: number },
) => Promise<readonly Answer[]>

export interface ServiceSeams {
  readonly timers: Timers
  /** False: no endpoint may have this port. */
  readonly admitPort: (port: number) => boolean
  readonly onEvent: (event: DnsEvent) => void
}

export function isService(name: string): boolean {
  return name.charCodeAt(0) === 0x5f
}

export class ServiceResolver {
  readonly #addresses: AddressResolver
  readonly #settings: AddressSettings
  readonly #seams: ServiceSeams

  constructor(addresses: AddressResolver, settings: AddressSettings, seams: ServiceSeams) {
    this.#addresses = addresses
    this.#settings = settings
    this.#seams = seams
  }

  /** All of it within one budget. Never rejects. */
  async resolve(name: DomainName, asking: Asking, askTargets: AskTargets): Promise<AddressResolution> {
    const within = { ...asking, deadlineMs: this.#seams.timers.now() + this.#settings.budgetMs }
    const found = await this.#addresses.services(name, within)
    const answer =
      found.kind === 'positive'
        ? await this.#answer(name, found, (targets) => askTargets(targets, within))
        : this.#addresses.answerOf(name, found)
    return { answer, tries: found.tries }
  }

  async #answer(
    name: DomainName,
    found: Extract<Resolution, { kind: 'positive' }>,
    ask: (targets: readonly DomainName[]) => Promise<readonly Answer[]>,
  ): Promise<Answer> {
    const ttlSeconds = this.#addresses.lifetimeOf(found.ttlSeconds)
    const offered = (found.services ?? []).filter(({ target }) => target !== '')
    // RFC 2782, "Target": a lone "." says that the service is decidedly not available.
    if (offered.length === 0) return { ...this.#none(name, found, ttlSeconds), notOffered: true }
    const admitted = offered.filter(({ port }) => this.#seams.admitPort(port))
    const services = this.#bounded(name, admitted.filter(isOfHost))
    const targets = [...new Set(services.map(({ target }) => target))]
    const answers = await ask(targets)
    const { byTarget, failed, absentSeconds } = sorted(targets, answers)
    const addresses = endpointsOf(services, (target) => addressesOf(byTarget.get(target)))
    const isEmpty = addresses.length === 0
    if (isEmpty && failed !== null) return failureOf(name, failed, found.tries)
    const denied = deniedOf(offered, admitted, services, byTarget)
    if (isEmpty && denied.length === 0) return this.#none(name, found, Math.min(ttlSeconds, ...absentSeconds))
    const used = [...byTarget.values()]
    const isIncomplete = failed !== null || used.some(({ incomplete }) => incomplete)
    return {
      kind: 'positive',
      name,
      addresses,
      denied,
      ttlSeconds: Math.min(ttlSeconds, ...used.map((answer) => answer.ttlSeconds)),
      stale: false,
      ...(isIncomplete && { incomplete: true }),
    }
  }

  #none(
    name: DomainName,
    { nameserver }: Extract<Resolution, { kind: 'positive' }>,
    seconds: number,
  ): NegativeAnswer {
    const ttlSeconds = Math.min(seconds, this.#settings.negativeTtlSecondsMax)
    return { kind: 'nodata', name, nameserver, ttlSeconds }
  }

  /** Sorted first, so that the same ones are kept at each refresh. */
  #bounded(name: DomainName, services: readonly SrvRecord[]): readonly SrvRecord[] {
    const each = new Map(services.map((service) => [textOfService(service), service]))
    const sorted = [...each.values()].sort(
      (a, b) =>
        a.priority - b.priority || b.weight - a.weight || (textOfService(a) < textOfService(b) ? -1 : 1),
    )
    if (sorted.length > SERVICES_MAX)
      this.#seams.onEvent({ kind: 'addresses_capped', name, found: sorted.length, kept: SERVICES_MAX })
    return sorted.slice(0, SERVICES_MAX)
  }
}

/** What was said of targets, by what it means for the service. */
function sorted(
  targets: readonly DomainName[],
  answers: readonly Answer[],
): {
  readonly byTarget: ReadonlyMap<DomainName, PositiveAnswer>
  /** One of those that could not be asked for. */
  readonly failed: Answer | null
  /** For how long there are no addresses. */
  readonly absentSeconds: readonly number[]
} {
  const byTarget = new Map<DomainName, PositiveAnswer>()
  const absentSeconds: number[] = []
  let failed: Answer | null = null
  for (const [at, target] of targets.entries()) {
    const answer = answers[at]
    if (answer?.kind === 'nxdomain' || answer?.kind === 'nodata') absentSeconds.push(answer.ttlSeconds)
    // What is stale was there before: the whole that was made of it then goes stale in its turn, and no longer.
    else if (answer?.kind === 'positive' && !answer.stale) byTarget.set(target, answer)
    else failed = answer ?? null
  }
  return { byTarget, failed, absentSeconds }
}

function failureOf(name: DomainName, failed: Answer, tries: readonly Try[]): FailedAnswer {
  if (failed.kind !== 'failure') return { kind: 'failure', name, cause: 'nameservers_failed', tries }
  return { kind: 'failure', name, cause: failed.cause, tries: [...tries, ...failed.tries] }
}

/** The targets whose port is denied, and denied addresses of the others. */
function deniedOf(
  offered: readonly SrvRecord[],
  admitted: readonly SrvRecord[],
  services: readonly SrvRecord[],
  byTarget: ReadonlyMap<DomainName, PositiveAnswer>,
): readonly string[] {
  const byPort = offered.filter((service) => !admitted.includes(service))
  return [
    ...byPort.map(({ target, port }) => `${target}:${port}`),
    ...services.flatMap(({ target, port }) =>
      (byTarget.get(target)?.denied ?? []).map((address) => textOf(address, port)),
    ),
  ].slice(0, ENDPOINTS_MAX)
}

/** Not a service's name either, which would lead from one to the next. */
function isOfHost({ target }: SrvRecord): boolean {
  return !isService(target) && !ENDS_IN_NUMBER.test(target)
}

function addressesOf(answer: PositiveAnswer | undefined): readonly string[] {
  return answer === undefined || areEndpoints(answer.addresses) ? [] : answer.addresses
}

/**
 * The endpoints of records in the order of their priorities, which become 0, 1, 2 without those that have no address. Of one
 * priority a target's part is its weight, however many addresses it has; those of weight 0 together have what weight 1 has
 * (RFC 2782, "Weight", draws from 0 to the sum of the weights, both included), and all have the same where no weight is more.
 */
export function endpointsOf(
  services: readonly SrvRecord[],
  addressesOf: (target: DomainName) => readonly string[],
): readonly Endpoint[] {
  const found = services
    .flatMap((service) => [...addressesOf(service.target)].sort().map((address) => ({ service, address })))
    .slice(0, ENDPOINTS_MAX)
  const counts = new Map<SrvRecord, number>()
  for (const { service } of found) counts.set(service, (counts.get(service) ?? 0) + 1)
  const reachable = [...counts.keys()]
  const known = new Set<string>()
  const endpoints: Endpoint[] = []
  for (const priority of new Set(reachable.map((service) => service.priority))) {
    const parts = partsOf(reachable.filter((service) => service.priority === priority))
    const group = new Map<string, { address: string; service: SrvRecord; part: number }>()
    for (const { service, address } of found) {
      const text = textOf(address, service.port)
      if (service.priority !== priority || known.has(text)) continue
      const part = (parts.get(service) ?? 0) / (counts.get(service) ?? 1)
      const before = group.get(text)
      if (before === undefined) group.set(text, { address, service, part })
      else before.part += part
    }
    for (const text of group.keys()) known.add(text)
    const rank = (endpoints.at(-1)?.priority ?? -1) + 1
    const weights = integersOf([...group.values()].map(({ part }) => part))
    for (const [at, { address, service }] of [...group.values()].entries()) {
      const { target, port, priority, weight } = service
      const srv = { target, priority, weight }
      endpoints.push({ address, port, priority: rank, weight: weights[at] ?? 1, srv })
    }
  }
  return endpoints
}

function partsOf(services: readonly SrvRecord[]): ReadonlyMap<SrvRecord, number> {
  const zeros = services.filter(({ weight }) => weight === 0).length
  const ofZero = zeros === services.length ? 1 : 1 / zeros
  return new Map(services.map((service) => [service, service.weight === 0 ? ofZero : service.weight]))
}

function integersOf(parts: readonly number[]): readonly number[] {
  if (parts.every(Number.isInteger)) return parts
  const total = parts.reduce((sum, part) => sum + part, 0)
  return parts.map((part) => Math.max(1, Math.round((part / total) * WEIGHTS_TOTAL)))
}

function textOf(address: string, port: number): string {
  return address.includes(':') ? `[${address}]:${port}` : `${address}:${port}`
}

function textOfService({ target, port, priority, weight }: SrvRecord): string {
  return `${target} ${port} ${priority} ${weight}`
}
