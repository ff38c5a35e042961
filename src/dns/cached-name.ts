/**
 * The cache entry of one name: the last good addresses, or why there are none, their lifetime, and the failures of its
 * nameservers. Times are milliseconds on a monotonic clock, so a jump of the wall clock expires nothing.
 */
import type { Answer, FailedAnswer, NegativeAnswer, PositiveAnswer } from './answer.ts'

/**
 * The back-off after failures. It must be at least one second long and grow (RFC 9520 §3.2). The maximum limits for how long
 * the resolver ignores nameservers that work again. Each back-off is shortened at random, by up to half, so that names that
 * failed together don't retry together.
 */
const BACKOFF_MS_MIN = 2000
const BACKOFF_MS_MAX = 10_000
/** A name in use is refreshed after 75 % of its lifetime, plus up to 15 % at random. */
const REFRESH_AFTER = 0.75
const REFRESH_SPREAD = 0.15
/**
 * When a name in use is suddenly gone, it is asked for again within this time, whatever its SOA says: RFC 2308 §5 sets
 * the longest time, not the shortest. It stays a name in use for a minute.
 */
const GONE_MS_MAX = 2000
const GONE_IN_USE_MS = 60_000

export interface CacheSettings {
  readonly staleSeconds: number
  /** From 0 to 1, exclusive. */
  readonly random: () => number
}

export class CachedName {
  readonly name: string
  readonly #settings: CacheSettings
  /** Positive or negative. */
  #answer: PositiveAnswer | NegativeAnswer | null = null
  #inUseUntilMs = Number.NEGATIVE_INFINITY
  #expiresAtMs = 0
  #refreshAtMs = 0
  /** The last failure; null after an answer. */
  #failure: FailedAnswer | null = null
  #failures = 0
  #retryAtMs = 0
  #learnedAtMs = Number.NEGATIVE_INFINITY

  constructor(name: string, settings: CacheSettings) {
    this.name = name
    this.#settings = settings
  }

