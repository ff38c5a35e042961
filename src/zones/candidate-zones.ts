/** Zones that were used once, and when. Bounded: the oldest is forgotten first. */
export class CandidateZones {
  readonly #entriesMax: number
  readonly #idleMs: number
  readonly #seenAtMs = new Map<string, number>()

  constructor(entriesMax: number, idleMs: number) {
    this.#entriesMax = entriesMax
    this.#idleMs = idleMs
  }

  get size(): number {
    return this.#seenAtMs.size
  }

  /** Remembers a use. @returns true if the zone was used before, within the idle time */
  isSecondUse(key: string, nowMs: number): boolean {
    const isKnown = this.has(key, nowMs)
    this.remember(key, nowMs)
    return isKnown
  }

  remember(key: string, seenAtMs: number): void {
    this.#seenAtMs.delete(key)
    this.#seenAtMs.set(key, seenAtMs)
    if (this.#seenAtMs.size <= this.#entriesMax) return
    const [oldest] = this.#seenAtMs.keys()
    if (oldest !== undefined) this.#seenAtMs.delete(oldest)
  }

  has(key: string, nowMs: number): boolean {
    const seenAtMs = this.#seenAtMs.get(key)
    return seenAtMs !== undefined && nowMs - seenAtMs < this.#idleMs
  }

  /** True if a zone used within the idle time may have been forgotten because there were too many. */
  mayHaveForgotten(nowMs: number): boolean {
    const [oldestSeenAtMs] = this.#seenAtMs.values()
    return (
      this.#seenAtMs.size >= this.#entriesMax &&
      oldestSeenAtMs !== undefined &&
      nowMs - oldestSeenAtMs < this.#idleMs
    )
  }

  /** In the order of their last use. */
  entries(): Iterable<readonly [key: string, seenAtMs: number]> {
    return this.#seenAtMs.entries()
  }

  clear(): void {
    this.#seenAtMs.clear()
  }

  delete(key: string): void {
    this.#seenAtMs.delete(key)
  }
}
