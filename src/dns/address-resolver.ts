/** A name's addresses in the families in use, as a new answer: admitted, capped, shuffled, its lifetime clamped. */

import type { Timer, Timers } from '../timers.ts'
import type { Answer, Try } from './answer.ts'
import type { DomainName } from './domain-name.ts'
import type { DnsEvent } from './events.ts'
import type { AddressType, QuestionType } from './message.ts'
import type { Budget, Charge, Resolution, StubResolver } from './stub-resolver.ts'

/** More than any client would try in turn; sorted first, so that the same ones are kept at each refresh. */
const ADDRESSES_MAX = 32
/** RFC 8305 §3's Resolution Delay: how long the first family's addresses wait for the other family's. */
const RESOLUTION_DELAY_MS = 50
const NONE: readonly string[] = []

const TYPES = { ipv4: ['A'], ipv6: ['AAAA'], both: ['A', 'AAAA'] } as const

export interface AddressSettings {
  readonly family: 'ipv4' | 'ipv6' | 'both'
  readonly ttlSeconds: { readonly min: number; readonly max: number }
  readonly negativeTtlSecondsMax: number
  readonly budgetMs: number
}

export interface AddressSeams {
  readonly timers: Timers
  /** From 0 to 1, exclusive. */
  readonly random: () => number
  readonly admit: (address: string) => boolean
  readonly onEvent: (event: DnsEvent) => void
}

export interface AddressResolution {
  readonly answer: Answer
  readonly tries: readonly Try[]
}

/** How a name is asked for. */
export interface Asking {
  /** A request waits, so one family isn't kept back for long by the other's silence. */
  readonly awaited: boolean
  /** Pays for each query; null: nobody needs to. */
  readonly charge: Charge | null
  /** The name is in use: before a fallback nameserver's word that it has no addresses, the preferred ones are asked again. */
  readonly hadAddresses: boolean
  /** The end of the budget, on the clock of the timers, where it began earlier. */
  readonly deadlineMs?: number
}

const CLOSED: Resolution = { kind: 'failure', cause: 'nameservers_failed', tries: [] }

export class AddressResolver {
  readonly #resolver: StubResolver
  readonly #settings: AddressSettings
  readonly #seams: AddressSeams
  /** Idle and in use. */
  readonly #controllers = new Set<AbortController>()
  /** As many as were ever running at once, at most. */
  readonly #idle: AbortController[] = []
  #closed = false
  readonly types: readonly [AddressType] | readonly [AddressType, AddressType]

  constructor(resolver: StubResolver, settings: AddressSettings, seams: AddressSeams) {
    this.#resolver = resolver
    this.#settings = settings
    this.#seams = seams
    this.types = TYPES[settings.family]
  }

