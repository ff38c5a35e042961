import { AsyncLocalStorage } from 'node:async_hooks'
import type { Metadata } from '@grpc/grpc-js'
import type { DnsEvent } from '../dns/events.ts'
import type { TracingSettings } from '../envoy-files/tracing.ts'
import { traceContextOf } from '../ext-proc/trace-context.ts'
import type { OnBug } from '../guard.ts'
import type { Logger } from '../log.ts'
import type { Decider, Decision } from '../routing/decision.ts'
import type { RequestHead } from '../routing/rules.ts'
import type { SpanCounts } from '../status/counts.ts'
import { RequestTrace, type SpanSender } from './request-trace.ts'

/** If the wall clock differs by more, somebody set it, and spans follow it. */
const CLOCK_ERROR_MS_MAX = 20

/**
 * Spans of the processor's work for a request, below the span of Envoy's call. Envoy decides which requests are traced, and
 * says so with `traceparent` in the call's metadata. While tracing is off, this loads and does nothing.
 */
export class Tracing {
  readonly counts: SpanCounts = { made: 0, sent: 0, failed: 0 }
  readonly #log: Pick<Logger, 'warn' | 'info'>
  readonly #onBug: OnBug
  readonly #traces = new WeakMap<RequestHead, RequestTrace>()
  readonly #context = new AsyncLocalStorage<RequestTrace>()
  #collector: string | null = null
  #sender: SpanSender | null = null
  #epochMs = performance.timeOrigin

  constructor(log: Pick<Logger, 'warn' | 'info'>, onBug: OnBug) {
    this.#log = log
    this.#onBug = onBug
  }

  /** Applies new settings; undefined: off. */
  follow(settings: TracingSettings | undefined): void {
    const collector = settings === undefined ? null : urlOf(settings)
    if (collector === this.#collector) return
    this.#collector = collector
    const before = this.#sender
    this.#sender = null
    before?.close().catch(this.#onBug)
    if (collector !== null) this.#open(collector).catch(this.#onBug)
  }

  async #open(collector: string): Promise<void> {
    const { openSender } = await import('./otlp.ts')
    if (collector !== this.#collector || this.#sender !== null) return
    this.#sender = openSender(collector, this.counts, this.#log)
  }

  /** Wraps a decider and records its work. */
  traced(decide: Decider): Decider {
    return (head) => {
      if (this.#sender === null) return decide(head)
      const trace = new RequestTrace(this.#now())
      this.#traces.set(head, trace)
      const decision = this.#context.run(trace, decide, head)
      trace.waited = decision instanceof Promise
      return decision
    }
  }

  /** The request for which the current query to a nameserver begins. */
  readonly current = (): RequestTrace | undefined =>
    this.#sender === null ? undefined : this.#context.getStore()

  /** A query has ended. */
  queried({ name, try: one, askedFor }: Extract<DnsEvent, { kind: 'query' }>): void {
    if (askedFor instanceof RequestTrace) askedFor.add({ name, try: one, endMs: this.#now() })
  }

  decided(decision: Decision, request: RequestHead, metadata: Metadata): void {
    if (this.#sender === null) return
    const trace = this.#traces.get(request)
    const parent = traceContextOf(String(metadata.get('traceparent')[0] ?? ''))
    if (trace === undefined || parent === undefined || !parent.sampled) return
    const spans = trace.decided(decision, parent, this.#now())
    this.counts.made += spans.length
    this.#sender.send(spans)
  }

  /** Sends the remaining spans, and gives up after a second. */
  async close(): Promise<void> {
    const sender = this.#sender
    this.#sender = null
    await sender?.close().catch(this.#onBug)
  }

  /** Milliseconds since 1970, finer than `Date.now()`, because Envoy's spans begin within the same millisecond. */
  #now(): number {
    const nowMs = this.#epochMs + performance.now()
    const error = Date.now() - nowMs
    if (Math.abs(error) <= CLOCK_ERROR_MS_MAX) return nowMs
    this.#epochMs += error
    return nowMs + error
  }
}

function urlOf({ collector: { host, port } }: TracingSettings): string {
  return host.includes(':') ? `http://[${host}]:${port}` : `http://${host}:${port}`
}
