/** `version-trace_id-parent_id-flags`, lower case (W3C Trace Context section 3.2.2); a later version may append fields. */
const TRACEPARENT = /^([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}(-.*)?$/
/** "The value ... is invalid" (section 3.2.2.1). */
const VERSION_INVALID = 'ff'

/** The trace id of a `traceparent`; undefined where it is none, and is to be ignored then (section 3.2.2.2). */
export function traceIdOf(traceparent: string): string | undefined {
  const [, version, traceId = '', parentId = '', more] = TRACEPARENT.exec(traceparent) ?? []
  if (version === undefined || version === VERSION_INVALID) return undefined
  if (version === '00' && more !== undefined) return undefined
  return /^0+$/.test(traceId) || /^0+$/.test(parentId) ? undefined : traceId
}
