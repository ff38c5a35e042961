/** Names to ask for again while no look-up waits: each once, in order, with a limit per second. */
import type { Timer, Timers } from '../timers.ts'
import { TokenBucket } from './token-bucket.ts'

const REFRESHES_PER_SECOND_MAX = 1000
/** A tenth of a second's share may start at once. */
const BURST_MAX = REFRESHES_PER_SECOND_MAX / 10
const BUSY_RETRY_MS = 50

/**
 * The result of a name's turn. `busy`: too many queries are in flight. `unpaid`: the name doesn't resolve yet, and the
 * limit on queries for such names is reached, while other names go on.
 */
export type RefreshStart = 'started' | 'busy' | 'unpaid'

export class RefreshQueue {
  readonly #timers: Timers
  readonly #start: (name: string) => RefreshStart
  readonly #names = new Set<string>()
  readonly #bucket: TokenBucket
  #timer: Timer | null = null
  #closed = false

  /** @param start asks for the name; unless it returns `started`, the name gets another turn later */
  constructor(timers: Timers, start: (name: string) => RefreshStart) {
    this.#timers = timers
    this.#start = start
    this.#bucket = new TokenBucket(REFRESHES_PER_SECOND_MAX, BURST_MAX, () => timers.now())
  }

  get length(): number {
    return this.#names.size
  }

  add(name: string): void {
    if (this.#closed) return
    this.#names.add(name)
    if (this.#timer === null) this.#drain()
  }

  delete(name: string): void {
    this.#names.delete(name)
  }

  /** Starts nothing from now on. */
  close(): void {
    this.#closed = true
    this.#timer?.cancel()
    this.#names.clear()
  }

  #drain(): void {
    this.#timer = null
    let isUnpaid = false
    for (const name of this.#names) {
      if (this.#bucket.tokens < 1) {
        this.#wait(this.#bucket.msUntilNext())
        return
      }
      const start = this.#start(name)
      if (start === 'busy') {
        this.#wait(BUSY_RETRY_MS)
        return
      }
      if (start === 'unpaid') {
        isUnpaid = true
        continue
      }
      this.#names.delete(name)
      this.#bucket.take()
    }
    if (isUnpaid) this.#wait(BUSY_RETRY_MS)
  }

  #wait(milliseconds: number): void {
    this.#timer = this.#timers.start(() => this.#drain(), Math.ceil(milliseconds))
  }
}
