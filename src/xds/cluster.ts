import { codec } from '../grpc/protos.ts'
import type { Cluster } from './messages.ts'
import { MESSAGE_NAMES, type Resource, type ZoneKey } from './resource.ts'
import { type Template, template } from './template.ts'

/** What a learned zone's cluster takes over from Envoy's cold cluster: fields of Cluster, without its name and discovery. */
export type ClusterPolicy = Omit<Cluster, 'name' | 'type' | 'eds_cluster_config' | 'lb_policy'>

/** Envoy takes no further cluster while one waits for its endpoints, so there is an end to that. */
const ENDPOINTS_TIMEOUT_SECONDS = 5

const { encode } = codec<Cluster>(MESSAGE_NAMES.cluster)

/** The clusters of all zones: alike but for the name. */
export function clusterTemplate(policy: ClusterPolicy): Template {
  return template((name) =>
    encode({
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
      // In turn: a retry's next address is another one. Least request would prefer a dead address, which has none.
      lb_policy: 'ROUND_ROBIN',
    }),
  )
}

export function clusterResource(key: ZoneKey, clusters: Template): Resource {
  return { name: key, version: clusters.version, encode: () => clusters.stamp(key) }
}
