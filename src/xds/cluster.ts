import { messageCodec } from './envoy-api.ts'
import type { Cluster } from './messages.ts'
import { MESSAGE_NAMES, type Resource, reachingVersion, type ZoneKey } from './resource.ts'
import { type Template, template } from './template.ts'
import { type UpstreamCluster, withUpstream } from './upstream.ts'

/** The cluster of the cold path, without its name and the fields about discovery. */
export type ClusterPolicy = Omit<Cluster, 'name' | 'type' | 'eds_cluster_config' | 'lb_policy'> & {
  readonly health_checks?: readonly unknown[]
}

/** Limits the wait for endpoints, because Envoy takes no other cluster while one waits. */
const ENDPOINTS_TIMEOUT_SECONDS = 5

/**
 * If a zone has several addresses, one that refuses connections is ejected for a while. HTTP answers do not count. One address
 * always stays, because with none left Envoy would not even try (Envoy doc: Outlier detection). `outlier_detection` of the
 * cold cluster takes precedence.
 */
const OUTLIER_DETECTION = {
  split_external_local_origin_errors: true,
  consecutive_local_origin_failure: { value: 3 },
  interval: { seconds: 1 },
  base_ejection_time: { seconds: 5 },
  max_ejection_time: { seconds: 30 },
  max_ejection_percent: { value: 90 },
  enforcing_consecutive_5xx: { value: 0 },
  enforcing_consecutive_gateway_failure: { value: 0 },
  enforcing_success_rate: { value: 0 },
  enforcing_local_origin_success_rate: { value: 0 },
  enforcing_failure_percentage: { value: 0 },
} as const
/** Ejected addresses get no requests even if few others are left. */
const COMMON_LB_CONFIG = { healthy_panic_threshold: { value: 0 } } as const

/**
 * With health checks: an address whose checks fail gets no requests. If all fail, all are tried, as on the cold path, which has no
 * checks. An address that is no longer in DNS is removed at once; by default Envoy would keep it while its checks succeed.
 */
const CHECKED = {
  before: { common_lb_config: { healthy_panic_threshold: { value: 1 } } },
  after: { ignore_health_on_host_removal: true },
} as const

const { encode } = messageCodec<Cluster>(MESSAGE_NAMES.cluster)

/** The clusters of zones differ in their names, and in what only several addresses need. */
export interface ClusterTemplates {
  /**
   * With one address there is nothing to choose: no health checks, no outlier detection (it costs Envoy 4.6 KB and a timer for
   * each zone), and the load balancer that keeps no state (it saves 1.4 KB).
   */
  readonly oneAddress: Template
  readonly severalAddresses: Template
}

/** What follows from the zone or from its service. `text` is what the template stamps. */
export interface ZoneClusters {
  /** The cluster's name; absent: the text itself. */
  readonly nameOf?: (text: string) => string
  /** The zone's DNS name for Envoy's access log, as metadata of the cluster. Undefined: the route has it. */
  readonly zoneName?: ((text: string) => string) | undefined
  /** Undefined: HTTP/1.1 in plain text. */
  readonly upstream?: UpstreamCluster | undefined
  /** The name that the zone's certificate must have. */
  readonly serverName?: ((text: string) => string) | undefined
}

export function clusterTemplates(
  policy: ClusterPolicy,
  { nameOf = (key) => key, zoneName, upstream, serverName }: ZoneClusters = {},
): ClusterTemplates {
  const clusterTemplate = (alike: Omit<Cluster, 'name'>): Template =>
    template((text) => {
      const named = zoneName === undefined ? alike : withZone(alike, zoneName(text))
      const reached = upstream === undefined ? named : withUpstream(named, upstream, serverName?.(text))
      return encode(clusterOf(nameOf(text), reached))
    })
  const { health_checks: checks = [], ...unchecked } = policy
  const checked = checks.length > 0
  return {
    oneAddress: clusterTemplate({ ...unchecked, lb_policy: 'RANDOM' }),
    // Round robin, so that a retry goes to another address. Least request would prefer a dead address: it has no requests.
    severalAddresses: clusterTemplate({
      outlier_detection: OUTLIER_DETECTION,
      ...(checked && CHECKED.before),
      ...policy,
      ...(checked && CHECKED.after),
      lb_policy: 'ROUND_ROBIN',
    }),
  }
}

function clusterOf(name: string, policy: Omit<Cluster, 'name'>): Cluster {
  return {
    common_lb_config: COMMON_LB_CONFIG,
    ...policy,
    name,
    type: 'EDS',
    // Endpoints come over the same stream as the cluster.
    eds_cluster_config: {
      eds_config: {
        ads: {},
        resource_api_version: 'V3',
        initial_fetch_timeout: { seconds: ENDPOINTS_TIMEOUT_SECONDS },
      },
    },
  }
}

function withZone(policy: Omit<Cluster, 'name'>, zone: string): Omit<Cluster, 'name'> {
  const { metadata } = policy as Cluster
  const others = metadata?.filter_metadata ?? {}
  const own = { fields: { ...others['zonegate']?.fields, zone: { stringValue: zone } } }
  return { ...policy, metadata: { filter_metadata: { ...others, zonegate: own } } }
}

/**
 * @param text what the template stamps, usually the key
 * @param reach the cold path's cluster for its `upstream`; absent: HTTP/1.1 in plain text
 */
export function clusterResource(
  key: ZoneKey,
  clusters: Template,
  text: string = key,
  reach?: string,
): Resource {
  return {
    name: key,
    version: reachingVersion(clusters.version, reach),
    encode: () => clusters.stamp(text),
  }
}
