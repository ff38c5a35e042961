import type { Decision } from '../routing/decision.ts'
import { type RejectReason, STATUS_OF_REASON } from '../routing/reject-reason.ts'
import { type Rules, servicesOf } from '../routing/rules.ts'
import { SLOT_SECONDS } from './zone-activity.ts'

/** What became of the requests of one rule, since the processor began to follow it. */
export interface RuleStatus {
  readonly name: string
  /** All of them: forwarded, refused by the processor, and those that Envoys report of learned zones. */
  readonly requests: number
  readonly hot: number
  readonly forwarded: number
  /** By reason, where there are any. */
  readonly refused: Readonly<Partial<Record<RejectReason, number>>>
  readonly requestsPerSecond: number
}

interface Entry {
  hot: number
  forwarded: number
  readonly refused: Map<RejectReason, number>
  readonly rate: SlotRate
}

/** Requests by rule. Bounded: by the names that are configured, and a name that is no more is forgotten. */
export class RuleCounts {
  #entries = new Map<string, Entry>()
  #ruleOfService = new Map<string, Entry>()

  /** A rule whose name stays goes on counting. */
  follow(rules: Rules): void {
    const before = this.#entries
    this.#entries = new Map(rules.map(({ name }) => [name, before.get(name) ?? newEntry()]))
    this.#ruleOfService = new Map(
      rules.flatMap((rule) => {
        const entry = this.#entries.get(rule.name)
        return entry === undefined ? [] : servicesOf(rule).map(({ name }) => [name, entry] as const)
      }),
    )
  }

  /** A decision of the processor. One that no rule made, or one that is no more, counts for none. */
  count(decision: Decision): void {
    const entry = this.#entries.get(ruleNameOf(decision) ?? '')
    if (entry === undefined) return
    entry.rate.count(1)
    if (decision.kind === 'forward') entry.forwarded += 1
    else entry.refused.set(decision.reason, (entry.refused.get(decision.reason) ?? 0) + 1)
  }

  /** Requests that an Envoy has forwarded by itself, to a zone of this service. */
  countHot(service: string, requests: number): void {
    const entry = this.#ruleOfService.get(service)
    if (entry === undefined || requests === 0) return
    entry.hot += requests
    entry.rate.count(requests)
  }

  /** Begins the next slot. Call it each SLOT_SECONDS. */
  nextSlot(): void {
    for (const { rate } of this.#entries.values()) rate.nextSlot()
  }

  /** In the order of the configuration. */
  list(): RuleStatus[] {
    return [...this.#entries].map(([name, { hot, forwarded, refused, rate }]) => ({
      name,
      requests: hot + forwarded + sum(refused.values()),
      hot,
      forwarded,
      refused: Object.fromEntries(refused),
      requestsPerSecond: rate.perSecond,
    }))
  }
}

/** Of a refusal after DNS, its zone says the rule. */
export function ruleNameOf(decision: Decision): string | undefined {
  if (decision.kind === 'forward') return decision.zone.service.rule
  return decision.rule?.name ?? decision.zone?.service.rule
}

/** True for a refusal because of what DNS says of the zone's name, and not because of the request. */
export function isUnresolved(reason: RejectReason): boolean {
  return STATUS_OF_REASON[reason] === 502
}

function newEntry(): Entry {
  return { hot: 0, forwarded: 0, refused: new Map(), rate: new SlotRate() }
}

function sum(counts: Iterable<number>): number {
  let total = 0
  for (const count of counts) total += count
  return total
}

/** A rate over the last two whole slots, as zones have theirs: reports of several Envoys don't keep step with slots. */
export class SlotRate {
  #open = 0
  #closed: readonly [number, number] = [0, 0]

  count(requests: number): void {
    this.#open += requests
  }

  /** Call it each SLOT_SECONDS. */
  nextSlot(): void {
    this.#closed = [this.#open, this.#closed[0]]
    this.#open = 0
  }

  /** To a tenth. */
  get perSecond(): number {
    const [last, before] = this.#closed
    return Math.round(((last + before) / (2 * SLOT_SECONDS)) * 10) / 10
  }
}
