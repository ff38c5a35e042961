/**
 * Queries over UDP. A query gets a fresh socket: a port nobody can guess (RFC 5452 §9.2), connected, so that the
 * kernel drops what comes from another address and reports ICMP errors. What came before it was connected is told by its
 * sender. Only queries to the same nameserver that begin
 * within a few milliseconds share one, because a socket costs more than three queries do; a forged response still has to
 * hit the port and the id of its own question, as with a socket each.
 */
import { createSocket, type RemoteInfo, type Socket } from 'node:dgram'
import type { AddressInfo } from 'node:net'
import { guarded, type OnBug } from '../guard.ts'
import type { Timer, Timers } from '../timers.ts'
import {
  type ExchangeOptions,
  literalLookup,
  type NameserverAddress,
  type Settles,
  type Waiting,
} from './exchange.ts'
import { isResponseTo } from './query.ts'

/** Linux's default receive buffer holds 256 responses of up to 200 octets, and 166 of 600. */
export const QUERIES_PER_SOCKET_MAX = 128
/** Since the socket was opened. Whoever has to search for the port has found it too late for a new query. */
const SHARING_MS = 10
/** What one turn of the event loop asks goes out together, within reason: the nameserver is woken once for all of it. */
const QUERIES_PER_FLUSH_MAX = 32

export class UdpSockets {
  readonly #newest = new Map<string, QuerySocket>()
  readonly #timers: Timers
  readonly #onBug: OnBug

  constructor(timers: Timers, onBug: OnBug) {
    this.#timers = timers
    this.#onBug = onBug
  }

  /** Settles never before this has returned. */
  exchange({ nameserver, ownPort }: ExchangeOptions, exchange: Settles): Waiting {
    const id = idOf(exchange.query)
    const socket = ownPort ? this.#openForOne(nameserver) : this.#shared(nameserver, id)
    socket.send(id, exchange)
    return socket
  }

  /** What still waits has to be ended by whoever does. */
  close(): void {
    for (const socket of this.#newest.values()) socket.endSharing()
  }

  #shared(nameserver: NameserverAddress, id: number): QuerySocket {
    const newest = this.#newest.get(nameserver.text)
    if (newest?.accepts(id, this.#timers.now())) return newest
    newest?.endSharing()
    const onClose = (): void => {
      if (this.#newest.get(nameserver.text) === socket) this.#newest.delete(nameserver.text)
    }
    const socket: QuerySocket = new QuerySocket(nameserver, QUERIES_PER_SOCKET_MAX, {
      timers: this.#timers,
      onBug: this.#onBug,
      onClose,
    })
    this.#newest.set(nameserver.text, socket)
    return socket
  }

  #openForOne(nameserver: NameserverAddress): QuerySocket {
    return new QuerySocket(nameserver, 1, {
      timers: this.#timers,
      onBug: this.#onBug,
      onClose: () => undefined,
    })
  }
}

interface QuerySocketSeams {
  readonly timers: Timers
  readonly onBug: OnBug
  readonly onClose: () => void
}

/** Closes itself when nobody waits any more and no other query may share it. */
class QuerySocket implements Waiting {
  readonly #socket: Socket
  readonly #sharedUntilMs: number
  readonly #sharing: Timer
  readonly #onClose: () => void
  readonly #onSent: (error: Error | null) => void
  readonly #flushGuarded: () => void
  readonly #waiting = new Map<number, Settles>()
  #unsent: Buffer[] = []
  #queriesLeft: number
  /** The nameserver in the kernel's words; null until the socket is connected. */
  #peer: AddressInfo | null = null
  #closed = false

  constructor(
    { host, port }: NameserverAddress,
    queriesMax: number,
    { timers, onBug, onClose }: QuerySocketSeams,
  ) {
    this.#queriesLeft = queriesMax
    this.#sharedUntilMs = timers.now() + SHARING_MS
    this.#onClose = onClose
    this.#flushGuarded = guarded(onBug, () => this.#flush())
    // Node tells an error of the send to nobody else. ICMP's comes with the next send, too: it is about those before it.
    this.#onSent = guarded(onBug, (error) => {
      if (error !== null) this.#fail()
    })
    this.#socket = createSocket({ type: host.includes(':') ? 'udp6' : 'udp4', lookup: literalLookup })
    this.#sharing = timers.start(() => this.endSharing(), SHARING_MS)
    this.#socket.on(
      'error',
      guarded(onBug, () => this.#fail()),
    )
    this.#socket.on(
      'message',
      guarded(onBug, (octets, from) => this.#receive(octets, from)),
    )
    // No callback of `connect`, which Node would give the error to, too (no route, say), and nobody else.
    this.#socket.on(
      'connect',
      guarded(onBug, () => {
        if (this.#closed) return
        this.#peer = this.#socket.remoteAddress()
        this.#flush()
      }),
    )
    this.#socket.connect(port, host)
  }

  accepts(id: number, nowMs: number): boolean {
    return this.#queriesLeft > 0 && nowMs < this.#sharedUntilMs && !this.#waiting.has(id)
  }

  send(id: number, exchange: Settles): void {
    this.#queriesLeft--
    this.#waiting.set(id, exchange)
    const unsent = this.#unsent.push(exchange.query)
    if (this.#peer === null) return
    const isAlone = this.#waiting.size === 1
    if (isAlone || unsent === QUERIES_PER_FLUSH_MAX) this.#flush()
    else if (unsent === 1) setImmediate(this.#flushGuarded)
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
    for (const query of unsent) this.#socket.send(query, this.#onSent)
  }

  #receive(octets: Buffer, from: RemoteInfo): void {
    // Before it is connected, a socket takes datagrams of anybody.
    if (from.port !== this.#peer?.port || from.address !== this.#peer.address || octets.length < 2) return
    const exchange = this.#waiting.get(idOf(octets))
    if (exchange === undefined || !isResponseTo(exchange.query, octets)) return
    exchange.settle({ kind: 'response', octets })
  }

  /** ICMP says that nobody listens, a send fails, or there is no socket to be had: that concerns all who wait. */
  #fail(): void {
    this.#queriesLeft = 0
    for (const exchange of [...this.#waiting.values()]) exchange.settle({ kind: 'unreachable' })
    this.#closeUnlessInUse()
  }
}

function idOf(message: Buffer): number {
  return message.readUInt16BE(0)
}
