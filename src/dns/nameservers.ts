/** The nameservers in force: their order, their health, and what they have done so far. */
import { EdnsSupport } from './edns-support.ts'
import type { ResolverEvent } from './events.ts'
import type { NameserverAddress } from './transport.ts'

/** How long a failed nameserver stays behind the others, doubling with each failure. */
const PENALTY_MS_MIN = 1000
const PENALTY_MS_MAX = 10_000
/** RFC 6298 §2.3's smoothing. */
const RTT_WEIGHT = 1 / 8

export class Nameserver {
  readonly address: NameserverAddress
  readonly edns = new EdnsSupport()
  /** Failures in a row; 0: healthy. */
  failures = 0
  /** When a penalised nameserver may be asked again beside a healthy one, to see if it is back. */
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

  /** Failures under a penalty that stands count once: many queries may have been in flight when it died. */
  penalise(nowMs: number): void {
    if (this.failures > 0 && nowMs < this.probeAtMs) return
    this.failures++
    this.probing = false
    this.probeAtMs = nowMs + Math.min(PENALTY_MS_MAX, PENALTY_MS_MIN * 2 ** Math.min(this.failures - 1, 10))
  }
}

const NONE: readonly Nameserver[] = []

export class NameserverSet {
  readonly #onEvent: (event: ResolverEvent) => void
  #nameservers: readonly Nameserver[] = []
  #turn = 0

  constructor(onEvent: (event: ResolverEvent) => void) {
    this.#onEvent = onEvent
  }

  get all(): readonly Nameserver[] {
    return this.#nameservers
  }

  /** Takes over a new list, and returns who is no longer on it. A nameserver that was there before keeps what is known of it. */
  replace(addresses: readonly NameserverAddress[]): readonly Nameserver[] {
    if (isSameList(addresses, this.#nameservers)) return NONE
    const before = new Map(this.#nameservers.map((nameserver) => [nameserver.address.text, nameserver]))
    this.#nameservers = addresses.map((address) => before.get(address.text) ?? new Nameserver(address))
    return [...before.values()].filter((nameserver) => !this.isInForce(nameserver))
  }

  isInForce(nameserver: Nameserver): boolean {
    return this.#nameservers.includes(nameserver)
  }

  /** The healthy ones first, in the order of the file or from the next one in turn; then by failures in a row. */
  inOrder(rotate: boolean): readonly Nameserver[] {
    const all = this.#nameservers
    const first = rotate ? this.#turn++ % all.length : 0
    if (first === 0 && this.allHealthy) return all
    return [...all.slice(first), ...all.slice(0, first)].sort((a, b) => a.failures - b.failures)
  }

  /** Those that stand before one in the list; none where it isn't in it. */
  before(text: string): readonly Nameserver[] {
    return this.#nameservers.slice(
      0,
      Math.max(
        0,
        this.#nameservers.findIndex((one) => one.address.text === text),
      ),
    )
  }

  /** Penalised ones to be asked beside a healthy one; each is handed out once per penalty. */
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
