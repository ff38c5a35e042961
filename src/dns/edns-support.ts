/**
 * Whether one nameserver's queries carry OPT (RFC 6891 §6.2.2, §7), by what it answered. Most know it; some refuse it, fail
 * by it or drop it. Only an answer to the same question without OPT shows that: one lost packet shows nothing.
 */

/**
 * So long after a usable answer to a query with OPT, silence and SERVFAIL aren't put down to OPT. Names in use are asked
 * for once a minute or more.
 */
const TRUSTED_MS = 2 * 60_000
/** Then OPT is tried again, by one query. Unbound forgets what it knows of a nameserver as soon (`infra-host-ttl`). */
const OFF_MS = 15 * 60_000
/** Failures with OPT, each followed by a usable answer without: one may be a lost packet, or a fault that passed. */
const FAILURES_MAX = 2

export class EdnsSupport {
  #answeredAtMs = Number.NEGATIVE_INFINITY
  /** 0: it is on. */
  #offUntilMs = 0
  #refused = false
  #failedAtMs = Number.NEGATIVE_INFINITY
  #failures = 0
  #helpedAtMs = Number.NEGATIVE_INFINITY

  get isOff(): boolean {
    return this.#offUntilMs > 0
  }

  /** True where the query that is about to be sent carries OPT. While it is off, that is one in 15 minutes. */
  next(nowMs: number): boolean {
    if (nowMs < this.#offUntilMs) return false
    if (this.isOff) this.#offUntilMs = nowMs + OFF_MS
    return true
  }

  isTrusted(nowMs: number): boolean {
    return nowMs - this.#answeredAtMs < TRUSTED_MS
  }

  /** A usable answer to a query with OPT. */
  answered(nowMs: number): void {
    this.#answeredAtMs = nowMs
    this.#offUntilMs = 0
    this.#refused = false
    this.#failures = 0
  }

  /**
   * A query with OPT failed.
   * @param refused by an RCODE that is for that; else it may be for another reason
   */
  failed(askedAtMs: number, refused: boolean): void {
    this.#failedAtMs = Math.max(this.#failedAtMs, askedAtMs)
    if (refused) this.#refused = true
  }

  /** A usable answer to a query without OPT. True where that switches OPT off. */
  answeredWithout(nowMs: number): boolean {
    // Queries that failed together count once.
    if (this.isOff || this.isTrusted(nowMs) || this.#failedAtMs < this.#helpedAtMs) return false
    this.#helpedAtMs = nowMs
    if (!this.#refused && ++this.#failures < FAILURES_MAX) return false
    this.#offUntilMs = nowMs + OFF_MS
    this.#refused = false
    this.#failures = 0
    return true
  }
}
