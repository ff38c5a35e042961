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
  const begin = (options: ExchangeOptions, wait: (exchange: Exchange) => Waiting): Promise<ExchangeOutcome> =>
    new Promise((resolve) => {
      const exchange = new Exchange(options, timers, resolve)
      exchange.begin(wait(exchange))
    })
  return {
    udp: (options) => begin(options, (exchange) => sockets.exchange(options, exchange)),
    tcp: (options) => begin(options, (exchange) => new TcpExchange(options, exchange)),
  }
}

/** Exchanges under way by their signal, which has one listener for all: adding and removing one costs half a query. */
const underWay = new WeakMap<AbortSignal, Set<Exchange>>()

function underWayWith(signal: AbortSignal): Set<Exchange> {
  const known = underWay.get(signal)
  if (known !== undefined) return known
  const exchanges = new Set<Exchange>()
  underWay.set(signal, exchanges)
  signal.addEventListener('abort', () => {
    for (const exchange of [...exchanges]) exchange.abort()
  })
  return exchanges
}

/** One outcome, whichever comes first: a response, an error, the timer, the signal. Nothing is left afterwards. */
class Exchange implements Settles {
  readonly #options: ExchangeOptions
  readonly #resolve: (outcome: ExchangeOutcome) => void
  readonly #timer: Timer
  readonly #underWay: Set<Exchange>
  #waiting: Waiting | null = null
  #settled = false

  constructor(options: ExchangeOptions, timers: Timers, resolve: (outcome: ExchangeOutcome) => void) {
    this.#options = options
    this.#resolve = resolve
    this.#timer = timers.start(() => this.settle({ kind: 'timeout' }), options.timeoutMs)
    this.#underWay = underWayWith(options.signal)
    this.#underWay.add(this)
  }

  begin(waiting: Waiting): void {
    this.#waiting = waiting
    if (this.#options.signal.aborted) this.abort()
  }

  settle(outcome: ExchangeOutcome): void {
    if (this.#settled) return
    this.#settled = true
    this.#timer.cancel()
    this.#underWay.delete(this)
    this.#waiting?.close()
    this.#resolve(outcome)
  }

  abort(): void {
    this.settle({ kind: 'aborted' })
  }
}
