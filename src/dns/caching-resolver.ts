/**
 * The cache in front of the nameservers. Each name has one query at a time, which all its look-ups share: when a request
 * goes away, the others and the cache still get the answer. Names in use are asked for again before their TTL ends.
 */

import type { Timers } from '../timers.ts'
import type { AnswerWithTries, Asking } from './address-resolver.ts'
import { type Answer, areEndpoints, type FailedAnswer, meansTheSame, type Try } from './answer.ts'
import { CachedName, type CacheSettings } from './cached-name.ts'
import { type DomainName, parseDomainName } from './domain-name.ts'
import { RefreshQueue, type RefreshStart } from './refresh-queue.ts'
import { SegmentedLru } from './segmented-lru.ts'
import type { Charge } from './stub-resolver.ts'
import { TokenBucket } from './token-bucket.ts'

/** RFC 8767 §5, client response timer: where there are stale addresses, no look-up waits longer for fresh ones. */
const STALE_TIMER_MS_MAX = 1800
/** The share of the queries in flight for names without addresses: a scan leaves room for names in use. */
const UNKNOWN_NAMES_SHARE = 7 / 8
/**
 * The share of the burst that new unknown names can't use. It pays for retries, and for TCP after UDP, of unknown names
 * in flight: a name that gets through during a scan also gets its second try.
 */
const RETRIES_SHARE = 1 / 4
/** The share of the burst that refreshes can't use for names that don't resolve: requests for unknown names come first. */
const REQUESTS_SHARE = 1 / 2
/** `refresh` asks for a name at most this often. */
const REFRESH_INTERVAL_MS_MIN = 1000

interface CachingSettings extends CacheSettings {
  readonly budgetMs: number
  readonly cacheEntriesMax: number
  readonly queriesInFlightMax: number
  /** One for each family. */
  readonly queriesPerName: number
  /** The limit on queries for names that aren't in use. */
  readonly unknownNames: { readonly queriesPerSecond: number; readonly queriesBurst: number }
}

export interface LookupCounts {
  /** Answered from the cache, within the lifetime. */
  fresh: number
  stale: number
  /** Answered from the cache with a failure: the name's nameservers failed a moment ago. */
  backedOff: number
  /** Waited for nameservers. */
  waited: number
  overloaded: number
  /** Failed: the limit on queries for unknown names was reached. */
  rateLimited: number
}

/** A name in the cache, or on its way there. A subclass, because a second object per name costs memory. */
class Entry extends CachedName {
  pending: Pending | null = null
  /** The last answer, failures included. */
  last: Answer | null = null
  /** In use even without addresses: a caller keeps it resolved. */
  pinned = false
}

interface Pending {
  readonly startedAtMs: number
  readonly settled: Promise<Answer>
  /** Like `settled`, but with the stale answer once the stale timer ends. Created for the first look-up that needs it. */
  settledOrStale: Promise<Answer> | null
}

/** Why no query is sent for a name. */
type Refusal = 'overloaded' | 'rate_limited' | 'closed'

function causeOf(refusal: Refusal): FailedAnswer['cause'] {
  return refusal === 'closed' ? 'nameservers_failed' : refusal
}

/** @param before null: this is the first answer */
type OnChanged = (answer: Answer, before: Answer | null, tries: readonly Try[]) => void

