import type { Try } from '../dns/answer.ts'
import type { TraceContext } from '../ext-proc/trace-context.ts'
import type { Decision } from '../routing/decision.ts'
import { isUnresolved, ruleNameOf } from '../status/rule-counts.ts'

/** Queries of one request that become spans: three nameservers, twice, with both families, and some more. */
const QUERIES_MAX = 32

/** One query to a nameserver. */
export interface TracedQuery {
  readonly name: string
  readonly try: Try
  /** Milliseconds since 1970. */
  readonly endMs: number
}

/** Records one request while it is decided. */
export class RequestTrace {
  /** Milliseconds since 1970. */
  readonly startMs: number
  /** The decision had to wait for DNS. */
  waited = false
  readonly #queries: TracedQuery[] = []
  #isOver = false

  constructor(startMs: number) {
    this.startMs = startMs
  }

  /** Adds a query, unless the request is already decided: it may start a refresh that ends later. */
  add(query: TracedQuery): void {
    if (!this.#isOver && this.#queries.length < QUERIES_MAX) this.#queries.push(query)
  }

  /** @param endMs milliseconds since 1970 */
  decided(decision: Decision, parent: TraceContext, endMs: number): SpanData[] {
    this.#isOver = true
    const { startMs } = this
    const own: SpanData = {
      parent,
      name: 'decide',
      kind: 'server',
      startMs,
      endMs,
      isError: decision.kind === 'reject' && isUnresolved(decision.reason),
      attributes: { ...attributesOf(decision), ...this.#cacheState(decision) },
    }
    return [own, ...this.#queries.map((query) => spanOf(query))]
  }

  /** Where the address came from. */
  #cacheState({ zone, answer }: Decision): Readonly<Record<string, string>> {
    if (zone === undefined || (answer === undefined && zone.said === undefined)) return {}
    const state = (): string => {
      if (zone.said?.pinned !== undefined) return 'pinned'
      if (answer === undefined) return 'not_asked'
      if (this.waited) return this.#queries.length > 0 ? 'asked' : 'waited_for_another'
      if (answer.kind === 'positive') return answer.stale ? 'stale' : 'fresh'
      return answer.kind === 'failure' ? 'failed_lately' : 'fresh'
    }
    return { 'zonegate.dns.cache': state(), ...(answer && { 'zonegate.dns.answer': answer.kind }) }
  }
}

/** A span before it has an id. The first of a request is the parent of the others. */
export interface SpanData {
  /** Undefined: the first one. */
  readonly parent?: TraceContext
  readonly name: string
  readonly kind: 'server' | 'client'
  readonly startMs: number
  readonly endMs: number
  readonly isError: boolean
  readonly attributes: Readonly<Record<string, string>>
}

function attributesOf(decision: Decision): Record<string, string> {
  const { zone } = decision
  return {
    'zonegate.rule': ruleNameOf(decision) ?? '',
    ...(zone && {
      'zonegate.zone': zone.name,
      'zonegate.service': zone.service.name,
      'zonegate.id': zone.id,
    }),
    'zonegate.decision': decision.kind,
    ...(decision.kind === 'forward'
      ? { 'zonegate.address': decision.authority }
      : { 'zonegate.reason': decision.reason }),
  }
}

/** Outcomes with an answer about the name. */
const ANSWERS = new Set(['NOERROR', 'NXDOMAIN'])

function spanOf({
  name,
  try: { nameserver, outcome, milliseconds, type, transport },
  endMs,
}: TracedQuery): SpanData {
  return {
    name: `dns ${type}`,
    kind: 'client',
    startMs: endMs - milliseconds,
    endMs,
    isError: !ANSWERS.has(outcome),
    attributes: {
      'dns.question.name': name,
      'zonegate.dns.type': type,
      'zonegate.dns.nameserver': nameserver,
      'network.transport': transport,
      'zonegate.dns.outcome': outcome,
    },
  }
}

/** Sends spans to a collector. */
export interface SpanSender {
  /** @param spans the first is the parent of the others */
  send(spans: readonly SpanData[]): void
  /** Sends the remaining spans, and gives up after a second. */
  close(): Promise<void>
}
