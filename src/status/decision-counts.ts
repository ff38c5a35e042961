import type { Answer } from '../dns/answer.ts'
import type { Decider } from '../routing/decider.ts'
import type { Decision } from '../routing/decision.ts'
import { type RejectReason, STATUS_OF_REASON } from '../routing/reject-reason.ts'
import { Histogram } from './histogram.ts'
import { RuleCounts } from './rule-counts.ts'

/** From answers of the cache (tens of microseconds) to a whole `dns.budgetMs`. */
const DECISION_SECONDS = [0.000_025, 0.000_1, 0.000_25, 0.001, 0.0025, 0.01, 0.025, 0.1, 0.25, 0.5, 1, 2.5]

/** How DNS answered the requests that got as far as that. */
export type AnswerClass = 'positive' | 'stale' | 'nxdomain' | 'nodata' | 'failure'

/** What became of the requests that asked the processor, since its start. Plain numbers: counting costs nothing. */
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
   * The same decider, its time taken.
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
