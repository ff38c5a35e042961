/** Names to be asked again with nobody waiting: each once, in order, so many a second and no more. */
import type { Timer, Timers } from './timers.ts'
import { TokenBucket } from './token-bucket.ts'

const REFRESHES_PER_SECOND_MAX = 1000
/** A tenth of a second's worth may start together. */
const BURST_MAX = REFRESHES_PER_SECOND_MAX / 10
const BUSY_RETRY_MS = 50

export class RefreshQueue {
  readonly #timers: Timers
  readonly #start: (name: string) => 'started' | 'busy'
  readonly #names = new Set<string>()
  readonly #bucket: TokenBucket
  #timer: Timer | null = null

  /** @param start asks for the name; `busy` where too many queries are in flight: it is tried again later */
  constructor(timers: Timers, start: (name: string) => 'started' | 'busy') {
    this.#timers = timers
    this.#start = start
    this.#bucket = new TokenBucket(REFRESHES_PER_SECOND_MAX, BURST_MAX, () => timers.now())
  }

  get length(): number {
    return this.#names.size
  }

  add(name: string): void {
    this.#names.add(name)
    if (this.#timer === null) this.#drain()
  }

  delete(name: string): void {
    this.#names.delete(name)
  }

  close(): void {
    this.#timer?.cancel()
    this.#names.clear()
  }

  #drain(): void {
    this.#timer = null
    for (const name of this.#names) {
      if (this.#bucket.tokens < 1) {
        this.#wait(this.#bucket.msUntilNext())
        return
      }
      if (this.#start(name) === 'busy') {
        this.#wait(BUSY_RETRY_MS)
        return
      }
      this.#names.delete(name)
      this.#bucket.take()
    }
  }

  #wait(milliseconds: number): void {
    this.#timer = this.#timers.start(() => this.#drain(), Math.ceil(milliseconds))
  }
}
