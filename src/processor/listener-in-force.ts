/** Envoy closes connections of the previous listener with their next response, so many requests may still use it for this long. */
const CHANGE_WITHIN_MS = 5000
/** More requests through the previous listener than connections that were idle can explain. */
const REQUESTS_BEFORE_MAX = 10

/**
 * Finds out whether Envoy uses the listener that the processor wrote. Envoy reports a refusal only in its own log, but each
 * request that asks the processor names its listener.
 */
export class ListenerInForce {
  readonly #now: () => number
  #written: string | undefined
  #writtenAtMs = 0
  #isSeen = false
  #requestsBefore = 0

  /** @param now monotonic, milliseconds */
  constructor(now: () => number) {
    this.#now = now
  }

  /** The processor has written this version, which may be the same as before. */
  written(version: string): void {
    if (version === this.#written) return
    this.#written = version
    this.#writtenAtMs = this.#now()
    this.#isSeen = false
    this.#requestsBefore = 0
  }

  /**
   * A request has come through the listener of this version.
   * @returns true once, when it proves that Envoy refuses the written listener
   */
  seen(version: string): boolean {
    if (this.#isSeen || this.#written === undefined) return false
    this.#isSeen = version === this.#written
    if (this.#isSeen || this.#now() - this.#writtenAtMs < CHANGE_WITHIN_MS) return false
    this.#requestsBefore += 1
    return this.#requestsBefore === REQUESTS_BEFORE_MAX
  }

  get isRefused(): boolean {
    return !this.#isSeen && this.#requestsBefore >= REQUESTS_BEFORE_MAX
  }
}
