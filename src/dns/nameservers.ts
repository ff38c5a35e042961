/** The nameservers in force: their order, their health and their counters. */
import { EdnsSupport } from './edns-support.ts'
import type { DnsEvent } from './events.ts'
import type { NameserverAddress } from './transport.ts'

/** How long a failed nameserver stays behind the others, doubling with each failure. */
const PENALTY_MS_MIN = 1000
const PENALTY_MS_MAX = 10_000
/** The smoothing of RFC 6298 §2.3. */
const RTT_WEIGHT = 1 / 8

export class Nameserver {
  readonly address: NameserverAddress
  readonly edns = new EdnsSupport()
  /** Failures in a row; 0: healthy. */
  failures = 0
  /** When a penalised nameserver gets a probe: a query beside the one to a healthy nameserver. */
  probeAtMs = 0
  probing = false
  smoothedRttMs: number | null = null
  /** Queries by outcome. */
  readonly outcomes = new Map<string, number>()
  lastOutcome = ''

  constructor(address: NameserverAddress) {
    this.address = address
  }

  count(outcome: string): void {
    this.lastOutcome = outcome
    this.outcomes.set(outcome, (this.outcomes.get(outcome) ?? 0) + 1)
  }

  answered(milliseconds: number): void {
    this.smoothedRttMs =
      this.smoothedRttMs === null
        ? milliseconds
        : this.smoothedRttMs + (milliseconds - this.smoothedRttMs) * RTT_WEIGHT
  }

  /** Failures during a penalty count once: many queries may have been in flight when the nameserver died. */
  penalise(nowMs: number): void {
    if (this.failures > 0 && nowMs < this.probeAtMs) return
    this.failures++
    this.probing = false
    this.probeAtMs = nowMs + Math.min(PENALTY_MS_MAX, PENALTY_MS_MIN * 2 ** Math.min(this.failures - 1, 10))
  }
}

const NONE: readonly Nameserver[] = []

export class NameserverSet {
  readonly #onEvent: (event: DnsEvent) => void
  #nameservers: readonly Nameserver[] = []
  #turn = 0

  constructor(onEvent: (event: DnsEvent) => void) {
    this.#onEvent = onEvent
  }

  get all(): readonly Nameserver[] {
    return this.#nameservers
  }

  /** Takes over a new list, and returns the nameservers that it drops. The others keep their health and counters. */
  replace(addresses: readonly NameserverAddress[]): readonly Nameserver[] {
    if (isSameList(addresses, this.#nameservers)) return NONE
    const before = new Map(this.#nameservers.map((nameserver) => [nameserver.address.text, nameserver]))
    this.#nameservers = addresses.map((address) => before.get(address.text) ?? new Nameserver(address))
    return [...before.values()].filter((nameserver) => !this.isInForce(nameserver))
  }

  isInForce(nameserver: Nameserver): boolean {
    return this.#nameservers.includes(nameserver)
  }

  /** Healthy ones first, in the order of the list, or rotated by one each time; then by failures in a row. */
  inOrder(rotate: boolean): readonly Nameserver[] {
    const all = this.#nameservers
    const first = rotate ? this.#turn++ % all.length : 0
    if (first === 0 && this.allHealthy) return all
    return [...all.slice(first), ...all.slice(0, first)].sort((a, b) => a.failures - b.failures)
  }

  /** Those before one in the list; none where the list doesn't have it. */
  before(text: string): readonly Nameserver[] {
    return this.#nameservers.slice(
      0,
      Math.max(
        0,
        this.#nameservers.findIndex((one) => one.address.text === text),
      ),
    )
  }

  /** The penalised ones that are due for a probe. Each is returned once per penalty. */
  takeDueForProbe(nowMs: number): readonly Nameserver[] {
    if (this.allHealthy || this.#nameservers.every(({ failures }) => failures > 0)) return NONE
    const due = this.#nameservers.filter(
      ({ failures, probing, probeAtMs }) => failures > 0 && !probing && probeAtMs <= nowMs,
    )
    for (const nameserver of due) nameserver.probing = true
    return due
  }

  get allHealthy(): boolean {
    for (const { failures } of this.#nameservers) if (failures > 0) return false
    return true
  }

  penalise(nameserver: Nameserver, nowMs: number): void {
    if (nameserver.failures === 0) {
      const { address, lastOutcome } = nameserver
      this.#onEvent({ kind: 'nameserver_failing', nameserver: address.text, outcome: lastOutcome })
    }
    nameserver.penalise(nowMs)
  }

  recovered(nameserver: Nameserver): void {
    if (nameserver.failures === 0) return
    nameserver.failures = 0
    nameserver.probing = false
    this.#onEvent({ kind: 'nameserver_recovered', nameserver: nameserver.address.text })
  }
}

function isSameList(addresses: readonly NameserverAddress[], nameservers: readonly Nameserver[]): boolean {
  return (
    addresses.length === nameservers.length &&
    addresses.every(({ text }, at) => text === nameservers[at]?.address.text)
  )
}