type Resolve = (name: DomainName, asking: Asking) => Promise<AnswerWithTries>

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
  /** Calculated once (decision 41). */
  readonly #tokensForRetries: number
  readonly #tokensForRequests: number
  readonly #charge: Charge
  #namesInFlight = 0
  #closed = false
  /** Runs for each new answer, once it is in the cache. */
  #onLearned: (cached: CachedName, answer: Answer) => void = () => {}
  readonly #onBug: (error: unknown) => void

  #onChanged: OnChanged = () => {}

  /** @param onBug receives an exception; it affects one answer of one name */
  constructor(settings: CachingSettings, timers: Timers, resolve: Resolve, onBug: (error: unknown) => void) {
    this.#onBug = onBug
    this.#settings = settings
    this.#timers = timers
    this.#resolve = resolve
    const { queriesPerSecond, queriesBurst } = settings.unknownNames
    this.#unknownQueries = new TokenBucket(queriesPerSecond, queriesBurst, () => timers.now())
    this.#tokensForRetries = Math.floor(queriesBurst * RETRIES_SHARE)
    this.#tokensForRequests = Math.floor(queriesBurst * REQUESTS_SHARE) + settings.queriesPerName
    this.#charge = () => this.#unknownQueries.take()
    this.#entries = new SegmentedLru(settings.cacheEntriesMax)
    this.#refreshes = new RefreshQueue(timers, (name) => this.#startRefresh(name as DomainName))
  }

  set onLearned(listener: (cached: CachedName, answer: Answer) => void) {
    this.#onLearned = listener
  }

  /** Runs where a new answer differs from the one before. */
  set onChanged(listener: OnChanged) {
    this.#onChanged = listener
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

  /** What is cached of a name. It does not count as a use. */
  cached(name: string): CachedName | undefined {
    return this.#entries.peek(name)
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

  /**
   * The answers for the targets of a service, in their order. Meanwhile the service gives up its own place among the
   * queries in flight; its `charge` pays for the targets' queries. A target that fails has a failure or stale addresses.
   */
  async targets(
    names: readonly DomainName[],
    asking: Asking & { readonly deadlineMs: number },
  ): Promise<readonly Answer[]> {
    this.#namesInFlight--
    try {
      return await Promise.all(names.map((name) => this.#target(name, asking)))
    } finally {
      this.#namesInFlight++
    }
  }

  #target(name: DomainName, asking: Asking & { readonly deadlineMs: number }): Answer | Promise<Answer> {
    const nowMs = this.#timers.now()
    const entry = this.#entries.get(name) ?? new Entry(name, this.#settings)
    const known = entry.answerAt(nowMs)
    const isNew = nowMs - entry.learnedAtMs < REFRESH_INTERVAL_MS_MIN
    // A refresh of the service refreshes its targets, too. A target that several services share is refreshed only once.
    if (known !== null && (asking.awaited || isNew || entry.isBackingOff(nowMs))) return known
    const hadAddresses = entry.isInUse(nowMs)
    const charge = entry.pinned || hadAddresses ? null : asking.charge
    const refusal = entry.pending === null ? this.#refusalOf(charge === null) : null
    if (refusal !== null) return { kind: 'failure', name, cause: causeOf(refusal), tries: [] }
    const pending = entry.pending ?? this.#begin(entry, nowMs, { ...asking, charge, hadAddresses })
    return new Promise((resolve) => {
      const failure: Answer = { kind: 'failure', name, cause: 'timeout', tries: [] }
      const timer = this.#timers.start(() => resolve(failure), asking.deadlineMs - nowMs)
      void pending.settled.then((answer) => {
        timer.cancel()
        resolve(answer)
      })
    })
  }

  /** The answer that `lookup` would give at once; null where it would wait. */
  peek(name: string): Answer | null {
    return this.#entries.peek(name)?.answerAt(this.#timers.now()) ?? null
  }

  /** The answer that would serve if no nameserver answered. */
  peekStale(name: string): Answer | null {
    return this.#entries.peek(name)?.staleAt(this.#timers.now()) ?? null
  }

  /** Asks for a cached name again soon, unless that happened a moment ago or its nameservers fail. */
  refresh(name: string): void {
    const nowMs = this.#timers.now()
    const entry = this.#entries.peek(name)
    if (entry === undefined || entry.isBackingOff(nowMs)) return
    if (nowMs - entry.learnedAtMs >= REFRESH_INTERVAL_MS_MIN) this.#refreshes.add(name)
  }

  /** The same without conditions, for a caller with its own schedule. */
  refreshNow(name: string): void {
    this.#refreshes.add(name)
  }

  /**
   * Keeps the name in the cache until it is unpinned.
   * @param inUse false: until it resolves, its queries count as those of an unknown name
   */
  pin(name: DomainName, inUse: boolean): CachedName {
    const entry = this.#entries.peek(name) ?? new Entry(name, this.#settings)
    if (inUse) entry.pinned = true
    this.#entries.pin(name, entry)
    return entry
  }

  unpin(name: string): void {
    this.#refreshes.delete(name)
    const entry = this.#entries.peek(name)
    if (entry !== undefined) entry.pinned = false
    this.#entries.unpin(name)
    if (entry !== undefined && entry.pending !== null) this.#entries.hold(name, entry)
  }

  /**
   * Ends the lifetime of one name's answer, or of all: the next look-up waits for a nameserver. Look-ups that wait already
   * get the answer to their query, which the cache doesn't keep.
   * @returns the number of names
   */
  flush(name?: string): number {
    const nowMs = this.#timers.now()
    const entries = name === undefined ? this.#entries.values() : this.#entriesOf(name)
    let names = 0
    for (const entry of entries) {
      entry.expire(nowMs)
      entry.pending = null
      this.#entries.release(entry.name)
      names += 1
    }
    return names
  }

  /** True where a name under the domain has addresses, or had some a moment ago. */
  isInUse(domain: DomainName): boolean {
    const nowMs = this.#timers.now()
    for (const entry of this.#entries.values())
      if (entry.name.endsWith(`.${domain}`) && entry.isInUse(nowMs)) return true
    return false
  }

  endBackoffs(): void {
    for (const cached of this.#entries.values()) cached.endBackoff()
  }

  /** From now on nothing is asked for or cached. Look-ups that wait already still get their answer. */
  close(): void {
    this.#closed = true
    this.#refreshes.close()
    for (const entry of this.#entries.values()) entry.pending = null
    this.#entries.clear()
  }

  /** The entry of a name; for a service, with those of its targets. */
  #entriesOf(text: string): Entry[] {
    const entry = this.#entries.peek(parseDomainName(text) ?? text)
    if (entry === undefined) return []
    const answer = entry.staleAt(this.#timers.now())
    const endpoints = answer !== null && areEndpoints(answer.addresses) ? answer.addresses : []
    const targets = new Set(endpoints.map(({ srv }) => srv?.target ?? ''))
    return [entry, ...[...targets].flatMap((target) => this.#entries.peek(target) ?? [])]
  }

  #lookupUnknown(text: string): Answer | Promise<Answer> {
    const name = parseDomainName(text)
    if (name === null || name === '') return { kind: 'failure', name: text, cause: 'invalid_name', tries: [] }
    if (name !== text) return this.lookup(name)
    return this.#wait(new Entry(name, this.#settings), this.#timers.now())
  }

  #wait(entry: Entry, nowMs: number): Answer | Promise<Answer> {
    const pending = entry.pending ?? this.#start(entry, nowMs, true, entry.pinned || entry.isInUse(nowMs))
    const stale = entry.staleAt(nowMs)
    if (typeof pending === 'string') {
      if (pending === 'overloaded') this.counts.overloaded++
      if (pending === 'rate_limited') this.counts.rateLimited++
      return stale ?? { kind: 'failure', name: entry.name, cause: causeOf(pending), tries: [] }
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

  /** @param inUse such a name may use the last place in flight, and has no limit on its rate */
  #start(entry: Entry, nowMs: number, awaited: boolean, inUse: boolean): Pending | Refusal {
    const refusal = this.#refusalOf(inUse)
    if (refusal !== null) return refusal
    if (!inUse && !this.#canPayForUnknown()) return 'rate_limited'
    const charge = inUse ? null : this.#charge
    return this.#begin(entry, nowMs, { awaited, charge, hadAddresses: entry.isInUse(nowMs) })
  }

  #refusalOf(inUse: boolean): Refusal | null {
    if (this.#closed) return 'closed'
    const { queriesInFlightMax, queriesPerName } = this.#settings
    const limit = inUse
      ? queriesInFlightMax
      : Math.max(queriesPerName, queriesInFlightMax * UNKNOWN_NAMES_SHARE)
    return this.queriesInFlight + queriesPerName > limit ? 'overloaded' : null
  }

  #begin(entry: Entry, nowMs: number, asking: Asking): Pending {
    const name = entry.name as DomainName
    const resolved = this.#resolve(name, asking)
    this.#entries.hold(name, entry)
    this.#namesInFlight++
    const pending: Pending = {
      startedAtMs: nowMs,
      settled: resolved.then(
        ({ answer, tries }) => this.#learn(entry, pending, answer, tries),
        (error: unknown) => {
          this.#onBug(error)
          const failure: Answer = { kind: 'failure', name, cause: 'nameservers_failed', tries: [] }
          return this.#learn(entry, pending, failure, [])
        },
      ),
      settledOrStale: null,
    }
    entry.pending = pending
    return pending
  }

  #startRefresh(name: DomainName): RefreshStart {
    const entry = this.#entries.peek(name)
    if (entry === undefined || entry.pending !== null) return 'started'
    const nowMs = this.#timers.now()
    const inUse = entry.pinned || entry.isInUse(nowMs)
    if (!inUse && this.#unknownQueries.tokens < this.#tokensForRequests) return 'unpaid'
    return typeof this.#start(entry, nowMs, false, inUse) === 'string' ? 'busy' : 'started'
  }

  #canPayForUnknown(): boolean {
    return this.#unknownQueries.tokens >= this.#settings.queriesPerName + this.#tokensForRetries
  }

  /** @returns the answer for the look-ups that waited; if nameservers fail, what the cache still has */
  #learn(entry: Entry, pending: Pending, answer: Answer, tries: readonly Try[]): Answer {
    const nowMs = this.#timers.now()
    this.#namesInFlight--
    if (entry.pending !== pending) return answer // the query is older than a flush, or than `close`
    entry.pending = null
    if (answer.kind === 'failure' && (answer.cause === 'rate_limited' || answer.cause === 'overloaded'))
      this.#forget(entry)
    else this.#update(entry, answer, tries, nowMs)
    this.#entries.release(entry.name)
    return answer.kind === 'failure' ? (entry.answerAt(nowMs) ?? answer) : answer
  }

  /** A query that was not sent says nothing about the name (decision 19). A pinned name gets another turn. */
  #forget(entry: Entry): void {
    if (entry.learnedAtMs === Number.NEGATIVE_INFINITY) this.#entries.delete(entry.name)
    if (this.#entries.isPinned(entry.name)) this.#refreshes.add(entry.name)
  }

  #update(entry: Entry, answer: Answer, tries: readonly Try[], nowMs: number): void {
    const before = entry.last
    entry.last = answer
    entry.update(answer, nowMs, entry.pinned)
    try {
      if (before === null || !meansTheSame(answer, before)) this.#onChanged(answer, before, tries)
      this.#onLearned(entry, answer)
    } catch (error) {
      this.#onBug(error) // a listener's: the look-ups that wait still get the answer
    }
    const isNegative = answer.kind === 'nxdomain' || answer.kind === 'nodata'
    if (isNegative && answer.ttlSeconds === 0 && !entry.isInUse(nowMs)) this.#entries.delete(entry.name)
  }
}
