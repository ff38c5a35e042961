/**
 * A new answer for one service: the SRV records of its name (RFC 2782), with the addresses of their targets. The name of a
 * service begins with an underscore (RFC 8552), and no host name does. Addresses in the additional section don't count:
 * targets are looked up like any other name.
 */

import type { Timers } from '../timers.ts'
import type { AddressResolver, AddressSettings, AnswerWithTries, Asking } from './address-resolver.ts'
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

/** SRV records of one name: each target costs queries. */
const SERVICES_MAX = 16
/** As many as addresses of one name. */
const ENDPOINTS_MAX = 32
/** The sum of a priority's weights, where they would not be integers. */
const WEIGHTS_TOTAL = 1_000_000
/** A name whose last label is a number could be taken for an address (RFC 3696 §2), so it is no target. */
const ENDS_IN_NUMBER = /(?:^|\.)\d+$/

/** Looks up the targets until `deadlineMs`: one answer for each, in their order. */
type AskTargets = (
  targets: readonly DomainName[],
  asking: Asking & { readonly deadlineMs: number },
) => Promise<readonly Answer[]>

interface ServiceSeams {
  readonly timers: Timers
  /** False: endpoints with this port are denied. */
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

  /** Records and targets share one budget. Never rejects. */
  async resolve(name: DomainName, asking: Asking, askTargets: AskTargets): Promise<AnswerWithTries> {
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
    // RFC 2782, "Target": "." means that the service is not available.
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

  /** Sorted first, so each refresh uses the same ones. */
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

/** Sorts the answers of the targets by what they mean for the service. */
function sorted(
  targets: readonly DomainName[],
  answers: readonly Answer[],
): {
  readonly byTarget: ReadonlyMap<DomainName, PositiveAnswer>
  /** The answer of a target that failed. */
  readonly failed: Answer | null
  /** The TTLs of the negative answers. */
  readonly absentSeconds: readonly number[]
} {
  const byTarget = new Map<DomainName, PositiveAnswer>()
  const absentSeconds: number[] = []
  let failed: Answer | null = null
  for (const [at, target] of targets.entries()) {
    const answer = answers[at]
    if (answer?.kind === 'nxdomain' || answer?.kind === 'nodata') absentSeconds.push(answer.ttlSeconds)
    // A stale target counts as failed: the service's own earlier answer has its addresses, and goes stale itself.
    else if (answer?.kind === 'positive' && !answer.stale) byTarget.set(target, answer)
    else failed = answer ?? null
  }
  return { byTarget, failed, absentSeconds }
}

function failureOf(name: DomainName, failed: Answer, tries: readonly Try[]): FailedAnswer {
  if (failed.kind !== 'failure') return { kind: 'failure', name, cause: 'nameservers_failed', tries }
  return { kind: 'failure', name, cause: failed.cause, tries: [...tries, ...failed.tries] }
}

/** The targets with a denied port, and the denied addresses of the other targets. */
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

/** A target that is a service again would lead from one to the next. */
function isOfHost({ target }: SrvRecord): boolean {
  return !isService(target) && !ENDS_IN_NUMBER.test(target)
}

function addressesOf(answer: PositiveAnswer | undefined): readonly string[] {
  return answer === undefined || areEndpoints(answer.addresses) ? [] : answer.addresses
}

/**
 * The endpoints of sorted records. Their priorities become 0, 1, 2, without those that have no address. Within a priority
 * a target's share is its weight, whatever the number of its addresses. All targets of weight 0 together get the share of
 * weight 1: RFC 2782, "Weight", draws from 0 to the sum of the weights, both included. Where all weights are 0, the shares
 * are equal.
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
