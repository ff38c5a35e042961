/** Zones that were asked for once, and when: bounded, the oldest is forgotten first. */
export class CandidateZones {
  readonly #entriesMax: number
  readonly #idleMs: number
  readonly #seenAtMs = new Map<string, number>()

  constructor(entriesMax: number, idleMs: number) {
    this.#entriesMax = entriesMax
    this.#idleMs = idleMs
  }

  /** True where the zone was seen before, within the idle time. Remembers it either way. */
  isSecondUse(key: string, nowMs: number): boolean {
    const seenAtMs = this.#seenAtMs.get(key)
    this.#seenAtMs.delete(key)
    this.#seenAtMs.set(key, nowMs)
    if (this.#seenAtMs.size > this.#entriesMax) {
      const [oldest] = this.#seenAtMs.keys()
      if (oldest !== undefined) this.#seenAtMs.delete(oldest)
    }
    return seenAtMs !== undefined && nowMs - seenAtMs < this.#idleMs
  }

  delete(key: string): void {
    this.#seenAtMs.delete(key)
  }
}
