/**
 * The cache in front of the nameservers. One query per name at a time, whoever asks for it: a request that goes away
 * leaves the query to the others and to the cache. Names in use are asked for again before their lifetime ends.
 */

import type { Timers } from '../timers.ts'
import type { AddressResolution, Asking } from './address-resolver.ts'
import { type Answer, areEndpoints, type FailedAnswer, saysTheSame, type Try } from './answer.ts'
import { CachedName, type CacheSettings } from './cached-name.ts'
import { type DomainName, parseDomainName } from './domain-name.ts'
import { RefreshQueue, type RefreshStart } from './refresh-queue.ts'
import { SegmentedLru } from './segmented-lru.ts'
import type { Charge } from './stub-resolver.ts'
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
/** Part of the burst that names which nobody has asked for yet don't touch: requests for unknown names come first. */
const REQUESTS_SHARE = 1 / 2
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
  /** What came of asking last. */
  last: Answer | null = null
  /** In use, whatever is known of it: someone who uses it keeps it resolved. */
  pinned = false
}

interface Pending {
  readonly startedAtMs: number
  readonly settled: Promise<Answer>
  /** The same, or the stale answer once the stale timer ends; made when someone needs it. */
  settledOrStale: Promise<Answer> | null
}

/** Why a name isn't asked for. */
type Refusal = 'overloaded' | 'rate_limited' | 'closed'

function causeOf(refusal: Refusal): FailedAnswer['cause'] {
  return refusal === 'closed' ? 'nameservers_failed' : refusal
}

/** @param before null: nothing was known of the name */
type OnChanged = (answer: Answer, before: Answer | null, tries: readonly Try[]) => void

type Resolve = (name: DomainName, asking: Asking) => Promise<AddressResolution>

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
  readonly #tokensForRequests: number
  readonly #charge: Charge
  #namesInFlight = 0
  #closed = false
  /** Told of each name that was asked for, after the cache took the answer over. */
  #onLearned: (cached: CachedName, answer: Answer) => void = () => {}
  readonly #onBug: (error: unknown) => void

  #onChanged: OnChanged = () => {}

  /** @param onBug told of an exception: it costs the one answer that it happened over */
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

  /** Told of each name about which nameservers say something else than before, or nothing any more. */
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

  /**
   * The addresses of the names that a service leads to, while its own records are being asked for: in its place in flight,
   * and at its expense. Who fails is told as such, or with stale addresses.
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
    // A refresh is for the addresses, too; several services may lead to one name.
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

  /** What `lookup` would say without asking; null: it would ask. */
  peek(name: string): Answer | null {
    return this.#entries.peek(name)?.answerAt(this.#timers.now()) ?? null
  }

  /** What would serve where no nameserver answered. */
  peekStale(name: string): Answer | null {
    return this.#entries.peek(name)?.staleAt(this.#timers.now()) ?? null
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

  /**
   * Keeps the name in the cache until it is unpinned.
   * @param inUse false: until it resolves, asking for it costs what unknown names may cost
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
   * Ends the lifetime of one name's answer, or of all: the next request waits for a nameserver. An answer that is on its
   * way was asked for before: those who wait for it get it, and it is not kept.
   * @returns how many names it was
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

  /** True where a name below the domain has addresses, or had some a moment ago. */
  isInUse(domain: DomainName): boolean {
    const nowMs = this.#timers.now()
    for (const entry of this.#entries.values())
      if (entry.name.endsWith(`.${domain}`) && entry.isInUse(nowMs)) return true
    return false
  }

  endBackoffs(): void {
    for (const cached of this.names()) cached.endBackoff()
  }

  /** Nothing is asked for, told or kept from now on; those who wait get what they wait for. */
  close(): void {
    this.#closed = true
    this.#refreshes.close()
    for (const entry of this.#entries.values()) entry.pending = null
    this.#entries.clear()
  }

  /** With those of the names that a service leads to. */
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

  /** @param inUse such a name may take the last place in flight, and is never limited by rate */
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

  /** What those who waited are told: the answer, or while nameservers fail what the cache still has. */
  #learn(entry: Entry, pending: Pending, answer: Answer, tries: readonly Try[]): Answer {
    const nowMs = this.#timers.now()
    this.#namesInFlight--
    if (entry.pending !== pending) return answer // asked for before a flush, or before the end
    entry.pending = null
    if (answer.kind === 'failure' && (answer.cause === 'rate_limited' || answer.cause === 'overloaded'))
      this.#forget(entry)
    else this.#update(entry, answer, tries, nowMs)
    this.#entries.release(entry.name)
    return answer.kind === 'failure' ? (entry.answerAt(nowMs) ?? answer) : answer
  }

  /** A query that was not sent says nothing about the name (decision 19). A name that someone keeps gets another turn. */
  #forget(entry: Entry): void {
    if (entry.learnedAtMs === Number.NEGATIVE_INFINITY) this.#entries.delete(entry.name)
    if (this.#entries.isPinned(entry.name)) this.#refreshes.add(entry.name)
  }

  #update(entry: Entry, answer: Answer, tries: readonly Try[], nowMs: number): void {
    const before = entry.last
    entry.last = answer
    entry.update(answer, nowMs, entry.pinned)
    try {
      if (before === null || !saysTheSame(answer, before)) this.#onChanged(answer, before, tries)
      this.#onLearned(entry, answer)
    } catch (error) {
      this.#onBug(error) // of who keeps the name: those who wait for its answer get it
    }
    const isNegative = answer.kind === 'nxdomain' || answer.kind === 'nodata'
    if (isNegative && answer.ttlSeconds === 0 && !entry.isInUse(nowMs)) this.#entries.delete(entry.name)
  }
}
