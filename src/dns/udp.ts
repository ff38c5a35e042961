/**
 * Queries over UDP. A query gets a fresh socket: a port nobody can guess (RFC 5452 §9.2), connected, so that the
 * kernel drops what comes from another address and reports ICMP errors. Only queries to the same nameserver that
 * overlap in time share one, because a socket costs more than three queries do; a forged response still has to hit
 * the port and the id of its own question, as with a socket each, and a port is given up after a few queries.
 */
import { createSocket, type Socket } from 'node:dgram'
import {
  type ExchangeOptions,
  literalLookup,
  type NameserverAddress,
  type Settles,
  type Waiting,
} from './exchange.ts'
import { isResponseTo } from './query.ts'

const QUERIES_PER_SOCKET_MAX = 64
/** Since the socket was opened. Whoever has to search for the port has found it too late for a new query. */
const SHARING_MS = 10
/** What one turn of the event loop asks goes out a few at a time: the nameserver is woken once for all of them. */
const QUERIES_PER_FLUSH_MAX = 8

export class UdpSockets {
  readonly #newest = new Map<string, QuerySocket>()
  readonly #now: () => number

  /** @param now monotonic, milliseconds */
  constructor(now: () => number) {
    this.#now = now
  }

  /** Settles never before this has returned. */
  exchange({ nameserver, query }: ExchangeOptions, exchange: Settles): Waiting {
    const id = query.readUInt16BE(0)
    const newest = this.#newest.get(nameserver.text)
    const nowMs = this.#now()
    const socket = newest?.accepts(id, nowMs) ? newest : this.#open(nameserver, nowMs)
    return socket.send(id, query, exchange)
  }

  #open(nameserver: NameserverAddress, nowMs: number): QuerySocket {
    const socket: QuerySocket = new QuerySocket(nameserver, nowMs + SHARING_MS, () => {
      if (this.#newest.get(nameserver.text) === socket) this.#newest.delete(nameserver.text)
    })
    this.#newest.set(nameserver.text, socket)
    return socket
  }
}

/** Closes itself when nobody waits any more. */
class QuerySocket {
  readonly #socket: Socket
  readonly #sharedUntilMs: number
  readonly #onClose: () => void
  readonly #waiting = new Map<number, UdpExchange>()
  #unsent: Buffer[] = []
  #queriesLeft = QUERIES_PER_SOCKET_MAX
  #connected = false
  #closed = false

  constructor({ host, port }: NameserverAddress, sharedUntilMs: number, onClose: () => void) {
    this.#sharedUntilMs = sharedUntilMs
    this.#onClose = onClose
    this.#socket = createSocket({ type: host.includes(':') ? 'udp6' : 'udp4', lookup: literalLookup })
    this.#socket.on('error', () => this.#fail())
    this.#socket.on('message', (octets) => this.#receive(octets))
    this.#socket.connect(port, host, () => {
      this.#connected = true
      this.#flush()
    })
  }

  accepts(id: number, nowMs: number): boolean {
    return !this.#closed && this.#queriesLeft > 0 && nowMs < this.#sharedUntilMs && !this.#waiting.has(id)
  }

  send(id: number, query: Buffer, exchange: Settles): Waiting {
    const waiting = new UdpExchange(id, query, exchange, this)
    this.#queriesLeft--
    this.#waiting.set(id, waiting)
    const unsent = this.#unsent.push(query)
    if (!this.#connected) return waiting
    if (unsent === QUERIES_PER_FLUSH_MAX) this.#flush()
    else if (unsent === 1) setImmediate(() => this.#flush())
    return waiting
  }

  forget(id: number): void {
    this.#waiting.delete(id)
    if (this.#waiting.size > 0 || this.#closed) return
    this.#closed = true
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
    this.#waiting.get(octets.readUInt16BE(0))?.receive(octets)
  }

  /** ICMP says that nobody listens, or there is no socket to be had: that concerns all who wait. */
  #fail(): void {
    this.#queriesLeft = 0
    for (const waiting of [...this.#waiting.values()]) waiting.fail()
  }
}

class UdpExchange implements Waiting {
  readonly #id: number
  readonly #query: Buffer
  readonly #exchange: Settles
  readonly #socket: QuerySocket

  constructor(id: number, query: Buffer, exchange: Settles, socket: QuerySocket) {
    this.#id = id
    this.#query = query
    this.#exchange = exchange
    this.#socket = socket
  }

  receive(octets: Buffer): void {
    if (isResponseTo(this.#query, octets)) this.#exchange.settle({ kind: 'response', octets })
  }

  fail(): void {
    this.#exchange.settle({ kind: 'unreachable' })
  }

  close(): void {
    this.#socket.forget(this.#id)
  }
}
