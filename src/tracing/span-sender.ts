import type { SpanData } from './request-trace.ts'

/** Sends spans to a collector. */
export interface SpanSender {
  /** @param spans the first is the parent of the others */
  send(spans: readonly SpanData[]): void
  /** Sends what is left, for a second at most. */
  close(): Promise<void>
}

/** What became of spans, since the start. */
export interface SpanCounts {
  made: number
  /** A collector has taken them. */
  sent: number
  /** No collector has. */
  failed: number
}
