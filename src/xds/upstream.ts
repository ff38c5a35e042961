import { HTTP_OPTIONS, type HttpOptions, httpOptions } from './cold-cluster.ts'
import { messageOf } from './message-yaml.ts'
import type { Any, Carried, Cluster } from './messages.ts'
import { typeUrl } from './resource.ts'

/** `upstream` of a rule or service: how its receivers are reached, other than by HTTP/1.1 in plain text. */
export interface UpstreamCluster {
  /** Name of the cold path's cluster for it. */
  readonly cluster: string
  readonly http: 1 | 2
  readonly tls: {
    readonly ca: SecretFile
    readonly client: SecretFile | null
  } | null
}

/** A file from which Envoy reads a secret (SDS): it has the paths of certificates and keys. */
export interface SecretFile {
  readonly name: string
  readonly path: string
}

const TLS_CONTEXT = 'envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext'
const TRANSPORT_SOCKET = 'envoy.config.core.v3.TransportSocket'
/** Envoy reads the files at once. A missing one must not delay other clusters, which Envoy takes one after the other. */
const SECRET_WITHIN = '1s'
/** No certificate has this name (RFC 2606 section 2), so a request without the name of its zone fails. */
const NO_NAME = 'unset.invalid'

/** The fields that choose the protocol. One of them is set. */
const PROTOCOLS = ['explicit_http_config', 'use_downstream_protocol_config', 'auto_config'] as const
/** With this field Envoy would take the name for TLS from the Host. */
const NAME_OF_HOST = 'upstream_http_protocol_options'
/** These fields choose a transport socket for each address. Envoy prefers that one, and it may be plain text. */
const CHOICES = ['transport_socket_matches', 'transport_socket_matcher'] as const
/** Bounds what one zone can make Envoy buffer, as on the listener. The defaults are 16 and 24 MiB. */
const HTTP2 = {
  http2_protocol_options: { initial_stream_window_size: 65_536, initial_connection_window_size: 1_048_576 },
}
const explicitHttp2 = messageOf<Carried>(HTTP_OPTIONS, { explicit_http_config: HTTP2 })

/**
 * A copy of the cluster that uses TLS or HTTP/2.
 * @param serverName the name that certificates must have; absent: each request brings its own
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

/** Envoy's health checks use HTTP/1.1 by default. */
function byHttp2(checks: unknown): unknown {
  return (checks as readonly { readonly http_health_check?: object }[]).map((check) =>
    check.http_health_check === undefined
      ? check
      : { ...check, http_health_check: { ...check.http_health_check, codec_client_type: 'HTTP2' } },
  )
}

/** The processor's metadata in formats of Envoy. For a zone with `upstream` the address has the cluster's name in front. */
const ADDRESS_FORMAT = 'DYNAMIC_METADATA(zonegate:address'
const DIALLED_FORMAT = 'DYNAMIC_METADATA(zonegate:dialled'

/**
 * Makes formats in the operator's filters use the address alone. The filters are encoded already; both texts have the same length, so
 * the lengths in the messages around them stay right.
 */
function nameDialled({ http_filters = [], ...options }: HttpOptions): HttpOptions {
  const filters = http_filters.map(({ typed_config, ...filter }) => ({
    ...filter,
    ...(typed_config && {
      typed_config: {
        ...typed_config,
        value: Buffer.from(
          Buffer.from(typed_config.value ?? '')
            .toString('latin1')
            .replaceAll(ADDRESS_FORMAT, DIALLED_FORMAT),
          'latin1',
        ),
      },
    }),
  }))
  return { ...options, ...(filters.length > 0 && { http_filters: filters }) }
}

/** The cold path's cluster for an `upstream`. It connects to `dialled` of the processor's metadata, the address alone. */
export function coldUpstream(cluster: Cluster, upstream: UpstreamCluster): Cluster {
  const address = {
    original_dst_lb_config: { metadata_key: { key: 'zonegate', path: [{ key: 'dialled' }] } },
  }
  const all = cluster.typed_extension_protocol_options ?? {}
  const { type_url = typeUrl(HTTP_OPTIONS), value: own = Buffer.alloc(0) } = all[HTTP_OPTIONS] ?? {}
  const value = httpOptions.encode(nameDialled(httpOptions.decode(own)))
  const named = {
    ...cluster,
    typed_extension_protocol_options: { ...all, [HTTP_OPTIONS]: { type_url, value } },
  }
  return {
    ...withUpstream(named, upstream),
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
      // No session resumption: a resumed session would skip the check of the certificate.
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
