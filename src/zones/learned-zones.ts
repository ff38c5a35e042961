import type { Addresses, Answer, KeptName } from '../dns/answer.ts'
import { CandidateZones } from './candidate-zones.ts'

/** A zone by its service and id: enough to name it, and what Envoy's control plane calls it by. */
export interface ZoneRef {
  readonly service: string
  /** In lower case. */
  readonly id: string
}

/** A zone's addresses as the control plane publishes them. */
export interface PublishedZone extends ZoneRef {
  readonly addresses: Addresses
  /** Of addresses that bring none. */
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
  /** Where the zone's requests go now; null where the rules in force have no such zone. */
  readonly resolveRef: (zone: ZoneRef) => ZonePlace | null
  readonly dns: {
    /** @param inUse false: nobody but an Envoy says that the name is used */
    keep(name: string, onChange: (answer: Answer) => void, inUse: boolean): KeptName | null
    refresh(name: string): void
  }
  readonly publish: (zone: PublishedZone) => void
  /** Has Envoys answer the zone's requests by themselves. */
  readonly publishAnswered: (zone: ZoneRef) => void
  readonly withdraw: (zone: ZoneRef) => void
  /**
   * Told of each zone that is learned, or goes back to asking, with why.
   * @param wasLearned it goes on from what another configuration, or a pin, had made of it
   */
  readonly onChange: (zone: ZoneRef, change: ZoneChange, wasLearned: boolean) => void
}

