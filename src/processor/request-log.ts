import type { SeenRequest } from '../ext-proc/messages.ts'
import { createRefusalLog, type LoggedRequest } from '../ext-proc/refusal-log.ts'
import type { ExtProcOptions } from '../ext-proc/service.ts'
import { traceIdOf } from '../ext-proc/trace-context.ts'
import type { Logger } from '../log.ts'
import type { Decision } from '../routing/decision.ts'
import { idOf } from '../routing/rules.ts'
import { ruleNameOf } from '../status/rule-counts.ts'

/**
 * Logs each refusal, within a rate limit, and at level `debug` each forwarded request. Each line has the `request_id`, and the
 * `trace_id` if the request is part of a trace.
 */
export function requestLog(log: Logger): ExtProcOptions['onDecision'] {
  const logRefusal = createRefusalLog(
    (fields) => log.warn(fields, 'refused'),
    () => performance.now(),
  )
  return (decision, request, metadata) => {
    // The client's trace context, else that of Envoy's span.
    const logged = (): LoggedRequest => ({
      id: idText(decision, request),
      rule: ruleNameOf(decision),
      requestId: request.requestId,
      traceId: traceIdOf(request.traceparent) ?? traceIdOf(String(metadata.get('traceparent')[0] ?? '')),
    })
    if (decision.kind === 'reject') logRefusal(decision, logged())
    else if (log.isLevelEnabled('debug')) {
      const { id, rule, requestId, traceId } = logged()
      const { zone, authority } = decision
      log.debug(
        { request_id: requestId, trace_id: traceId, rule, id, name: zone.name, address: authority },
        'forwarded',
      )
    }
  }
}

/** The id as it stands in the request, at the place where the rule looks. */
function idText(decision: Decision, request: SeenRequest): string {
  const rule = decision.kind === 'reject' ? decision.rule : undefined
  if (rule === undefined) return decision.zone?.id ?? ''
  const { reading } = idOf(request, rule)
  return reading.kind === 'absent' ? '' : reading.kind === 'id' ? reading.id : reading.text
}
