/** Connections of the listener before are told to close with their next answer: so long they may be many. */
const CHANGE_WITHIN_MS = 5000
/** So many requests by another listener, and none by this one, are more than connections that were idle. */
const REQUESTS_BEFORE_MAX = 10

/**
 * Whether Envoy has taken the listener that was written for it. Envoy doesn't say so to anybody but its own log; yet each request
 * that asks tells by which listener it came.
 */
export class ListenerInForce {
  readonly #now: () => number
  #written: string | undefined
  #writtenAtMs = 0
  #isSeen = false
  #requestsBefore = 0

  /** @param now milliseconds, only moving forwards */
  constructor(now: () => number) {
    this.#now = now
  }

  /** A listener of this version was written; the one that was before may have been the same. */
  written(version: string): void {
    if (version === this.#written) return
    this.#written = version
    this.#writtenAtMs = this.#now()
    this.#isSeen = false
    this.#requestsBefore = 0
  }

  /** A request has come by the listener of this version. @returns true where it shows that the one that was written is refused */
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
