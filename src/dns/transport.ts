/** The two ways to a nameserver, with what both have in common: one outcome, whatever happens. */
import { guarded, type OnBug } from '../guard.ts'
import type { Timer, Timers } from '../timers.ts'
import type { ExchangeOptions, ExchangeOutcome, NameserverAddress, Settles, Waiting } from './exchange.ts'
import { TcpConnections } from './tcp.ts'
import { QUERIES_PER_SOCKET_MAX, UdpSockets } from './udp.ts'

/** libuv reads so many datagrams of one socket in a turn of the event loop. */
const DATAGRAMS_PER_TURN = 32
/** Turns in which all that a socket holds is read. */
const READING_TURNS = QUERIES_PER_SOCKET_MAX / DATAGRAMS_PER_TURN
/** A timer that is later than this says that the process stood still; a busy one is later than its turn. */
const PAUSE_MS = 50

/** How octets get to a nameserver and back, and what is made of them. */
export interface Transport {
  udp<T>(options: ExchangeOptions, read: Read<T>): Promise<T>
  tcp<T>(options: ExchangeOptions, read: Read<T>): Promise<T>
  /** Ends what is under way with this nameserver, as `aborted`. */
  abandon(nameserver: NameserverAddress): void
  /** What is under way is ended by its signal. */
  close(): void
}

/** Called once, as soon as there is an outcome: a promise for that and another for what is made of it would be one too many. */
export type Read<T> = (outcome: ExchangeOutcome) => T | Promise<T>

/** @param onBug told of an exception in a callback of a socket */
export function createTransport(timers: Timers, onBug: OnBug): Transport {
  const sockets = new UdpSockets(timers, onBug)
  const connections = new TcpConnections(onBug)
  const underWay = new ExchangesUnderWay(timers, onBug)
  const begin = <T>(
    options: ExchangeOptions,
    read: Read<T>,
    wait: (options: ExchangeOptions, exchange: Exchange) => Waiting,
  ): Promise<T> =>
    new Promise((resolve, reject) => {
      const done = (outcome: ExchangeOutcome): void => {
        try {
          resolve(read(outcome))
        } catch (error) {
          reject(error) // a bug, and not the socket's
        }
      }
      const exchange = new Exchange(options, underWay, done)
      exchange.begin(wait(options, exchange))
    })
  const overUdp = (options: ExchangeOptions, exchange: Exchange): Waiting =>
    sockets.exchange(options, exchange)
  const overTcp = (options: ExchangeOptions, exchange: Exchange): Waiting =>
    connections.exchange(options, exchange)
  return {
    udp: (options, read) => begin(options, read, overUdp),
    tcp: (options, read) => begin(options, read, overTcp),
    abandon: (nameserver) => underWay.abandon(nameserver),
    close: () => sockets.close(),
  }
}

/** Ends exchanges by time and by signal. A timer or a listener for each would cost half a query: all share one. */
class ExchangesUnderWay {
  readonly #timers: Timers
  readonly #onBug: OnBug
  /**
   * No set: V8 moves a busy one to a new table again and again, and each table it has left keeps what it held, and the
   * next one, until the next full collection.
   */
  readonly #exchanges: Exchange[] = []
  readonly #heard = new WeakSet<AbortSignal>()
  #timer: Timer | null = null
  /** Not after the earliest deadline there is. */
  #timerAtMs = Number.POSITIVE_INFINITY

  constructor(timers: Timers, onBug: OnBug) {
    this.#timers = timers
    this.#onBug = onBug
  }

  add(exchange: Exchange): void {
    exchange.at = this.#exchanges.push(exchange) - 1
    if (exchange.deadlineMs < this.#timerAtMs) this.#setTimer(exchange.deadlineMs)
    const { signal } = exchange
    if (this.#heard.has(signal)) return
    this.#heard.add(signal)
    signal.addEventListener('abort', () => {
      for (const one of [...this.#exchanges]) if (one.signal === signal) one.settle({ kind: 'aborted' })
    })
  }

  abandon({ text }: NameserverAddress): void {
    for (const one of [...this.#exchanges]) if (one.nameserver === text) one.settle({ kind: 'aborted' })
  }

  delete(exchange: Exchange): void {
    const last = this.#exchanges.pop()
    if (last !== undefined && last !== exchange) {
      this.#exchanges[exchange.at] = last
      last.at = exchange.at
    }
    if (this.#exchanges.length === 0) this.#setTimer(Number.POSITIVE_INFINITY)
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
   * In a turn of the event loop timers come before sockets. After a pause of the process (SIGSTOP, a suspended machine, a
   * long collection) answers that came in time wait in the sockets: they are read before anything is ended.
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
    for (const exchange of [...this.#exchanges])
      if (exchange.deadlineMs <= nowMs) exchange.settle({ kind: 'timeout' })
    let nextMs = Number.POSITIVE_INFINITY
    for (const { deadlineMs } of this.#exchanges) nextMs = Math.min(nextMs, deadlineMs)
    this.#setTimer(nextMs)
  }
}

/** One outcome, whichever comes first: a response, an error, the deadline, the signal. Nothing is left afterwards. */
class Exchange implements Settles {
  readonly query: Buffer
  readonly signal: AbortSignal
  readonly deadlineMs: number
  /** Its text. */
  readonly nameserver: string
  /** Its place among those under way. */
  at = -1
  readonly #underWay: ExchangesUnderWay
  readonly #done: (outcome: ExchangeOutcome) => void
  #waiting: Waiting | null = null
  #settled = false

  constructor(
    { nameserver, query, signal, deadlineMs }: ExchangeOptions,
    underWay: ExchangesUnderWay,
    done: (outcome: ExchangeOutcome) => void,
  ) {
    this.query = query
    this.signal = signal
    this.deadlineMs = deadlineMs
    this.nameserver = nameserver.text
    this.#underWay = underWay
    this.#done = done
  }

  begin(waiting: Waiting): void {
    this.#waiting = waiting
    this.#underWay.add(this)
    if (this.signal.aborted) this.settle({ kind: 'aborted' })
  }

  settle(outcome: ExchangeOutcome): void {
    if (this.#settled) return
    this.#settled = true
    this.#underWay.delete(this)
    this.#waiting?.end(this)
    this.#done(outcome)
  }
}
