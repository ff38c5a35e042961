import type { Try } from '../dns/answer.ts'
import { Histogram } from './histogram.ts'

/** From a cache beside us to a timeout. */
const QUERY_SECONDS = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5]
/** Nameservers counted at once. More are in force by nobody's wish; the one counted longest goes. */
const NAMESERVERS_MAX = 16
/** A nameserver may answer with any of 4,096 RCODEs; those with a name are told apart. */
const NUMBERED_RCODE = /^RCODE\d+$/

export interface QueryCounts {
  readonly outcomes: Map<string, number>
  /** Queries that were answered, by whatever RCODE. */
  readonly seconds: Histogram
}

/** DNS queries since the start, by nameserver; they outlive a reload. */
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
