import type { ServerDuplexStream } from '@grpc/grpc-js'

/** Messages up to this many octets are decoded at once, in a millisecond or two; larger ones in parts. */
const WHOLE_OCTETS_MAX = 32 * 1024
/** Messages of one stream that may wait for their turn. While there are as many, no more are read from the stream. */
const WAITING_MAX = 4

/** Has gRPC leave large messages undecoded, so that an inbox can read them in parts. */
export function wholeIfSmall<Message>(
  decode: (octets: Buffer) => Message,
): (octets: Buffer) => Message | Buffer {
  return (octets) => (octets.length > WHOLE_OCTETS_MAX ? octets : decode(octets))
}

type Pausable = Pick<ServerDuplexStream<unknown, unknown>, 'pause' | 'resume' | 'isPaused'>

/** What one stream has received and nobody has handled yet. A large message is read in parts, so that it doesn't block the event loop. */
export class Inbox<Message extends object> {
  readonly #call: Pausable
  readonly #partsOf: (octets: Buffer) => Iterator<Message | null>
  readonly #waiting: (Message | Buffer)[] = []
  #parts: Iterator<Message | null> | undefined

  /** @param partsOf the parts of a large message; null: some work that completed no part */
  constructor(call: Pausable, partsOf: (octets: Buffer) => Iterator<Message | null>) {
    this.#call = call
    this.#partsOf = partsOf
  }

  add(message: Message | Buffer): void {
    this.#waiting.push(message)
    if (this.#waiting.length >= WAITING_MAX) this.#call.pause()
  }

  /** True within a large message. The step that finds its end has no part. */
  get isInParts(): boolean {
    return this.#parts !== undefined
  }

  get isEmpty(): boolean {
    return this.#parts === undefined && this.#waiting.length === 0
  }

  /**
   * One step of reading.
   * @returns a message or a part of one; null: some work was done, but there is no part yet, or no further one; undefined: nothing waits
   */
  next(): Message | null | undefined {
    if (this.#parts === undefined) {
      const message = this.#waiting.shift()
      if (message === undefined) return undefined
      if (this.#call.isPaused()) this.#call.resume()
      if (!Buffer.isBuffer(message)) return message
      this.#parts = this.#partsOf(message)
    }
    const { done, value } = this.#parts.next()
    if (done !== true) return value
    this.#parts = undefined
    return null
  }

  /** Leaves the rest of the large message unread. */
  skipRest(): void {
    this.#parts = undefined
  }
}
