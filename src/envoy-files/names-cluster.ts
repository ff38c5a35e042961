import { createHash } from 'node:crypto'
import { parse } from 'yaml'
import { withoutRanges } from '../routing/cidr.ts'
import { type AddressFence, fenceFilter, HTTP_OPTIONS } from '../xds/cold-cluster.ts'
import type { SourceFile } from '../xds/yaml-file.ts'
import { RenderError } from './envoy-document.ts'

/** What Envoy needs to resolve names of zones without the processor. */
export interface FallbackDns {
  readonly search: string
  /** `address:port`; Envoy asks them in this order. */
  readonly nameservers: readonly string[]
  readonly family: 'ipv4' | 'ipv6' | 'both'
  /** How long a request waits for DNS at most, milliseconds. */
  readonly budgetMs: number
  /** The limits of simultaneous queries, and of names in the cache. */
  readonly queriesInFlightMax: number
  readonly namesMax: number
  readonly fence: AddressFence
}

/** A copy of the operator's cluster `zones` that resolves names itself, in proto3's JSON mapping. */
export interface NamesCluster {
  /** Has a hash of the content. A change makes a new cluster, because Envoy can't change a cache of names or a cluster of its bootstrap. */
  readonly name: string
  readonly cluster: object
}

/** The beginning of these clusters' names, and the name of their statistics. */
const NAMES_CLUSTER = 'zones_by_name'

const TYPE = 'type.googleapis.com/envoy.extensions'
const HASH_LENGTH = 12
/**
 * Envoy returns to a cached name when its TTL ends, or after `ABSENT_LASTS` if it has no address. If no request has used the name for
 * `UNUSED_LASTS`, Envoy then removes it and does not resolve it again. So a scan of names costs one query for each name, and holds
 * its places in the cache only for this time.
 */
const ABSENT_LASTS = '5s'
const UNUSED_LASTS = '4s'
/**
 * Fields of the operator's cluster that do not fit here. Most of them say how it finds addresses. With health checks this cluster
 * would choose no address.
 */
const LEFT_OUT = [
  '@type',
  'type',
  'original_dst_lb_config',
  'cleanup_interval',
  'load_assignment',
  'load_balancing_policy',
  'dns_lookup_family',
  'health_checks',
] as const
const FAMILIES = { ipv4: 'V4_ONLY', ipv6: 'V6_ONLY', both: 'ALL' } as const

/** @throws RenderError if the file has no cluster */
export function namesCluster({ path, text }: SourceFile, dns: FallbackDns): NamesCluster {
  const fields = { ...clusterIn(path, text) }
  for (const field of LEFT_OUT) delete fields[field]
  const all = (fields['typed_extension_protocol_options'] ?? {}) as Readonly<Record<string, object>>
  const { http_filters: filters = [], ...options } = spelledAlike(all[HTTP_OPTIONS] ?? {}) as HttpOptions
  const build = (name: string): object => ({
    ...fields,
    name,
    alt_stat_name: NAMES_CLUSTER,
    lb_policy: 'CLUSTER_PROVIDED',
    cluster_type: {
      name: 'envoy.clusters.dynamic_forward_proxy',
      typed_config: {
        '@type': `${TYPE}.clusters.dynamic_forward_proxy.v3.ClusterConfig`,
        dns_cache_config: dnsCache(name, dns),
      },
    },
    typed_extension_protocol_options: {
      ...all,
      [HTTP_OPTIONS]: {
        '@type': `type.googleapis.com/${HTTP_OPTIONS}`,
        ...options,
        upstream_http_protocol_options: { auto_sni: true, auto_san_validation: true },
        http_filters: [
          fenceFilter(dns.fence),
          ...(filters.length > 0
            ? filters
            : [
                {
                  name: 'upstream_codec',
                  typed_config: { '@type': `${TYPE}.filters.http.upstream_codec.v3.UpstreamCodec` },
                },
              ]),
        ],
      },
    },
  })
  const hash = createHash('sha256')
    .update(JSON.stringify(build('')))
    .digest('hex')
    .slice(0, HASH_LENGTH)
  const name = `${NAMES_CLUSTER}.${hash}`
  return { name, cluster: build(name) }
}

interface HttpOptions {
  readonly http_filters?: readonly object[]
}

function dnsCache(
  name: string,
  { nameservers, family, budgetMs, queriesInFlightMax, namesMax, fence }: FallbackDns,
): object {
  return {
    name,
    dns_lookup_family: FAMILIES[family],
    max_hosts: namesMax,
    host_ttl: UNUSED_LASTS,
    dns_refresh_rate: ABSENT_LASTS,
    // Envoy resolves again at a random time within this interval. Without it Envoy would keep a failed name forever.
    dns_failure_refresh_rate: { base_interval: ABSENT_LASTS, max_interval: ABSENT_LASTS },
    dns_cache_circuit_breaker: { max_pending_requests: queriesInFlightMax },
    dns_query_timeout: `${budgetMs / 1000}s`,
    // The fence filter sees only the first address of a name, but Envoy may try the others.
    resolved_address_filter: {
      ranges: withoutRanges(fence.denied, fence.allowed).map((cidr) => {
        const [address_prefix, prefix] = cidr.split('/')
        return { address_prefix, prefix_len: Number(prefix) }
      }),
    },
    typed_dns_resolver_config: {
      name: 'envoy.network.dns_resolver.cares',
      typed_config: {
        '@type': `${TYPE}.network.dns_resolver.cares.v3.CaresDnsResolverConfig`,
        resolvers: nameservers.map(addressOf),
        // Names are absolute. With a search domain of resolv.conf, a missing name could become another host's name.
        dns_resolver_options: { no_default_search_domain: true },
        query_timeout_seconds: 1,
        // Each query has its own port, which a forger of answers must guess.
        udp_max_queries: 1,
      },
    },
  }
}

function addressOf(nameserver: string): object {
  const at = nameserver.lastIndexOf(':')
  const address = nameserver.slice(0, at).replace(/^\[(.*)\]$/, '$1')
  return { socket_address: { address, port_value: Number(nameserver.slice(at + 1)) } }
}

function clusterIn(path: string, text: string): Record<string, unknown> {
  try {
    const cluster = parse(text)?.resources?.[0]
    if (typeof cluster === 'object' && cluster !== null) return spelledAlike(cluster)
  } catch (error) {
    throw new RenderError(`${path}: ${(error as Error).message.split('\n', 1)[0]}`)
  }
  throw new RenderError(`${path}: resources: expected a cluster`)
}

/** A message with all field names in snake case: Envoy also accepts `lbPolicy` for `lb_policy`. */
function spelledAlike(message: object): Record<string, unknown> {
  const snake = (field: string): string => field.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`)
  return Object.fromEntries(Object.entries(message).map(([field, value]) => [snake(field), value]))
}
