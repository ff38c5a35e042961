/** A Dns under test: short real timeouts, a clock that can be wound forward, and all that it told. */
import { createDns, type Dns, type DnsEvent, type DnsOptions, type DnsSeams } from '../../src/dns/dns.ts'
import type { Timer, Timers } from '../../src/dns/timers.ts'
import { type Script, type ScriptedNameserver, startNameserver } from './nameserver.ts'

/** Real time, plus what a test adds to it. Timers go off by this time. */
export class WindableClock implements Timers {
  readonly #timers = new Set<RunningTimer>()
  #addedMs = 0

  readonly now = (): number => performance.now() + this.#addedMs

  start(callback: () => void, milliseconds: number): Timer {
    const timer = new RunningTimer(callback, this.now() + milliseconds, () => this.#timers.delete(timer))
    this.#timers.add(timer)
    timer.arm(this.now())
    return timer
  }

  get timersRunning(): number {
    return this.#timers.size
  }

  /** What is due by then goes off in the order of its time. */
  wind(milliseconds: number): void {
    this.#addedMs += milliseconds
    const nowMs = this.now()
    for (const timer of [...this.#timers].sort((one, other) => one.atMs - other.atMs)) timer.arm(nowMs)
  }
}

class RunningTimer implements Timer {
  readonly atMs: number
  readonly #callback: () => void
  readonly #onEnd: () => void
  #timeout: NodeJS.Timeout | null = null

  constructor(callback: () => void, atMs: number, onEnd: () => void) {
    this.#callback = callback
    this.atMs = atMs
    this.#onEnd = onEnd
  }

  arm(nowMs: number): void {
    if (this.#timeout !== null) clearTimeout(this.#timeout)
    this.#timeout = setTimeout(
      () => {
        this.#onEnd()
        this.#callback()
      },
      Math.max(0, this.atMs - nowMs),
    )
  }

  cancel(): void {
    if (this.#timeout !== null) clearTimeout(this.#timeout)
    this.#onEnd()
  }
}

export const TIMEOUT_MS = 100
export const BUDGET_MS = 800

const OPTIONS: DnsOptions = {
  resolvConf: '/nonexistent/resolv.conf',
  nameservers: null,
  search: 'game.test',
  budgetMs: BUDGET_MS,
  ttlSeconds: { min: 5, max: 60 },
  timeoutMs: TIMEOUT_MS,
  attempts: 2,
  rotate: false,
  family: 'ipv4',
  staleSeconds: 3600,
  negativeTtlSecondsMax: 30,
  cacheEntriesMax: 1000,
  queriesInFlightMax: 256,
  unknownNames: { queriesPerSecond: 100_000, queriesBurst: 100_000 },
}

export interface Bench {
  readonly dns: Dns
  readonly clock: WindableClock
  readonly events: DnsEvent[]
  /** In the order of the scripts. */
  readonly nameservers: readonly ScriptedNameserver[]
  readonly ns1: ScriptedNameserver
  readonly ns2: ScriptedNameserver
}

/** Starts a nameserver per script, hands out a Dns that asks them in this order, and ends all of it. */
export async function withDns(
  scripts: readonly Script[],
  test: (bench: Bench) => Promise<void> | void,
  options: Partial<DnsOptions> = {},
  seams: Partial<DnsSeams> = {},
): Promise<void> {
  const nameservers = await Promise.all(scripts.map((script) => startNameserver(script)))
  const clock = new WindableClock()
  const events: DnsEvent[] = []
  const dns = createDns(
    { ...OPTIONS, nameservers: nameservers.map(({ address }) => address), ...options },
    {
      now: clock.now,
      timers: clock,
      environment: {},
      admit: () => true,
      onEvent: (event) => events.push(event),
      // No jitter and no shuffling, except where a test wants them.
      random: () => 0,
      ...seams,
    },
  )
  const [ns1, ns2] = nameservers
  try {
    await test({
      dns,
      clock,
      events,
      nameservers,
      ns1: ns1 as ScriptedNameserver,
      ns2: ns2 as ScriptedNameserver,
    })
  } finally {
    dns.close()
    await Promise.all(nameservers.map((nameserver) => nameserver.stop()))
  }
}
