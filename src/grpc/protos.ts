/**
 * The messages and services of `proto/`, with types.
 *
 * Fields have the protocol's names (snake case). A received message has a field only if it was sent; 64-bit integers are numbers,
 * enums their names, bytes Buffers. A message to send may leave out any field.
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
  /** For configuration only: ext_proc ignores it. */
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

/** The sum of `seconds` and `nanos` (0 to 999,999,999). */
export interface Duration {
  seconds?: number
  nanos?: number
}

/** A message of any type: packed (as received), or with its type and fields (to send). */
export type Any = { type_url: string; value: Buffer } | { '@type': string; [field: string]: unknown }

/** google.protobuf.Struct. In camel case, because its definition comes with the loader. */
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
  /** Which parts of the request Envoy will send. In the first message only. */
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
  /** An HTTP status. Received as a name if `http_status.proto` has one. */
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
  /** What a reconnecting client has already: resource name → version. */
  initial_resource_versions?: Record<string, string>
  response_nonce?: string
  /** Only in a NACK. */
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

/** The load of one cluster since the last report. */
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

/** `proto/` is beside `src/`, and beside `dist/` in the package. */
const protoDirectory = fileURLToPath(new URL('../../proto', import.meta.url))

/** These files import all others. */
const protoFiles = [
  'envoy/service/ext_proc/v3/external_processor.proto',
  'envoy/service/discovery/v3/ads.proto',
  'envoy/service/load_stats/v3/lrs.proto',
  'envoy/config/endpoint/v3/endpoint.proto',
  'grpc/health/v1/health.proto',
]

const definitions = loadSync(protoFiles, {
  includeDirs: [protoDirectory],
  keepCase: true,
  longs: Number,
  enums: String,
})

/** Encodes and decodes one type of message. */
export interface Codec<Message> {
  encode(message: Message): Buffer
  decode(bytes: Buffer): Message
}

/** @param name fully qualified, such as `envoy.config.endpoint.v3.ClusterLoadAssignment`. @throws for an unknown one, which is a bug */
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
