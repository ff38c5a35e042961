/** One query over a TCP connection of its own (RFC 7766). Only answers that UDP cuts come this way, unless `use-vc`. */
import { connect, type Socket } from 'node:net'
import { type ExchangeOptions, literalLookup, type Settles, type Waiting } from './exchange.ts'
import { isResponseTo } from './query.ts'

/** RFC 7766 §8: the message's length goes before it. */
const LENGTH_OCTETS = 2

export class TcpExchange implements Waiting {
  readonly #socket: Socket

  /** Settles never before this has returned. */
  constructor({ nameserver, query }: ExchangeOptions, exchange: Settles) {
    this.#socket = connect({ host: nameserver.host, port: nameserver.port, lookup: literalLookup })
    const frames = new FrameReader()
    this.#socket.setNoDelay(true)
    this.#socket.on('error', () => exchange.settle({ kind: 'unreachable' }))
    this.#socket.on('close', () => exchange.settle({ kind: 'unreachable' }))
    this.#socket.on('data', (octets) => {
      for (const message of frames.push(octets)) {
        if (isResponseTo(query, message)) exchange.settle({ kind: 'response', octets: message })
      }
    })
    const length = Buffer.allocUnsafe(LENGTH_OCTETS)
    length.writeUInt16BE(query.length, 0)
    // In one write: a nameserver may read once only (RFC 7766 §8).
    this.#socket.write(Buffer.concat([length, query]))
  }

  end(): void {
    this.#socket.destroy()
  }
}

/** Cuts a stream into messages. Holds what has arrived of one frame, 64 KiB at most, whatever its length says. */
class FrameReader {
  #chunks: Buffer[] = []
  #octets = 0

  /** The messages that are complete with this. */
  push(chunk: Buffer): Buffer[] {
    const messages: Buffer[] = []
    this.#chunks.push(chunk)
    this.#octets += chunk.length
    for (
      let length = this.#frameLength();
      length !== null && this.#octets >= length;
      length = this.#frameLength()
    ) {
      const joined = Buffer.concat(this.#chunks)
      this.#chunks = [joined.subarray(length)]
      this.#octets = joined.length - length
      messages.push(joined.subarray(LENGTH_OCTETS, length))
    }
    return messages
  }

  /** With the two octets themselves; null while those haven't arrived. */
  #frameLength(): number | null {
    if (this.#octets < LENGTH_OCTETS) return null
    if ((this.#chunks[0]?.length ?? 0) < LENGTH_OCTETS) this.#chunks = [Buffer.concat(this.#chunks)]
    return LENGTH_OCTETS + (this.#chunks[0]?.readUInt16BE(0) ?? 0)
  }
}
