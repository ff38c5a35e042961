/**
 * The cache in front of the nameservers. One query per name at a time, whoever asks for it: a request that goes away
 * leaves the query to the others and to the cache. Names in use are asked for again before their lifetime ends.
 */
import type { AddressResolution } from './address-resolver.ts'
import type { Answer } from './answer.ts'
import { CachedName, type CacheSettings } from './cached-name.ts'
import { type DomainName, parseDomainName } from './domain-name.ts'
import { RefreshQueue } from './refresh-queue.ts'
import { SegmentedLru } from './segmented-lru.ts'
import type { Timers } from './timers.ts'

/** RFC 8767 §5's client response timer: with stale addresses at hand nobody waits longer for fresh ones. */
const STALE_TIMER_MS_MAX = 1800
/** Part of the queries in flight that names without addresses may use: a scan leaves room for the names in use. */
const UNKNOWN_NAMES_SHARE = 7 / 8
/** However often a name is reported to be in trouble, it isn't asked for more often. */
const REFRESH_INTERVAL_MS_MIN = 1000

export interface CachingSettings extends CacheSettings {
  readonly budgetMs: number
  readonly cacheEntriesMax: number
  readonly queriesInFlightMax: number
  /** What one name costs: a query per family. */
  readonly queriesPerName: number
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
}

/** A name in the cache, or on its way there. */
interface Entry {
  readonly cached: CachedName
  pending: Pending | null
}

interface Pending {
  readonly startedAtMs: number
  readonly settled: Promise<Answer>
  /** The same, or the stale answer once the stale timer ends; made when someone needs it. */
  settledOrStale: Promise<Answer> | null
}

export class CachingResolver {
  readonly counts: LookupCounts = { fresh: 0, stale: 0, backedOff: 0, waited: 0, overloaded: 0 }
  readonly #entries: SegmentedLru<Entry>
  readonly #refreshes: RefreshQueue
  readonly #settings: CachingSettings
  readonly #timers: Timers
  readonly #resolve: (name: DomainName, awaited: boolean) => Promise<AddressResolution>
  #namesInFlight = 0
  /** Told of each name that was asked for, after the cache took the answer over. */
  #onLearned: (cached: CachedName, answer: Answer) => void = () => {}

  constructor(
    settings: CachingSettings,
    timers: Timers,
    resolve: (name: DomainName, awaited: boolean) => Promise<AddressResolution>,
  ) {
    this.#settings = settings
    this.#timers = timers
    this.#resolve = resolve
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
    for (const { cached } of this.#entries.values()) yield cached
  }

  lookup(name: string): Answer | Promise<Answer> {
    const entry = this.#entries.get(name)
    if (entry === undefined) return this.#lookupUnknown(name)
    const { cached } = entry
    const nowMs = this.#timers.now()
    const answer = cached.answerAt(nowMs)
    if (answer === null) return this.#wait(entry, nowMs)
    if (cached.isRefreshDue(nowMs)) this.#refreshes.add(cached.name)
    if (answer.kind === 'failure') this.counts.backedOff++
    else if (answer.kind === 'positive' && answer.stale) this.counts.stale++
    else this.counts.fresh++
    return answer
  }

  /** What `lookup` would say without asking; null: it would ask. */
  peek(name: string): Answer | null {
    return this.#entries.peek(name)?.cached.answerAt(this.#timers.now()) ?? null
  }

  /** Asks for the name again soon, unless that was done a moment ago or its nameservers fail. */
  refresh(name: string): void {
    const nowMs = this.#timers.now()
    const cached = this.#entries.peek(name)?.cached
    if (cached === undefined || cached.isBackingOff(nowMs)) return
    if (nowMs - cached.learnedAtMs >= REFRESH_INTERVAL_MS_MIN) this.#refreshes.add(name)
  }

  /** As `refresh`, without conditions: for a caller that keeps its own schedule. */
  refreshNow(name: string): void {
    this.#refreshes.add(name)
  }

  /** Keeps the name in the cache until it is unpinned. */
  pin(name: DomainName): CachedName {
    const entry = this.#entries.peek(name) ?? this.#newEntry(name)
    this.#entries.pin(name, entry)
    return entry.cached
  }

  unpin(name: string): void {
    this.#refreshes.delete(name)
    this.#entries.unpin(name)
  }

  /** Ends the lifetime of one name's answer, or of all: the next request waits for a nameserver. */
  flush(name?: string): void {
    const nowMs = this.#timers.now()
    if (name !== undefined) this.#entries.peek(name)?.cached.expire(nowMs)
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
    return this.#wait(this.#newEntry(name), this.#timers.now())
  }

  #newEntry(name: DomainName): Entry {
    return { cached: new CachedName(name, this.#settings), pending: null }
  }

  #wait(entry: Entry, nowMs: number): Answer | Promise<Answer> {
    const { cached } = entry
    const pending = entry.pending ?? this.#start(entry, nowMs, true, cached.hasAddresses)
    const stale = cached.staleAt(nowMs)
    if (pending === null) {
      this.counts.overloaded++
      return stale ?? { kind: 'failure', name: cached.name, cause: 'overloaded', tries: [] }
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
    pending.settledOrStale ??= this.#settledOrStale(pending, cached, staleAfterMs)
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

  /** Null where too many queries are in flight. */
  #start(entry: Entry, nowMs: number, awaited: boolean, known: boolean): Pending | null {
    const { queriesInFlightMax, queriesPerName } = this.#settings
    const limit = known
      ? queriesInFlightMax
      : Math.max(queriesPerName, queriesInFlightMax * UNKNOWN_NAMES_SHARE)
    if (this.queriesInFlight + queriesPerName > limit) return null
    const name = entry.cached.name as DomainName
    if (this.#entries.peek(name) === undefined) this.#entries.set(name, entry)
    this.#namesInFlight++
    const settled = this.#resolve(name, awaited).then(({ answer }) => this.#learn(entry, answer))
    entry.pending = { startedAtMs: nowMs, settled, settledOrStale: null }
    return entry.pending
  }

  #startRefresh(name: DomainName): 'started' | 'busy' {
    const entry = this.#entries.peek(name)
    if (entry === undefined || entry.pending !== null) return 'started'
    return this.#start(entry, this.#timers.now(), false, true) === null ? 'busy' : 'started'
  }

  /** What those who waited are told: the answer, or while nameservers fail what the cache still has. */
  #learn(entry: Entry, answer: Answer): Answer {
    const { cached } = entry
    const nowMs = this.#timers.now()
    this.#namesInFlight--
    entry.pending = null
    cached.update(answer, nowMs)
    this.#onLearned(cached, answer)
    if (answer.kind === 'failure') return cached.answerAt(nowMs) ?? answer
    if (answer.ttlSeconds === 0) this.#entries.delete(cached.name)
    return answer
  }
}
