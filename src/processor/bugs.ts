import type { OnBug } from '../guard.ts'
import { createLineLimit, type LineLimit } from '../line-limit.ts'
import type { Logger } from '../log.ts'

/** Where the processor catches exceptions, and what each one costs. A closed list, because each place is a metric label. */
const COSTS = {
  request: 'a bug: this request failed with 502, other requests go on',
  envoy: 'a bug: the stream of an Envoy failed, Envoy connects again',
  load_report: "a bug: an Envoy's stream of load reports failed, Envoy connects again",
  operator: "a bug: an operator's request or page got no answer, everything else goes on",
  dns: 'a bug: one name got no answer, other names go on',
  file: 'a bug: the processor could not use a changed file, the previous version stays in force',
  timer: 'a bug: a regular task failed, it runs again next time',
  connection: 'a bug: one connection to listen.grpc failed, others go on',
} as const satisfies Record<string, string>

type BugPlace = keyof typeof COSTS

/** Counts caught exceptions and logs them, within a rate limit for each place. */
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

  /** Exceptions at each place since the start. */
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
