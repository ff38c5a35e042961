/**
 * Streams at once over all connections: four Envoys at the most that each can have (4,096, `circuit_breakers` of the
 * cluster `processor`). A stream costs some 10 KB. Beyond: RESOURCE_EXHAUSTED, which Envoy turns into 502.
 */
export const STREAMS_MAX = 16_384
/** Envoy sends a request's head as it opens the stream; its own patience, `message_timeout`, is 2 s. */
export const HEAD_WITHIN_MS = 10_000

/** The streams that are open, and which of them have not said anything yet. */
export class OpenStreams<Stream> {
  readonly #now: () => number
  #open = 0
  /** By when they were opened: the oldest first. */
  readonly #silent = new Map<Stream, number>()

  /** @param now monotonic, milliseconds */
  constructor(now: () => number) {
    this.#now = now
  }

  get size(): number {
    return this.#open
  }

  /** False: there are too many. */
  open(stream: Stream): boolean {
    if (this.#open >= STREAMS_MAX) return false
    this.#open += 1
    this.#silent.set(stream, this.#now())
    return true
  }

  /** Its request has come. */
  spoke(stream: Stream): void {
    this.#silent.delete(stream)
  }

  close(stream: Stream): void {
    this.#open -= 1
    this.#silent.delete(stream)
  }

  /** Those that have been silent for too long, each once. */
  *overdue(): Generator<Stream> {
    const since = this.#now() - HEAD_WITHIN_MS
    for (const [stream, openedAt] of this.#silent) {
      if (openedAt > since) return
      this.#silent.delete(stream)
      yield stream
    }
  }
}
