/** A name's addresses in the families in use, as a new answer: admitted, capped, shuffled, its lifetime clamped. */
import type { Answer, Try } from './answer.ts'
import type { DomainName } from './domain-name.ts'
import type { DnsEvent } from './events.ts'
import type { AddressType } from './message.ts'
import type { Resolution, StubResolver } from './stub-resolver.ts'
import type { Timer, Timers } from './timers.ts'

/** More than any client would try in turn; sorted first, so that the same ones are kept at each refresh. */
const ADDRESSES_MAX = 32
/** RFC 8305 §3's Resolution Delay: how long the first family's addresses wait for the other family's. */
const RESOLUTION_DELAY_MS = 50

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
  readonly types: readonly AddressType[]

  constructor(resolver: StubResolver, settings: AddressSettings, seams: AddressSeams) {
    this.#resolver = resolver
    this.#settings = settings
    this.#seams = seams
    this.types = { ipv4: ['A'], ipv6: ['AAAA'], both: ['A', 'AAAA'] }[settings.family] as AddressType[]
  }

  /** `awaited`: a request waits, so one family isn't kept back for long by the other's silence. Never rejects. */
  async resolve(name: DomainName, awaited: boolean): Promise<AddressResolution> {
    const controller = new AbortController()
    this.#running.add(controller)
    const deadlineMs = this.#seams.timers.now() + this.#settings.budgetMs
    const budget = { deadlineMs, signal: controller.signal }
    let delay: Timer | null = null
    const resolutions = await Promise.all(
      this.types.map(async (type) => {
        const resolution = await this.#resolver.resolve(name, type, budget)
        if (awaited && resolution.kind === 'positive' && this.types.length > 1) {
          delay ??= this.#seams.timers.start(() => controller.abort(), RESOLUTION_DELAY_MS)
        }
        return resolution
      }),
    )
    ;(delay as Timer | null)?.cancel()
    this.#running.delete(controller)
    return { answer: this.#merge(name, resolutions), tries: resolutions.flatMap(({ tries }) => tries) }
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
    const distinct = [...new Set(found)]
    const admitted = distinct.filter(this.#seams.admit)
    const denied = distinct.filter((address) => !admitted.includes(address)).slice(0, ADDRESSES_MAX)
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
