/**
 * Queries over TCP, each over a connection of its own (RFC 7766). Only answers that UDP cuts come this way, unless
 * `use-vc`. What a nameserver can make this process hold is bounded: 64 connections of 128 KiB at most.
 */
import { connect, type Socket } from 'node:net'
import { guarded, type OnBug } from '../guard.ts'
import type { ExchangeOptions, NameserverAddress, Settles, Waiting } from './exchange.ts'
import { isResponseTo } from './query.ts'

/** To one nameserver at once; other queries wait for their turn. Nameservers have such bounds, too (BIND: 150). */
const CONNECTIONS_MAX = 64
/** RFC 7766 §8: the message's length goes before it. */
const LENGTH_OCTETS = 2
const FRAME_OCTETS_MAX = LENGTH_OCTETS + 0xffff
/** Where what has arrived is read; one for all connections, since it is copied at once. */
const arrived = Buffer.allocUnsafeSlow(0x10000)

export class TcpConnections {
  readonly #byNameserver = new Map<string, NameserverConnections>()
  readonly #onBug: OnBug

  constructor(onBug: OnBug) {
    this.#onBug = onBug
  }

  /** Settles never before this has returned. */
  exchange({ nameserver }: ExchangeOptions, exchange: Settles): Waiting {
    let connections = this.#byNameserver.get(nameserver.text)
    if (connections === undefined) {
      const onUnused = (): void => void this.#byNameserver.delete(nameserver.text)
      connections = new NameserverConnections(nameserver, this.#onBug, onUnused)
      this.#byNameserver.set(nameserver.text, connections)
    }
    connections.begin(exchange)
    return connections
  }
}

class NameserverConnections implements Waiting {
  readonly #nameserver: NameserverAddress
  readonly #onBug: OnBug
  readonly #onUnused: () => void
  readonly #open = new Map<Settles, Socket>()
  readonly #queued = new Set<Settles>()

  constructor(nameserver: NameserverAddress, onBug: OnBug, onUnused: () => void) {
    this.#nameserver = nameserver
    this.#onBug = onBug
    this.#onUnused = onUnused
  }

  begin(exchange: Settles): void {
    if (this.#open.size < CONNECTIONS_MAX) this.#connect(exchange)
    else this.#queued.add(exchange)
  }

  end(exchange: Settles): void {
    this.#queued.delete(exchange)
    this.#open.get(exchange)?.destroy()
    this.#open.delete(exchange)
    const [next] = this.#queued
    if (next !== undefined && this.#open.size < CONNECTIONS_MAX) {
      this.#queued.delete(next)
      this.#connect(next)
    }
    if (this.#open.size === 0) this.#onUnused()
  }

  #connect(exchange: Settles): void {
    const { host, port } = this.#nameserver
    const answer = new FirstFrame()
    const receive = guarded(this.#onBug, (octets: Buffer) => {
      const message = answer.push(octets)
      if (message === null) return
      // The connection carries one query: what comes first is its answer, or this is no nameserver.
      if (isResponseTo(exchange.query, message)) exchange.settle({ kind: 'response', octets: message })
      else exchange.settle({ kind: 'malformed' })
    })
    const fail = guarded(this.#onBug, () => exchange.settle({ kind: 'unreachable' }))
    const callback = (octets: number): boolean => {
      receive(arrived.subarray(0, octets))
      return true
    }
    const socket = connect({ host, port, noDelay: true, onread: { buffer: arrived, callback } })
    this.#open.set(exchange, socket)
    socket.on('error', fail)
    socket.on('close', fail)
    const length = Buffer.allocUnsafe(LENGTH_OCTETS)
    length.writeUInt16BE(exchange.query.length, 0)
    // In one write: a nameserver may read once only (RFC 7766 §8).
    socket.write(Buffer.concat([length, exchange.query]))
  }
}

/** The first message of a stream. Holds what has arrived of it, whatever its length says, and nothing behind it. */
class FirstFrame {
  #octets = Buffer.allocUnsafeSlow(512)
  #filled = 0

  /** Null while some of it is to come. */
  push(octets: Buffer): Buffer | null {
    this.#keep(octets)
    if (this.#filled < LENGTH_OCTETS) return null
    const end = LENGTH_OCTETS + this.#octets.readUInt16BE(0)
    return this.#filled < end ? null : this.#octets.subarray(LENGTH_OCTETS, end)
  }

  #keep(octets: Buffer): void {
    const filled = Math.min(FRAME_OCTETS_MAX, this.#filled + octets.length)
    if (filled > this.#octets.length) {
      const larger = Buffer.allocUnsafeSlow(Math.min(FRAME_OCTETS_MAX, 2 * filled))
      this.#octets.copy(larger, 0, 0, this.#filled)
      this.#octets = larger
    }
    octets.copy(this.#octets, this.#filled, 0, filled - this.#filled)
    this.#filled = filled
  }
}
