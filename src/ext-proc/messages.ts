import {
  externalProcessor,
  type HeaderValueOption,
  type ImmediateResponse,
  type ProcessingRequest,
  type ProcessingResponse,
  type Value,
} from '../grpc/protos.ts'
import type { Decision } from '../routing/decision.ts'
import { type RejectReason, STATUS_OF_REASON } from '../routing/reject-reason.ts'
import type { RequestHead, Rule } from '../routing/rules.ts'
import type { Maintenance } from '../routing/said.ts'

/**
 * The header by which Envoy finds routes. Envoy overwrites a client's own value, puts the address of the processor's metadata into
 * it, and forwards only requests with an address there. See `forward` in envoy/routes.yaml.
 */
export const ROUTE_HEADER = 'x-zonegate-route'
/**
 * Namespace of the dynamic metadata. `address` is where Envoy forwards to, `zone` the zone's name for Envoy's access log. If a
 * zone's rule has an `upstream`, `address` starts with the name of its cluster, so that only that cluster's route takes it, and
 * `server_name` is the name that the zone's certificate must have. If any rule has one, `dialled` is the address alone, for every zone.
 */
const METADATA_NAMESPACE = 'zonegate'
/**
 * Encoded answers in the cache: one for each zone address and each reason. When it is full, all are dropped and made anew, which
 * takes 3 µs each. Each takes some 1.2 KB, because it keeps a part of a buffer pool alive.
 */
const ENCODED_MAX = 1024

/** gRPC metadata of each stream: the request headers that Envoy sends in addition to those that it always sends. */
export const SENT_HEADERS = 'x-zonegate-headers'
/** gRPC metadata of each stream: the version of the rules by which the listener made the request's key. */
export const KEY_VERSION = 'x-zonegate-key'

/** gRPC metadata of each stream: the clusters, in addition to `zones`, that the request's routes know. */
export const UPSTREAMS = 'x-zonegate-upstreams'

/** The part of a request that the processor sees: what it decides by, and the ids for its log line. */
export interface SeenRequest extends RequestHead {
  readonly requestId: string
  /** `traceparent` (W3C Trace Context) as the client sent it; empty: none. */
  readonly traceparent: string
}

/**
 * The request head in a message; null: the message has none.
 * @param wanted names of the headers that the rules read, in lower case, as Envoy sends them
 */
export function headOf(request: ProcessingRequest, wanted: ReadonlySet<string>): SeenRequest | null {
  const headers = request.request_headers?.headers?.headers
  if (headers === undefined) return null
  let method = ''
  let path = ''
  let requestId = ''
  let authority = ''
  let traceparent = ''
  const seen: Record<string, string[]> = {}
  for (const { key, raw_value } of headers) {
    const value = raw_value?.toString('latin1') ?? ''
    if (key === ':method') method = value
    else if (key === ':path') path = value
    else if (key === ':authority') authority = value
    else if (key === 'x-request-id') requestId = value
    else if (key === 'traceparent') traceparent = value
    // A wanted header may also be one of the above.
    if (key === undefined || !wanted.has(key)) continue
    const values = seen[key]
    if (values === undefined) seen[key] = [value]
    else values.push(value)
  }
  return { method, path, authority, headers: seen, requestId, traceparent }
}

/** The part of a request that an answer is for. */
export type Asked = 'request_headers' | 'request_body'

export type Encoder = (decision: Decision, asked: Asked) => Buffer

function continued(asked: Asked): ProcessingResponse {
  return asked === 'request_headers'
    ? { request_headers: { response: {} } }
    : { request_body: { response: {} } }
}

/** Answers that let a part of a request continue without a decision: the body is yet to come, or was not needed. */
export const GO_ON: Readonly<Record<Asked, Buffer>> = {
  request_headers: externalProcessor.Process.responseSerialize(continued('request_headers')),
  request_body: externalProcessor.Process.responseSerialize(continued('request_body')),
}

/** True if the request has a body that Envoy does not send. */
export function withholdsBody(request: ProcessingRequest): boolean {
  return request.request_headers?.end_of_stream !== true && !sendsBody(request)
}

