/** The two ways to a nameserver, with what both have in common: one outcome, whatever happens. */
import type { ExchangeOptions, ExchangeOutcome, Settles, Waiting } from './exchange.ts'
import { TcpExchange } from './tcp.ts'
import type { Timer, Timers } from './timers.ts'
import { UdpSockets } from './udp.ts'

/** How octets get to a nameserver and back. */
export interface Transport {
  udp(options: ExchangeOptions): Promise<ExchangeOutcome>
  tcp(options: ExchangeOptions): Promise<ExchangeOutcome>
}

export function createTransport(timers: Timers): Transport {
  const sockets = new UdpSockets(() => timers.now())
  const underWay = new ExchangesUnderWay(timers)
  const begin = (options: ExchangeOptions, wait: (exchange: Exchange) => Waiting): Promise<ExchangeOutcome> =>
    new Promise((resolve) => {
      const exchange = new Exchange(options, timers.now() + options.timeoutMs, underWay, resolve)
      exchange.begin(wait(exchange))
    })
  return {
    udp: (options) => begin(options, (exchange) => sockets.exchange(options, exchange)),
    tcp: (options) => begin(options, (exchange) => new TcpExchange(options, exchange)),
  }
}

/** Ends exchanges by time and by signal. A timer or a listener for each would cost half a query: all share one. */
class ExchangesUnderWay {
  readonly #timers: Timers
  readonly #exchanges = new Set<Exchange>()
  readonly #heard = new WeakSet<AbortSignal>()
  #timer: Timer | null = null
  /** Not after the earliest deadline there is. */
  #timerAtMs = Number.POSITIVE_INFINITY

  constructor(timers: Timers) {
    this.#timers = timers
  }

  add(exchange: Exchange): void {
    this.#exchanges.add(exchange)
    if (exchange.deadlineMs < this.#timerAtMs) this.#setTimer(exchange.deadlineMs)
    const { signal } = exchange
    if (this.#heard.has(signal)) return
    this.#heard.add(signal)
    signal.addEventListener('abort', () => {
      for (const one of [...this.#exchanges]) if (one.signal === signal) one.settle({ kind: 'aborted' })
    })
  }

  delete(exchange: Exchange): void {
    this.#exchanges.delete(exchange)
    if (this.#exchanges.size === 0) this.#setTimer(Number.POSITIVE_INFINITY)
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
  readonly signal: AbortSignal
  readonly deadlineMs: number
  readonly #underWay: ExchangesUnderWay
  readonly #resolve: (outcome: ExchangeOutcome) => void
  #waiting: Waiting | null = null
  #settled = false

  constructor(
    { signal }: ExchangeOptions,
    deadlineMs: number,
    underWay: ExchangesUnderWay,
    resolve: (outcome: ExchangeOutcome) => void,
  ) {
    this.signal = signal
    this.deadlineMs = deadlineMs
    this.#underWay = underWay
    this.#resolve = resolve
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
    this.#waiting?.close()
    this.#resolve(outcome)
  }
}
