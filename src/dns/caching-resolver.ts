/**
 * The cache in front of the nameservers. One query per name at a time, whoever asks for it: a request that goes away
 * leaves the query to the others and to the cache. Names in use are asked for again before their lifetime ends.
 */
import type { AddressResolution } from './address-resolver.ts'
import type { Answer } from './answer.ts'
import type { Charge } from './ask.ts'
import { CachedName, type CacheSettings } from './cached-name.ts'
import { type DomainName, parseDomainName } from './domain-name.ts'
import { RefreshQueue } from './refresh-queue.ts'
import { SegmentedLru } from './segmented-lru.ts'
import type { Timers } from './timers.ts'
import { TokenBucket } from './token-bucket.ts'

/** RFC 8767 §5's client response timer: with stale addresses at hand nobody waits longer for fresh ones. */
const STALE_TIMER_MS_MAX = 1800
/** Part of the queries in flight that names without addresses may use: a scan leaves room for the names in use. */
const UNKNOWN_NAMES_SHARE = 7 / 8
/**
 * Part of the burst that a new unknown name doesn't touch: retries, TCP after UDP and the like of those under way live on
 * it, so that a scan doesn't leave the few that it lets through without their second try.
 */
const RETRIES_SHARE = 1 / 4
/** However often a name is reported to be in trouble, it isn't asked for more often. */
const REFRESH_INTERVAL_MS_MIN = 1000

export interface CachingSettings extends CacheSettings {
  readonly budgetMs: number
  readonly cacheEntriesMax: number
  readonly queriesInFlightMax: number
  /** What one name costs: a query per family. */
  readonly queriesPerName: number
  /** What nameservers may be asked for names that aren't in use. */
  readonly unknownNames: { readonly queriesPerSecond: number; readonly queriesBurst: number }
}

export interface LookupCounts {
  /** Answered from the cache, within the lifetime. */
  fresh: number
  stale: number
  /** Answered from the cache: the name failed a moment ago. */
  backedOff: number
  /** Waited for nameservers. */
  waited: number
  overloaded: number
  /** Turned away: names nobody knows have used up what they may cost. */
  rateLimited: number
}

/** A name in the cache, or on its way there. One object: each more is one that the collector copies for every name. */
class Entry extends CachedName {
  pending: Pending | null = null
  /** In use, whatever is known of it: someone keeps it resolved. */
  pinned = false
}

interface Pending {
  readonly startedAtMs: number
  readonly settled: Promise<Answer>
  /** The same, or the stale answer once the stale timer ends; made when someone needs it. */
  settledOrStale: Promise<Answer> | null
}

/** Why a name isn't asked for. */
type Refusal = 'overloaded' | 'rate_limited'

type Resolve = (name: DomainName, awaited: boolean, charge: Charge | null) => Promise<AddressResolution>

export class CachingResolver {
  readonly counts: LookupCounts = {
    fresh: 0,
    stale: 0,
    backedOff: 0,
    waited: 0,
    overloaded: 0,
    rateLimited: 0,
  }
  readonly #entries: SegmentedLru<Entry>
  readonly #refreshes: RefreshQueue
  readonly #settings: CachingSettings
  readonly #timers: Timers
  readonly #resolve: Resolve
  readonly #unknownQueries: TokenBucket
  /** Reckoned once: V8 kept recompiling what reckons it for each name. */
  readonly #tokensForRetries: number
  readonly #charge: Charge
  #namesInFlight = 0
  /** Told of each name that was asked for, after the cache took the answer over. */
  #onLearned: (cached: CachedName, answer: Answer) => void = () => {}
  readonly #onBug: (error: unknown) => void

  /** @param onBug told of an exception: it costs the one answer that it happened over */
  constructor(settings: CachingSettings, timers: Timers, resolve: Resolve, onBug: (error: unknown) => void) {
    this.#onBug = onBug
    this.#settings = settings
    this.#timers = timers
    this.#resolve = resolve
    const { queriesPerSecond, queriesBurst } = settings.unknownNames
    this.#unknownQueries = new TokenBucket(queriesPerSecond, queriesBurst, () => timers.now())
    this.#tokensForRetries = Math.floor(queriesBurst * RETRIES_SHARE)
    this.#charge = () => this.#unknownQueries.take()
    this.#entries = new SegmentedLru(settings.cacheEntriesMax, ({ pending }) => pending !== null)
    this.#refreshes = new RefreshQueue(timers, (name) => this.#startRefresh(name as DomainName))
  }

  set onLearned(listener: (cached: CachedName, answer: Answer) => void) {
    this.#onLearned = listener
  }

  get queriesInFlight(): number {
    return this.#namesInFlight * this.#settings.queriesPerName
  }

  get refreshesWaiting(): number {
    return this.#refreshes.length
  }

  get size(): number {
    return this.#entries.size
  }

  *names(): Generator<CachedName> {
    yield* this.#entries.values()
  }

  lookup(name: string): Answer | Promise<Answer> {
    const entry = this.#entries.get(name)
    if (entry === undefined) return this.#lookupUnknown(name)
    const nowMs = this.#timers.now()
    const answer = entry.answerAt(nowMs)
    if (answer === null) return this.#wait(entry, nowMs)
    if (entry.isRefreshDue(nowMs)) this.#refreshes.add(entry.name)
    if (answer.kind === 'failure') this.counts.backedOff++
    else if (answer.kind === 'positive' && answer.stale) this.counts.stale++
    else this.counts.fresh++
    return answer
  }

  /** What `lookup` would say without asking; null: it would ask. */
  peek(name: string): Answer | null {
    return this.#entries.peek(name)?.answerAt(this.#timers.now()) ?? null
  }

