/**
 * What an operator may write into Envoy's files: fields of RouteAction, RetryPolicy, VirtualHost, RouteConfiguration and
 * Cluster, each merged into the files as shipped. Learned zones do the same as the cold path, or none is learned.
 */
export interface PolicyCase {
  readonly title: string
  readonly configuration?: object
  readonly virtualHost?: object
  /** The route `forward`. */
  readonly forward?: object
  /** The route after it, which asks the processor. */
  readonly ask?: object
  /** The cluster `zones`. */
  readonly cluster?: object
  /** Its HttpProtocolOptions. */
  readonly http?: object
  /** Set where no zone may be learned: the field that is named. */
  readonly named?: string
  /** More than the plain request. */
  readonly probes?: readonly ProbeName[]
  /** Something of what the zone gets or the caller sees, so that the policy is known to be in force. */
  readonly shows?: RegExp
  /** A request that fails a further condition asks the processor on both paths. */
  readonly conditional?: true
}

export interface Probe {
  readonly target: string
  readonly headers?: string
  readonly body?: string
  /** True: to an address where nobody listens. */
  readonly dead?: boolean
}

export const PROBES = {
  plain: { target: '/pay?x=1', body: 'hello' },
  api: { target: '/api/v1/pay?x=1', body: 'hello' },
  large: { target: '/pay', body: 'x'.repeat(100_000) },
  larger: { target: '/pay', body: 'x'.repeat(250_000) },
  tooLarge: { target: '/pay', body: 'x'.repeat(400_000) },
  streamed: { target: '/pay', body: 'x'.repeat(1_327_680) },
  chunked: { target: '/pay', headers: 'transfer-encoding: chunked\r\n', body: '5\r\nhello\r\n0\r\n\r\n' },
  silent: { target: '/silent', body: 'hello' },
  slow: { target: '/slow', body: 'hello' },
  failing: { target: '/failing', body: 'hello' },
  redirecting: { target: '/redirecting', body: 'hello' },
  dead: { target: '/pay', body: 'hello', dead: true },
  origin: { target: '/pay', headers: 'origin: https://shop.example\r\n', body: 'hello' },
  session: { target: '/pay', headers: 'cookie: session=7\r\nx-user: 7\r\n', body: 'hello' },
} as const satisfies Record<string, Probe>
export type ProbeName = keyof typeof PROBES

const header = (key: string, value: string) => ({ header: { key, value } })
const any = (type: string, fields: object = {}) => ({ '@type': `type.googleapis.com/${type}`, ...fields })
const CORS = any('envoy.extensions.filters.http.cors.v3.CorsPolicy', {
  allow_origin_string_match: [{ exact: 'https://shop.example' }],
  expose_headers: 'x-zone',
})
const LIMIT = any('envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit', {
  stat_prefix: 'limit',
  token_bucket: { max_tokens: 1000, fill_interval: '1s' },
  filter_enabled: { default_value: { numerator: 100 } },
  filter_enforced: { default_value: { numerator: 100 } },
  response_headers_to_add: [header('x-limited', 'limited')],
})
const buffer = (octets: number) =>
  any('envoy.extensions.filters.http.buffer.v3.BufferPerRoute', {
    config: null,
    buffer: { max_request_bytes: octets },
  })

