/** One fence, and how it is taken down. */
export interface Fence {
  /** What comes through without it. */
  readonly attack: string
  /** Relative to the project's root. */
  readonly file: string
  /** Stands in the file exactly once. */
  readonly text: string
  /** In its place. */
  readonly without: string
  /** The test file that attacks it, and the titles of its tests that do. */
  readonly test: string
  readonly titles: RegExp
}

const ENVOY = 'envoy/envoy.yaml'
const ROUTES = 'envoy/routes.yaml'
const LIMITS = 'test/e2e/attack-limits.test.ts'
const BODIES = 'test/e2e/attack-bodies.test.ts'
const HOSTILE = 'test/integration/grpc-hostile.test.ts'

/** The fences of docs/threat-model.md that are ours to take down; what Envoy's and Node's parsers refuse by themselves isn't. */
export const FENCES: readonly Fence[] = [
  {
    attack: 'an address in Host',
    file: ROUTES,
    text: 'host_rewrite_header: x-zonegate-route',
    without: 'host_rewrite_header: x-forwarded-host',
    test: 'test/e2e/fence.test.ts',
    titles: /another receiver as Host/,
  },
  {
    attack: 'a forged route header, as an address',
    file: ENVOY,
    text: '              - append: { header: { key: x-zonegate-route, value: loop }, append_action: OVERWRITE_IF_EXISTS }\n',
    without: '',
    test: 'test/e2e/fence.test.ts',
    titles: /own forward header|forward header twice/,
  },
  {
    attack: 'a forged route header, as a mark',
    file: ROUTES,
    text: 'name: x-zonegate-route, string_match: { exact: loop }',
    without: 'name: x-zonegate-route, string_match: { exact: never }',
    test: 'test/e2e/attack-loop.test.ts',
    titles: /forges the mark|over HTTP\/2/,
  },
  {
    attack: 'a zone that leads back to the gateway',
    file: ROUTES,
    text: '      request_headers_to_add: [{ header: { key: x-zonegate-route, value: "%REQ(:METHOD)%/%REQ(server)%" }, append_action: OVERWRITE_IF_EXISTS_OR_ADD }]\n',
    without: '      request_headers_to_remove: [x-zonegate-route]\n',
    test: 'test/e2e/attack-loop.test.ts',
    titles: /after one turn/,
  },
  {
    attack: "Envoy's control headers",
    file: ENVOY,
    text: '              - remove_on_match: { key_matcher: { prefix: x-envoy- } }',
    without: '              - remove_on_match: { key_matcher: { prefix: x-nobody- } }',
    test: 'test/e2e/attack-loop.test.ts',
    titles: /reaches the zone/,
  },
  {
    attack: 'a processor that changes other headers',
    file: ENVOY,
    text: 'mutation_rules: { disallow_all: true, allow_expression: { regex: x-zonegate-route|allow }, disallow_is_error: true }',
    without: 'mutation_rules: {}',
    test: 'test/e2e/processor-failures.test.ts',
    titles: /nothing is forwarded/,
  },
  {
    attack: 'a processor that names no address',
    file: ROUTES,
    text: String.raw`string_match: { safe_regex: { regex: '(\d+\.){3}\d+:\d+|\[[0-9a-f:.]+\]:\d+' } }`,
    without: "string_match: { safe_regex: { regex: '.*' } }",
    test: 'test/e2e/processor-failures.test.ts',
    titles: /nothing is forwarded/,
  },
  {
    attack: 'several ids, in two headers',
    file: ENVOY,
    text: '      envoy.reloadable_features.match_headers_individually: false\n',
    without: '',
    test: 'test/e2e/learned.test.ts',
    titles: /while 100 zones are learned|several ids/,
  },
  {
    attack: 'an id that ends the name or is one',
    file: 'src/routing/rules.ts',
    text: "return name.split('.').every((label) => LABEL.test(label)) ? name : null",
    without: 'return name',
    test: 'src/routing/rules.test.ts',
    titles: /./,
  },
  {
    attack: 'a denied address in DNS, behind a CNAME, inside IPv6',
    file: 'src/routing/denied-addresses.ts',
    text: 'return !denied.check(address, family) || allowed.check(address, family)',
    without: 'return true',
    test: 'test/e2e/attack-denied-addresses.test.ts',
    titles: /processor's fence alone/,
  },
  {
    attack: 'the same inside IPv6 alone',
    file: 'src/routing/denied-addresses.ts',
    text: "const IPV4_CARRIERS = ['::', '64:ff9b::'] as const",
    without: 'const IPV4_CARRIERS: readonly string[] = []',
    test: 'test/e2e/attack-denied-addresses.test.ts',
    titles: /processor's fence alone/,
  },
  {
    attack: 'the same, named by the processor',
    file: ENVOY,
    text: 'name: envoy.filters.http.upstream_rbac\n          typed_config:\n            "@type": type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC\n            rules:\n              action: ALLOW',
    without:
      'name: envoy.filters.http.upstream_rbac\n          typed_config:\n            "@type": type.googleapis.com/envoy.extensions.filters.http.rbac.v3.RBAC\n            shadow_rules:\n              action: ALLOW',
    test: 'test/e2e/attack-denied-addresses.test.ts',
    titles: /Envoy's fence alone/,
  },
  {
    attack: 'slow headers',
    file: ENVOY,
    text: 'request_headers_timeout: 10s',
    without: 'request_headers_timeout: 0s',
    test: LIMITS,
    titles: /slow headers/,
  },
  {
    attack: 'a slow body',
    file: ENVOY,
    text: 'request_timeout: 300s',
    without: 'request_timeout: 0s',
    test: BODIES,
    titles: /dribbles in/,
  },
  {
    attack: 'a body that stops coming',
    file: ROUTES,
    text: 'idle_timeout: 60s ',
    without: 'idle_timeout: 0s ',
    test: BODIES,
    titles: /stops coming/,
  },
  {
    attack: 'huge headers',
    file: ENVOY,
    text: 'max_request_headers_kb: 60 ',
    without: 'max_request_headers_kb: 8192 ',
    test: LIMITS,
    titles: /huge/,
  },
  {
    attack: 'too many headers',
    file: ENVOY,
    text: 'max_headers_count: 100 ',
    without: 'max_headers_count: 1000 ',
    test: LIMITS,
    titles: /huge/,
  },
  {
    attack: 'a flood of streams',
    file: ENVOY,
    text: 'max_concurrent_streams: 100,',
    without: 'max_concurrent_streams: 100000,',
    test: BODIES,
    titles: /streams at once/,
  },
  {
    attack: 'rapid reset',
    file: ENVOY,
    text: '      envoy.reloadable_features.ext_proc_graceful_grpc_close: true\n',
    without:
      '      envoy.reloadable_features.ext_proc_graceful_grpc_close: true\n      overload.premature_reset_total_stream_count: 1000000\n',
    test: LIMITS,
    titles: /reset at once/,
  },
  {
    attack: 'a heap that fills up',
    file: ENVOY,
    text: '  - { name: envoy.overload_actions.stop_accepting_requests, triggers: [{ name: envoy.resource_monitors.fixed_heap, threshold: { value: 0.95 } }] }   # 503 overloaded\n',
    without: '',
    test: LIMITS,
    titles: /heap is full/,
  },
  {
    attack: 'a scan of random ids',
    file: 'src/dns/token-bucket.ts',
    text: 'this.#tokens = Math.min(this.#burst, this.#tokens + earned)',
    without: 'this.#tokens = this.#burst + 0 * earned',
    test: 'test/e2e/scan.test.ts',
    titles: /NXDOMAIN/,
  },
  {
    attack: "connections without end to the processor's socket",
    file: 'src/grpc/listener.ts',
    text: 'server.maxConnections = CONNECTIONS_MAX',
    without: 'server.maxConnections = 100_000',
    test: HOSTILE,
    titles: /connections one more is closed/,
  },
  {
    attack: 'messages without end, never finished',
    file: 'src/grpc/server.ts',
    text: '  const stopGuard = guard.start()',
    without: '  const stopGuard = () => undefined',
    test: HOSTILE,
    titles: /never finished/,
  },
  {
    attack: 'Envoys without end',
    file: 'src/xds/ads-service.ts',
    text: 'if (this.#streams.size >= ENVOYS_MAX) {',
    without: 'if (this.#streams.size >= 100_000) {',
    test: HOSTILE,
    titles: /more Envoys than/,
  },
  {
    attack: 'names without end',
    file: 'src/xds/ads-service.ts',
    text: 'const fault = faultOfRequest(request, named)',
    without: 'const fault = null as ReturnType<typeof faultOfRequest>; void [faultOfRequest, named]',
    test: HOSTILE,
    titles: /a name that is longer|more names than/,
  },
  {
    attack: 'a flood of log lines',
    file: 'src/line-limit.ts',
    text: '    if (bucket.tokens < 1) {',
    without: '    if (bucket.tokens < -1e9) {',
    test: HOSTILE,
    titles: /not ten thousand times/,
  },
  {
    attack: 'a client of the processor without a certificate',
    file: 'src/grpc/listener.ts',
    text: 'if (socket.authorized !== true) {',
    without: 'if (Number(socket.authorized) > 1) {',
    test: 'test/integration/grpc-tls.test.ts',
    titles: /refused, with a line/,
  },
  {
    attack: 'DNS rebinding on the page',
    file: 'src/admin/access.ts',
    text: 'if (this.#tokenHash === null && !this.#isOwnName(request.headers.host))',
    without: 'if (this.#tokenHash === null && this.#isOwnName(request.headers.host) === null)',
    test: 'test/integration/admin.test.ts',
    titles: /rebound name/,
  },
  {
    attack: "another site's page that posts",
    file: 'src/admin/access.ts',
    text: 'if (isFromAnotherOrigin(request))',
    without: 'if (isFromAnotherOrigin(request) === null)',
    test: 'test/integration/admin.test.ts',
    titles: /another origin/,
  },
  {
    attack: "the operators' page without the token",
    file: 'src/admin/access.ts',
    text: 'return timingSafeEqual(hash(token), this.#tokenHash)',
    without: 'return timingSafeEqual(hash(token), hash(token))',
    test: 'test/integration/admin.test.ts',
    titles: /with a token, nothing/,
  },
  {
    attack: 'a TLS version that is too old',
    file: 'envoy/listener-tls.yaml',
    text: 'tls_minimum_protocol_version: TLSv1_2',
    without: 'tls_minimum_protocol_version: TLSv1_0',
    test: 'test/e2e/tls-listener.test.ts',
    titles: /TLS 1\.1/,
  },
  {
    attack: 'a TLS handshake that never begins',
    file: 'envoy/listener-tls.yaml',
    text: 'transport_socket_connect_timeout: 10s',
    without: 'transport_socket_connect_timeout: 0s',
    test: 'test/e2e/tls-listener.test.ts',
    titles: /does not begin its handshake/,
  },
]
