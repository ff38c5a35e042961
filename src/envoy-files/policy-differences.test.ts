import assert from 'node:assert/strict'
import { test } from 'node:test'
import { messageType } from '../xds/envoy-api.ts'
import { PROVED_AS_VIRTUAL_HOST } from '../xds/proof.ts'
import { DIFFERENT } from './policy-differences.ts'

/** What Envoy could refuse in these is looked at by the processor. Add none that Envoy isn't asked about. */
const SURELY_VALID =
  'name virtual_hosts vhds vhost_header most_specific_header_mutations_wins ignore_port_in_host_matching'

/**
 * Fields that were looked at, and mean the same on a learned route or a learned cluster. A field that a later Envoy has must
 * be added here, or to the list of those that stop learning.
 */
const ALIKE: Readonly<Record<string, { readonly stops: keyof typeof DIFFERENT; readonly fields: string }>> = {
  'envoy.config.route.v3.RouteConfiguration': {
    stops: 'configuration',
    fields: `${PROVED_AS_VIRTUAL_HOST.join(' ')} ${SURELY_VALID}`,
  },
  'envoy.config.route.v3.VirtualHost': {
    stops: 'virtualHost',
    fields: `name domains routes require_tls virtual_clusters request_headers_to_add request_headers_to_remove
      response_headers_to_add response_headers_to_remove typed_per_filter_config include_request_attempt_count
      include_attempt_count_in_response retry_policy retry_policy_typed_config hedge_policy
      include_is_timeout_retry_header per_request_buffer_limit_bytes request_body_buffer_limit metadata`,
  },
  'envoy.config.route.v3.Route': {
    stops: 'route',
    fields: `name match route redirect direct_response filter_action non_forwarding_action metadata
      typed_per_filter_config request_headers_to_add request_headers_to_remove response_headers_to_add
      response_headers_to_remove per_request_buffer_limit_bytes stat_prefix request_body_buffer_limit`,
  },
  'envoy.config.route.v3.RouteMatch': {
    stops: 'match',
    fields: 'prefix case_sensitive headers query_parameters',
  },
  'envoy.config.route.v3.RouteAction': {
    stops: 'action',
    fields: `cluster cluster_header weighted_clusters cluster_specifier_plugin inline_cluster_specifier_plugin
      cluster_not_found_response_code metadata_match prefix_rewrite regex_rewrite host_rewrite auto_host_rewrite timeout
      idle_timeout flush_timeout early_data_policy retry_policy retry_policy_typed_config priority hash_policy
      max_grpc_timeout grpc_timeout_offset upgrade_configs hedge_policy max_stream_duration`,
  },
  'envoy.config.cluster.v3.Cluster': {
    stops: 'cluster',
    fields: `name alt_stat_name stats_matcher type cluster_type connect_timeout per_connection_buffer_limit_bytes
      per_connection_buffer_high_watermark_timeout lb_policy load_assignment max_requests_per_connection
      circuit_breakers upstream_http_protocol_options common_http_protocol_options http_protocol_options
      http2_protocol_options typed_extension_protocol_options dns_refresh_rate dns_jitter dns_failure_refresh_rate
      respect_dns_ttl dns_lookup_family dns_resolvers use_tcp_for_dns_lookups dns_resolution_config
      typed_dns_resolver_config wait_for_warm_on_init original_dst_lb_config outlier_detection cleanup_interval upstream_bind_config
      common_lb_config metadata protocol_selection upstream_connection_options
      close_connections_on_host_health_failure ignore_health_on_host_removal filters lrs_report_endpoint_metrics
      track_timeout_budgets upstream_config track_cluster_stats preconnect_policy
      connection_pool_per_downstream_connection
      health_checks`,
  },
  'envoy.extensions.upstreams.http.v3.HttpProtocolOptions': {
    stops: 'httpOptions',
    fields: `common_http_protocol_options upstream_http_protocol_options explicit_http_config
      use_downstream_protocol_config auto_config http_filters header_validation_config hash_policy retry_policy`,
  },
}

for (const [name, { stops, fields }] of Object.entries(ALIKE)) {
  test(`each field of ${name} is either taken over or stops learning`, () => {
    const known = [...fields.trim().split(/\s+/), ...DIFFERENT[stops]]
    assert.deepEqual(known.sort(), Object.keys(messageType(name)?.fields ?? {}).sort())
  })
}
