/**
 * Queries over TCP, each over a connection of its own (RFC 7766). With `use-vc` all queries come this way, otherwise
 * those whose response was truncated over UDP. A nameserver can occupy 64 connections of 128 KiB at most.
 */
import { connect, type Socket } from 'node:net'
import { guarded, type OnBug } from '../guard.ts'
import { isResponseTo } from './message.ts'
import type { Holder, NameserverAddress, PendingQuery, Protocol } from './transport.ts'

/** To one nameserver at once; further queries wait. Nameservers have such bounds, too (BIND: 150). */
const CONNECTIONS_MAX = 64
/** RFC 7766 §8: the message's length precedes it. */
const LENGTH_OCTETS = 2
const FRAME_OCTETS_MAX = LENGTH_OCTETS + 0xffff
/** Receives the octets of all connections: each copies its own at once. */
const arrived = Buffer.allocUnsafeSlow(0x10000)

export class TcpConnections implements Protocol {
  readonly #byNameserver = new Map<string, NameserverConnections>()
  readonly #onBug: OnBug

  constructor(onBug: OnBug) {
    this.#onBug = onBug
  }

  send(pending: PendingQuery): NameserverConnections {
    const { nameserver } = pending.query
    let connections = this.#byNameserver.get(nameserver.text)
    if (connections === undefined) {
      const onUnused = (): void => void this.#byNameserver.delete(nameserver.text)
      connections = new NameserverConnections(nameserver, this.#onBug, onUnused)
      this.#byNameserver.set(nameserver.text, connections)
    }
    connections.send(pending)
    return connections
  }
}

class NameserverConnections implements Holder {
  readonly #nameserver: NameserverAddress
  readonly #onBug: OnBug
  readonly #onUnused: () => void
  readonly #open = new Map<PendingQuery, Socket>()
  readonly #queued = new Set<PendingQuery>()

  constructor(nameserver: NameserverAddress, onBug: OnBug, onUnused: () => void) {
    this.#nameserver = nameserver
    this.#onBug = onBug
    this.#onUnused = onUnused
  }

  send(pending: PendingQuery): void {
    if (this.#open.size < CONNECTIONS_MAX) this.#connect(pending)
    else this.#queued.add(pending)
  }

  forget(pending: PendingQuery): void {
    this.#queued.delete(pending)
    this.#open.get(pending)?.destroy()
    this.#open.delete(pending)
    const [next] = this.#queued
    if (next !== undefined && this.#open.size < CONNECTIONS_MAX) {
      this.#queued.delete(next)
      this.#connect(next)
    }
    if (this.#open.size === 0) this.#onUnused()
  }

  #connect(pending: PendingQuery): void {
    const { host, port } = this.#nameserver
    const { octets: query } = pending.query
    const frame = new FirstFrame()
    const receive = guarded(this.#onBug, (octets: Buffer) => {
      const message = frame.push(octets)
      if (message === null) return
      // The connection carries one query. If the first message doesn't answer it, the peer is no nameserver.
      if (isResponseTo(query, message)) pending.settle(message)
      else pending.settle('malformed')
    })
    const fail = guarded(this.#onBug, () => pending.settle('unreachable'))
    const callback = (octets: number): boolean => {
      receive(arrived.subarray(0, octets))
      return true
    }
    const socket = connect({ host, port, noDelay: true, onread: { buffer: arrived, callback } })
    this.#open.set(pending, socket)
    socket.on('error', fail)
    socket.on('close', fail)
    const length = Buffer.allocUnsafe(LENGTH_OCTETS)
    length.writeUInt16BE(query.length, 0)
    // In one write: a nameserver may read once only (RFC 7766 §8).
    socket.write(Buffer.concat([length, query]))
  }
}

/** The first message of a stream. Holds no more than has arrived of it, whatever its length says. */
class FirstFrame {
  #octets = Buffer.allocUnsafeSlow(512)
  #filled = 0

  /** Null until the message is complete. */
  push(octets: Buffer): Buffer | null {
    this.#append(octets)
    if (this.#filled < LENGTH_OCTETS) return null
    const end = LENGTH_OCTETS + this.#octets.readUInt16BE(0)
    return this.#filled < end ? null : this.#octets.subarray(LENGTH_OCTETS, end)
  }

  #append(octets: Buffer): void {
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
