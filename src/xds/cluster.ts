import { messageCodec } from './envoy-api.ts'
import type { Cluster } from './messages.ts'
import { MESSAGE_NAMES, type Resource, reachingVersion, type ZoneKey } from './resource.ts'
import { type Template, template } from './template.ts'
import { type UpstreamCluster, withUpstream } from './upstream.ts'

/** Envoy's cold cluster, whole but for its name and discovery. */
export type ClusterPolicy = Omit<Cluster, 'name' | 'type' | 'eds_cluster_config' | 'lb_policy'> & {
  readonly health_checks?: readonly unknown[]
}

/** Envoy takes no further cluster while one waits for its endpoints, so there is an end to that. */
const ENDPOINTS_TIMEOUT_SECONDS = 5

/**
 * Of a zone's several addresses, one that refuses connections is left out for a while. What an application answers counts
 * nothing, and one address always stays: with none left Envoy would not even try (Envoy doc: Outlier detection).
 * A cold cluster with `outlier_detection` of its own has it instead.
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
/** Addresses that are left out stay so, however few are left. */
const COMMON_LB_CONFIG = { healthy_panic_threshold: { value: 0 } } as const

/**
 * Of several addresses, one whose checks fail gets no request. Where all fail each is tried, as it is on the cold path, which has no
 * checks. An address that DNS has no more is gone at once: by default Envoy would keep it while its checks succeed.
 */
const CHECKED = {
  before: { common_lb_config: { healthy_panic_threshold: { value: 1 } } },
  after: { ignore_health_on_host_removal: true },
} as const

const { encode } = messageCodec<Cluster>(MESSAGE_NAMES.cluster)

/** The clusters of all zones: alike but for the name, and for what only several addresses need. */
export interface ClusterTemplates {
  /**
   * Nothing is to choose from here: without outlier detection, which costs Envoy 4.6 KB and a timer for each zone, and with
   * the choice that keeps no state, which costs 1.4 KB less. Nor is the address checked.
   */
  readonly oneAddress: Template
  readonly severalAddresses: Template
}

/** What of the clusters of a service follows from the zone, or from the service. */
export interface ZoneClusters {
  /** Of the text that is stamped; without it, that. */
  readonly nameOf?: (text: string) => string
  /** For metadata that tells Envoy's access log the zone, where its route doesn't: the name in DNS of a cluster. */
  readonly zoneName?: ((text: string) => string) | undefined
  /** Undefined: they are reached by HTTP/1.1 in plain text. */
  readonly upstream?: UpstreamCluster | undefined
  /** The name in a zone's certificate. */
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
    // In turn: a retry's next address is another one. Least request would prefer a dead address, which has none.
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
    // Endpoints come over the stream that the cluster came over.
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
 * @param text what the template stamps: the key as a rule
 * @param reach how it reaches receivers; absent: by HTTP/1.1 in plain text
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