export const POLICIES: readonly PolicyCase[] = [
  // RouteAction
  { title: 'prefix_rewrite', forward: { route: { prefix_rewrite: '/inner/' } }, shows: /POST \/inner\/pay/ },
  {
    title: 'regex_rewrite',
    forward: { route: { regex_rewrite: { pattern: { regex: '^/api/v(\\d+)/' }, substitution: '/v\\1/' } } },
    probes: ['api'],
    shows: /POST \/v1\/pay/,
  },
  { title: 'no host_rewrite', forward: { route: { host_rewrite: null } }, shows: /host: callback\.test/ },
  {
    title: 'host_rewrite_literal',
    forward: { route: { host_rewrite: null, host_rewrite_literal: 'zone.example' } },
    named: 'host_rewrite_literal',
  },
  {
    title: 'host_rewrite_header',
    forward: { route: { host_rewrite: null, host_rewrite_header: 'x-user' } },
    named: 'host_rewrite_header',
  },
  { title: 'timeout', forward: { route: { timeout: '0.2s' } }, probes: ['silent', 'slow'], shows: /504/ },
  {
    title: 'idle_timeout',
    forward: { route: { idle_timeout: '0.3s', retry_policy: { per_try_timeout: '0s' } } },
    probes: ['silent'],
    shows: /504|408/,
  },
  {
    title: 'max_stream_duration',
    forward: { route: { max_stream_duration: { max_stream_duration: '0.2s' } } },
    probes: ['silent', 'slow'],
    shows: /504|408/,
  },
  {
    title: 'hash_policy',
    forward: {
      route: {
        hash_policy: [{ header: { header_name: 'x-user' } }, { cookie: { name: 'affinity', ttl: '60s' } }],
      },
    },
    probes: ['session'],
  },
  {
    title: 'request_mirror_policies',
    forward: { route: { request_mirror_policies: [{ cluster: 'processor' }] } },
    named: 'request_mirror_policies',
  },
  {
    title: 'rate_limits of the route',
    forward: {
      route: {
        rate_limits: [{ actions: [{ request_headers: { header_name: 'server', descriptor_key: 'id' } }] }],
      },
    },
    named: 'rate_limits',
  },
  {
    title: 'internal_redirect_policy',
    forward: { route: { internal_redirect_policy: { max_internal_redirects: 1 } } },
    probes: ['redirecting'],
    named: 'internal_redirect_policy',
  },
  {
    title: 'append_x_forwarded_host',
    forward: { route: { append_x_forwarded_host: true } },
    named: 'append_x_forwarded_host',
  },
  { title: 'priority', forward: { route: { priority: 'HIGH' } } },
  {
    title: 'upgrade_configs',
    forward: { route: { upgrade_configs: [{ upgrade_type: 'websocket', enabled: true }] } },
  },
  // Route
  {
    title: 'request_headers_to_add of the route',
    forward: { request_headers_to_add: [header('x-route', 'r'), header('x-path', '%REQ(:PATH)%')] },
    shows: /x-route: r/,
  },
  {
    title: 'request_headers_to_remove of the route',
    forward: { request_headers_to_remove: ['x-user', 'cookie'] },
    probes: ['session'],
  },
  {
    title: 'response_headers of the route',
    forward: {
      response_headers_to_add: [header('x-answer', 'a')],
      response_headers_to_remove: ['set-cookie'],
    },
    shows: /x-answer: a/,
  },
  {
    title: 'a condition of the route',
    conditional: true,
    forward: { match: { headers: [{ name: 'x-user', string_match: { exact: '7' } }] } },
    probes: ['session'],
  },
  { title: 'metadata of the route', forward: { metadata: { filter_metadata: { other: { key: 'value' } } } } },
  {
    title: 'per_request_buffer_limit_bytes of the route',
    forward: { per_request_buffer_limit_bytes: 1000 },
    probes: ['large', 'dead'],
  },
  { title: 'stat_prefix', forward: { stat_prefix: 'forwarded' } },
  // RetryPolicy
  {
    title: 'retry_on 5xx',
    forward: { route: { retry_policy: { retry_on: '5xx', num_retries: 2 } } },
    probes: ['failing', 'dead'],
  },
  {
    title: 'retriable_status_codes',
    forward: {
      route: {
        retry_policy: { retry_on: 'retriable-status-codes', retriable_status_codes: [503], num_retries: 1 },
      },
    },
    probes: ['failing'],
  },
  {
    title: 'retriable_headers',
    forward: {
      route: {
        retry_policy: {
          retry_on: 'retriable-headers',
          retriable_headers: [{ name: 'x-again', present_match: true }],
          num_retries: 1,
        },
      },
    },
    probes: ['failing'],
  },
  {
    title: 'retry_back_off',
    forward: {
      route: {
        retry_policy: { retry_back_off: { base_interval: '0.01s', max_interval: '0.05s' }, num_retries: 3 },
      },
    },
    probes: ['dead'],
  },
  {
    title: 'per_try_timeout and per_try_idle_timeout',
    forward: { route: { retry_policy: { per_try_timeout: '0.3s', per_try_idle_timeout: '0.2s' } } },
    probes: ['silent'],
    shows: /504/,
  },
  { title: 'no retry_policy', forward: { route: { retry_policy: null } }, probes: ['dead'] },
  // VirtualHost
  {
    title: 'headers of the virtual host',
    virtualHost: {
      request_headers_to_add: [header('x-host', 'h')],
      request_headers_to_remove: ['x-user'],
      response_headers_to_add: [header('x-host-answer', 'h')],
      response_headers_to_remove: ['x-zone'],
    },
    probes: ['session'],
    shows: /x-host: h/,
  },
  {
    title: 'retry_policy of the virtual host',
    virtualHost: { retry_policy: { retry_on: '5xx', num_retries: 2 } },
    forward: { route: { retry_policy: null } },
    probes: ['failing', 'dead'],
  },
  {
    title: 'include_request_attempt_count',
    virtualHost: { include_request_attempt_count: true, include_attempt_count_in_response: true },
    probes: ['dead'],
    shows: /x-envoy-attempt-count/,
  },
  {
    title: 'cors of the virtual host',
    virtualHost: { typed_per_filter_config: { cors: CORS } },
    probes: ['origin'],
    shows: /access-control-allow-origin/,
  },
  {
    title: 'a local rate limit of the virtual host',
    virtualHost: { typed_per_filter_config: { limit: LIMIT } },
    named: 'limit',
  },
  {
    title: 'a buffer on one route',
    forward: { typed_per_filter_config: { buffer: buffer(327_680) } },
    named: 'typed_per_filter_config',
  },
  {
    title: 'a buffer on both routes',
    forward: { typed_per_filter_config: { buffer: buffer(327_680) } },
    ask: { typed_per_filter_config: { buffer: buffer(327_680) } },
    probes: ['large', 'larger', 'tooLarge', 'streamed', 'chunked'],
    shows: /413/,
  },
  {
    title: 'virtual host rate_limits',
    virtualHost: { rate_limits: [{ actions: [{ remote_address: {} }] }] },
    named: 'rate_limits',
  },
  // RouteConfiguration
  {
    title: 'headers of the configuration',
    configuration: {
      request_headers_to_add: [header('x-all', 'c')],
      request_headers_to_remove: ['x-user'],
      response_headers_to_add: [header('x-all-answer', 'c')],
    },
    probes: ['session'],
    shows: /x-all: c/,
  },
  {
    title: 'most_specific_header_mutations_wins',
    configuration: {
      most_specific_header_mutations_wins: true,
      response_headers_to_add: [{ ...header('x-who', 'c'), append_action: 'OVERWRITE_IF_EXISTS_OR_ADD' }],
    },
    forward: {
      response_headers_to_add: [{ ...header('x-who', 'r'), append_action: 'OVERWRITE_IF_EXISTS_OR_ADD' }],
    },
    shows: /x-who: r/,
  },
  // Cluster
  {
    title: 'circuit_breakers',
    cluster: { circuit_breakers: { thresholds: [{ max_retries: 0 }] } },
    probes: ['dead'],
  },
  {
    title: 'per_connection_buffer_limit_bytes',
    cluster: { per_connection_buffer_limit_bytes: 4096 },
    probes: ['large'],
  },
  {
    title: 'upstream_bind_config',
    cluster: { upstream_bind_config: { source_address: { address: '127.0.95.9', port_value: 0 } } },
    shows: /from 127\.0\.95\.9/,
  },
  {
    title: 'upstream_connection_options',
    cluster: { upstream_connection_options: { tcp_keepalive: { keepalive_time: 10 } } },
  },
  {
    title: 'health_checks, of which a zone with one address has none',
    cluster: {
      health_checks: [
        { timeout: '1s', interval: '1s', unhealthy_threshold: 1, healthy_threshold: 1, tcp_health_check: {} },
      ],
    },
    probes: ['dead'],
  },
  {
    title: 'transport_socket',
    cluster: {
      transport_socket: {
        name: 'tls',
        typed_config: any('envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext'),
      },
    },
    named: 'transport_socket',
  },
  {
    title: 'max_requests_per_connection',
    http: { common_http_protocol_options: { max_requests_per_connection: 1 } },
  },
  {
    title: 'header_key_format',
    http: {
      explicit_http_config: { http_protocol_options: { header_key_format: { proper_case_words: {} } } },
    },
    shows: /X-Request-Id/,
  },
  {
    title: 'HTTP/2 to zones',
    http: { explicit_http_config: { http_protocol_options: null, http2_protocol_options: {} } },
    shows: /PRI \* HTTP\/2/,
  },
]
