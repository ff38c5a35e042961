/** A token bucket: `perSecond` tokens in the long run, and up to `burst` at once after a pause. */
export class TokenBucket {
  readonly #perSecond: number
  readonly #burst: number
  readonly #now: () => number
  #tokens: number
  #countedAtMs: number

  /**
   * The bucket is full at the start.
   * @param now monotonic, milliseconds
   */
  constructor(perSecond: number, burst: number, now: () => number) {
    this.#perSecond = perSecond
    this.#burst = burst
    this.#now = now
    this.#tokens = burst
    this.#countedAtMs = now()
  }

  /** From 0 to `burst`, with fractions. */
  get tokens(): number {
    const nowMs = this.#now()
    const earned = ((nowMs - this.#countedAtMs) / 1000) * this.#perSecond
    this.#tokens = Math.min(this.#burst, this.#tokens + earned)
    this.#countedAtMs = nowMs
    return this.#tokens
  }

  /** Takes one token. False where there is less than one. */
  take(): boolean {
    if (this.tokens < 1) return false
    this.#tokens--
    return true
  }

  /** Until the bucket has a whole token. */
  msUntilNext(): number {
    return Math.max(0, ((1 - this.tokens) * 1000) / this.#perSecond)
  }
}
