/** The two ways to a nameserver, with what both have in common: one outcome, whatever happens. */
import type { ExchangeOptions, ExchangeOutcome, Settles, Waiting } from './exchange.ts'
import { TcpExchange } from './tcp.ts'
import type { Timer, Timers } from './timers.ts'
import { UdpSockets } from './udp.ts'

/** How octets get to a nameserver and back, and what is made of them. */
export interface Transport {
  udp<T>(options: ExchangeOptions, read: Read<T>): Promise<T>
  tcp<T>(options: ExchangeOptions, read: Read<T>): Promise<T>
  /** What is under way is ended by its signal. */
  close(): void
}

/** Called once, as soon as there is an outcome: a promise for that and another for what is made of it would be one too many. */
export type Read<T> = (outcome: ExchangeOutcome) => T | Promise<T>

export function createTransport(timers: Timers): Transport {
  const sockets = new UdpSockets(timers)
  const underWay = new ExchangesUnderWay(timers)
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
  const overUdp = ({ nameserver }: ExchangeOptions, exchange: Exchange): Waiting =>
    sockets.exchange(nameserver, exchange)
  const overTcp = (options: ExchangeOptions, exchange: Exchange): Waiting =>
    new TcpExchange(options, exchange)
  return {
    udp: (options, read) => begin(options, read, overUdp),
    tcp: (options, read) => begin(options, read, overTcp),
    close: () => sockets.close(),
  }
}

/** Ends exchanges by time and by signal. A timer or a listener for each would cost half a query: all share one. */
class ExchangesUnderWay {
  readonly #timers: Timers
  /**
   * No set: V8 moves a busy one to a new table again and again, and each table it has left keeps what it held, and the
   * next one, until the next full collection.
   */
  readonly #exchanges: Exchange[] = []
  readonly #heard = new WeakSet<AbortSignal>()
  #timer: Timer | null = null
  /** Not after the earliest deadline there is. */
  #timerAtMs = Number.POSITIVE_INFINITY

  constructor(timers: Timers) {
    this.#timers = timers
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
    this.#timer = this.#timers.start(() => this.#endDue(), Math.max(0, Math.ceil(atMs - this.#timers.now())))
  }

  #endDue(): void {
    const nowMs = this.#timers.now()
    let nextMs = Number.POSITIVE_INFINITY
    for (const exchange of [...this.#exchanges]) {
      if (exchange.deadlineMs <= nowMs) exchange.settle({ kind: 'timeout' })
      else nextMs = Math.min(nextMs, exchange.deadlineMs)
    }
    this.#setTimer(nextMs)
  }
}

/** One outcome, whichever comes first: a response, an error, the deadline, the signal. Nothing is left afterwards. */
class Exchange implements Settles {
  readonly query: Buffer
  readonly signal: AbortSignal
  readonly deadlineMs: number
  /** Its place among those under way. */
  at = -1
  readonly #underWay: ExchangesUnderWay
  readonly #done: (outcome: ExchangeOutcome) => void
  #waiting: Waiting | null = null
  #settled = false

  constructor(
    { query, signal, deadlineMs }: ExchangeOptions,
    underWay: ExchangesUnderWay,
    done: (outcome: ExchangeOutcome) => void,
  ) {
    this.query = query
    this.signal = signal
    this.deadlineMs = deadlineMs
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
