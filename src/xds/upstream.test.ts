import assert from 'node:assert/strict'
import { test } from 'node:test'
import { clusterTemplates } from './cluster.ts'
import { coldClusterResource, HTTP_OPTIONS, httpOptions } from './cold-cluster.ts'
import { messageCodec } from './envoy-api.ts'
import { messageOf } from './message-yaml.ts'
import type { Any, Cluster } from './messages.ts'
import { coldUpstream, type UpstreamCluster, withUpstream } from './upstream.ts'

const { decode } = messageCodec<Cluster>('envoy.config.cluster.v3.Cluster')
const context = messageCodec<{
  readonly sni?: string
  readonly auto_sni_san_validation?: boolean
  readonly common_tls_context?: { readonly alpn_protocols?: readonly string[] }
}>('envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext')
const tlsOf = (cluster: Partial<Cluster>) => {
  const socket = cluster['transport_socket'] as { readonly typed_config: Any }
  return context.decode(socket.typed_config.value as Buffer)
}
const optionsOf = (cluster: Partial<Cluster>) =>
  httpOptions.decode(
    (cluster.typed_extension_protocol_options?.[HTTP_OPTIONS]?.value ?? Buffer.alloc(0)) as Buffer,
  )

const TLS: UpstreamCluster = {
  cluster: 'zones.tls.1',
  http: 1,
  tls: { ca: { name: 'ca', path: 'run/ca.yaml' }, client: null },
}
const own = {
  explicit_http_config: { http_protocol_options: { allow_chunked_length: true } },
  upstream_http_protocol_options: { auto_sni: true },
  common_http_protocol_options: { idle_timeout: { seconds: 1 } },
}
const cluster: Cluster = {
  name: 'zones',
  type: 'ORIGINAL_DST',
  typed_extension_protocol_options: {
    [HTTP_OPTIONS]: { type_url: `type.googleapis.com/${HTTP_OPTIONS}`, value: httpOptions.encode(own) },
  },
}

test('a cold cluster has its own name, dials the address alone, and fails without a name for the certificate', () => {
  const cold = coldUpstream(cluster, TLS)
  assert.equal(cold.name, 'zones.tls.1')
  assert.match(JSON.stringify(cold.original_dst_lb_config), /"key":"dialled"/)
  const { sni, auto_sni_san_validation } = tlsOf(cold)
  // No certificate has such a name.
  assert.deepEqual([sni, auto_sni_san_validation], ['unset.invalid', true])
})

test("each learned cluster has its zone's name, and those of one length are stamped alike", () => {
  const { oneAddress } = clusterTemplates(
    {},
    { nameOf: (id) => `pay/${id}`, upstream: TLS, serverName: (id) => `zone${id}.game.test` },
  )
  for (const id of ['7', '12', '13', 'a-b'])
    assert.equal(tlsOf(decode(oneAddress.stamp(id))).sni, `zone${id}.game.test`)
})

test("what the operator says of HTTP stays, but not that the Host is the certificate's name", () => {
  const { upstream_http_protocol_options: name, ...options } = optionsOf(withUpstream(cluster, TLS))
  assert.deepEqual([name, options['explicit_http_config'] !== undefined], [undefined, true])
  assert.deepEqual(tlsOf(withUpstream(cluster, TLS)).common_tls_context?.alpn_protocols, ['http/1.1'])
})

test('HTTP/2 takes the place of what is said of HTTP/1, with and without TLS, and checks speak it too', () => {
  for (const upstream of [TLS, { ...TLS, tls: null }]) {
    const checks = [{ http_health_check: { path: '/' } }, { tcp_health_check: {} }]
    const sent = withUpstream({ ...cluster, health_checks: checks }, { ...upstream, http: 2 })
    assert.match(JSON.stringify(optionsOf(sent)['explicit_http_config']), /^\{"http2_protocol_options"/)
    assert.deepEqual(sent['health_checks'], [
      { http_health_check: { path: '/', codec_client_type: 'HTTP2' } },
      { tcp_health_check: {} },
    ])
    if (upstream.tls !== null) assert.deepEqual(tlsOf(sent).common_tls_context?.alpn_protocols, ['h2'])
  }
})

test("no choice of a transport socket in the operator's cluster leads past TLS, and none is lost where TLS is his own", () => {
  const choosing = messageOf<Cluster>('envoy.config.cluster.v3.Cluster', {
    name: 'zones',
    transport_socket_matches: [
      {
        name: 'plain text',
        match: {},
        transport_socket: {
          name: 'raw',
          typed_config: {
            '@type': 'type.googleapis.com/envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer',
          },
        },
      },
    ],
  })
  const ca = { name: 'ca', path: 'run/ca.yaml' }
  const sent = (tls: { ca: typeof ca; client: null } | null): Cluster =>
    decode(
      coldClusterResource(coldUpstream(choosing, { cluster: 'zones.other', http: 2, tls }), {
        denied: [],
        allowed: [],
      }).encode(0),
    )
  assert.deepEqual(sent({ ca, client: null })['transport_socket_matches'] ?? [], [])
  assert.equal((sent(null)['transport_socket_matches'] as object[]).length, 1)
})

test("the address in a format of the operator's upstream filter is the address alone", () => {
  const filter = messageOf<{ readonly name: string; readonly typed_config: Any }>(
    'envoy.extensions.filters.network.http_connection_manager.v3.HttpFilter',
    {
      name: 'address',
      typed_config: {
        '@type': 'type.googleapis.com/envoy.extensions.filters.http.header_mutation.v3.HeaderMutation',
        mutations: {
          request_mutations: [
            { append: { header: { key: 'x-to', value: 'é %DYNAMIC_METADATA(zonegate:address):20%' } } },
          ],
        },
      },
    },
  )
  const value = httpOptions.encode({ ...own, http_filters: [filter] })
  const options = { [HTTP_OPTIONS]: { type_url: `type.googleapis.com/${HTTP_OPTIONS}`, value } }
  const cold = coldUpstream({ ...cluster, typed_extension_protocol_options: options }, TLS)
  const [changed] = optionsOf(cold).http_filters ?? []
  const expected = Buffer.from(filter.typed_config.value as Buffer)
    .toString()
    .replace('address', 'dialled')
  assert.equal(Buffer.from(changed?.typed_config?.value as Buffer).toString(), expected)
})
