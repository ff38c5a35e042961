import type { OnBug } from '../guard.ts'
import { createLineLimit, type LineLimit } from '../line-limit.ts'
import type { Logger } from '../log.ts'

/** Where an exception may be caught, and what it costs there. A closed list: each is a label of a metric. */
const COSTS = {
  request: 'a bug: this request failed with 502, others go on',
  envoy: 'a bug: the stream of an Envoy failed, it connects again',
  load_report: "a bug: an Envoy's stream of load reports failed, it connects again",
  operator: "a bug: an operator's request or page missed an answer, all else goes on",
  dns: 'a bug: one name got no answer, others go on',
  file: 'a bug: a changed file was not taken over, what was read before stays in force',
  timer: 'a bug: a regular task was left out, it comes again',
  connection: 'a bug: one connection to listen.grpc failed, others go on',
} as const satisfies Record<string, string>

export type BugPlace = keyof typeof COSTS

/** The exceptions that were caught: each is logged, as far as the limit on lines of its kind allows, and counted. */
export class Bugs {
  readonly #log: Pick<Logger, 'error'>
  readonly #limit: LineLimit
  readonly #counts = Object.fromEntries(Object.keys(COSTS).map((place) => [place, 0])) as Record<
    BugPlace,
    number
  >

  /** @param now monotonic, milliseconds */
  constructor(log: Pick<Logger, 'error'>, now: () => number) {
    this.#log = log
    this.#limit = createLineLimit(now)
  }

  /** By place, since the start. */
  get counts(): Readonly<Record<BugPlace, number>> {
    return this.#counts
  }

  at(place: BugPlace): OnBug {
    return (error, fields) => {
      this.#counts[place] += 1
      const due = this.#limit(place)
      if (due !== null) this.#log.error({ ...fields, err: error, ...due }, COSTS[place])
    }
  }
}
