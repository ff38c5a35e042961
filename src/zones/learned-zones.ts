import type { Answer } from '../dns/answer.ts'
import type { KeptName } from '../dns/kept-names.ts'
import { CandidateZones } from './candidate-zones.ts'

/** A zone by its service and id: enough to name it, and what Envoy's control plane calls it by. */
export interface ZoneRef {
  readonly service: string
  /** In lower case. */
  readonly id: string
}

/** A zone's addresses as the control plane publishes them. */
export interface PublishedZone extends ZoneRef {
  readonly addresses: readonly string[]
  readonly port: number
  /** The moment after which nobody may use the addresses any more, ms on the clock of `now`. */
  readonly staleAtMs: number
}

export interface ZoneLoad {
  readonly requests: number
  /** Tries that failed or ended with 5xx. Refused connections are among them; Envoy 1.40 does not report them apart. */
  readonly errors: number
}

export interface LearnedZonesOptions {
  /** The most zones that are learned at once. */
  readonly zonesMax: number
  /** A zone without requests for so long goes back to asking. */
  readonly idleMs: number
  /** How long past its lifetime an answer may be used (RFC 8767). */
  readonly staleMs: number
  /** A learned zone that had requests within this time is never pushed out by another: two load reports. */
  readonly busyMs: number
}

/** What learned zones need of their surroundings. */
export interface LearnedZonesSeams {
  /** Monotonic, milliseconds. */
  readonly now: () => number
  /** The zone's name in DNS and its port; null where the rules in force have no such zone. */
  readonly resolveRef: (zone: ZoneRef) => { readonly name: string; readonly port: number } | null
  readonly dns: {
    keep(name: string, onChange: (answer: Answer) => void): KeptName | null
    refresh(name: string): void
  }
  readonly publish: (zone: PublishedZone) => void
  readonly withdraw: (zone: ZoneRef) => void
  /** Told of each zone that is learned, or goes back to asking, with why. */
  readonly onChange: (zone: ZoneRef, change: ZoneChange) => void
}

export type ZoneChange =
  | 'learned'
  | 'adopted'
  | 'idle'
  | 'evicted'
  | 'nxdomain'
  | 'nodata'
  | 'denied'
  | 'uncacheable'
  | 'stale'
  | 'renamed'
  | 'unknown'

interface Learned {
  readonly zone: ZoneRef
  readonly name: string
  readonly port: number
  readonly kept: KeptName
  /** For a zone that an Envoy brought along and that was not resolved yet: how long its old addresses may be waited out. */
  readonly adoptedUntilMs: number | null
  usedAtMs: number
}

/**
 * The zones in use: those that Envoy routes by itself. Joins DNS, which knows the addresses and keeps them fresh, to the
 * control plane, which tells every Envoy. Holds no address itself.
 */
export class LearnedZones {
  readonly #options: LearnedZonesOptions
  readonly #seams: LearnedZonesSeams
  readonly #candidates: CandidateZones
  /** The least recently used first. */
  readonly #learned = new Map<string, Learned>()

  constructor(options: LearnedZonesOptions, seams: LearnedZonesSeams) {
    this.#options = options
    this.#seams = seams
    this.#candidates = new CandidateZones(options.zonesMax * 2, options.idleMs)
  }

  get size(): number {
    return this.#learned.size
  }

