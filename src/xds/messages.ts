/**
 * The parts of Envoy's messages that this code reads or writes. Each interface has the name and the field names of its message in
 * Envoy's API. Index signatures stand for all fields that are only copied.
 */
import type { Struct } from '../grpc/protos.ts'

/** Fields that are copied without being read. */
export interface Carried {
  readonly [field: string]: unknown
}

/** In a decoded message, 64-bit numbers are decimal texts. */
export interface Duration {
  readonly seconds?: number | string
  readonly nanos?: number
}

/** A packed message. */
export interface Any {
  readonly type_url?: string
  readonly value?: Uint8Array
}

export interface Cluster extends Carried {
  readonly name?: string
  readonly type?: string
  readonly original_dst_lb_config?: Carried
  readonly eds_cluster_config?: { readonly eds_config: ConfigSource }
  readonly connect_timeout?: Duration
  readonly lb_policy?: string
  readonly metadata?: { readonly filter_metadata?: Readonly<Record<string, Struct>> }
  readonly typed_extension_protocol_options?: Readonly<Record<string, Any>>
}

export interface ConfigSource {
  readonly ads: Record<string, never>
  readonly resource_api_version: 'V3'
  readonly initial_fetch_timeout?: Duration
}

export interface ClusterLoadAssignment {
  readonly cluster_name?: string
  readonly endpoints?: readonly { readonly priority?: number; readonly lb_endpoints: readonly LbEndpoint[] }[]
  readonly policy?: {
    readonly overprovisioning_factor?: { readonly value: number }
    readonly endpoint_stale_after?: { readonly seconds: number; readonly nanos: number }
  }
}

export interface LbEndpoint {
  readonly endpoint: {
    readonly address: { readonly socket_address: { readonly address: string; readonly port_value: number } }
    readonly hostname: string
  }
  readonly load_balancing_weight?: { readonly value: number }
}

export interface RouteConfiguration extends Carried {
  readonly name?: string
  readonly vhost_header?: string
  readonly virtual_hosts?: readonly VirtualHost[]
  readonly request_headers_to_add?: readonly HeaderValueOption[]
  readonly request_headers_to_remove?: readonly string[]
}

export interface VirtualHost extends VirtualHostFields {
  readonly name?: string
  readonly domains?: readonly string[]
  readonly routes?: readonly Route[]
}

/** The fields of a virtual host that apply to all its routes. */
export interface VirtualHostFields extends Carried {
  readonly retry_policy?: RetryPolicy
  readonly request_headers_to_add?: readonly HeaderValueOption[]
  readonly request_headers_to_remove?: readonly string[]
  readonly typed_per_filter_config?: Readonly<Record<string, Any>>
}

export interface TypedExtensionConfig {
  readonly name?: string
  readonly typed_config?: Any
}

export interface HeaderValueOption extends Carried {
  readonly header?: { readonly key?: string; readonly value?: string }
}

export interface Route extends Carried {
  readonly name?: string
  readonly match?: RouteMatch
  readonly route?: RouteAction
  readonly direct_response?: Carried
  readonly response_headers_to_add?: readonly HeaderValueOption[]
  readonly metadata?: { readonly filter_metadata?: Readonly<Record<string, Struct>> }
  readonly request_headers_to_add?: readonly HeaderValueOption[]
  readonly request_headers_to_remove?: readonly string[]
  readonly typed_per_filter_config?: Readonly<Record<string, Any>>
}

export interface RouteMatch extends Carried {
  readonly prefix?: string
  readonly path?: string
  readonly case_sensitive?: { readonly value: boolean }
  readonly headers?: readonly HeaderMatcher[]
  readonly query_parameters?: readonly Carried[]
}

export interface HeaderMatcher extends Carried {
  readonly name?: string
  readonly string_match?: StringMatcher
  readonly present_match?: boolean
  readonly invert_match?: boolean
}

export interface StringMatcher extends Carried {
  readonly exact?: string
  readonly prefix?: string
  readonly suffix?: string
  readonly contains?: string
  readonly safe_regex?: { readonly regex?: string }
  readonly ignore_case?: boolean
}

export interface RouteAction extends Carried {
  readonly cluster?: string
  readonly cluster_specifier_plugin?: string
  readonly prefix_rewrite?: string
  readonly auto_host_rewrite?: { readonly value: boolean }
  readonly timeout?: Duration
  readonly idle_timeout?: Duration
  readonly retry_policy?: RetryPolicy
}

export interface RetryPolicy extends Carried {
  readonly retry_priority?: TypedExtensionConfig
  readonly retry_host_predicate?: readonly TypedExtensionConfig[]
  readonly host_selection_retry_max_attempts?: string | number
}
