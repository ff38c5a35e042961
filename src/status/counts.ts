import type { Answer, Try } from '../dns/answer.ts'
import type { Decider, Decision } from '../routing/decision.ts'
import { type RejectReason, STATUS_OF_REASON } from '../routing/reject-reason.ts'
import type { Kind } from '../xds/resource.ts'
import { RuleCounts } from './rule-counts.ts'

/** From answers of the cache (tens of microseconds) to a whole `dns.budgetMs`. */
const DECISION_SECONDS = [0.000_025, 0.000_1, 0.000_25, 0.001, 0.0025, 0.01, 0.025, 0.1, 0.25, 0.5, 1, 2.5]

/** How DNS answered, for requests that needed an address. */
export type AnswerClass = 'positive' | 'stale' | 'nxdomain' | 'nodata' | 'failure'

/** Outcomes of the requests that asked the processor, since its start. Plain numbers, because each request is counted. */
export class DecisionCounts {
  forwarded = 0
  readonly refused: Record<RejectReason, number>
  readonly answers: Record<AnswerClass, number> = {
    positive: 0,
    stale: 0,
    nxdomain: 0,
    nodata: 0,
    failure: 0,
  }
  readonly rules = new RuleCounts()
  readonly seconds = new Histogram(DECISION_SECONDS)

  constructor() {
    this.refused = Object.fromEntries(Object.keys(STATUS_OF_REASON).map((reason) => [reason, 0])) as Record<
      RejectReason,
      number
    >
  }

  count(decision: Decision): void {
    this.rules.count(decision)
    if (decision.kind === 'forward') this.forwarded += 1
    else this.refused[decision.reason] += 1
    if (decision.answer !== undefined && decision.zone?.said?.pinned === undefined)
      this.answers[classOf(decision.answer)] += 1
  }

  /**
   * Wraps a decider and measures its time.
   * @param now milliseconds
   */
  timed(decide: Decider, now: () => number): Decider {
    return (head) => {
      const startMs = now()
      const decision = decide(head)
      const observe = (): void => this.seconds.observe((now() - startMs) / 1000)
      if (decision instanceof Promise) decision.then(observe, observe)
      else observe()
      return decision
    }
  }
}

function classOf(answer: Answer): AnswerClass {
  return answer.kind === 'positive' && answer.stale ? 'stale' : answer.kind
}

/** From a local cache to a timeout. */
const QUERY_SECONDS = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5]
/** Nameservers with counters, more than any configuration has. A new one beyond them replaces the oldest. */
const NAMESERVERS_MAX = 16
/** RCODEs without a name count as `other`: a nameserver can send 4,096 of them. */
const NUMBERED_RCODE = /^RCODE\d+$/

export interface QueryCounts {
  readonly outcomes: Map<string, number>
  /** How long queries took, whatever their outcome. */
  readonly seconds: Histogram
}

/** DNS queries since the start, by nameserver. A reload keeps them. */
export class DnsQueryCounts {
  readonly #byNameserver = new Map<string, QueryCounts>()

  get byNameserver(): ReadonlyMap<string, QueryCounts> {
    return this.#byNameserver
  }

  count({ nameserver, outcome, milliseconds }: Try): void {
    const counts = this.#byNameserver.get(nameserver) ?? this.#add(nameserver)
    const label = NUMBERED_RCODE.test(outcome) ? 'other' : outcome
    counts.outcomes.set(label, (counts.outcomes.get(label) ?? 0) + 1)
    counts.seconds.observe(milliseconds / 1000)
  }

  #add(nameserver: string): QueryCounts {
    const [oldest] = this.#byNameserver.keys()
    if (this.#byNameserver.size >= NAMESERVERS_MAX && oldest !== undefined) this.#byNameserver.delete(oldest)
    const counts = { outcomes: new Map<string, number>(), seconds: new Histogram(QUERY_SECONDS) }
    this.#byNameserver.set(nameserver, counts)
    return counts
  }
}

export interface Answers {
  readonly acks: number
  readonly nacks: number
}

/** ACKs and NACKs of all Envoys since the start. */
export class PushCounts {
  readonly #totals: Readonly<Record<Kind, { acks: number; nacks: number }>> = {
    cluster: { acks: 0, nacks: 0 },
    endpoints: { acks: 0, nacks: 0 },
    virtualHost: { acks: 0, nacks: 0 },
  }

  /** By kind of resource. */
  get totals(): Readonly<Record<Kind, Answers>> {
    return this.#totals
  }

  count(kind: Kind, answer: keyof Answers): void {
    this.#totals[kind][answer] += 1
  }
}

/** A histogram as Prometheus defines it. `observe` allocates nothing. */
export class Histogram {
  /** Upper bounds, ascending; above the last one is infinity. */
  readonly bounds: readonly number[]
  readonly #counts: Float64Array
  #sum = 0
  #count = 0

  constructor(bounds: readonly number[]) {
    this.bounds = bounds
    this.#counts = new Float64Array(bounds.length)
  }

  get sum(): number {
    return this.#sum
  }

  get count(): number {
    return this.#count
  }

  observe(value: number): void {
    this.#sum += value
    this.#count += 1
    for (let at = 0; at < this.bounds.length; at++) {
      if (value <= (this.bounds[at] as number)) {
        this.#counts[at] = (this.#counts[at] as number) + 1
        return
      }
    }
  }

  /** Observations at or below each bound. */
  cumulative(): number[] {
    let sum = 0
    return [...this.#counts].map((count) => {
      sum += count
      return sum
    })
  }
}

/** Spans by outcome, since the start. */
export interface SpanCounts {
  made: number
  /** The collector took them. */
  sent: number
  /** The collector refused them or could not be reached. */
  failed: number
}
