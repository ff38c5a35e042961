/**
 * Queries and their responses. The first response that belongs to a query counts. Everything else is ignored while the
 * time runs on (RFC 5452 §9.1): somebody who can't see the query can't answer it, end it or prolong it.
 *
 * This file has UDP, and the deadlines of all queries; `tcp.ts` has TCP.
 *
 * Over UDP a query gets a new socket: a port that nobody can guess (RFC 5452 §9.2). The socket is connected, so the
 * kernel drops what comes from another address, and reports ICMP errors. Queries to one nameserver that start within a
 * few milliseconds share a socket, because a socket costs more than three queries. A forged response still needs both
 * the port and the id of the question.
 */
import { createSocket, type RemoteInfo, type Socket } from 'node:dgram'
import type { AddressInfo } from 'node:net'
import { guarded, type OnBug } from '../guard.ts'
import type { Timer, Timers } from '../timers.ts'
import { isResponseTo } from './message.ts'

/** Linux's default receive buffer holds 256 responses of up to 200 octets, and 166 of 600. */
const QUERIES_PER_SOCKET_MAX = 128
/** How long a socket takes new queries. An attacker who searches for its port finds it too late for the next query. */
const SHARING_MS = 10
/** The queries of one turn of the event loop are sent together, up to this number: the nameserver wakes up once. */
const QUERIES_PER_FLUSH_MAX = 32
/** libuv reads at most this many datagrams of one socket in a turn of the event loop. */
const DATAGRAMS_PER_TURN = 32
/** The turns it takes to read a full socket. */
const READING_TURNS = QUERIES_PER_SOCKET_MAX / DATAGRAMS_PER_TURN
/** A timer that is later than this means that the process was stopped. A busy process is late by less. */
const PAUSE_MS = 50

export interface NameserverAddress {
  /** IPv4, or IPv6 with an optional scope id. */
  readonly host: string
  readonly port: number
  /** `address:port`, `[address]:port`. */
  readonly text: string
}

export interface Query {
  readonly nameserver: NameserverAddress
  readonly protocol: 'udp' | 'tcp'
  readonly octets: Buffer
  /** On the clock of the transport's timers. */
  readonly deadlineMs: number
  readonly signal: AbortSignal
  /** UDP: no other query uses the port. */
  readonly ownPort: boolean
}

/**
 * The octets of the response, or why there are none. `unreachable`: ICMP, a send that failed, a refused or broken
 * connection, or no free socket. `malformed`: what came over TCP doesn't answer the query.
 */
export type Reply = Buffer | 'timeout' | 'unreachable' | 'malformed' | 'aborted'

export interface Transport {
  /**
   * Sends a query. `read` runs once, as soon as there is a reply, and makes the result of it.
   */
  send<T>(query: Query, read: (reply: Reply) => T | Promise<T>): Promise<T>
  /** Ends the queries to this nameserver, with the reply `aborted`. */
  abandon(nameserver: NameserverAddress): void
  /** Closes the sockets that wait for more queries. The signals of the queries in flight end those. */
  close(): void
}

/** How octets get to a nameserver and back. */
export interface Protocol {
  /** The query settles later, never before this has returned. */
  send(query: PendingQuery): Holder
}

/** Holds queries that wait for a response. */
export interface Holder {
  forget(query: PendingQuery): void
}

/**
 * @param tcp see `tcp.ts`
 * @param onBug receives an exception of a socket's callback
 */
export function createTransport(timers: Timers, tcp: Protocol, onBug: OnBug): Transport {
  const udp = new UdpSockets(timers, onBug)
  const inFlight = new QueriesInFlight(timers, onBug)
  return {
    send: (query, read) =>
      new Promise((resolve, reject) => {
        const done = (reply: Reply): void => {
          try {
            resolve(read(reply))
          } catch (error) {
            reject(error) // a bug of the reader, not of the socket
          }
        }
        const pending = new PendingQuery(query, inFlight, done)
        pending.begin(query.protocol === 'udp' ? udp.send(pending) : tcp.send(pending))
      }),
    abandon: (nameserver) => inFlight.abandon(nameserver),
    close: () => udp.close(),
  }
}

/** Has one reply, whichever comes first: a response, an error, the deadline, the signal. Nothing is left afterwards. */
export class PendingQuery {
  readonly query: Query
  /** Its place among the queries in flight. */
  at = -1
  readonly #inFlight: QueriesInFlight
  readonly #done: (reply: Reply) => void
  #holder: Holder | null = null
  #settled = false

  constructor(query: Query, inFlight: QueriesInFlight, done: (reply: Reply) => void) {
    this.query = query
    this.#inFlight = inFlight
    this.#done = done
  }

  begin(holder: Holder): void {
    this.#holder = holder
    this.#inFlight.add(this)
    if (this.query.signal.aborted) this.settle('aborted')
  }

  settle(reply: Reply): void {
    if (this.#settled) return
    this.#settled = true
    this.#inFlight.delete(this)
    this.#holder?.forget(this)
    this.#done(reply)
  }
}

/** Ends queries at their deadline and by their signal. They share one timer and one listener (decision 41). */
class QueriesInFlight {
  readonly #timers: Timers
  readonly #onBug: OnBug
  /** An array, because a busy set holds on to what it held (decision 41). */
  readonly #queries: PendingQuery[] = []
  readonly #heard = new WeakSet<AbortSignal>()
  #timer: Timer | null = null
  /** At the earliest deadline, or before. */
  #timerAtMs = Number.POSITIVE_INFINITY

  constructor(timers: Timers, onBug: OnBug) {
    this.#timers = timers
    this.#onBug = onBug
  }