  /** Never rejects. */
  resolve(name: DomainName, asking: Asking): Promise<AddressResolution> {
    const [type, otherType] = this.types
    return this.#ask(name, otherType === undefined ? type : null, asking, (resolution) => ({
      answer: this.answerOf(name, resolution),
      tries: resolution.tries,
    }))
  }

  /** The SRV records of a name. Never rejects. */
  services(name: DomainName, asking: Asking): Promise<Resolution> {
    return this.#ask(name, 'SRV', asking, (resolution) => resolution)
  }

  /** @param type null: both families */
  #ask<T>(
    name: DomainName,
    type: QuestionType | null,
    { awaited, charge, hadAddresses, deadlineMs }: Asking,
    taken: (resolution: Resolution) => T,
  ): Promise<T> {
    if (this.#closed) return Promise.resolve(taken(CLOSED))
    // A signal that was never aborted serves again: making one costs as much as decoding the response.
    const controller = this.#idle.pop() ?? this.#newController()
    const budget = {
      deadlineMs: deadlineMs ?? this.#seams.timers.now() + this.#settings.budgetMs,
      signal: controller.signal,
      charge,
    }
    const resolved =
      type === null
        ? this.#resolveBoth(name, budget, hadAddresses, awaited ? controller : null)
        : this.#resolveOne(name, type, budget, hadAddresses)
    return resolved.then((resolution) => {
      if (controller.signal.aborted) this.#controllers.delete(controller)
      else this.#idle.push(controller)
      return taken(resolution)
    })
  }

  /** Ends what is under way: nothing is asked for from now on. */
  close(): void {
    this.#closed = true
    for (const controller of this.#controllers) controller.abort()
  }

  #newController(): AbortController {
    const controller = new AbortController()
    this.#controllers.add(controller)
    return controller
  }

  #resolveOne(
    name: DomainName,
    type: QuestionType,
    budget: Budget,
    hadAddresses: boolean,
  ): Promise<Resolution> {
    const resolved = this.#resolver.ask(name, type, budget)
    return hadAddresses ? resolved.then((found) => this.#confirmed(found, name, type, budget)) : resolved
  }

  /**
   * A name in use isn't gone because a packet to the preferred nameserver was lost, and the next one, which may see
   * another part of DNS, doesn't know the name. Where no preferred one answers, the fallback's word counts.
   */
  async #confirmed(
    found: Resolution,
    name: DomainName,
    type: QuestionType,
    budget: Budget,
  ): Promise<Resolution> {
    if (found.kind !== 'nxdomain' && found.kind !== 'nodata') return found
    const preferred = await this.#resolver.askPreferred(name, type, budget, found.nameserver)
    if (preferred === null) return found
    const tries = [...found.tries, ...preferred.tries]
    return preferred.kind === 'failure' ? { ...found, tries } : { ...preferred, tries }
  }

  /** With a controller: aborts the slower family a moment after the faster one brought addresses. */
  async #resolveBoth(
    name: DomainName,
    budget: Budget,
    hadAddresses: boolean,
    hurry: AbortController | null,
  ): Promise<Resolution> {
    const timers: Timer[] = []
    const one = async (type: AddressType): Promise<Resolution> => {
      const resolution = await this.#resolveOne(name, type, budget, hadAddresses)
      if (hurry !== null && resolution.kind === 'positive') {
        timers.push(this.#seams.timers.start(() => hurry.abort(), RESOLUTION_DELAY_MS))
      }
      return resolution
    }
    const [ipv4, ipv6] = await Promise.all([one('A'), one('AAAA')])
    for (const timer of timers) timer.cancel()
    return mergeFamilies(ipv4, ipv6)
  }

  answerOf(name: DomainName, resolution: Resolution): Answer {
    switch (resolution.kind) {
      case 'positive':
        return this.#positive(name, resolution)
      case 'failure':
        return { kind: 'failure', name, cause: resolution.cause, tries: resolution.tries }
      default: {
        const { kind, nameserver } = resolution
        const ttlSeconds = Math.min(resolution.ttlSeconds, this.#settings.negativeTtlSecondsMax)
        return { kind, name, ttlSeconds, nameserver }
      }
    }
  }

  #positive(
    name: DomainName,
    { addresses: found, ttlSeconds, incomplete }: Extract<Resolution, { kind: 'positive' }>,
  ): Answer {
    const { random } = this.#seams
    const admitted: string[] = []
    let denied: readonly string[] = NONE
    for (const address of found.length === 1 ? found : new Set(found)) {
      if (this.#seams.admit(address)) admitted.push(address)
      else if (denied.length < ADDRESSES_MAX) denied = [...denied, address]
    }
    if (admitted.length > ADDRESSES_MAX) {
      this.#seams.onEvent({ kind: 'addresses_capped', name, found: admitted.length, kept: ADDRESSES_MAX })
    }
    return {
      kind: 'positive',
      name,
      // A copy is no longer than what is in it, which an array that grew is: it is kept.
      addresses:
        admitted.length > 1 ? shuffle(admitted.sort().slice(0, ADDRESSES_MAX), random) : admitted.slice(),
      denied,
      ttlSeconds: this.lifetimeOf(ttlSeconds),
      stale: false,
      ...(incomplete && { incomplete }),
    }
  }

  /** TTL 0 is the zone's wish not to be cached: no minimum applies. */
  lifetimeOf(ttlSeconds: number): number {
    const { min, max } = this.#settings.ttlSeconds
    return ttlSeconds === 0 ? 0 : Math.min(Math.max(ttlSeconds, min), max)
  }
}

/**
 * One family's failure or absence doesn't cost the other's addresses. NXDOMAIN holds for every type (RFC 8020 §2);
 * NODATA for one type only, so it doesn't hide that the other family couldn't be asked.
 */
const PRECEDENCE = { positive: 0, nxdomain: 1, failure: 2, nodata: 3 } as const

export function mergeFamilies(a: Resolution, b: Resolution): Resolution {
  const [first, second] = PRECEDENCE[a.kind] <= PRECEDENCE[b.kind] ? [a, b] : [b, a]
  const tries = [...a.tries, ...b.tries]
  if (first.kind === 'positive' && second.kind === 'failure') return { ...first, incomplete: true, tries }
  if (first.kind === 'failure' || second.kind !== first.kind) return { ...first, tries }
  const ttlSeconds = Math.min(first.ttlSeconds, second.ttlSeconds)
  if (first.kind !== 'positive' || second.kind !== 'positive') return { ...first, ttlSeconds, tries }
  return { ...first, addresses: [...first.addresses, ...second.addresses], ttlSeconds, tries }
}

/** Fisher and Yates. */
function shuffle<T>(items: T[], random: () => number): T[] {
  for (let at = items.length - 1; at > 0; at--) {
    const other = Math.floor(random() * (at + 1))
    const item = items[at] as T
    items[at] = items[other] as T
    items[other] = item
  }
  return items
}
