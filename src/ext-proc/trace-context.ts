/** `version-trace_id-parent_id-flags`, lower case (W3C Trace Context section 3.2.2); a later version may append fields. */
const TRACEPARENT = /^([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?$/
/** "The value ... is invalid" (section 3.2.2.1). */
const VERSION_INVALID = 'ff'
/** The flag that the caller may have recorded the trace (section 3.2.2.5). */
const SAMPLED = 1

/** Where in a trace a call is from. */
export interface TraceContext {
  readonly traceId: string
  /** Of the caller's span. */
  readonly spanId: string
  readonly sampled: boolean
}

/** Undefined for a `traceparent` that is none, which is to be ignored (section 3.2.2.2). */
export function traceContextOf(traceparent: string): TraceContext | undefined {
  const [, version, traceId = '', spanId = '', flags = '', more] = TRACEPARENT.exec(traceparent) ?? []
  if (version === undefined || version === VERSION_INVALID) return undefined
  if (version === '00' && more !== undefined) return undefined
  if (/^0+$/.test(traceId) || /^0+$/.test(spanId)) return undefined
  return { traceId, spanId, sampled: (Number.parseInt(flags, 16) & SAMPLED) !== 0 }
}

/** The trace id of a `traceparent`; undefined where it is none. */
export function traceIdOf(traceparent: string): string | undefined {
  return traceContextOf(traceparent)?.traceId
}