/** True if Envoy sends the whole body of this request after its head. */
export function sendsBody({ request_headers, protocol_config }: ProcessingRequest): boolean {
  return request_headers?.end_of_stream !== true && protocol_config?.request_body_mode === 'BUFFERED'
}

/**
 * Turns decisions into encoded `ProcessingResponse`s, each encoded once and sent again as the same bytes.
 * @param hasUpstreams some rule has an `upstream`: every answer has `dialled`
 */
export function createEncoder(hasUpstreams: boolean): Encoder {
  const encoded = new Map<string, Buffer>()
  return (decision, asked) => {
    const key = `${asked} ${keyOf(decision)}`
    const known = encoded.get(key)
    if (known !== undefined) return known
    const bytes = externalProcessor.Process.responseSerialize(responseTo(decision, asked, hasUpstreams))
    // Not cached, because a client chooses the names of refused zones and could fill the cache with them.
    if (decision.kind === 'reject' && decision.zone !== undefined) return bytes
    if (encoded.size >= ENCODED_MAX) encoded.clear()
    encoded.set(key, bytes)
    return bytes
  }
}

/** The cache key. It has the rule's name, because a 405 lists the methods of its rule. */
function keyOf(decision: Decision): string {
  if (decision.kind === 'forward') {
    const { name, serverName = '', service } = decision.zone
    const { upstream } = service
    return `${decision.authority} ${name}${upstream === undefined ? '' : ` ${upstream.cluster} ${serverName}`}`
  }
  return `${decision.reason} ${decision.rule?.name ?? ''} ${decision.zone?.name ?? ''}`
}

function responseTo(decision: Decision, asked: Asked, hasUpstreams: boolean): ProcessingResponse {
  const fields = {
    ...(decision.zone && { zone: { stringValue: decision.zone.name } }),
    ...(decision.kind === 'forward' && destination(decision, hasUpstreams)),
  }
  const metadata = {
    dynamic_metadata: { fields: { [METADATA_NAMESPACE]: { structValue: { fields } } } },
  }
  if (decision.kind === 'reject') {
    const { maintenance } = decision.zone?.said ?? {}
    const immediate_response =
      decision.reason === 'maintenance' && maintenance !== undefined
        ? inMaintenance(maintenance)
        : refusal(decision.reason, decision.rule)
    return { immediate_response, ...metadata }
  }
  return { ...continued(asked), ...metadata }
}

/** Where Envoy forwards to, and how it gets there. */
function destination(
  { zone, authority }: Decision & { readonly kind: 'forward' },
  hasUpstreams: boolean,
): Record<string, Value> {
  const { upstream } = zone.service
  return {
    address: { stringValue: upstream === undefined ? authority : `${upstream.cluster}/${authority}` },
    ...(hasUpstreams && { dialled: { stringValue: authority } }),
    ...(zone.serverName !== undefined && { server_name: { stringValue: zone.serverName } }),
  }
}

function refusal(details: RejectReason, rule: Rule | undefined): ImmediateResponse {
  const code = STATUS_OF_REASON[details]
  const headers = { set_headers: [overwrite('allow', [...(rule?.methods ?? [])].join(', '))] }
  return { status: { code }, details, ...(code === 405 && { headers }) }
}

/** `local_reply_config` of the listener formats the body, as it does for a learned zone in maintenance. */
function inMaintenance({ text, status, retryAfterSeconds }: Maintenance): ImmediateResponse {
  return {
    status: { code: status },
    details: 'maintenance',
    body: Buffer.from(text),
    ...(retryAfterSeconds !== null && {
      headers: { set_headers: [overwrite('retry-after', String(retryAfterSeconds))] },
    }),
  }
}

/** Has `raw_value`, because Envoy ignores `value` here. */
function overwrite(key: string, value: string): HeaderValueOption {
  return {
    header: { key, raw_value: Buffer.from(value, 'latin1') },
    append_action: 'OVERWRITE_IF_EXISTS_OR_ADD',
  }
}
