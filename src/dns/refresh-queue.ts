/** Names to be asked again with nobody waiting: each once, in order, so many a second and no more. */
import type { Timer, Timers } from '../timers.ts'
import { TokenBucket } from './token-bucket.ts'

const REFRESHES_PER_SECOND_MAX = 1000
/** A tenth of a second's worth may start together. */
const BURST_MAX = REFRESHES_PER_SECOND_MAX / 10
const BUSY_RETRY_MS = 50

/**
 * What became of a name's turn. `busy`: too many queries are in flight. `unpaid`: nobody has asked for the name yet, and
 * what such names may cost is used up; others go on.
 */
export type RefreshStart = 'started' | 'busy' | 'unpaid'

export class RefreshQueue {
  readonly #timers: Timers
  readonly #start: (name: string) => RefreshStart
  readonly #names = new Set<string>()
  readonly #bucket: TokenBucket
  #timer: Timer | null = null
  #closed = false

  /** @param start asks for the name; one that is not `started` is tried again later */
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

  /** Nothing is asked for from now on. */
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
