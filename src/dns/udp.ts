/**
 * Queries over UDP. A query gets a fresh socket: a port nobody can guess (RFC 5452 §9.2), connected, so that the
 * kernel drops what comes from another address and reports ICMP errors. Only queries to the same nameserver that begin
 * within a few milliseconds share one, because a socket costs more than three queries do; a forged response still has to
 * hit the port and the id of its own question, as with a socket each.
 */
import { createSocket, type Socket } from 'node:dgram'
import { literalLookup, type NameserverAddress, type Settles, type Waiting } from './exchange.ts'
import { isResponseTo } from './query.ts'
import type { Timer, Timers } from './timers.ts'

/** Linux's default receive buffer holds 256 responses of up to 200 octets, and 166 of 600. */
const QUERIES_PER_SOCKET_MAX = 128
/** Since the socket was opened. Whoever has to search for the port has found it too late for a new query. */
const SHARING_MS = 10
/** What one turn of the event loop asks goes out together, within reason: the nameserver is woken once for all of it. */
const QUERIES_PER_FLUSH_MAX = 32

export class UdpSockets {
  readonly #newest = new Map<string, QuerySocket>()
  readonly #timers: Timers

  constructor(timers: Timers) {
    this.#timers = timers
  }

  /** Settles never before this has returned. */
  exchange(nameserver: NameserverAddress, exchange: Settles): Waiting {
    const newest = this.#newest.get(nameserver.text)
    const id = idOf(exchange.query)
    const socket = newest?.accepts(id, this.#timers.now()) ? newest : this.#open(nameserver)
    socket.send(id, exchange)
    return socket
  }

  /** What still waits has to be ended by whoever does. */
  close(): void {
    for (const socket of this.#newest.values()) socket.endSharing()
  }

  #open(nameserver: NameserverAddress): QuerySocket {
    this.#newest.get(nameserver.text)?.endSharing()
    const socket: QuerySocket = new QuerySocket(nameserver, this.#timers, () => {
      if (this.#newest.get(nameserver.text) === socket) this.#newest.delete(nameserver.text)
    })
    this.#newest.set(nameserver.text, socket)
    return socket
  }
}

/** Closes itself when nobody waits any more and no other query may share it. */
class QuerySocket implements Waiting {
  readonly #socket: Socket
  readonly #sharedUntilMs: number
  readonly #sharing: Timer
  readonly #onClose: () => void
  readonly #waiting = new Map<number, Settles>()
  #unsent: Buffer[] = []
  #queriesLeft = QUERIES_PER_SOCKET_MAX
  #connected = false
  #closed = false

  constructor({ host, port }: NameserverAddress, timers: Timers, onClose: () => void) {
    this.#sharedUntilMs = timers.now() + SHARING_MS
    this.#onClose = onClose
    this.#sharing = timers.start(() => this.endSharing(), SHARING_MS)
    this.#socket = createSocket({ type: host.includes(':') ? 'udp6' : 'udp4', lookup: literalLookup })
    this.#socket.on('error', () => this.#fail())
    this.#socket.on('message', (octets) => this.#receive(octets))
    // No callback of `connect`, which Node would give the error to, too (no route, say), and nobody else.
    this.#socket.on('connect', () => {
      this.#connected = true
      this.#flush()
    })
    this.#socket.connect(port, host)
  }

  accepts(id: number, nowMs: number): boolean {
    return this.#queriesLeft > 0 && nowMs < this.#sharedUntilMs && !this.#waiting.has(id)
  }

  send(id: number, exchange: Settles): void {
    this.#queriesLeft--
    this.#waiting.set(id, exchange)
    const unsent = this.#unsent.push(exchange.query)
    if (!this.#connected) return
    const isAlone = this.#waiting.size === 1
    if (isAlone || unsent === QUERIES_PER_FLUSH_MAX) this.#flush()
    else if (unsent === 1) setImmediate(() => this.#flush())
  }

  end({ query }: Settles): void {
    this.#waiting.delete(idOf(query))
    this.#closeUnlessInUse()
  }

  endSharing(): void {
    this.#queriesLeft = 0
    this.#closeUnlessInUse()
  }

  #closeUnlessInUse(): void {
    if (this.#queriesLeft > 0 || this.#waiting.size > 0 || this.#closed) return
    this.#closed = true
    this.#sharing.cancel()
    this.#onClose()
    this.#socket.close()
  }

  #flush(): void {
    const unsent = this.#unsent
    this.#unsent = []
    if (this.#closed) return
    for (const query of unsent) this.#socket.send(query)
  }

  #receive(octets: Buffer): void {
    if (octets.length < 2) return
    const exchange = this.#waiting.get(idOf(octets))
    if (exchange === undefined || !isResponseTo(exchange.query, octets)) return
    exchange.settle({ kind: 'response', octets })
  }

  /** ICMP says that nobody listens, or there is no socket to be had: that concerns all who wait. */
  #fail(): void {
    this.#queriesLeft = 0
    for (const exchange of [...this.#waiting.values()]) exchange.settle({ kind: 'unreachable' })
    this.#closeUnlessInUse()
  }
}

function idOf(message: Buffer): number {
  return message.readUInt16BE(0)
}
