import { createLineLimit } from '../line-limit.ts'
import type { Decision } from '../routing/decision.ts'

/** Fields by which to find a request's log line. */
export interface LoggedRequest {
  /** The request's ids as received, joined. */
  readonly id: string
  readonly requestId: string
  readonly traceId: string | undefined
  /** Name of the rule that decided; undefined: no rule fits. */
  readonly rule: string | undefined
}

/** Clients choose both, so they may be long. */
const ID_LENGTH_MAX = 64
const REQUEST_ID_LENGTH_MAX = 128

type Refusal = Extract<Decision, { kind: 'reject' }>
/** Fields of a refusal's log line. `suppressed`: how many lines of this reason were left out since the last one. */
export type RefusalFields = Readonly<Record<string, unknown>>

/**
 * Logs refusals, with a rate limit for each reason.
 * @param now monotonic, milliseconds
 */
export function createRefusalLog(write: (fields: RefusalFields) => void, now: () => number) {
  const limit = createLineLimit(now)
  return (refusal: Refusal, request: LoggedRequest): void => {
    const due = limit(refusal.reason)
    if (due !== null) write({ ...fieldsOf(refusal, request), ...due })
  }
}

function fieldsOf(
  { reason, zone, answer }: Refusal,
  { id, requestId, traceId, rule }: LoggedRequest,
): RefusalFields {
  return {
    reason,
    ...(rule !== undefined && { rule }),
    request_id: requestId.slice(0, REQUEST_ID_LENGTH_MAX),
    ...(traceId !== undefined && { trace_id: traceId }),
    id: id.slice(0, ID_LENGTH_MAX),
    ...(zone && { name: zone.name }),
    ...(answer?.kind === 'nxdomain' && { rcode: 'NXDOMAIN', nameserver: answer.nameserver }),
    ...(answer?.kind === 'nodata' && { rcode: 'NOERROR', nameserver: answer.nameserver }),
    ...(answer?.kind === 'failure' && { cause: answer.cause, tries: answer.tries }),
    ...(answer?.kind === 'positive' && { denied: answer.denied }),
  }
}
