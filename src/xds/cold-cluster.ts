import { messageCodec } from './envoy-api.ts'
import { messageOf } from './message-yaml.ts'
import type { Any, Cluster } from './messages.ts'
import { contentVersion, MESSAGE_NAMES, type Resource, typeUrl } from './resource.ts'

/** Addresses as CIDRs. As in Envoy, an IPv6 CIDR never matches an IPv4 address, nor the other way round. */
export interface AddressFence {
  readonly denied: readonly string[]
  /** Exceptions from `denied`. */
  readonly allowed: readonly string[]
}

export const HTTP_OPTIONS = 'envoy.extensions.upstreams.http.v3.HttpProtocolOptions'
const RBAC = 'envoy.extensions.filters.http.rbac.v3.RBAC'
const UPSTREAM_IP = 'envoy.extensions.rbac.matchers.upstream_ip_port.v3.UpstreamIpPortMatcher'
const HTTP_FILTER = 'envoy.extensions.filters.network.http_connection_manager.v3.HttpFilter'
const CODEC = 'envoy.extensions.filters.http.upstream_codec.v3.UpstreamCodec'

interface HttpFilter {
  readonly name: string
  readonly typed_config?: Any
}
export interface HttpOptions {
  readonly http_filters?: readonly HttpFilter[]
  readonly [field: string]: unknown
}

const clusters = messageCodec<Cluster>(MESSAGE_NAMES.cluster)
export const httpOptions = messageCodec<HttpOptions>(HTTP_OPTIONS)

/**
 * The operator's cluster with a filter that refuses denied addresses, whatever the processor named. It is an upstream filter:
 * these run for each request after the address is chosen, so no route can bypass it.
 *
 * Health checks are left out: an ORIGINAL_DST cluster would check every address it has seen, and still use one that fails.
 */
export function coldClusterResource(
  { health_checks: _unused, ...cluster }: Cluster,
  fence: AddressFence,
): Resource {
  const all = cluster.typed_extension_protocol_options ?? {}
  const { http_filters = [], ...options } = httpOptions.decode(all[HTTP_OPTIONS]?.value ?? Buffer.alloc(0))
  const filters = [
    messageOf<HttpFilter>(HTTP_FILTER, fenceFilter(fence)),
    ...http_filters,
    // The last filter must be this one. Envoy adds it only if there are no filters at all.
    ...(http_filters.length === 0
      ? [{ name: 'upstream_codec', typed_config: { type_url: typeUrl(CODEC) } }]
      : []),
  ]
  const value = httpOptions.encode({ ...options, http_filters: filters })
  const encoded = clusters.encode({
    ...cluster,
    typed_extension_protocol_options: { ...all, [HTTP_OPTIONS]: { type_url: typeUrl(HTTP_OPTIONS), value } },
  })
  return { name: cluster.name ?? '', version: contentVersion(encoded), encode: () => encoded }
}

/** A resource of a cluster in proto3's JSON mapping. */
export function clusterResourceOf(cluster: object): Resource {
  const message = messageOf<Cluster>(MESSAGE_NAMES.cluster, cluster)
  const encoded = clusters.encode(message)
  return { name: message.name ?? '', version: contentVersion(encoded), encode: () => encoded }
}

/** RBAC that allows addresses outside `denied`, and the exceptions. In proto3's JSON mapping. */
export function fenceFilter({ denied, allowed }: AddressFence): object {
  const anyone = [{ any: true }]
  const others = {
    principals: anyone,
    permissions: [{ not_rule: { or_rules: { rules: denied.map(within) } } }],
  }
  const exceptions = { principals: anyone, permissions: allowed.map(within) }
  const policies = { others, ...(allowed.length > 0 && { allowed: exceptions }) }
  return {
    name: 'zonegate.denied_addresses',
    typed_config: { '@type': typeUrl(RBAC), rules: { action: 'ALLOW', policies } },
  }
}

function within(cidr: string): object {
  const [address_prefix = '', prefix = ''] = cidr.split('/')
  const upstream_ip = { address_prefix, prefix_len: Number(prefix) }
  return { matcher: { name: 'upstream_ip', typed_config: { '@type': typeUrl(UPSTREAM_IP), upstream_ip } } }
}
