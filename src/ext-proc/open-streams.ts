/**
 * Streams that may be open at once over all connections. Enough for four Envoys that each use their limit (4,096, `circuit_breakers`
 * of the cluster `processor`). A stream takes some 10 KB. A further one gets RESOURCE_EXHAUSTED, which Envoy turns into 502.
 */
export const STREAMS_MAX = 16_384
/** How long a stream may take to send its request head. Envoy sends it at once, and gives up after `message_timeout`, 2 s. */
export const HEAD_WITHIN_MS = 10_000

/** Counts the open streams, and knows which of them are silent: they have not sent their request head yet. */
export class OpenStreams<Stream> {
  readonly #now: () => number
  #open = 0
  /** Silent streams and when they were opened, the oldest first. */
  readonly #silent = new Map<Stream, number>()

  /** @param now monotonic, milliseconds */
  constructor(now: () => number) {
    this.#now = now
  }

  get size(): number {
    return this.#open
  }

  /** @returns false: there are too many */
  open(stream: Stream): boolean {
    if (this.#open >= STREAMS_MAX) return false
    this.#open += 1
    this.#silent.set(stream, this.#now())
    return true
  }

  /** Call it when a stream has sent its request head. */
  spoke(stream: Stream): void {
    this.#silent.delete(stream)
  }

  close(stream: Stream): void {
    this.#open -= 1
    this.#silent.delete(stream)
  }

  /** The streams that have been silent for too long, each only once. */
  *overdue(): Generator<Stream> {
    const since = this.#now() - HEAD_WITHIN_MS
    for (const [stream, openedAt] of this.#silent) {
      if (openedAt > since) return
      this.#silent.delete(stream)
      yield stream
    }
  }
}
