import type { Decision } from '../routing/decision.ts'
import { type RejectReason, STATUS_OF_REASON } from '../routing/reject-reason.ts'
import { type Rules, servicesOf } from '../routing/rules.ts'
import { SLOT_SECONDS } from './zone-activity.ts'

/** Requests of one rule, since the processor first loaded a rule of this name. */
export interface RuleStatus {
  readonly name: string
  /** Those that the processor forwarded or refused, and those that Envoys report of learned zones. */
  readonly requests: number
  readonly hot: number
  readonly forwarded: number
  /** By reason; reasons without requests are absent. */
  readonly refused: Readonly<Partial<Record<RejectReason, number>>>
  readonly requestsPerSecond: number
}

interface Entry {
  hot: number
  forwarded: number
  readonly refused: Map<RejectReason, number>
  readonly rate: SlotRate
}

/** Requests by rule. Only configured rules have counters, so memory is bounded. */
export class RuleCounts {
  #entries = new Map<string, Entry>()
  #ruleOfService = new Map<string, Entry>()

  /** A rule keeps its counters while its name stays. */
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

  /** Counts a decision of the processor, unless no configured rule made it. */
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

  /** Begins the next slot. Call it every SLOT_SECONDS. */
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

/** A refusal after DNS has no rule of its own, but its zone has. */
export function ruleNameOf(decision: Decision): string | undefined {
  if (decision.kind === 'forward') return decision.zone.service.rule
  return decision.rule?.name ?? decision.zone?.service.rule
}

/** True where DNS caused the refusal, and not the request. */
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

/** Requests per second over the last two whole slots: the Envoys' reports do not keep step with slots, so one would jitter. */
export class SlotRate {
  #open = 0
  #closed: readonly [number, number] = [0, 0]

  count(requests: number): void {
    this.#open += requests
  }

  /** Call it every SLOT_SECONDS. */
  nextSlot(): void {
    this.#closed = [this.#open, this.#closed[0]]
    this.#open = 0
  }

  /** Rounded to 0.1. */
  get perSecond(): number {
    const [last, before] = this.#closed
    return Math.round(((last + before) / (2 * SLOT_SECONDS)) * 10) / 10
  }
}
