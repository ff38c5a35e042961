/** A Dns under test: short timeouts, a clock that can be wound forward, and a record of its events. */
import assert from 'node:assert/strict'
import { type Answer, areEndpoints } from '../../src/dns/answer.ts'
import { createDns, type Dns, type DnsEvent, type DnsOptions, type DnsSeams } from '../../src/dns/dns.ts'
import type { Timer, Timers } from '../../src/timers.ts'
import { type Script, type ScriptedNameserver, startNameserver } from './nameserver.ts'

/** The most time that one turn of the event loop counts for. A look-up takes a few turns. */
const TURN_MS_MAX = 2

/**
 * Real time, plus what a test adds to it; but it stands still while this process is blocked. Nameserver and client run in the same
 * process, so even on the slowest machine an immediate answer takes only a few milliseconds of it. Timers use this time.
 */
export class WindableClock implements Timers {
  readonly #timers = new Set<RunningTimer>()
  readonly #beat = setInterval(() => this.#onBeat(), 1)
  /** A whole number, so that `now + 1000 - now` is exactly 1000. */
  #nowMs = Math.floor(performance.now())
  #beatAtMs = this.#nowMs

  readonly now = (): number => this.#nowMs

  start(callback: () => void, milliseconds: number): Timer {
    const timer: RunningTimer = {
      callback,
      atMs: this.#nowMs + milliseconds,
      cancel: () => void this.#timers.delete(timer),
    }
    this.#timers.add(timer)
    return timer
  }

  get timersRunning(): number {
    return this.#timers.size
  }

  /** Adds time. Timers that become due fire in order, after this has returned. */
  wind(milliseconds: number): void {
    this.#nowMs += milliseconds
    this.#goOff()
  }

  /** Resolves once all due timers have fired. */
  async wentOff(): Promise<void> {
    while ([...this.#timers].some(({ atMs }) => atMs <= this.#nowMs)) await turn()
    await turn()
  }

  close(): void {
    clearInterval(this.#beat)
  }

  #onBeat(): void {
    const atMs = Math.floor(performance.now())
    this.#nowMs += Math.min(atMs - this.#beatAtMs, TURN_MS_MAX)
    this.#beatAtMs = atMs
    this.#goOff()
  }

  #goOff(): void {
    const due = [...this.#timers].filter(({ atMs }) => atMs <= this.#nowMs)
    for (const timer of due.sort((one, other) => one.atMs - other.atMs))
      setImmediate(() => {
        if (this.#timers.delete(timer)) timer.callback()
      })
  }
}

interface RunningTimer extends Timer {
  readonly atMs: number
  readonly callback: () => void
}

/** The addresses of an answer that has some, sorted; those that bring a port with it. */
export function addressesOf(answer: Answer): readonly string[] {
  assert.equal(answer.kind, 'positive', JSON.stringify(answer))
  const addresses = answer.kind === 'positive' ? answer.addresses : []
  const texts = areEndpoints(addresses)
    ? addresses.map(({ address, port }) => `${address}:${port}`)
    : addresses
  return [...texts].sort()
}

const turn = (): Promise<void> => new Promise((done) => setImmediate(done))

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

/** A script's or a request's time, by the clock of the Dns under test. */
export async function timed<T>({ now }: WindableClock, work: () => Promise<T> | T): Promise<[T, number]> {
  const startedAtMs = now()
  return [await work(), now() - startedAtMs]
}

/** Waits until a condition holds, much longer than any machine needs. */
export async function until(condition: () => boolean): Promise<void> {
  const deadlineMs = performance.now() + 30_000
  while (!condition()) {
    assert.ok(performance.now() < deadlineMs, `it took too long: ${condition}`)
    await new Promise((done) => setTimeout(done, 2))
  }
}

/** Waits until no query is in flight. */
export async function settled({ dns, clock }: Bench): Promise<void> {
  await clock.wentOff()
  await until(() => dns.status().queriesInFlight === 0 && dns.status().refreshesWaiting === 0)
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
      admitPort: () => true,
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
    clock.close()
    await Promise.all(nameservers.map((nameserver) => nameserver.stop()))
  }
}
