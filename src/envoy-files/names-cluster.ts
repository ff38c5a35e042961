import { createHash } from 'node:crypto'
import { parse } from 'yaml'
import { withoutRanges } from '../routing/cidr.ts'
import { type AddressFence, fenceFilter, HTTP_OPTIONS } from '../xds/cold-cluster.ts'
import type { SourceFile } from '../xds/yaml-file.ts'
import { RenderError } from './envoy-document.ts'

/** What Envoy needs to find zones without the processor. */
export interface FallbackDns {
  readonly search: string
  /** `address:port`, in their order. */
  readonly nameservers: readonly string[]
  readonly family: 'ipv4' | 'ipv6' | 'both'
  /** The longest that a request waits for DNS. */
  readonly budgetMs: number
  /** Queries at once, and names in the cache. */
  readonly queriesInFlightMax: number
  readonly namesMax: number
  readonly fence: AddressFence
}

/** The cluster `zones` of the operator, of which Envoy resolves names itself. In proto3's JSON mapping. */
export interface NamesCluster {
  /** Of its content: what differs is another cluster, because Envoy changes no cache of names, and no cluster of its bootstrap. */
  readonly name: string
  readonly cluster: object
}

/** In front of the names of these clusters, and the name of their statistics. */
export const NAMES_CLUSTER = 'zones_by_name'

const TYPE = 'type.googleapis.com/envoy.extensions'
const HASH_LENGTH = 12
/**
 * Envoy looks at a name again when its TTL ends, and at one that has no address after `ABSENT_LASTS`: what nobody has asked for in
 * between is forgotten then, and not resolved again. So a scan gets a query for each name, and holds its places for as long.
 */
const ABSENT_LASTS = '5s'
const UNUSED_LASTS = '4s'
/** How the processor's cluster finds addresses, or does without; and checks of addresses, by which it would choose none. */
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

/** @throws RenderError where the file has no cluster */
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
    // At a random moment within it. Without such a moment Envoy keeps a name that failed for ever.
    dns_failure_refresh_rate: { base_interval: ABSENT_LASTS, max_interval: ABSENT_LASTS },
    dns_cache_circuit_breaker: { max_pending_requests: queriesInFlightMax },
    dns_query_timeout: `${budgetMs / 1000}s`,
    // The fence in front of the filters sees the first address of a name, and Envoy may try the others.
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
        // Names are whole: with a domain of resolv.conf behind it a name that is not there would be another's.
        dns_resolver_options: { no_default_search_domain: true },
        query_timeout_seconds: 1,
        // A port of its own for each query: whoever forges an answer has to guess it.
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

/** Fields of a message by their names in the API: Envoy also takes them as `lbPolicy`. */
function spelledAlike(message: object): Record<string, unknown> {
  const snake = (field: string): string => field.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`)
  return Object.fromEntries(Object.entries(message).map(([field, value]) => [snake(field), value]))
}
