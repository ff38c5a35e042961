/**
 * What is known of one name, and until when: the last good addresses, or why there are none, and how its nameservers
 * fail. Times are milliseconds on a monotonic clock, so a jump of the wall clock expires nothing.
 */
import type { Answer, FailedAnswer, NegativeAnswer, PositiveAnswer } from './answer.ts'

/**
 * Back-off after failures: RFC 9520 §3.2 wants a second at least and growth; ten seconds bound how long nameservers
 * that came back go unnoticed. Jittered to half, so that names which failed together don't return together.
 */
const BACKOFF_MS_MIN = 2000
const BACKOFF_MS_MAX = 10_000
/** Part of a lifetime after which a name in use is refreshed, spread over the second number. */
const REFRESH_AFTER = 0.75
const REFRESH_SPREAD = 0.15
/**
 * A name in use that is suddenly gone is asked for again within this time, whatever its SOA says (RFC 2308 §5 gives the
 * longest time, not the least), and stays a name in use for a minute.
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
  /** The last failure, where nothing was learned since. */
  #failure: FailedAnswer | null = null
  #failures = 0
  #retryAtMs = 0
  #learnedAtMs = Number.NEGATIVE_INFINITY

  constructor(name: string, settings: CacheSettings) {
    this.name = name
    this.#settings = settings
  }

  /** What can be said without asking anybody; null: a nameserver is to be asked first. */
  answerAt(nowMs: number): Answer | null {
    if (nowMs < this.#expiresAtMs) return this.#fresh(nowMs)
    if (this.#failure === null || nowMs >= this.#retryAtMs + BACKOFF_MS_MAX) return null
    // While nameservers are known to fail nobody is kept waiting (RFC 8767 §5); a while after, they get a new chance.
    const stale = this.staleAt(nowMs)
    if (stale !== null) return stale
    return nowMs < this.#retryAtMs ? this.#failure : null
  }

  /** The last good addresses past their lifetime, where they may still serve (RFC 8767 §4). */
  staleAt(nowMs: number): PositiveAnswer | null {
    const answer = this.#answer
    if (answer?.kind !== 'positive' || nowMs >= this.#expiresAtMs + this.#settings.staleSeconds * 1000)
      return null
    const ttlSeconds = answer.ttlSeconds === 0 ? 0 : Math.max(1, secondsUntil(this.#retryAtMs, nowMs))
    return { ...answer, ttlSeconds, stale: true }
  }

  /** The last addresses where their TTL is 0, and nameservers give new ones: neither fresh nor stale. */
  get uncached(): PositiveAnswer | null {
    const answer = this.#answer
    return answer?.kind === 'positive' && answer.ttlSeconds === 0 && this.#failure === null ? answer : null
  }

  /** True when someone who uses the name should have it asked again now, before its lifetime ends or after a failure. */
  isRefreshDue(nowMs: number): boolean {
    return nowMs >= this.nextRefreshAtMs()
  }

  nextRefreshAtMs(): number {
    return this.#failure === null ? this.#refreshAtMs : this.#retryAtMs
  }

  /** True where the last answer that was no failure had addresses, though they may be too old, or had a moment ago. */
  isInUse(nowMs: number): boolean {
    return nowMs < this.#inUseUntilMs
  }

  /** When the answer's lifetime ends or ended; null where none is held. */
  get expiresAtMs(): number | null {
    return this.#answer === null ? null : this.#expiresAtMs
  }

  /** When the last answer or failure came. */
  get learnedAtMs(): number {
    return this.#learnedAtMs
  }

  /** True while nameservers have failed and are not to be asked again yet. */
  isBackingOff(nowMs: number): boolean {
    return this.#failure !== null && nowMs < this.#retryAtMs
  }

  /**
   * Takes over a new answer. Addresses with TTL 0 have no lifetime: they serve only stale, while nameservers fail.
   * @param isKept someone keeps the name resolved, so it is in use from its first answer on
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

  /** True while addresses of all families are fresh: one family's are not to take their place. */
  #isWhole(nowMs: number): boolean {
    return this.#answer?.kind === 'positive' && this.#answer.incomplete !== true && nowMs < this.#expiresAtMs
  }

  /** Ends the lifetime and the back-off: the next one to ask waits for a nameserver. What was held may still go stale. */
  expire(nowMs: number): void {
    this.#expiresAtMs = Math.min(this.#expiresAtMs, nowMs)
    this.#refreshAtMs = Math.min(this.#refreshAtMs, nowMs)
    this.endBackoff()
  }

  /** New nameservers have not failed yet. */
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

  /** From half of it to all. */
  #jittered(milliseconds: number): number {
    return (milliseconds / 2) * (1 + this.#settings.random())
  }

  #fresh(nowMs: number): Answer | null {
    const answer = this.#answer
    if (answer === null) return null
    const ttlSeconds = secondsUntil(this.#expiresAtMs, nowMs)
    // The same object serves as long as its text is true: at most one new object a second.
    if (answer.ttlSeconds !== ttlSeconds) this.#answer = { ...answer, ttlSeconds }
    return this.#answer
  }
}

function secondsUntil(timeMs: number, nowMs: number): number {
  return Math.ceil((timeMs - nowMs) / 1000)
}
