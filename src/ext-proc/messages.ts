import {
  externalProcessor,
  type HeaderValueOption,
  type ProcessingRequest,
  type ProcessingResponse,
} from '../grpc/protos.ts'
import type { Decision } from '../routing/decision.ts'
import { STATUS_OF_REASON } from '../routing/reject-reason.ts'
import type { RequestHead } from '../routing/rules.ts'

/**
 * Carries the address to Envoy, which forwards only a request that has it, there and nowhere else, and strips a
 * client's own. See `forward` in envoy/routes.yaml and docs/decisions/0003.
 */
export const ROUTE_HEADER = 'x-zonegate-route'
/** Namespace of the dynamic metadata that Envoy's access log reads the zone's name from. */
const METADATA_NAMESPACE = 'zonegate'
/**
 * Encoded answers kept: one for each zone address and each reason. When full, all are dropped and made anew, 3 µs each.
 * No more, because each holds on to a part of the pool that it was made in, some 1.2 KB.
 */
const ENCODED_MAX = 1024

/** A request as far as the processor sees it: what decides, and what its log line is found by. */
export interface SeenRequest extends RequestHead {
  readonly requestId: string
  /** W3C Trace Context, as the client sent it; empty: none. */
  readonly traceparent: string
}

/**
 * The part of a request that the processor sees; null for a message that is no request head.
 * @param idHeader lower case, as Envoy sends all header names
 */
export function headOf(request: ProcessingRequest, idHeader: string): SeenRequest | null {
  const headers = request.request_headers?.headers?.headers
  if (headers === undefined) return null
  let method = ''
  let path = ''
  let requestId = ''
  let traceparent = ''
  const ids: string[] = []
  for (const { key, raw_value } of headers) {
    const value = raw_value?.toString('latin1') ?? ''
    if (key === ':method') method = value
    else if (key === ':path') path = value
    else if (key === idHeader) ids.push(value)
    else if (key === 'x-request-id') requestId = value
    else if (key === 'traceparent') traceparent = value
  }
  return { method, path, ids, requestId, traceparent }
}

/** Turns decisions into encoded `ProcessingResponse`s, each encoded once and sent again as the same bytes. */
export function createEncoder(methods: ReadonlySet<string>): (decision: Decision) => Buffer {
  const allow = [...methods].join(', ')
  const encoded = new Map<string, Buffer>()
  return (decision) => {
    const key = `${decision.kind === 'forward' ? decision.authority : decision.reason} ${decision.zone?.name ?? ''}`
    const known = encoded.get(key)
    if (known !== undefined) return known
    const bytes = externalProcessor.Process.responseSerialize(responseTo(decision, allow))
    // Names of refused zones are the client's choice: they would push out those in use.
    if (decision.kind === 'reject' && decision.zone !== undefined) return bytes
    if (encoded.size >= ENCODED_MAX) encoded.clear()
    encoded.set(key, bytes)
    return bytes
  }
}

function responseTo(decision: Decision, allow: string): ProcessingResponse {
  const metadata = decision.zone && {
    dynamic_metadata: {
      fields: {
        [METADATA_NAMESPACE]: { structValue: { fields: { zone: { stringValue: decision.zone.name } } } },
      },
    },
  }
  if (decision.kind === 'reject') {
    const status = STATUS_OF_REASON[decision.reason]
    return {
      immediate_response: {
        status: { code: status },
        details: decision.reason,
        ...(status === 405 && { headers: { set_headers: [overwrite('allow', allow)] } }),
      },
      ...metadata,
    }
  }
  return {
    request_headers: {
      response: {
        header_mutation: {
          set_headers: [overwrite(ROUTE_HEADER, decision.authority)],
        },
        clear_route_cache: true,
      },
    },
    ...metadata,
  }
}

/** `raw_value`, because Envoy ignores `value` here. */
function overwrite(key: string, value: string): HeaderValueOption {
  return {
    header: { key, raw_value: Buffer.from(value, 'latin1') },
    append_action: 'OVERWRITE_IF_EXISTS_OR_ADD',
  }
}
