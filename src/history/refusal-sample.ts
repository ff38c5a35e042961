import { TokenBucket } from '../dns/token-bucket.ts'

/** Which refusals the history keeps: for each reason and zone the first, then one a minute. */

/** Time between two refusals of the same reason and zone. */
const NEXT_AFTER_MS = 60_000
/** Pairs of reason and zone that are remembered; a scan makes ever new ones. */
const PAIRS_MAX = 4096
/** The bound for all pairs together: a burst, then a rate. */
const BURST = 500
const PER_SECOND = 10

interface Pair {
  dueAtMs: number
  leftOut: number
}

export class RefusalSample {
  readonly #now: () => number
  readonly #pairs = new Map<string, Pair>()
  readonly #bucket: TokenBucket

  /** @param now monotonic, milliseconds */
  constructor(now: () => number) {
    this.#now = now
    this.#bucket = new TokenBucket(PER_SECOND, BURST, now)
  }

  /** Null: leave it out. Otherwise how many of the same reason and zone were left out since the last one. */
  take(reason: string, zone: string): number | null {
    const nowMs = this.#now()
    const key = `${reason} ${zone}`
    const pair = this.#pairs.get(key)
    if (pair !== undefined && nowMs < pair.dueAtMs) {
      pair.leftOut += 1
      return null
    }
    if (!this.#bucket.take()) {
      if (pair !== undefined) pair.leftOut += 1
      return null
    }
    const leftOut = pair?.leftOut ?? 0
    this.#pairs.delete(key)
    if (this.#pairs.size >= PAIRS_MAX) this.#forgetOldest()
    this.#pairs.set(key, { dueAtMs: nowMs + NEXT_AFTER_MS, leftOut: 0 })
    return leftOut
  }

  #forgetOldest(): void {
    const [oldest] = this.#pairs.keys()
    if (oldest !== undefined) this.#pairs.delete(oldest)
  }
}
