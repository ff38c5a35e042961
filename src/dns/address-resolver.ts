/** A name's addresses in the families in use, as a new answer: admitted, capped, shuffled, its lifetime clamped. */
import type { Answer, Try } from './answer.ts'
import type { DomainName } from './domain-name.ts'
import type { DnsEvent } from './events.ts'
import type { AddressType } from './message.ts'
import type { Budget, Resolution, StubResolver } from './stub-resolver.ts'
import type { Timer, Timers } from './timers.ts'

/** More than any client would try in turn; sorted first, so that the same ones are kept at each refresh. */
const ADDRESSES_MAX = 32
/** RFC 8305 §3's Resolution Delay: how long the first family's addresses wait for the other family's. */
const RESOLUTION_DELAY_MS = 50

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
  readonly #running = new Set<AbortController>()
  readonly types: readonly [AddressType] | readonly [AddressType, AddressType]

  constructor(resolver: StubResolver, settings: AddressSettings, seams: AddressSeams) {
    this.#resolver = resolver
    this.#settings = settings
    this.#seams = seams
    this.types = TYPES[settings.family]
  }

  /** `awaited`: a request waits, so one family isn't kept back for long by the other's silence. Never rejects. */
  async resolve(name: DomainName, awaited: boolean): Promise<AddressResolution> {
    const controller = new AbortController()
    this.#running.add(controller)
    const budget = {
      deadlineMs: this.#seams.timers.now() + this.#settings.budgetMs,
      signal: controller.signal,
    }
    const [type, otherType] = this.types
    const resolutions =
      otherType === undefined
        ? [await this.#resolver.resolve(name, type, budget)]
        : await this.#resolveBoth(name, budget, awaited ? controller : null)
    this.#running.delete(controller)
    return { answer: this.#merge(name, resolutions), tries: resolutions.flatMap(({ tries }) => tries) }
  }

  /** With a controller: aborts the slower family a moment after the faster one brought addresses. */
  async #resolveBoth(name: DomainName, budget: Budget, hurry: AbortController | null): Promise<Resolution[]> {
    const timers: Timer[] = []
    const resolutions = await Promise.all(
      this.types.map(async (type) => {
        const resolution = await this.#resolver.resolve(name, type, budget)
        if (hurry !== null && resolution.kind === 'positive') {
          timers.push(this.#seams.timers.start(() => hurry.abort(), RESOLUTION_DELAY_MS))
        }
        return resolution
      }),
    )
    for (const timer of timers) timer.cancel()
    return resolutions
  }

  close(): void {
    for (const controller of this.#running) controller.abort()
  }

  /** One family's failure or absence doesn't cost the other's addresses; but a failure is never passed off as absence. */
  #merge(name: DomainName, resolutions: readonly Resolution[]): Answer {
    const positives = resolutions.filter((resolution) => resolution.kind === 'positive')
    if (positives.length > 0) {
      const addresses = positives.flatMap((resolution) => resolution.addresses)
      const ttlSeconds = Math.min(...positives.map((resolution) => resolution.ttlSeconds))
      return this.#positive(name, addresses, ttlSeconds)
    }
    const nxdomain = resolutions.find((resolution) => resolution.kind === 'nxdomain')
    if (nxdomain?.kind === 'nxdomain') return this.#negative(name, nxdomain)
    const failure = resolutions.find((resolution) => resolution.kind === 'failure')
    if (failure?.kind === 'failure') {
      const tries = resolutions.flatMap((resolution) => resolution.tries)
      return { kind: 'failure', name, cause: failure.cause, tries }
    }
    const [nodata] = resolutions.flatMap((resolution) => (resolution.kind === 'nodata' ? [resolution] : []))
    if (nodata === undefined) throw new Error('a resolution is positive, NXDOMAIN, NODATA or failed')
    return this.#negative(name, nodata)
  }

  #negative(
    name: DomainName,
    { kind, ttlSeconds, nameserver }: { kind: 'nxdomain' | 'nodata'; ttlSeconds: number; nameserver: string },
  ): Answer {
    const { negativeTtlSecondsMax } = this.#settings
    return { kind, name, ttlSeconds: Math.min(ttlSeconds, negativeTtlSecondsMax), nameserver }
  }

  #positive(name: DomainName, found: readonly string[], ttlSeconds: number): Answer {
    const { min, max } = this.#settings.ttlSeconds
    const admitted: string[] = []
    const denied: string[] = []
    for (const address of found.length === 1 ? found : new Set(found)) {
      if (this.#seams.admit(address)) admitted.push(address)
      else if (denied.length < ADDRESSES_MAX) denied.push(address)
    }
    if (admitted.length > ADDRESSES_MAX) {
      this.#seams.onEvent({ kind: 'addresses_capped', name, found: admitted.length, kept: ADDRESSES_MAX })
    }
    return {
      kind: 'positive',
      name,
      addresses: shuffle(admitted.sort().slice(0, ADDRESSES_MAX), this.#seams.random),
      denied,
      // TTL 0 is the zone's wish not to be cached: no minimum applies.
      ttlSeconds: ttlSeconds === 0 ? 0 : Math.min(Math.max(ttlSeconds, min), max),
      stale: false,
    }
  }
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
