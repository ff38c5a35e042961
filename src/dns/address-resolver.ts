/**
 * A new answer for one name: the addresses of the families in use, without denied ones, at most 32, shuffled, with a
 * lifetime within its bounds.
 */

import type { Timer, Timers } from '../timers.ts'
import type { Answer, Try } from './answer.ts'
import type { DomainName } from './domain-name.ts'
import type { DnsEvent } from './events.ts'
import type { AddressType, QuestionType } from './message.ts'
import type { Budget, Charge, Resolution, StubResolver } from './stub-resolver.ts'

/** More than any client would try in turn. The list is sorted before, so each refresh uses the same ones. */
const ADDRESSES_MAX = 32
/** RFC 8305 §3, Resolution Delay: how long the first family's addresses wait for the other family's. */
const RESOLUTION_DELAY_MS = 50
const NONE: readonly string[] = []

const TYPES = { ipv4: ['A'], ipv6: ['AAAA'], both: ['A', 'AAAA'] } as const

export interface AddressSettings {
  readonly family: 'ipv4' | 'ipv6' | 'both'
  readonly ttlSeconds: { readonly min: number; readonly max: number }
  readonly negativeTtlSecondsMax: number
  readonly budgetMs: number
}

interface AddressSeams {
  readonly timers: Timers
  /** From 0 to 1, exclusive. */
  readonly random: () => number
  readonly admit: (address: string) => boolean
  readonly onEvent: (event: DnsEvent) => void
}

export interface AnswerWithTries {
  readonly answer: Answer
  readonly tries: readonly Try[]
}

/** How to ask for a name. */
export interface Asking {
  /** A request waits, so a silent family doesn't delay the other one for long. */
  readonly awaited: boolean
  /** Pays for each query; null: the queries are free. */
  readonly charge: Charge | null
  /** The name is in use: if a fallback nameserver says that it is gone, the preferred ones are asked again. */
  readonly hadAddresses: boolean
  /** The end of the budget, on the timers' clock. It is set if the budget started earlier: a service shares it with its targets. */
  readonly deadlineMs?: number
}

const CLOSED: Resolution = { kind: 'failure', cause: 'nameservers_failed', tries: [] }

export class AddressResolver {
  readonly #resolver: StubResolver
  readonly #settings: AddressSettings
  readonly #seams: AddressSeams
  /** All of them, idle or not. */
  readonly #controllers = new Set<AbortController>()
  /** For later questions (decision 41). */
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
  resolve(name: DomainName, asking: Asking): Promise<AnswerWithTries> {
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

  /** Ends all questions, and asks none from now on. */
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
   * A lost packet to the preferred nameserver must not make a name in use disappear: the next nameserver may see another
   * part of DNS and not know the name. Where no preferred nameserver answers, the fallback's answer counts.
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

  /** @param hurry aborts the slower family a moment after the faster one has addresses; null: waits for both */
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
      // The copy drops the spare room of an array that grew (decision 41).
      addresses:
        admitted.length > 1 ? shuffle(admitted.sort().slice(0, ADDRESSES_MAX), random) : admitted.slice(),
      denied,
      ttlSeconds: this.lifetimeOf(ttlSeconds),
      stale: false,
      ...(incomplete && { incomplete }),
    }
  }

  /** TTL 0 means that the zone doesn't want caching: no minimum applies. */
  lifetimeOf(ttlSeconds: number): number {
    const { min, max } = this.#settings.ttlSeconds
    return ttlSeconds === 0 ? 0 : Math.min(Math.max(ttlSeconds, min), max)
  }
}

/**
 * Addresses of one family count, whatever happens to the other. NXDOMAIN is true for every type (RFC 8020 §2). NODATA is
 * true for one type only, so it doesn't hide the failure of the other family.
 */
const PRECEDENCE = { positive: 0, nxdomain: 1, failure: 2, nodata: 3 } as const

function mergeFamilies(a: Resolution, b: Resolution): Resolution {
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
