/**
 * What of Envoy's resources is built by name here. Each interface is a part of the message of the same name in
 * `proto/`; fields that are only carried over from Envoy's files are the index signatures' business.
 */
import type { Any, Duration, HeaderValueOption, Struct } from '../grpc/protos.ts'

/** Fields of a message of `proto/` that are copied without a look inside. */
export interface Carried {
  readonly [field: string]: unknown
}

export interface Cluster extends Carried {
  readonly name?: string
  readonly type?: 'EDS'
  readonly eds_cluster_config?: { readonly eds_config: ConfigSource }
  readonly connect_timeout?: Duration
  readonly lb_policy?: 'ROUND_ROBIN' | 'LEAST_REQUEST' | 'RANDOM'
}

export interface ConfigSource {
  readonly ads: Record<string, never>
  readonly resource_api_version: 'V3'
  readonly initial_fetch_timeout?: Duration
}

export interface ClusterLoadAssignment {
  readonly cluster_name?: string
  readonly endpoints?: readonly { readonly lb_endpoints: readonly LbEndpoint[] }[]
  readonly policy?: { readonly endpoint_stale_after: Duration }
}

export interface LbEndpoint {
  readonly endpoint: {
    readonly address: { readonly socket_address: { readonly address: string; readonly port_value: number } }
    readonly hostname: string
  }
}

export interface VirtualHost {
  readonly name: string
  readonly domains: readonly string[]
  readonly routes: readonly Route[]
}

export interface TypedExtensionConfig {
  readonly name: string
  readonly typed_config: Any
}

export interface Route {
  readonly name?: string
  readonly match: RouteMatch
  readonly route?: RouteAction
  readonly direct_response?: Carried
  readonly metadata?: { readonly filter_metadata?: Readonly<Record<string, Struct>> }
  readonly request_headers_to_add?: readonly HeaderValueOption[]
  readonly request_headers_to_remove?: readonly string[]
  readonly response_headers_to_add?: readonly HeaderValueOption[]
  readonly response_headers_to_remove?: readonly string[]
  readonly typed_per_filter_config?: Readonly<Record<string, Any>>
}

export interface RouteMatch extends Carried {
  readonly prefix?: string
  readonly path?: string
  readonly headers?: readonly HeaderMatcher[]
}

export interface HeaderMatcher extends Carried {
  readonly name: string
  readonly string_match?: StringMatcher
  readonly present_match?: boolean
  readonly invert_match?: boolean
}

export interface StringMatcher {
  readonly exact?: string
  readonly prefix?: string
  readonly suffix?: string
  readonly contains?: string
  readonly safe_regex?: { readonly regex: string }
  readonly ignore_case?: boolean
}

export interface RouteAction extends Carried {
  readonly cluster?: string
  readonly auto_host_rewrite?: { readonly value: boolean }
  readonly timeout?: Duration
  readonly idle_timeout?: Duration
  readonly retry_policy?: RetryPolicy
}

export interface RetryPolicy extends Carried {
  readonly retry_host_predicate?: readonly TypedExtensionConfig[]
  readonly host_selection_retry_max_attempts?: number
}
