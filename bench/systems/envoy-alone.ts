import { receiverAddresses, receiverPort, searchDomain } from '../zones.ts'
import { envoyInstalled, socketAddress, startEnvoy, staticCluster, typed } from './envoy.ts'
import type { Setting, System } from './system.ts'

/** The least that Envoy can cost: one route to one known address, and no filter but the router. */
export const envoyBare: System = {
  name: 'envoy-bare',
  title: 'bare Envoy, one static route',
  routesByZone: false,
  installed: envoyInstalled,
  start: (setting) =>
    startEnvoy(setting, {
      virtualHost: { routes: [{ match: { prefix: '/' }, route: { cluster: 'receiver', timeout: '5s' } }] },
      clusters: [staticCluster('receiver', receiverAddresses[0] as string, receiverPort)],
    }),
}

/** Envoy without a processor: set_filter_state builds the name, and the dynamic forward proxy resolves it with Envoy's own DNS. */
export const envoyDns: System = {
  name: 'envoy-dns',
  title: 'Envoy alone, its own DNS',
  routesByZone: true,
  installed: envoyInstalled,
  start(setting) {
    const cache = dnsCache(setting)
    return startEnvoy(setting, {
      virtualHost: {
        routes: [
          { match: { prefix: '/', headers: [notPost] }, direct_response: { status: 405 } },
          { match: { prefix: '/', headers: [withId] }, route: { cluster: 'zones', timeout: '5s' } },
          { match: { prefix: '/' }, direct_response: { status: 403 } },
        ],
      },
      filters: [
        filterState({
          'envoy.upstream.dynamic_host': hostName,
          'envoy.upstream.dynamic_port': `${receiverPort}`,
        }),
        {
          name: 'dynamic_forward_proxy',
          typed_config: typed('extensions.filters.http.dynamic_forward_proxy.v3.FilterConfig', {
            dns_cache_config: cache,
            allow_dynamic_host_from_filter_state: true,
          }),
        },
      ],
      clusters: [
        {
          name: 'zones',
          connect_timeout: '1s',
          lb_policy: 'CLUSTER_PROVIDED',
          cluster_type: {
            name: 'envoy.clusters.dynamic_forward_proxy',
            typed_config: typed('extensions.clusters.dynamic_forward_proxy.v3.ClusterConfig', {
              dns_cache_config: cache,
            }),
          },
        },
      ],
    })
  },
}

const notPost = { name: ':method', string_match: { exact: 'POST' }, invert_match: true }
const withId = { name: 'server', present_match: true }
/** Service `default` only: a second service would need a second route and filter configuration. */
const hostName = `zone%REQ(server)%-default.${searchDomain}`

function filterState(values: Readonly<Record<string, string>>): object {
  const entries = Object.entries(values).map(([key, format]) => ({
    object_key: key,
    format_string: { text_format_source: { inline_string: format } },
  }))
  return {
    name: 'set_filter_state',
    typed_config: typed('extensions.filters.http.set_filter_state.v3.Config', {
      on_request_headers: entries,
    }),
  }
}

function dnsCache({ nameservers, zones }: Setting): object {
  return {
    name: 'zones',
    dns_lookup_family: 'V4_ONLY',
    max_hosts: zones.length + 1024,
    typed_dns_resolver_config: {
      name: 'envoy.network.dns_resolver.cares',
      typed_config: typed('extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig', {
        resolvers: nameservers.map(({ address, port }) => socketAddress(address, port)),
      }),
    },
  }
}
