/**
 * Whether queries to one nameserver carry OPT (RFC 6891 §6.2.2, §7). Most nameservers support it; some refuse it, fail on
 * it or drop the query. An answer to the same question without OPT shows that. A lost packet alone shows nothing.
 */

/**
 * For this time after a usable answer to a query with OPT, OPT is not blamed for silence or SERVFAIL. Names in use are
 * asked at least once a minute.
 */
const TRUSTED_MS = 2 * 60_000
/** After this time one query tries OPT again. Unbound uses the same time (`infra-host-ttl`). */
const OFF_MS = 15 * 60_000
/** Failures with OPT that were each followed by a usable answer without. A single one may be a lost packet. */
const FAILURES_MAX = 2

export class EdnsSupport {
  #answeredAtMs = Number.NEGATIVE_INFINITY
  /** 0: OPT is on. */
  #offUntilMs = 0
  #refused = false
  #failedAtMs = Number.NEGATIVE_INFINITY
  #failures = 0
  #helpedAtMs = Number.NEGATIVE_INFINITY

  get isOff(): boolean {
    return this.#offUntilMs > 0
  }

  /** True where the next query carries OPT. While OPT is off, one query in 15 minutes does. */
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
   * @param refused the RCODE refuses OPT; otherwise the cause may be another
   */
  failed(askedAtMs: number, refused: boolean): void {
    this.#failedAtMs = Math.max(this.#failedAtMs, askedAtMs)
    if (refused) this.#refused = true
  }

  /** A usable answer to a query without OPT. True where this switches OPT off. */
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
