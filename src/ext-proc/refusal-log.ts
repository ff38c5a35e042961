import { createLineLimit } from '../line-limit.ts'
import type { Decision } from '../routing/decision.ts'

/** What a request's line is found by. */
export interface LoggedRequest {
  /** All its ids, as received. */
  readonly id: string
  readonly requestId: string
  readonly traceId: string | undefined
  /** Name of the rule that decided; undefined: none fits. */
  readonly rule: string | undefined
}

/** A client's id may be long and is of no use then; a request's id is Envoy's, or the client's own. */
const ID_LENGTH_MAX = 64
const REQUEST_ID_LENGTH_MAX = 128

type Refusal = Extract<Decision, { kind: 'reject' }>
/** What a refusal's line holds. `suppressed`: lines of this reason that were left out since the last one. */
export type RefusalFields = Readonly<Record<string, unknown>>

/**
 * Logs refusals, limited for each reason.
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
    id: id?.slice(0, ID_LENGTH_MAX),
    ...(zone && { name: zone.name }),
    ...(answer?.kind === 'nxdomain' && { rcode: 'NXDOMAIN', nameserver: answer.nameserver }),
    ...(answer?.kind === 'nodata' && { rcode: 'NOERROR', nameserver: answer.nameserver }),
    ...(answer?.kind === 'failure' && { cause: answer.cause, tries: answer.tries }),
    ...(answer?.kind === 'positive' && { denied: answer.denied }),
  }
}
