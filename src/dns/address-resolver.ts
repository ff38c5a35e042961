/** A name's addresses in the families in use, as a new answer: admitted, capped, shuffled, its lifetime clamped. */
import type { Answer, Try } from './answer.ts'
import type { Charge } from './ask.ts'
import type { DomainName } from './domain-name.ts'
import type { DnsEvent } from './events.ts'
import type { AddressType } from './message.ts'
import type { Budget, Resolution, StubResolver } from './stub-resolver.ts'
import type { Timer, Timers } from './timers.ts'

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

export class AddressResolver {
  readonly #resolver: StubResolver
  readonly #settings: AddressSettings
  readonly #seams: AddressSeams
  /** Idle and in use. */
  readonly #controllers = new Set<AbortController>()
  /** As many as were ever running at once, at most. */
  readonly #idle: AbortController[] = []
  readonly types: readonly [AddressType] | readonly [AddressType, AddressType]

  constructor(resolver: StubResolver, settings: AddressSettings, seams: AddressSeams) {
    this.#resolver = resolver
    this.#settings = settings
    this.#seams = seams
    this.types = TYPES[settings.family]
  }

  /**
   * Never rejects.
   * @param awaited a request waits, so one family isn't kept back for long by the other's silence
   * @param charge pays for each query; null: nobody needs to
   */
  resolve(name: DomainName, awaited: boolean, charge: Charge | null): Promise<AddressResolution> {
    // A signal that was never aborted serves again: making one costs as much as decoding the response.
    const controller = this.#idle.pop() ?? this.#newController()
    const budget = {
      deadlineMs: this.#seams.timers.now() + this.#settings.budgetMs,
      signal: controller.signal,
      charge,
    }
    const [type, otherType] = this.types
    const resolved =
      otherType === undefined
        ? this.#resolver.resolve(name, type, budget)
        : this.#resolveBoth(name, budget, awaited ? controller : null)
    return resolved.then((resolution) => {
      if (controller.signal.aborted) this.#controllers.delete(controller)
      else this.#idle.push(controller)
      return { answer: this.#answer(name, resolution), tries: resolution.tries }
    })
  }

  close(): void {
    for (const controller of this.#controllers) controller.abort()
  }

  #newController(): AbortController {
    const controller = new AbortController()
    this.#controllers.add(controller)
    return controller
  }

  /** With a controller: aborts the slower family a moment after the faster one brought addresses. */
  async #resolveBoth(name: DomainName, budget: Budget, hurry: AbortController | null): Promise<Resolution> {
    const timers: Timer[] = []
    const one = async (type: AddressType): Promise<Resolution> => {
      const resolution = await this.#resolver.resolve(name, type, budget)
      if (hurry !== null && resolution.kind === 'positive') {
        timers.push(this.#seams.timers.start(() => hurry.abort(), RESOLUTION_DELAY_MS))
      }
      return resolution
    }
    const [ipv4, ipv6] = await Promise.all([one('A'), one('AAAA')])
    for (const timer of timers) timer.cancel()
    return mergeFamilies(ipv4, ipv6)
  }

  #answer(name: DomainName, resolution: Resolution): Answer {
    switch (resolution.kind) {
      case 'positive':
        return this.#positive(name, resolution.addresses, resolution.ttlSeconds)
      case 'failure':
        return { kind: 'failure', name, cause: resolution.cause, tries: resolution.tries }
      default: {
        const { kind, nameserver } = resolution
        const ttlSeconds = Math.min(resolution.ttlSeconds, this.#settings.negativeTtlSecondsMax)
        return { kind, name, ttlSeconds, nameserver }
      }
    }
  }

  #positive(name: DomainName, found: readonly string[], ttlSeconds: number): Answer {
    const { min, max } = this.#settings.ttlSeconds
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
      // TTL 0 is the zone's wish not to be cached: no minimum applies.
      ttlSeconds: ttlSeconds === 0 ? 0 : Math.min(Math.max(ttlSeconds, min), max),
      stale: false,
    }
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
