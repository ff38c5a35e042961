import { ROOT_CONTEXT, type Span, SpanKind, SpanStatusCode, TraceFlags, trace } from '@opentelemetry/api'
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-grpc'
import { resourceFromAttributes } from '@opentelemetry/resources'
import {
  AlwaysOnSampler,
  BatchSpanProcessor,
  type SpanExporter,
  TracerProvider,
} from '@opentelemetry/sdk-trace'
import type { Logger } from '../log.ts'
import type { SpanCounts } from '../status/counts.ts'
import type { SpanData, SpanSender } from './request-trace.ts'

/** Spans that wait for a collector; more are dropped. A span takes some 2 KB. */
const WAITING_MAX = 2048
const SENT_TOGETHER_MAX = 512
const SEND_AFTER_MS = 1000
/** One try to send. */
const TIMEOUT_MS = 2000
/** How long `close` waits for the last spans. */
const CLOSE_WITHIN_MS = 1000

/**
 * Loads OpenTelemetry's packages, so it is imported only where requests are traced.
 * @param url of a collector that takes OTLP over gRPC
 */
export function openSender(url: string, counts: SpanCounts, log: Pick<Logger, 'warn' | 'info'>): SpanSender {
  const provider = new TracerProvider({
    sampler: new AlwaysOnSampler(), // Envoy has already decided which requests are traced
    resource: resourceFromAttributes({ 'service.name': 'zonegate-processor' }),
    spanProcessors: [
      new BatchSpanProcessor({
        exporter: told(
          new OTLPTraceExporter({ url, timeoutMillis: TIMEOUT_MS, concurrencyLimit: 1 }),
          url,
          counts,
          log,
        ),
        maxQueueSize: WAITING_MAX,
        maxExportBatchSize: SENT_TOGETHER_MAX,
        scheduledDelayMillis: SEND_AFTER_MS,
        exportTimeoutMillis: TIMEOUT_MS,
      }),
    ],
  })
  const tracer = provider.getTracer('zonegate')
  const make = (
    { name, kind, startMs, endMs, isError, attributes }: SpanData,
    parent = ROOT_CONTEXT,
  ): Span => {
    const span = tracer.startSpan(
      name,
      { kind: kind === 'server' ? SpanKind.SERVER : SpanKind.CLIENT, startTime: startMs, attributes },
      parent,
    )
    if (isError) span.setStatus({ code: SpanStatusCode.ERROR })
    span.end(endMs)
    return span
  }
  return {
    send: ([first, ...others]) => {
      if (first?.parent === undefined) return
      const { traceId, spanId } = first.parent
      const context = { traceId, spanId, traceFlags: TraceFlags.SAMPLED, isRemote: true }
      const parent = make(first, trace.setSpanContext(ROOT_CONTEXT, context))
      for (const other of others) make(other, trace.setSpan(ROOT_CONTEXT, parent))
    },
    close: async () => {
      const { promise, resolve } = Promise.withResolvers<void>()
      const timer = setTimeout(resolve, CLOSE_WITHIN_MS)
      // The log already says that the collector is away.
      await Promise.race([promise, provider.shutdown().catch(() => undefined)])
      clearTimeout(timer)
    },
  }
}

/** Wraps an exporter: counts its spans, and logs when the collector fails and when it is back. */
function told(
  exporter: SpanExporter,
  collector: string,
  counts: SpanCounts,
  log: Pick<Logger, 'warn' | 'info'>,
): SpanExporter {
  let isAway = false
  return {
    export: (spans, done) =>
      exporter.export(spans, (result) => {
        const { error } = result
        if (error === undefined) counts.sent += spans.length
        else counts.failed += spans.length
        if (error !== undefined && !isAway)
          log.warn({ collector, error: error.message }, 'spans are lost: the collector does not take them')
        if (error === undefined && isAway) log.info({ collector }, 'the collector takes spans again')
        isAway = error !== undefined
        done(result)
      }),
    forceFlush: async () => exporter.forceFlush?.(),
    shutdown: () => exporter.shutdown(),
  }
}
