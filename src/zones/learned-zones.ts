import type { Addresses, Answer, KeptName } from '../dns/answer.ts'
import { CandidateZones } from './candidate-zones.ts'

/** Identifies a zone. */
export interface ZoneRef {
  readonly service: string
  /** In lower case. */
  readonly id: string
}

/** A zone with the addresses that the control plane publishes. */
export interface PublishedZone extends ZoneRef {
  readonly addresses: Addresses
  /** The port of addresses that have none of their own. */
  readonly port: number
  /** From when nobody may use the addresses any more, ms on the clock of `now`. */
  readonly staleAtMs: number
}

export interface ZoneLoad {
  readonly requests: number
  /** Tries that failed or ended with 5xx, including refused connections, which Envoy 1.40 does not report separately. */
  readonly errors: number
}

export interface LearnedZonesOptions {
  /** Zones that may be learned at once. */
  readonly zonesMax: number
  /** A zone without requests for this long is forgotten: its requests ask again. */
  readonly idleMs: number
  /** How long an answer may be used after its TTL has ended (RFC 8767). */
  readonly staleMs: number
  /** A learned zone with requests within this time is never evicted for another one. Two load reports. */
  readonly busyMs: number
}

/** What LearnedZones needs from outside. */
export interface LearnedZonesSeams {
  /** Monotonic, milliseconds. */
  readonly now: () => number
  /** Where the zone's requests go by the rules in force; null: they have no such zone. */
  readonly resolveRef: (zone: ZoneRef) => ZonePlace | null
  readonly dns: {
    /** @param inUse false: the name is known only from an Envoy, not from a request */
    keep(name: string, onChange: (answer: Answer) => void, inUse: boolean): KeptName | null
    refresh(name: string): void
  }
  readonly publish: (zone: PublishedZone) => void
  /** Has Envoys answer the zone's requests themselves (maintenance). */
  readonly publishAnswered: (zone: ZoneRef) => void
  readonly withdraw: (zone: ZoneRef) => void
  /**
   * Called for each zone that is learned or forgotten, with the reason.
   * @param wasLearned it was learned already, under another configuration or pin
   */
  readonly onChange: (zone: ZoneRef, change: ZoneChange, wasLearned: boolean) => void
}

