/**
 * The wire: `proto/` loaded once, as typed gRPC services and message codecs.
 *
 * Names are the protocol's own (snake case). What comes in has a field only if it was sent; a 64-bit integer is a
 * number, an enum its name, bytes a Buffer. What goes out may leave out anything.
 */
import { fileURLToPath } from 'node:url'
import type { MethodDefinition } from '@grpc/grpc-js'
import {
  type AnyDefinition,
  loadSync,
  type MessageTypeDefinition,
  type ServiceDefinition,
} from '@grpc/proto-loader'

// envoy.config.core.v3 and google.protobuf

export interface Node {
  id?: string
  cluster?: string
  metadata?: Struct
  user_agent_version?: string
  user_agent_build_version?: {
    version?: { major_number?: number; minor_number?: number; patch?: number }
  }
}

export interface HeaderValue {
  key: string
  /** ext_proc ignores it: for configuration only. */
  value?: string
  raw_value?: Buffer
}

export interface HeaderValueOption {
  header: HeaderValue
  append_action?:
    | 'APPEND_IF_EXISTS_OR_ADD'
    | 'ADD_IF_ABSENT'
    | 'OVERWRITE_IF_EXISTS_OR_ADD'
    | 'OVERWRITE_IF_EXISTS'
}

/** `seconds` and `nanos` (0 to 999,999,999) are added up. */
export interface Duration {
  seconds?: number
  nanos?: number
}

/** A message of any type: packed (as it comes in), or by name and fields (packed on its way out). */
export type Any = { type_url: string; value: Buffer } | { '@type': string; [field: string]: unknown }

/** google.protobuf.Struct. Its definition ships with the loader, hence the camel case. */
export interface Struct {
  fields: Record<string, Value>
}

export type Value =
  | { stringValue: string }
  | { numberValue: number }
  | { boolValue: boolean }
  | { structValue: Struct }
  | { listValue: { values: Value[] } }

// envoy.service.ext_proc.v3

export interface ProcessingRequest {
  request_headers?: HttpHeaders
  request_body?: { body?: Buffer; end_of_stream?: boolean }
  /** What Envoy will send of the request; in the first message. */
  protocol_config?: { request_body_mode?: string }
}

export interface HttpHeaders {
  headers?: { headers?: HeaderValue[] }
  end_of_stream?: boolean
}

export interface ProcessingResponse {
  request_headers?: { response?: CommonResponse }
  request_body?: { response?: CommonResponse }
  immediate_response?: ImmediateResponse
  dynamic_metadata?: Struct
}

export interface CommonResponse {
  status?: 'CONTINUE' | 'CONTINUE_AND_REPLACE'
  header_mutation?: HeaderMutation
  clear_route_cache?: boolean
}

export interface HeaderMutation {
  set_headers?: HeaderValueOption[]
  remove_headers?: string[]
}

export interface ImmediateResponse {
  /** An HTTP status. Reads as its name, of those that `http_status.proto` lists. */
  status: { code: number | string }
  headers?: HeaderMutation
  body?: Buffer
  details?: string
}

// grpc.health.v1

export interface HealthCheckRequest {
  service?: string
}

export interface HealthCheckResponse {
  status: 'UNKNOWN' | 'SERVING' | 'NOT_SERVING' | 'SERVICE_UNKNOWN'
}

// envoy.service.discovery.v3

export interface DeltaDiscoveryRequest {
  node?: Node
  type_url?: string
  resource_names_subscribe?: string[]
  resource_names_unsubscribe?: string[]
  /** What a reconnecting client already has: resource name → version. */
  initial_resource_versions?: Record<string, string>
  response_nonce?: string
  /** Present in a NACK only. */
  error_detail?: { code?: number; message?: string }
}

export interface DeltaDiscoveryResponse {
  system_version_info?: string
  resources?: Resource[]
  type_url: string
  nonce: string
  removed_resources?: string[]
}

export interface Resource {
  name: string
  version: string
  resource?: Any
  aliases?: string[]
}

// envoy.service.load_stats.v3

export interface LoadStatsRequest {
  node?: Node
  cluster_stats?: ClusterStats[]
}

/** The load of one cluster since the report before. */
export interface ClusterStats {
  cluster_name?: string
  upstream_locality_stats?: UpstreamLocalityStats[]
  total_dropped_requests?: number
  load_report_interval?: Duration
}

export interface UpstreamLocalityStats {
  total_successful_requests?: number
  total_requests_in_progress?: number
  total_error_requests?: number
  total_issued_requests?: number
}

export interface LoadStatsResponse {
  clusters?: string[]
  load_reporting_interval?: Duration
  send_all_clusters?: boolean
}

/** Beside `src/`. */
const protoDirectory = fileURLToPath(new URL('../../proto', import.meta.url))

/** The files that reach every other one by import. */
const protoFiles = [
  'envoy/service/ext_proc/v3/external_processor.proto',
  'envoy/service/discovery/v3/ads.proto',
  'envoy/service/load_stats/v3/lrs.proto',
  'envoy/config/endpoint/v3/endpoint.proto',
  'grpc/health/v1/health.proto',
]

/** Every message, enum and service of the `.proto` files in `proto/`. */
const definitions = loadSync(protoFiles, {
  includeDirs: [protoDirectory],
  keepCase: true,
  longs: Number,
  enums: String,
})

/** Packs and unpacks one kind of message. */
export interface Codec<Message> {
  encode(message: Message): Buffer
  decode(bytes: Buffer): Message
}

/** @param name fully qualified, such as `envoy.config.endpoint.v3.ClusterLoadAssignment`; an unknown one is a bug and throws. */
export function codec<Message extends object>(name: string): Codec<Message> {
  const definition = definitions[name]
  if (definition === undefined || !isMessage(definition)) throw new Error(`no message ${name} in proto/`)
  const { serialize, deserialize } = definition
  return { encode: (message) => serialize(message), decode: (bytes) => deserialize(bytes) as Message }
}

function isMessage(definition: AnyDefinition): definition is MessageTypeDefinition<object, object> {
  return 'serialize' in definition
}

function service<Methods>(name: string): Methods {
  const definition = definitions[name]
  if (definition === undefined || 'format' in definition) throw new Error(`no service ${name} in proto/`)
  return definition as ServiceDefinition as Methods
}

export const externalProcessor = service<{
  readonly Process: MethodDefinition<ProcessingRequest, ProcessingResponse>
}>('envoy.service.ext_proc.v3.ExternalProcessor')

export const health = service<{
  readonly Check: MethodDefinition<HealthCheckRequest, HealthCheckResponse>
  readonly Watch: MethodDefinition<HealthCheckRequest, HealthCheckResponse>
}>('grpc.health.v1.Health')

export const aggregatedDiscovery = service<{
  readonly DeltaAggregatedResources: MethodDefinition<DeltaDiscoveryRequest, DeltaDiscoveryResponse>
}>('envoy.service.discovery.v3.AggregatedDiscoveryService')

export const loadReporting = service<{
  readonly StreamLoadStats: MethodDefinition<LoadStatsRequest, LoadStatsResponse>
}>('envoy.service.load_stats.v3.LoadReportingService')
