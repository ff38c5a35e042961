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
  #resolves = false
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
    return { ...answer, ttlSeconds: Math.max(1, secondsUntil(this.#retryAtMs, nowMs)), stale: true }
  }

  /** True when someone who uses the name should have it asked again now, before its lifetime ends or after a failure. */
  isRefreshDue(nowMs: number): boolean {
    return nowMs >= this.nextRefreshAtMs()
  }

  nextRefreshAtMs(): number {
    return this.#failure === null ? this.#refreshAtMs : this.#retryAtMs
  }

  /** True where the last answer that was no failure had addresses, though they may be too old or not be kept (TTL 0). */
  get resolves(): boolean {
    return this.#resolves
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

  /** Takes over a new answer. One with TTL 0 is not kept, and takes with it what was held before. */
  update(answer: Answer, nowMs: number): void {
    this.#learnedAtMs = nowMs
    if (answer.kind === 'failure') {
      this.#fail(answer, nowMs)
      return
    }
    const lifetimeMs = answer.ttlSeconds * 1000
    this.#answer = lifetimeMs === 0 ? null : answer
    this.#resolves = answer.kind === 'positive'
    this.#expiresAtMs = nowMs + lifetimeMs
    this.#refreshAtMs =
      answer.kind === 'positive'
        ? nowMs + lifetimeMs * (REFRESH_AFTER + REFRESH_SPREAD * this.#settings.random())
        : this.#expiresAtMs
    this.#failure = null
    this.#failures = 0
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
    const backoffMs = Math.min(BACKOFF_MS_MAX, BACKOFF_MS_MIN * 2 ** Math.min(this.#failures, 10))
    this.#failures++
    this.#failure = failure
    this.#retryAtMs = nowMs + (backoffMs / 2) * (1 + this.#settings.random())
    if (this.#answer !== null && this.#answer.kind !== 'positive' && nowMs >= this.#expiresAtMs)
      this.#answer = null
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
