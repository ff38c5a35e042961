import { HTTP_OPTIONS, httpOptions } from './cold-cluster.ts'
import { messageOf } from './message-yaml.ts'
import type { Any, Carried, Cluster } from './messages.ts'
import { typeUrl } from './resource.ts'

/** How a cluster reaches receivers, where it is not HTTP/1.1 in plain text. */
export interface UpstreamCluster {
  /** The cold path's cluster for it. */
  readonly cluster: string
  readonly http: 1 | 2
  readonly tls: {
    readonly ca: SecretFile
    readonly client: SecretFile | null
  } | null
}

/** Where Envoy finds a secret, by the paths in a file. */
export interface SecretFile {
  readonly name: string
  readonly path: string
}

const TLS_CONTEXT = 'envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext'
const TRANSPORT_SOCKET = 'envoy.config.core.v3.TransportSocket'
/** Files are read at once. What is not there must not hold up other clusters: Envoy takes them one after the other. */
const SECRET_WITHIN = '1s'
/** No certificate has it (RFC 2606 section 2): a request whose zone has no name is refused. */
const NO_NAME = 'unset.invalid'

/** What says which protocol Envoy speaks, of which one is set. */
const PROTOCOLS = ['explicit_http_config', 'use_downstream_protocol_config', 'auto_config'] as const
/** Envoy would take the name for TLS from the Host. */
const NAME_OF_HOST = 'upstream_http_protocol_options'
/** The operator's own ways to choose a transport socket for an address: Envoy prefers what they choose, which may be plain text. */
const CHOICES = ['transport_socket_matches', 'transport_socket_matcher'] as const
/** As on the listener: what one zone can make Envoy hold. The defaults are 16 and 24 MiB. */
const HTTP2 = {
  http2_protocol_options: { initial_stream_window_size: 65_536, initial_connection_window_size: 1_048_576 },
}
const explicitHttp2 = messageOf<Carried>(HTTP_OPTIONS, { explicit_http_config: HTTP2 })

/**
 * The cluster, by TLS or HTTP/2.
 * @param serverName what a certificate must have; absent: each request brings it
 */
export function withUpstream<Part extends Partial<Cluster>>(
  cluster: Part,
  { http, tls }: UpstreamCluster,
  serverName = NO_NAME,
): Part {
  const all = cluster.typed_extension_protocol_options ?? {}
  const options = httpOptions.decode(all[HTTP_OPTIONS]?.value ?? Buffer.alloc(0))
  const kept = Object.entries(options).filter(
    ([field]) => field !== NAME_OF_HOST && (http === 1 || !(PROTOCOLS as readonly string[]).includes(field)),
  )
  const value = httpOptions.encode({ ...Object.fromEntries(kept), ...(http === 2 && explicitHttp2) })
  return {
    ...(tls ? without(cluster, CHOICES) : cluster),
    typed_extension_protocol_options: { ...all, [HTTP_OPTIONS]: { type_url: typeUrl(HTTP_OPTIONS), value } },
    ...(http === 2 &&
      cluster['health_checks'] !== undefined && { health_checks: byHttp2(cluster['health_checks']) }),
    ...(tls && { transport_socket: transportSocket(tls, http, serverName) }),
  }
}

function without<Part extends object>(message: Part, fields: readonly string[]): Part {
  return Object.fromEntries(Object.entries(message).filter(([field]) => !fields.includes(field))) as Part
}

/** Envoy's checks speak HTTP/1.1 unless they are told otherwise. */
function byHttp2(checks: unknown): unknown {
  return (checks as readonly { readonly http_health_check?: object }[]).map((check) =>
    check.http_health_check === undefined
      ? check
      : { ...check, http_health_check: { ...check.http_health_check, codec_client_type: 'HTTP2' } },
  )
}

/** The cold path's cluster for it: the address is the one in front of which the processor names the cluster. */
export function coldUpstream(cluster: Cluster, upstream: UpstreamCluster): Cluster {
  const address = {
    original_dst_lb_config: { metadata_key: { key: 'zonegate', path: [{ key: 'dialled' }] } },
  }
  return {
    ...withUpstream(cluster, upstream),
    ...messageOf<Cluster>('envoy.config.cluster.v3.Cluster', address),
    name: upstream.cluster,
  }
}

function transportSocket(
  { ca, client }: NonNullable<UpstreamCluster['tls']>,
  http: 1 | 2,
  serverName: string,
): { readonly name: string; readonly typed_config: Any } {
  return messageOf(TRANSPORT_SOCKET, {
    name: 'envoy.transport_sockets.tls',
    typed_config: {
      '@type': typeUrl(TLS_CONTEXT),
      sni: serverName,
      auto_sni_san_validation: true,
      // Each handshake is a whole one, with the certificates of that moment: what is resumed is checked no more.
      max_session_keys: 0,
      common_tls_context: {
        alpn_protocols: [http === 2 ? 'h2' : 'http/1.1'],
        tls_params: { tls_minimum_protocol_version: 'TLSv1_2', tls_maximum_protocol_version: 'TLSv1_3' },
        ...(client && { tls_certificate_sds_secret_configs: [secret(client)] }),
        validation_context_sds_secret_config: secret(ca),
      },
    },
  })
}

function secret({ name, path }: SecretFile): object {
  return {
    name,
    sds_config: {
      resource_api_version: 'V3',
      initial_fetch_timeout: SECRET_WITHIN,
      path_config_source: { path },
    },
  }
}