export interface ZonePlace {
  /** Its DNS name. */
  readonly name: string
  readonly port: number
  /** Identifies the `upstream` of its rule; undefined: none. */
  readonly upstream?: string | undefined
  /** A pin, which replaces the answer of DNS until `untilMs` on the clock of `now`. */
  readonly pinned?: { readonly answer: Answer; readonly untilMs: number } | undefined
  /** True for a zone in maintenance: its requests are answered, not forwarded. */
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
  | 'rekeyed'
  | 'policy'
  | 'unknown'

/** Why a zone that could be learned is not. */
export type NotLearned = 'not_asked' | 'asked_once' | 'zones_max'

interface Learned extends ZonePlace {
  readonly zone: ZoneRef
  readonly kept: KeptName
  /** Until when to wait for the first answer of DNS. Meanwhile Envoys may use addresses that they have. Null: it came. */
  unresolvedUntilMs: number | null
  usedAtMs: number
}

/** Renewing a zone takes some 5 µs. */
const SWEPT_PER_STEP = 300
/** Taking over a zone takes some 50 µs. */
const TAKEN_PER_STEP = 30

/**
 * Decides which zones Envoys route without the processor. Passes their addresses from DNS, which refreshes them, to the control
 * plane, which sends them to every Envoy. Stores no addresses itself.
 */
export class LearnedZones {
  readonly #options: LearnedZonesOptions
  readonly #seams: LearnedZonesSeams
  readonly #candidates: CandidateZones
  /** The least recently used first. */
  #learned = new Map<string, Learned>()
  /** Those that are yet to be taken over from the previous configuration. Envoys route them as before. */
  #waiting = new Set<string>()
  /** Zones that the current sweep has not reached. */
  #unswept: Iterator<string, undefined> | undefined
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
   * Call it when the processor has answered a request. A zone is learned at its second request within the idle time, so that a scan
   * over names that all resolve evicts no zone.
   * @param answer null: the zone is in maintenance
   */
  used(zone: ZoneRef, answer: Answer | null): void {
    if (this.#isClosed) return
    if (answer !== null && (answer.kind !== 'positive' || answer.ttlSeconds === 0)) return
    const nowMs = this.#seams.now()
    const key = keyOf(zone)
    const known = this.#find(key)
    if (known !== undefined) {
      this.#touch(key, known, nowMs)
      return
    }
    if (!this.#candidates.isSecondUse(key, nowMs)) return
    if (this.size >= this.#options.zonesMax && !this.#makeRoom(nowMs)) return
    this.#candidates.delete(key)
    this.#learn(zone, 'learned', nowMs + this.#options.busyMs)
  }

  /** Why a zone is not learned; null: it is. */
  whyNot(zone: ZoneRef): NotLearned | null {
    const key = keyOf(zone)
    if (this.#learned.has(key)) return null
    const nowMs = this.#seams.now()
    if (this.size >= this.#options.zonesMax && this.#victim(nowMs) === null) return 'zones_max'
    if (this.#candidates.has(key, nowMs)) return 'asked_once'
    return this.#candidates.mayHaveForgotten(nowMs) ? 'zones_max' : 'not_asked'
  }

  /** An Envoy has zones from an earlier processor. They stay until DNS says otherwise, except for those beyond `zonesMax`. */
  found(zones: readonly ZoneRef[]): void {
    if (this.#isClosed) return
    const untilMs = this.#seams.now() + this.#options.staleMs
    for (const zone of zones) {
      if (this.#find(keyOf(zone)) !== undefined) continue
      if (this.size >= this.#options.zonesMax) this.#takeBack(zone, 'evicted')
      else if (this.#learn(zone, 'found', untilMs) === null) this.#takeBack(zone, 'unknown')
    }
  }

  /**
   * Takes over the zones of `before` and closes it. A zone whose name or upstream has changed is withdrawn at once; its next request
   * makes it learned again. The others go on as before until `takeOverStep` reaches them.
   * @param samePlaces true if no zone has another name, port or upstream than before
   */
  takeOver(before: LearnedZones, samePlaces: boolean): void {
    for (const [key, seenAtMs] of before.#candidates.entries()) this.#candidates.remember(key, seenAtMs)
    this.#learned = before.#learned
    this.#waiting = new Set(this.#learned.keys())
    before.#learned = new Map()
    before.close()
    if (samePlaces) return
    for (const [key, each] of this.#learned) {
      const place = this.#seams.resolveRef(each.zone)
      // A pin that came or went takes effect at once, too.
      if (!isSamePlace(each, place) || place?.pinned !== undefined || each.pinned !== undefined)
        this.#find(key)
    }
  }

  /** Takes over the next zones, after it has evicted those that are too many. @returns true if zones are left */
  takeOverStep(): boolean {
    let left = TAKEN_PER_STEP
    for (const [key, learned] of this.#learned) {
      if (this.size <= this.#options.zonesMax) break
      if (left === 0) return true
      left -= 1
      this.#forget(key, learned, 'evicted')
    }
    for (const key of this.#waiting) {
      if (left === 0) return true
      left -= 1
      this.#find(key)
    }
    return false
  }

  /** A learned zone. If it waits, it is taken over first. */
  #find(key: string): Learned | undefined {
    const learned = this.#learned.get(key)
    if (learned === undefined || !this.#waiting.delete(key)) return learned
    return this.#goOn(key, learned)
  }

  /** Call it when a zone was pinned, unpinned or put into maintenance. */
  placed(zone: ZoneRef): void {
    const key = keyOf(zone)
    const learned = this.#find(key)
    if (learned !== undefined) this.#goOn(key, learned)
  }

  /** Call it for each zone in a load report. It shows that the zone is in use, or that its addresses may be wrong. */
  reported(zone: ZoneRef, load: ZoneLoad): void {
    // Envoys report all their zones, most of them unused. Those need no turn ahead of others.
    if (load.requests === 0 && load.errors === 0) return
    const key = keyOf(zone)
    const learned = this.#find(key)
    if (learned === undefined) return
    if (load.requests > 0) this.#touch(key, learned, this.#seams.now())
    if (load.errors > 0 && learned.pinned === undefined) this.#seams.dns.refresh(learned.name)
  }

  /**
   * Extends the time for which Envoys may use addresses, and forgets zones that are idle or whose addresses are too old. Each call
   * handles the next zones; a sweep of all should end several times within the stale time.
   * @returns true if zones are left
   */
  sweepStep(): boolean {
    // A copy, because zones that are used meanwhile move to the end.
    this.#unswept ??= [...this.#learned.keys()].values()
    const nowMs = this.#seams.now()
    for (let swept = 0; swept < SWEPT_PER_STEP; swept++) {
      const { done, value: key } = this.#unswept.next()
      if (done === true) {
        this.#unswept = undefined
        return false
      }
      const learned = this.#learned.get(key)
      if (learned === undefined || this.#waiting.has(key)) continue
      if (nowMs - learned.usedAtMs >= this.#options.idleMs) this.#forget(key, learned, 'idle')
      else this.#renew(key, learned, learned.kept.current())
    }
    return true
  }

  /** Withdraws all zones, because their names or routing keys have changed or because no zone may be learned now. */
  forgetAll(why: 'renamed' | 'rekeyed' | 'policy'): void {
    for (const [key, learned] of this.#learned) this.#forget(key, learned, why)
  }

  /** Releases all names and stops learning. Envoys keep what they have. */
  close(): void {
    this.#isClosed = true
    for (const { kept } of this.#learned.values()) kept.release()
    this.#learned.clear()
    this.#waiting.clear()
    this.#unswept = undefined
    this.#candidates.clear()
  }

  /** Learns a zone again by the current rules and pins. It keeps its place in the order of use. */
  #goOn(key: string, before: Learned): Learned | undefined {
    this.#relearn(key, before)
    before.kept.release()
    return this.#learned.get(key)
  }

  #relearn(key: string, before: Learned): void {
    const { zone, port, pinned, usedAtMs } = before
    const place = this.#seams.resolveRef(zone)
    const isSame = isSamePlace(before, place)
    const next = isSame
      ? this.#learnAt(place, zone, 'adopted', this.#seams.now() + this.#options.staleMs)
      : null
    if (next === null) {
      this.#learned.delete(key)
      this.#takeBack(zone, place === null || isSame ? 'unknown' : 'renamed')
      return
    }
    next.usedAtMs = usedAtMs
    // If DNS has answered, the addresses are published with the new port. Otherwise Envoys would keep the old port or the pin's
    // addresses.
    const isPublished = next.kept.current()?.kind === 'positive'
    const isOther = next.port !== port || (pinned !== undefined && next.pinned === undefined)
    if (isOther && !isPublished && this.#learned.has(key)) this.#forget(key, next, 'renamed')
  }

  #learn(zone: ZoneRef, how: 'learned' | 'found', unresolvedUntilMs: number): Learned | null {
    const place = this.#seams.resolveRef(zone)
    return place === null ? null : this.#learnAt(place, zone, how, unresolvedUntilMs)
  }

  #learnAt(
    place: ZonePlace,
    zone: ZoneRef,
    how: 'learned' | 'adopted' | 'found',
    unresolvedUntilMs: number,
  ): Learned | null {
    const key = keyOf(zone)
    const onChange = (answer: Answer): void => {
      const current = this.#learned.get(key)
      if (current !== undefined) this.#renew(key, current, answer)
    }
    const kept =
      place.pinned === undefined && !place.isAnswered
        ? this.#seams.dns.keep(place.name, onChange, how !== 'found')
        : withoutDns(place)
    if (kept === null) return null
    const learned: Learned = { zone, ...place, kept, unresolvedUntilMs, usedAtMs: this.#seams.now() }
    this.#learned.set(key, learned)
    this.#seams.onChange(zone, how === 'learned' ? how : 'adopted', how === 'adopted')
    this.#renew(key, learned, kept.current())
    return learned
  }

  /** Publishes or withdraws a zone according to the latest answer. */
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

  /** Why the zone must be forgotten; null: it stays. */
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
        // DNS has no answer, not even an old one. The addresses that Envoys have end after the same time.
        return learned.unresolvedUntilMs !== null && nowMs < learned.unresolvedUntilMs ? null : 'stale'
    }
  }

  #forget(key: string, learned: Learned, why: ZoneChange): void {
    this.#learned.delete(key)
    this.#waiting.delete(key)
    learned.kept.release()
    this.#takeBack(learned.zone, why)
  }

  #takeBack(zone: ZoneRef, why: ZoneChange): void {
    // The zone is in use, so one request by its new name or key is enough to learn it.
    if (why === 'renamed' || why === 'rekeyed') this.#candidates.remember(keyOf(zone), this.#seams.now())
    this.#seams.withdraw(zone)
    this.#seams.onChange(zone, why, false)
  }

  /** Evicts the least recently used zone, unless even that one is busy. */
  #makeRoom(nowMs: number): boolean {
    const victim = this.#victim(nowMs)
    if (victim === null) return false
    this.#forget(...victim, 'evicted')
    return true
  }

  /** The least recently used zone; null if even that one is busy. */
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

/** Stands for a name that needs no DNS: the zone is pinned or in maintenance. */
function withoutDns({ name, pinned }: ZonePlace): KeptName {
  return {
    name,
    current: () => pinned?.answer ?? null,
    expiresAtMs: () => pinned?.untilMs ?? null,
    release: () => undefined,
  }
}

/** With another upstream a zone gets another cluster, which must not have the old addresses even for a moment. */
function isSamePlace(before: ZonePlace, place: ZonePlace | null): place is ZonePlace {
  const { name, isAnswered, upstream } = before
  return place?.name === name && place.isAnswered === isAnswered && place.upstream === upstream
}

function keyOf({ service, id }: ZoneRef): string {
  return `${service}/${id}`
}