  /** The learned zones, the least recently used first. */
  *zones(): Generator<ZoneRef> {
    for (const { zone } of this.#learned.values()) yield zone
  }

  /**
   * A request was forwarded by way of the processor. The second one within the idle time makes the zone learned, so that
   * a scan over names that all resolve evicts nobody.
   */
  used(zone: ZoneRef, answer: Answer): void {
    if (answer.kind !== 'positive' || answer.ttlSeconds === 0) return
    const nowMs = this.#seams.now()
    const key = keyOf(zone)
    const known = this.#learned.get(key)
    if (known !== undefined) {
      this.#touch(key, known, nowMs)
      return
    }
    if (!this.#candidates.isSecondUse(key, nowMs)) return
    if (this.#learned.size >= this.#options.zonesMax && !this.#makeRoom(nowMs)) return
    this.#candidates.delete(key)
    this.#learn(zone, null)
  }

  /** An Envoy has zones from an earlier processor: they stay until DNS proves them gone. */
  found(zones: readonly ZoneRef[]): void {
    const untilMs = this.#seams.now() + this.#options.staleMs
    for (const zone of zones) {
      if (this.#learned.has(keyOf(zone))) continue
      if (!this.#learn(zone, untilMs)) {
        this.#seams.withdraw(zone)
        this.#seams.onChange(zone, 'unknown')
      }
    }
  }

  /** An Envoy's load report: which zones are in use, and whose addresses may be wrong. */
  reported(zone: ZoneRef, load: ZoneLoad): void {
    const key = keyOf(zone)
    const learned = this.#learned.get(key)
    if (learned === undefined) return
    if (load.requests > 0) this.#touch(key, learned, this.#seams.now())
    if (load.errors > 0) this.#seams.dns.refresh(learned.name)
  }

  /**
   * Renews how long addresses are good, forgets what nobody uses, and gives up what is too old. Call it several times
   * within the stale time.
   */
  sweep(): void {
    const nowMs = this.#seams.now()
    for (const [key, learned] of this.#learned) {
      if (nowMs - learned.usedAtMs >= this.#options.idleMs) this.#forget(key, learned, 'idle')
      else this.#renew(key, learned, learned.kept.current())
    }
  }

  /** Takes back all zones: their names have become others. */
  forgetAll(): void {
    for (const [key, learned] of this.#learned) this.#forget(key, learned, 'renamed')
  }

  /** Lets go of all names; what Envoys have stays with them. */
  close(): void {
    for (const { kept } of this.#learned.values()) kept.release()
    this.#learned.clear()
  }

  #learn(zone: ZoneRef, adoptedUntilMs: number | null): boolean {
    const ref = this.#seams.resolveRef(zone)
    if (ref === null) return false
    const key = keyOf(zone)
    const kept = this.#seams.dns.keep(ref.name, (answer) => {
      const current = this.#learned.get(key)
      if (current !== undefined) this.#renew(key, current, answer)
    })
    if (kept === null) return false
    const learned: Learned = { zone, ...ref, kept, adoptedUntilMs, usedAtMs: this.#seams.now() }
    this.#learned.set(key, learned)
    this.#seams.onChange(zone, adoptedUntilMs === null ? 'learned' : 'adopted')
    this.#renew(key, learned, kept.current())
    return true
  }

  /** Brings the control plane in line with what DNS says now. */
  #renew(key: string, learned: Learned, answer: Answer | null): void {
    const nowMs = this.#seams.now()
    const staleAtMs = (learned.kept.expiresAtMs() ?? nowMs) + this.#options.staleMs
    const end = this.#endOf(learned, answer, staleAtMs, nowMs)
    if (end !== null) this.#forget(key, learned, end)
    else if (answer?.kind === 'positive')
      this.#seams.publish({ ...learned.zone, addresses: answer.addresses, port: learned.port, staleAtMs })
  }

  /** Why the zone must go back to asking; null: it stays. */
  #endOf(learned: Learned, answer: Answer | null, staleAtMs: number, nowMs: number): ZoneChange | null {
    switch (answer?.kind) {
      case 'nxdomain':
      case 'nodata':
        return answer.kind
      case 'positive':
        if (answer.ttlSeconds === 0 && !answer.stale) return 'uncacheable'
        if (answer.addresses.length === 0) return 'denied'
        return staleAtMs <= nowMs ? 'stale' : null
      default:
        // Nothing new and nothing stale. Adopted addresses have an end in Envoy: the same time is waited out here.
        return learned.adoptedUntilMs !== null && nowMs < learned.adoptedUntilMs ? null : 'stale'
    }
  }

  #forget(key: string, learned: Learned, why: ZoneChange): void {
    this.#learned.delete(key)
    learned.kept.release()
    this.#seams.withdraw(learned.zone)
    this.#seams.onChange(learned.zone, why)
  }

  /** Pushes out the least recently used zone, unless even that one is busy. */
  #makeRoom(nowMs: number): boolean {
    const [oldest] = this.#learned
    if (oldest === undefined) return false
    const [key, learned] = oldest
    if (nowMs - learned.usedAtMs < this.#options.busyMs) return false
    this.#forget(key, learned, 'evicted')
    return true
  }

  #touch(key: string, learned: Learned, nowMs: number): void {
    learned.usedAtMs = nowMs
    this.#learned.delete(key)
    this.#learned.set(key, learned)
  }
}

function keyOf({ service, id }: ZoneRef): string {
  return `${service}/${id}`
}
