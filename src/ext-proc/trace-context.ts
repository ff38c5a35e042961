/** `version-trace_id-parent_id-flags`, lower case (W3C Trace Context section 3.2.2); a later version may append fields. */
const TRACEPARENT = /^([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?$/
/** An invalid version (section 3.2.2.1). */
const VERSION_INVALID = 'ff'
/** The flag "sampled": the caller may have recorded the trace (section 3.2.2.5). */
const SAMPLED = 1

/** The caller's position in a trace. */
export interface TraceContext {
  readonly traceId: string
  /** Id of the caller's span. */
  readonly spanId: string
  readonly sampled: boolean
}

/** Reads a `traceparent`. Undefined: it is invalid and must be ignored (section 3.2.2.2). */
export function traceContextOf(traceparent: string): TraceContext | undefined {
  const [, version, traceId = '', spanId = '', flags = '', more] = TRACEPARENT.exec(traceparent) ?? []
  if (version === undefined || version === VERSION_INVALID) return undefined
  if (version === '00' && more !== undefined) return undefined
  if (/^0+$/.test(traceId) || /^0+$/.test(spanId)) return undefined
  return { traceId, spanId, sampled: (Number.parseInt(flags, 16) & SAMPLED) !== 0 }
}

/** The trace id of a `traceparent`; undefined: it is invalid. */
export function traceIdOf(traceparent: string): string | undefined {
  return traceContextOf(traceparent)?.traceId
}
