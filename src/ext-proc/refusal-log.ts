import type { Decision } from '../routing/decision.ts'
import type { RejectReason } from '../routing/reject-reason.ts'

/** Lines of one reason that may follow each other at once, and lines a second after that. */
const BURST = 20
const LINES_PER_SECOND = 5

/** What a request's line is found by. */
export interface LoggedRequest {
  /** All its ids, as received. */
  readonly id: string
  readonly requestId: string
  readonly traceId: string | undefined
}

/** A client's id may be long and is of no use then. */
const ID_LENGTH_MAX = 64

type Refusal = Extract<Decision, { kind: 'reject' }>
/** What a refusal's line holds. `suppressed`: lines of this reason that were left out since the last one. */
export type RefusalFields = Readonly<Record<string, unknown>>

/**
 * Logs refusals, limited for each reason by a token bucket, so that a flood of one reason fills no disk and hides no
 * other reason.
 * @param now monotonic, milliseconds
 */
export function createRefusalLog(write: (fields: RefusalFields) => void, now: () => number) {
  const buckets = new Map<RejectReason, { tokens: number; filledAt: number; suppressed: number }>()
  return (refusal: Refusal, request: LoggedRequest): void => {
    const at = now()
    let bucket = buckets.get(refusal.reason)
    if (bucket === undefined) {
      bucket = { tokens: BURST, filledAt: at, suppressed: 0 }
      buckets.set(refusal.reason, bucket)
    }
    bucket.tokens = Math.min(BURST, bucket.tokens + ((at - bucket.filledAt) / 1000) * LINES_PER_SECOND)
    bucket.filledAt = at
    if (bucket.tokens < 1) {
      bucket.suppressed += 1
      return
    }
    bucket.tokens -= 1
    const { suppressed } = bucket
    bucket.suppressed = 0
    write(fieldsOf(refusal, request, suppressed))
  }
}

function fieldsOf(
  { reason, zone, answer }: Refusal,
  { id, requestId, traceId }: LoggedRequest,
  suppressed: number,
): RefusalFields {
  return {
    reason,
    request_id: requestId,
    ...(traceId !== undefined && { trace_id: traceId }),
    id: id?.slice(0, ID_LENGTH_MAX),
    ...(zone && { name: zone.name }),
    ...(answer?.kind === 'nxdomain' && { rcode: 'NXDOMAIN', nameserver: answer.nameserver }),
    ...(answer?.kind === 'nodata' && { rcode: 'NOERROR', nameserver: answer.nameserver }),
    ...(answer?.kind === 'failure' && { cause: answer.cause, tries: answer.tries }),
    ...(answer?.kind === 'positive' && { denied: answer.denied }),
    ...(suppressed > 0 && { suppressed }),
  }
}
