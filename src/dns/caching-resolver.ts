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

interface Pending {
  readonly startedAtMs: number
  readonly settled: Promise<Answer>
  /** The same, or the stale answer once the stale timer ends; made when someone needs it. */
  settledOrStale: Promise<Answer> | null
}

export class CachingResolver {
  readonly counts: LookupCounts = { fresh: 0, stale: 0, backedOff: 0, waited: 0, overloaded: 0 }
  readonly #cache: SegmentedLru<CachedName>
  readonly #pending = new Map<string, Pending>()
  readonly #refreshes: RefreshQueue
  readonly #settings: CachingSettings
  readonly #timers: Timers
  readonly #resolve: (name: DomainName, awaited: boolean) => Promise<AddressResolution>
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
    this.#cache = new SegmentedLru(settings.cacheEntriesMax)
    this.#refreshes = new RefreshQueue(timers, (name) => this.#startRefresh(name as DomainName))
  }

  set onLearned(listener: (cached: CachedName, answer: Answer) => void) {
    this.#onLearned = listener
  }

  get queriesInFlight(): number {
    return this.#pending.size * this.#settings.queriesPerName
  }

  get refreshesWaiting(): number {
    return this.#refreshes.length
  }

  get size(): number {
    return this.#cache.size
  }

  names(): Iterable<CachedName> {
    return this.#cache.values()
  }

  lookup(name: string): Answer | Promise<Answer> {
    const cached = this.#cache.get(name)
    if (cached === undefined) return this.#lookupUnknown(name)
    const nowMs = this.#timers.now()
    const answer = cached.answerAt(nowMs)
    if (answer === null) return this.#wait(cached.name as DomainName, cached, nowMs)
    if (cached.isRefreshDue(nowMs)) this.#refreshes.add(cached.name)
    if (answer.kind === 'failure') this.counts.backedOff++
    else if (answer.kind === 'positive' && answer.stale) this.counts.stale++
    else this.counts.fresh++
    return answer
  }

  /** What `lookup` would say without asking; null: it would ask. */
  peek(name: string): Answer | null {
    return this.#cache.peek(name)?.answerAt(this.#timers.now()) ?? null
  }

  /** Asks for the name again soon, unless that was done a moment ago or its nameservers fail. */
  refresh(name: string): void {
    const nowMs = this.#timers.now()
    const cached = this.#cache.peek(name)
    if (cached === undefined || cached.isBackingOff(nowMs)) return
    if (nowMs - cached.learnedAtMs >= REFRESH_INTERVAL_MS_MIN) this.#refreshes.add(name)
  }

  /** As `refresh`, without conditions: for a caller that keeps its own schedule. */
  refreshNow(name: string): void {
    this.#refreshes.add(name)
  }

  /** Keeps the name in the cache until it is unpinned. */
  pin(name: DomainName): CachedName {
    const cached = this.#cache.peek(name) ?? new CachedName(name, this.#settings)
    this.#cache.pin(name, cached)
    return cached
  }

  unpin(name: string): void {
    this.#refreshes.delete(name)
    this.#cache.unpin(name)
  }

  /** Ends the lifetime of one name's answer, or of all: the next request waits for a nameserver. */
  flush(name?: string): void {
    const nowMs = this.#timers.now()
    if (name !== undefined) this.#cache.peek(name)?.expire(nowMs)
    else for (const cached of this.#cache.values()) cached.expire(nowMs)
  }

  endBackoffs(): void {
    for (const cached of this.#cache.values()) cached.endBackoff()
  }

  close(): void {
    this.#refreshes.close()
  }

  #lookupUnknown(text: string): Answer | Promise<Answer> {
    const name = parseDomainName(text)
    if (name === null || name === '') return { kind: 'failure', name: text, cause: 'invalid_name', tries: [] }
    if (name !== text) return this.lookup(name)
    return this.#wait(name, null, this.#timers.now())
  }

  #wait(name: DomainName, cached: CachedName | null, nowMs: number): Answer | Promise<Answer> {
    const pending = this.#pending.get(name) ?? this.#start(name, true, cached?.hasAddresses === true)
    const stale = cached?.staleAt(nowMs) ?? null
    if (pending === 'busy') {
      this.counts.overloaded++
      return stale ?? { kind: 'failure', name, cause: 'overloaded', tries: [] }
    }
    if (stale === null || cached === null) {
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

  #start(name: DomainName, awaited: boolean, known: boolean): Pending | 'busy' {
    const { queriesInFlightMax, queriesPerName } = this.#settings
    const limit = known
      ? queriesInFlightMax
      : Math.max(queriesPerName, queriesInFlightMax * UNKNOWN_NAMES_SHARE)
    if (this.queriesInFlight + queriesPerName > limit) return 'busy'
    const settled = this.#resolve(name, awaited).then(({ answer }) => {
      this.#pending.delete(name)
      return this.#learn(name, answer)
    })
    const pending = { startedAtMs: this.#timers.now(), settled, settledOrStale: null }
    this.#pending.set(name, pending)
    return pending
  }

  #startRefresh(name: DomainName): 'started' | 'busy' {
    if (this.#pending.has(name)) return 'started'
    return this.#start(name, false, true) === 'busy' ? 'busy' : 'started'
  }

  /** What those who waited are told: the answer, or while nameservers fail what the cache still has. */
  #learn(name: DomainName, answer: Answer): Answer {
    const nowMs = this.#timers.now()
    const known = this.#cache.peek(name)
    const cached = known ?? new CachedName(name, this.#settings)
    cached.update(answer, nowMs)
    if (known === undefined && cached.answerAt(nowMs) !== null) this.#cache.set(name, cached)
    this.#onLearned(cached, answer)
    return answer.kind === 'failure' ? (cached.answerAt(nowMs) ?? answer) : answer
  }
}