  /** Asks for the name again soon, unless that was done a moment ago or its nameservers fail. */
  refresh(name: string): void {
    const nowMs = this.#timers.now()
    const entry = this.#entries.peek(name)
    if (entry === undefined || entry.isBackingOff(nowMs)) return
    if (nowMs - entry.learnedAtMs >= REFRESH_INTERVAL_MS_MIN) this.#refreshes.add(name)
  }

  /** As `refresh`, without conditions: for a caller that keeps its own schedule. */
  refreshNow(name: string): void {
    this.#refreshes.add(name)
  }

  /** Keeps the name in the cache until it is unpinned. */
  pin(name: DomainName): CachedName {
    const entry = this.#entries.peek(name) ?? new Entry(name, this.#settings)
    entry.pinned = true
    this.#entries.pin(name, entry)
    return entry
  }

  unpin(name: string): void {
    this.#refreshes.delete(name)
    const entry = this.#entries.peek(name)
    if (entry !== undefined) entry.pinned = false
    this.#entries.unpin(name)
  }

  /** Ends the lifetime of one name's answer, or of all: the next request waits for a nameserver. */
  flush(name?: string): void {
    const nowMs = this.#timers.now()
    if (name !== undefined) this.#entries.peek(name)?.expire(nowMs)
    else for (const cached of this.names()) cached.expire(nowMs)
  }

  endBackoffs(): void {
    for (const cached of this.names()) cached.endBackoff()
  }

  close(): void {
    this.#refreshes.close()
  }

  #lookupUnknown(text: string): Answer | Promise<Answer> {
    const name = parseDomainName(text)
    if (name === null || name === '') return { kind: 'failure', name: text, cause: 'invalid_name', tries: [] }
    if (name !== text) return this.lookup(name)
    return this.#wait(new Entry(name, this.#settings), this.#timers.now())
  }

  #wait(entry: Entry, nowMs: number): Answer | Promise<Answer> {
    const pending = entry.pending ?? this.#start(entry, nowMs, true, entry.pinned || entry.resolves)
    const stale = entry.staleAt(nowMs)
    if (typeof pending === 'string') {
      if (pending === 'overloaded') this.counts.overloaded++
      else this.counts.rateLimited++
      return stale ?? { kind: 'failure', name: entry.name, cause: pending, tries: [] }
    }
    if (stale === null) {
      this.counts.waited++
      return pending.settled
    }
    const staleAfterMs =
      Math.min(STALE_TIMER_MS_MAX, this.#settings.budgetMs / 2) - (nowMs - pending.startedAtMs)
    if (staleAfterMs <= 0) {
      this.counts.stale++
      return stale
    }
    this.counts.waited++
    pending.settledOrStale ??= this.#settledOrStale(pending, entry, staleAfterMs)
    return pending.settledOrStale
  }

  #settledOrStale(pending: Pending, cached: CachedName, staleAfterMs: number): Promise<Answer> {
    return new Promise((resolve) => {
      const timer = this.#timers.start(() => {
        const stale = cached.staleAt(this.#timers.now())
        if (stale !== null) resolve(stale)
      }, staleAfterMs)
      void pending.settled.then((answer) => {
        timer.cancel()
        resolve(answer)
      })
    })
  }

  /** @param inUse such a name may take the last place in flight, and is never limited by rate */
  #start(entry: Entry, nowMs: number, awaited: boolean, inUse: boolean): Pending | Refusal {
    const { queriesInFlightMax, queriesPerName } = this.#settings
    const limit = inUse
      ? queriesInFlightMax
      : Math.max(queriesPerName, queriesInFlightMax * UNKNOWN_NAMES_SHARE)
    if (this.queriesInFlight + queriesPerName > limit) return 'overloaded'
    if (!inUse && !this.#canPayForUnknown()) return 'rate_limited'
    const name = entry.name as DomainName
    this.#entries.set(name, entry)
    this.#namesInFlight++
    const charge = inUse ? null : this.#charge
    const settled = this.#resolve(name, awaited, charge).then(
      ({ answer }) => this.#learn(entry, answer),
      (error: unknown) => {
        this.#onBug(error)
        return this.#learn(entry, { kind: 'failure', name, cause: 'nameservers_failed', tries: [] })
      },
    )
    entry.pending = { startedAtMs: nowMs, settled, settledOrStale: null }
    return entry.pending
  }

  #startRefresh(name: DomainName): 'started' | 'busy' {
    const entry = this.#entries.peek(name)
    if (entry === undefined || entry.pending !== null) return 'started'
    return typeof this.#start(entry, this.#timers.now(), false, true) === 'string' ? 'busy' : 'started'
  }

  #canPayForUnknown(): boolean {
    return this.#unknownQueries.tokens >= this.#settings.queriesPerName + this.#tokensForRetries
  }

  /** What those who waited are told: the answer, or while nameservers fail what the cache still has. */
  #learn(entry: Entry, answer: Answer): Answer {
    const nowMs = this.#timers.now()
    this.#namesInFlight--
    entry.pending = null
    entry.update(answer, nowMs)
    try {
      this.#onLearned(entry, answer)
    } catch (error) {
      this.#onBug(error) // of who keeps the name: those who wait for its answer get it
    }
    if (answer.kind === 'failure') return entry.answerAt(nowMs) ?? answer
    // One with addresses stays though nothing is kept of its answer: its name is one in use.
    if (answer.ttlSeconds === 0 && answer.kind !== 'positive') this.#entries.delete(entry.name)
    return answer
  }
}