  /** The answer that the cache can give; null: ask a nameserver first. */
  answerAt(nowMs: number): Answer | null {
    if (nowMs < this.#expiresAtMs) return this.#fresh(nowMs)
    if (this.#failure === null || nowMs >= this.#retryAtMs + BACKOFF_MS_MAX) return null
    // While nameservers fail, look-ups don't wait (RFC 8767 §5). A while later the nameservers get a new chance.
    const stale = this.staleAt(nowMs)
    if (stale !== null) return stale
    return nowMs < this.#retryAtMs ? this.#failure : null
  }

  /** The last good addresses, where they may serve past their lifetime (RFC 8767 §4). */
  staleAt(nowMs: number): PositiveAnswer | null {
    const answer = this.#answer
    if (answer?.kind !== 'positive' || nowMs >= this.#expiresAtMs + this.#settings.staleSeconds * 1000)
      return null
    const ttlSeconds = answer.ttlSeconds === 0 ? 0 : Math.max(1, secondsUntil(this.#retryAtMs, nowMs))
    return { ...answer, ttlSeconds, stale: true }
  }

  /** The last addresses where their TTL is 0 and nameservers answer: they are neither fresh nor stale. */
  get uncached(): PositiveAnswer | null {
    const answer = this.#answer
    return answer?.kind === 'positive' && answer.ttlSeconds === 0 && this.#failure === null ? answer : null
  }

  /** True where a look-up of the name should start a refresh: its lifetime ends soon, or a failure is over. */
  isRefreshDue(nowMs: number): boolean {
    return nowMs >= this.nextRefreshAtMs()
  }

  nextRefreshAtMs(): number {
    return this.#failure === null ? this.#refreshAtMs : this.#retryAtMs
  }

  /** True where the last answer had addresses, even expired ones, or had some a moment ago. Failures don't count. */
  isInUse(nowMs: number): boolean {
    return nowMs < this.#inUseUntilMs
  }

  /** The end of the answer's lifetime, also in the past; null where there is no answer. */
  get expiresAtMs(): number | null {
    return this.#answer === null ? null : this.#expiresAtMs
  }

  /** The time of the last answer or failure. */
  get learnedAtMs(): number {
    return this.#learnedAtMs
  }

  /** True where nameservers have failed and the back-off goes on. */
  isBackingOff(nowMs: number): boolean {
    return this.#failure !== null && nowMs < this.#retryAtMs
  }

  /**
   * Takes over a new answer. Addresses with TTL 0 have no lifetime: they serve only as stale ones, while nameservers fail.
   * @param isKept a caller keeps the name resolved, so it is in use from its first answer
   */
  update(answer: Answer, nowMs: number, isKept = false): void {
    this.#learnedAtMs = nowMs
    if (answer.kind === 'failure') {
      this.#fail(answer, nowMs)
      return
    }
    this.#failure = null
    if (answer.kind === 'positive') this.#updateAddresses(answer, nowMs)
    else {
      const isNew = this.#inUseUntilMs === Number.NEGATIVE_INFINITY
      if (this.#inUseUntilMs === Number.POSITIVE_INFINITY || (isNew && isKept))
        this.#inUseUntilMs = nowMs + GONE_IN_USE_MS
      const lifetimeMs = answer.ttlSeconds * 1000
      this.#answer = lifetimeMs === 0 ? null : answer
      this.#expiresAtMs =
        nowMs + (this.isInUse(nowMs) ? Math.min(lifetimeMs, this.#jittered(GONE_MS_MAX)) : lifetimeMs)
      this.#refreshAtMs = this.#expiresAtMs
      this.#failures = 0
    }
  }

  #updateAddresses(answer: PositiveAnswer, nowMs: number): void {
    this.#inUseUntilMs = Number.POSITIVE_INFINITY
    const isIncomplete = answer.incomplete === true
    const retryAtMs = isIncomplete ? nowMs + this.#nextBackoffMs() : Number.POSITIVE_INFINITY
    if (!isIncomplete) this.#failures = 0
    if (isIncomplete && this.#isWhole(nowMs)) {
      this.#refreshAtMs = retryAtMs
      return
    }
    const lifetimeMs = answer.ttlSeconds * 1000
    const refreshAfter = REFRESH_AFTER + REFRESH_SPREAD * this.#settings.random()
    this.#answer = answer
    this.#expiresAtMs = nowMs + lifetimeMs
    this.#refreshAtMs = Math.min(retryAtMs, nowMs + lifetimeMs * refreshAfter)
  }

  /** True where addresses of all families are fresh: those of a single family don't replace them. */
  #isWhole(nowMs: number): boolean {
    return this.#answer?.kind === 'positive' && this.#answer.incomplete !== true && nowMs < this.#expiresAtMs
  }

  /** Ends the lifetime and the back-off: the next look-up waits for a nameserver. Old addresses may still serve stale. */
  expire(nowMs: number): void {
    this.#expiresAtMs = Math.min(this.#expiresAtMs, nowMs)
    this.#refreshAtMs = Math.min(this.#refreshAtMs, nowMs)
    this.endBackoff()
  }

  /** For new nameservers, which haven't failed yet. */
  endBackoff(): void {
    this.#failure = null
    this.#failures = 0
  }

  #fail(failure: FailedAnswer, nowMs: number): void {
    this.#failure = failure
    this.#retryAtMs = nowMs + this.#nextBackoffMs()
    if (this.#answer !== null && this.#answer.kind !== 'positive' && nowMs >= this.#expiresAtMs)
      this.#answer = null
  }

  #nextBackoffMs(): number {
    const backoffMs = Math.min(BACKOFF_MS_MAX, BACKOFF_MS_MIN * 2 ** Math.min(this.#failures, 10))
    this.#failures++
    return this.#jittered(backoffMs)
  }

  /** From half of the time to all of it. */
  #jittered(milliseconds: number): number {
    return (milliseconds / 2) * (1 + this.#settings.random())
  }

  #fresh(nowMs: number): Answer | null {
    const answer = this.#answer
    if (answer === null) return null
    const ttlSeconds = secondsUntil(this.#expiresAtMs, nowMs)
    // The object serves until its TTL changes: at most one new object a second.
    if (answer.ttlSeconds !== ttlSeconds) this.#answer = { ...answer, ttlSeconds }
    return this.#answer
  }
}

function secondsUntil(timeMs: number, nowMs: number): number {
  return Math.ceil((timeMs - nowMs) / 1000)
}
