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
  const sockets = new UdpSockets()
  return {
    udp: (options) =>
      new Promise((resolve) => {
        const exchange = new Exchange(options, timers, resolve)
        exchange.begin(sockets.exchange(options, exchange))
      }),
    tcp: (options) =>
      new Promise((resolve) => {
        const exchange = new Exchange(options, timers, resolve)
        exchange.begin(new TcpExchange(options, exchange))
      }),
  }
}

/** One outcome, whichever comes first: a response, an error, the timer, the signal. Nothing is left afterwards. */
class Exchange implements Settles {
  readonly #options: ExchangeOptions
  readonly #resolve: (outcome: ExchangeOutcome) => void
  readonly #timer: Timer
  #waiting: Waiting | null = null
  #settled = false

  constructor(options: ExchangeOptions, timers: Timers, resolve: (outcome: ExchangeOutcome) => void) {
    this.#options = options
    this.#resolve = resolve
    this.#timer = timers.start(() => this.settle({ kind: 'timeout' }), options.timeoutMs)
    // An object as listener costs no closure per query.
    options.signal.addEventListener('abort', this)
  }

  begin(waiting: Waiting): void {
    this.#waiting = waiting
    if (this.#options.signal.aborted) this.handleEvent()
  }

  settle(outcome: ExchangeOutcome): void {
    if (this.#settled) return
    this.#settled = true
    this.#timer.cancel()
    this.#options.signal.removeEventListener('abort', this)
    this.#waiting?.close()
    this.#resolve(outcome)
  }

  handleEvent(): void {
    this.settle({ kind: 'aborted' })
  }
}