  add(pending: PendingQuery): void {
    const { signal, deadlineMs } = pending.query
    pending.at = this.#queries.push(pending) - 1
    if (deadlineMs < this.#timerAtMs) this.#setTimer(deadlineMs)
    if (this.#heard.has(signal)) return
    this.#heard.add(signal)
    signal.addEventListener('abort', () => {
      for (const one of [...this.#queries]) if (one.query.signal === signal) one.settle('aborted')
    })
  }

  abandon({ text }: NameserverAddress): void {
    for (const one of [...this.#queries]) if (one.query.nameserver.text === text) one.settle('aborted')
  }

  delete(pending: PendingQuery): void {
    const last = this.#queries.pop()
    if (last !== undefined && last !== pending) {
      this.#queries[pending.at] = last
      last.at = pending.at
    }
    if (this.#queries.length === 0) this.#setTimer(Number.POSITIVE_INFINITY)
  }

  #setTimer(atMs: number): void {
    this.#timer?.cancel()
    this.#timer = null
    this.#timerAtMs = atMs
    if (atMs === Number.POSITIVE_INFINITY) return
    const delayMs = Math.max(0, Math.ceil(atMs - this.#timers.now()))
    this.#timer = this.#timers.start(() => {
      const wasPaused = this.#timers.now() - atMs > PAUSE_MS
      this.#readThenEndDue(wasPaused ? READING_TURNS : 1)
    }, delayMs)
  }

  /**
   * In a turn of the event loop timers come before sockets. After a pause of the process (SIGSTOP, a suspended machine,
   * a long garbage collection) the sockets hold answers that came in time. They are read before any query ends.
   */
  #readThenEndDue(turns: number): void {
    setImmediate(
      guarded(this.#onBug, () => {
        if (turns > 1) this.#readThenEndDue(turns - 1)
        else this.#endDue()
      }),
    )
  }

  #endDue(): void {
    const nowMs = this.#timers.now()
    for (const one of [...this.#queries]) if (one.query.deadlineMs <= nowMs) one.settle('timeout')
    let nextMs = Number.POSITIVE_INFINITY
    for (const { query } of this.#queries) nextMs = Math.min(nextMs, query.deadlineMs)
    this.#setTimer(nextMs)
  }
}

class UdpSockets implements Protocol {
  readonly #newest = new Map<string, QuerySocket>()
  readonly #timers: Timers
  readonly #onBug: OnBug

  constructor(timers: Timers, onBug: OnBug) {
    this.#timers = timers
    this.#onBug = onBug
  }

  send(pending: PendingQuery): QuerySocket {
    const { nameserver, ownPort, octets } = pending.query
    const id = idOf(octets)
    const socket = ownPort ? this.#open(nameserver, 1, () => undefined) : this.#shared(nameserver, id)
    socket.send(id, pending)
    return socket
  }

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
    const socket: QuerySocket = this.#open(nameserver, QUERIES_PER_SOCKET_MAX, onClose)
    this.#newest.set(nameserver.text, socket)
    return socket
  }

  #open(nameserver: NameserverAddress, queriesMax: number, onClose: () => void): QuerySocket {
    return new QuerySocket(nameserver, queriesMax, { timers: this.#timers, onBug: this.#onBug, onClose })
  }
}

interface QuerySocketSeams {
  readonly timers: Timers
  readonly onBug: OnBug
  readonly onClose: () => void
}

/** Closes itself when no query waits for a response and no other may share it. */
class QuerySocket implements Holder {
  readonly #socket: Socket
  readonly #sharedUntilMs: number
  readonly #sharing: Timer
  readonly #onClose: () => void
  readonly #onSent: (error: Error | null) => void
  readonly #flushGuarded: () => void
  readonly #waiting = new Map<number, PendingQuery>()
  #unsent: Buffer[] = []
  #queriesLeft: number
  /** The nameserver as the kernel writes it; null until the socket is connected. */
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
    // Node reports an error of a send here only. An ICMP error comes with the next send: it concerns those before it.
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
    // Not a callback of `connect`: Node would report an error (no route, say) to that alone, not to 'error'.
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

  send(id: number, pending: PendingQuery): void {
    this.#queriesLeft--
    this.#waiting.set(id, pending)
    const unsent = this.#unsent.push(pending.query.octets)
    if (this.#peer === null) return
    const isAlone = this.#waiting.size === 1
    if (isAlone || unsent === QUERIES_PER_FLUSH_MAX) this.#flush()
    else if (unsent === 1) setImmediate(this.#flushGuarded)
  }

  forget({ query }: PendingQuery): void {
    this.#waiting.delete(idOf(query.octets))
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
    for (const octets of unsent) this.#socket.send(octets, this.#onSent)
  }

  #receive(octets: Buffer, from: RemoteInfo): void {
    // Until it is connected, a socket receives datagrams from any sender.
    if (from.port !== this.#peer?.port || from.address !== this.#peer.address || octets.length < 2) return
    const pending = this.#waiting.get(idOf(octets))
    if (pending === undefined || !isResponseTo(pending.query.octets, octets)) return
    pending.settle(octets)
  }

  /** Nobody listens (ICMP), a send failed, or there is no free socket: this concerns every query of the socket. */
  #fail(): void {
    this.#queriesLeft = 0
    for (const pending of [...this.#waiting.values()]) pending.settle('unreachable')
    this.#closeUnlessInUse()
  }
}

function idOf(message: Buffer): number {
  return message.readUInt16BE(0)
}

/** A literal address needs no look-up. Node's default one would wait for a thread of libuv's pool. */
function literalLookup(
  host: string,
  _options: unknown,
  callback: (error: null, address: string, family: number) => void,
): void {
  callback(null, host, host.includes(':') ? 6 : 4)
}