export interface ZonePlace {
  /** In DNS. */
  readonly name: string
  readonly port: number
  /** How its receivers are reached; undefined: as most are. */
  readonly upstream?: string | undefined
  /** In place of what DNS says; until when, on the clock of `now`. */
  readonly pinned?: { readonly answer: Answer; readonly untilMs: number } | undefined
  /** True for a zone in maintenance: nothing is forwarded. */
  readonly isAnswered: boolean
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
  | 'policy'
  | 'unknown'

/** Why a zone that has addresses is not learned, of what is decided here. */
export type NotLearned = 'not_asked' | 'asked_once' | 'zones_max'

interface Learned extends ZonePlace {
  readonly zone: ZoneRef
  readonly kept: KeptName
  /** How long the first answer of DNS is waited for; meanwhile Envoys may go on with addresses that they have. Null: it came. */
  unresolvedUntilMs: number | null
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
  #isClosed = false

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
   * @param answer null: the zone is in maintenance
   */
  used(zone: ZoneRef, answer: Answer | null): void {
    if (this.#isClosed) return
    if (answer !== null && (answer.kind !== 'positive' || answer.ttlSeconds === 0)) return
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
    this.#learn(zone, 'learned', nowMs + this.#options.busyMs)
  }

  /** Null for a learned zone. */
  whyNot(zone: ZoneRef): NotLearned | null {
    const key = keyOf(zone)
    if (this.#learned.has(key)) return null
    const nowMs = this.#seams.now()
    if (this.#learned.size >= this.#options.zonesMax && this.#victim(nowMs) === null) return 'zones_max'
    if (this.#candidates.has(key, nowMs)) return 'asked_once'
    return this.#candidates.mayHaveForgotten(nowMs) ? 'zones_max' : 'not_asked'
  }

  /**
   * An Envoy has zones from an earlier processor: they stay until DNS proves them gone. Those beyond `zonesMax` go back to
   * asking.
   */
  found(zones: readonly ZoneRef[]): void {
    if (this.#isClosed) return
    const untilMs = this.#seams.now() + this.#options.staleMs
    for (const zone of zones) {
      if (this.#learned.has(keyOf(zone))) continue
      if (this.#learned.size >= this.#options.zonesMax) this.#takeBack(zone, 'evicted')
      else if (this.#learn(zone, 'found', untilMs) === null) this.#takeBack(zone, 'unknown')
    }
  }

  /**
   * Goes on where another set leaves off, which is closed by this. A zone that has another name or port now keeps nothing of
   * what Envoys have of it; its next request makes it learned again.
   */
  takeOver(before: LearnedZones): void {
    const learned = [...before.#learned]
    for (const [key, seenAtMs] of before.#candidates.entries()) this.#candidates.remember(key, seenAtMs)
    const untilMs = this.#seams.now() + this.#options.staleMs
    const tooMany = Math.max(0, learned.length - this.#options.zonesMax)
    for (const [at, [, each]] of learned.entries())
      if (at < tooMany) this.#takeBack(each.zone, 'evicted')
      else this.#goOn(each, untilMs)
    before.close()
  }

  /** What is said of a zone in place of DNS is something else now. */
  placed(zone: ZoneRef): void {
    const key = keyOf(zone)
    const before = this.#learned.get(key)
    if (before === undefined) return
    this.#learned.delete(key)
    this.#goOn(before, this.#seams.now() + this.#options.staleMs)
    before.kept.release()
  }

  /** An Envoy's load report: which zones are in use, and whose addresses may be wrong. */
  reported(zone: ZoneRef, load: ZoneLoad): void {
    const key = keyOf(zone)
    const learned = this.#learned.get(key)
    if (learned === undefined) return
    if (load.requests > 0) this.#touch(key, learned, this.#seams.now())
    if (load.errors > 0 && learned.pinned === undefined) this.#seams.dns.refresh(learned.name)
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

  /** Takes back all zones: their names have become others, or none may be learned now. */
  forgetAll(why: 'renamed' | 'policy'): void {
    for (const [key, learned] of this.#learned) this.#forget(key, learned, why)
  }

  /** Lets go of all names, and learns nothing any more; what Envoys have stays with them. */
  close(): void {
    this.#isClosed = true
    for (const { kept } of this.#learned.values()) kept.release()
    this.#learned.clear()
    this.#candidates.clear()
  }

  /** Learns again what was learned before, by what is said of it now. */
  #goOn(before: Learned, untilMs: number): void {
    const { zone, name, port, upstream, pinned, isAnswered, usedAtMs } = before
    const place = this.#seams.resolveRef(zone)
    // Reached in another way its cluster is another one, and may not have an address of the one before for a moment.
    const isSame = place?.name === name && place.isAnswered === isAnswered && place.upstream === upstream
    const next = isSame ? this.#learn(zone, 'adopted', untilMs) : null
    if (next === null) {
      this.#takeBack(zone, place === null || isSame ? 'unknown' : 'renamed')
      return
    }
    next.usedAtMs = usedAtMs
    // Where its addresses are known they have been published, with its new port. What a pin named is good no longer.
    const isPublished = next.kept.current()?.kind === 'positive'
    const isOther = next.port !== port || (pinned !== undefined && next.pinned === undefined)
    const key = keyOf(zone)
    if (isOther && !isPublished && this.#learned.has(key)) this.#forget(key, next, 'renamed')
  }

  #learn(zone: ZoneRef, how: 'learned' | 'adopted' | 'found', unresolvedUntilMs: number): Learned | null {
    const ref = this.#seams.resolveRef(zone)
    if (ref === null) return null
    const key = keyOf(zone)
    const onChange = (answer: Answer): void => {
      const current = this.#learned.get(key)
      if (current !== undefined) this.#renew(key, current, answer)
    }
    const kept =
      ref.pinned === undefined && !ref.isAnswered
        ? this.#seams.dns.keep(ref.name, onChange, how !== 'found')
        : withoutDns(ref)
    if (kept === null) return null
    const learned: Learned = { zone, ...ref, kept, unresolvedUntilMs, usedAtMs: this.#seams.now() }
    this.#learned.set(key, learned)
    this.#seams.onChange(zone, how === 'learned' ? how : 'adopted', how === 'adopted')
    this.#renew(key, learned, kept.current())
    return learned
  }

  /** Brings the control plane in line with what DNS says now. */
  #renew(key: string, learned: Learned, answer: Answer | null): void {
    const nowMs = this.#seams.now()
    const staleAtMs = (learned.kept.expiresAtMs() ?? nowMs) + this.#options.staleMs
    const end = learned.isAnswered ? null : this.#endOf(learned, answer, staleAtMs, nowMs)
    if (learned.isAnswered) this.#seams.publishAnswered(learned.zone)
    else if (end !== null) this.#forget(key, learned, end)
    else if (answer?.kind === 'positive') {
      learned.unresolvedUntilMs = null
      this.#seams.publish({ ...learned.zone, addresses: answer.addresses, port: learned.port, staleAtMs })
    }
  }

  /** Why the zone must go back to asking; null: it stays. */
  #endOf(learned: Learned, answer: Answer | null, staleAtMs: number, nowMs: number): ZoneChange | null {
    switch (answer?.kind) {
      case 'nxdomain':
      case 'nodata':
        return answer.kind
      case 'positive':
        if (answer.ttlSeconds === 0) return 'uncacheable'
        if (answer.addresses.length === 0) return 'denied'
        return staleAtMs <= nowMs ? 'stale' : null
      default:
        // Nothing new and nothing stale. Addresses that Envoys brought have an end there: the same time is waited out here.
        return learned.unresolvedUntilMs !== null && nowMs < learned.unresolvedUntilMs ? null : 'stale'
    }
  }

  #forget(key: string, learned: Learned, why: ZoneChange): void {
    this.#learned.delete(key)
    learned.kept.release()
    this.#takeBack(learned.zone, why)
  }

  #takeBack(zone: ZoneRef, why: ZoneChange): void {
    // It is in use: the first request by its new name shows that it is there.
    if (why === 'renamed') this.#candidates.remember(keyOf(zone), this.#seams.now())
    this.#seams.withdraw(zone)
    this.#seams.onChange(zone, why, false)
  }

  /** Pushes out the least recently used zone, unless even that one is busy. */
  #makeRoom(nowMs: number): boolean {
    const victim = this.#victim(nowMs)
    if (victim === null) return false
    this.#forget(...victim, 'evicted')
    return true
  }

  /** The least recently used zone; null where even that one is busy. */
  #victim(nowMs: number): [key: string, learned: Learned] | null {
    const [oldest] = this.#learned
    return oldest !== undefined && nowMs - oldest[1].usedAtMs >= this.#options.busyMs ? oldest : null
  }

  #touch(key: string, learned: Learned, nowMs: number): void {
    learned.usedAtMs = nowMs
    this.#learned.delete(key)
    this.#learned.set(key, learned)
  }
}

/** A name that DNS isn't asked for. */
function withoutDns({ name, pinned }: ZonePlace): KeptName {
  return {
    name,
    current: () => pinned?.answer ?? null,
    expiresAtMs: () => pinned?.untilMs ?? null,
    release: () => undefined,
  }
}

function keyOf({ service, id }: ZoneRef): string {
  return `${service}/${id}`
}
