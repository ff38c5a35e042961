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
 * The header that Envoy's routes are found by. Envoy puts the address of the processor's metadata into it, forwards only
 * a request that has one, there and nowhere else, and overwrites a client's own. See `forward` in envoy/routes.yaml.
 */
export const ROUTE_HEADER = 'x-zonegate-route'
/**
 * Namespace of the dynamic metadata. `address` is where Envoy forwards to, `zone` the zone's name for Envoy's access log. If a
 * zone's rule has an `upstream`, `address` starts with the name of its cluster, so that only that cluster's route takes it, and
 * `server_name` is the name that the zone's certificate must have. If any rule has one, `dialled` is the address alone, for every zone.
 */
const METADATA_NAMESPACE = 'zonegate'
/**
 * Encoded answers kept: one for each zone address and each reason. When full, all are dropped and made anew, 3 µs each.
 * No more, because each holds on to a part of the pool that it was made in, some 1.2 KB.
 */
const ENCODED_MAX = 1024

/** The metadata of each stream that says which headers of the request Envoy sends, beside those that it always sends. */
export const SENT_HEADERS = 'x-zonegate-headers'
/** The metadata of each stream that says by which version of the listener the request came. */
export const LISTENER_VERSION = 'x-zonegate-listener'
/** The metadata of each stream that says by which version of the rules the listener made the request's key. */
export const KEY_VERSION = 'x-zonegate-key'

/** The metadata of each stream that says which clusters beside `zones` the routes of the request know. */
export const UPSTREAMS = 'x-zonegate-upstreams'

/** A request as far as the processor sees it: what decides, and what its log line is found by. */
export interface SeenRequest extends RequestHead {
  readonly requestId: string
  /** W3C Trace Context, as the client sent it; empty: none. */
  readonly traceparent: string
}

/**
 * The part of a request that the processor sees; null for a message that is no request head.
 * @param wanted names of headers that the rules look at, in lower case, as Envoy sends all
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
    // Such a header may be one of the above, too.
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

/** Lets a part of a request go on, without a decision: the body is yet to come, or was not needed. */
export const GO_ON: Readonly<Record<Asked, Buffer>> = {
  request_headers: externalProcessor.Process.responseSerialize(continued('request_headers')),
  request_body: externalProcessor.Process.responseSerialize(continued('request_body')),
}

/** True where a request has a body that Envoy keeps to itself. */
export function withholdsBody(request: ProcessingRequest): boolean {
  return request.request_headers?.end_of_stream !== true && !sendsBody(request)
}

/** True where Envoy sends the body of this request after its head, whole. */
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
    // Names of refused zones are the client's choice: they would push out those in use.
    if (decision.kind === 'reject' && decision.zone !== undefined) return bytes
    if (encoded.size >= ENCODED_MAX) encoded.clear()
    encoded.set(key, bytes)
    return bytes
  }
}

/** Each rule has methods of its own, which a 405 names. */
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

/** What Envoy makes of its body stands in `local_reply_config`, as that of a learned zone in maintenance does. */
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

/** `raw_value`, because Envoy ignores `value` here. */
function overwrite(key: string, value: string): HeaderValueOption {
  return {
    header: { key, raw_value: Buffer.from(value, 'latin1') },
    append_action: 'OVERWRITE_IF_EXISTS_OR_ADD',
  }
}
