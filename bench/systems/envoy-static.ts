import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parse } from 'yaml'
import { freePort } from '../../test/support/ports.ts'
import { untilListening } from '../processes.ts'
import { receiverPort, type Zone } from '../zones.ts'
import {
  envoyInstalled,
  runEnvoy,
  socketAddress,
  startEnvoy,
  startWithinMs,
  staticCluster,
  typed,
} from './envoy.ts'
import type { Setting, System } from './system.ts'

const envoyFolder = fileURLToPath(new URL('../../envoy', import.meta.url))

/**
 * The configuration of an operator who knows every zone and address: a static cluster for each zone, and a hash map from
 * the `server` header to the clusters. Service `default` only; `mail` would double both.
 */
export const envoyStatic: System = {
  name: 'envoy-static',
  title: 'hand-written Envoy, static zones',
  routesByZone: true,
  connectsByZone: true,
  installed: envoyInstalled,
  start: (setting) =>
    startEnvoy(setting, {
      virtualHost: { matcher: routesByZone(setting.zones, { route: { timeout: '5s' } }) },
      clusters: setting.zones.map((zone) => staticCluster(clusterOf(zone), zone.address, receiverPort)),
    }),
}

/**
 * The same, with the policy of Zonegate's Envoy files: forwarded headers, timeouts, retries, breakers and statistics. It
 * has no outlier detection, because each zone has one address here. A learned zone's cost beyond this is the price of
 * learning.
 */
export const envoyStaticPolicy: System = {
  name: 'envoy-static-policy',
  title: 'hand-written Envoy, same policy',
  routesByZone: true,
  connectsByZone: true,
  installed: envoyInstalled,
  async start(setting) {
    const [port, adminPort] = [await freePort(), await freePort()]
    const envoy = await runEnvoy(setting, JSON.stringify(withPolicy(setting, port, adminPort)))
    await untilListening(envoy, '127.0.0.1', port, startWithinMs)
    return { port, children: [envoy] }
  },
}

const previousHosts = {
  name: 'envoy.retry_host_predicates.previous_hosts',
  typed_config: typed('extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate', {}),
}
const clusterOf = (zone: Zone): string => `default/${zone.id}`

/** Zonegate's Envoy files with static routes and clusters. */
function withPolicy({ zones, requestIds, under }: Setting, port: number, adminPort: number): object {
  const read = (file: string) => parse(readFileSync(join(envoyFolder, file), 'utf8'), { merge: true })
  const [listener] = read('listener.yaml').resources
  delete listener['@type']
  const { admin: _, dynamic_resources: __, cluster_manager: ___, node: ____, ...rest } = read('envoy.yaml')
  const [forward] = read('routes.yaml').resources[0].virtual_hosts[0].routes.filter(
    ({ name }: { name: string }) => name === 'forward',
  )
  const manager = listener.filter_chains[0].filters[0].typed_config
  for (const key of ['rds', 'access_log']) delete manager[key]
  manager.generate_request_id = requestIds
  manager.http_filters = manager.http_filters.slice(-1)
  const fence = manager.early_header_mutation_extensions[0].typed_config
  fence.mutations = fence.mutations.filter(
    ({ append }: { append?: { header: { key: string } } }) => append?.header.key !== 'x-zonegate-route',
  )
  const { cluster: _____, ...policy } = forward.route
  policy.auto_host_rewrite = true // as with Zonegate and the recipe, a zone's Host is its address
  if (under !== undefined) policy.retry_policy.per_try_timeout = '60s' // Envoy is slow under another program
  policy.retry_policy.retry_host_predicate = [previousHosts]
  policy.retry_policy.host_selection_retry_max_attempts = 5
  const route = { route: policy, response_headers_to_remove: forward.response_headers_to_remove }
  manager.route_config = {
    name: 'callback',
    virtual_hosts: [{ name: 'all', domains: ['*'], matcher: routesByZone(zones, route) }],
  }
  listener.address = socketAddress('127.0.0.1', port)
  const { '@type': ______, cluster_type: _______, ...cold } = read('clusters.yaml').resources[0]
  const options =
    cold.typed_extension_protocol_options['envoy.extensions.upstreams.http.v3.HttpProtocolOptions']
  // It is for addresses that come with a request.
  delete options.upstream_http_protocol_options
  return {
    ...rest,
    inline_headers: [
      ...rest.inline_headers,
      { inline_header_name: 'server', inline_header_type: 'REQUEST_HEADER' },
    ],
    admin: { address: socketAddress('127.0.0.1', adminPort) },
    static_resources: {
      listeners: [listener],
      clusters: zones.map((zone) => ({
        ...cold,
        ...staticCluster(clusterOf(zone), zone.address, receiverPort, `${zone.address}:${receiverPort}`),
        lb_policy: 'ROUND_ROBIN',
      })),
    },
  }
}

/** @param policy each zone's route without its cluster */
function routesByZone(zones: readonly Zone[], policy: { readonly route: object }): object {
  const toZone = zones.map((zone) => [
    zone.id,
    action({ ...policy, route: { ...policy.route, cluster: clusterOf(zone) } }),
  ])
  const byId = exactMatch('server', Object.fromEntries(toZone), action({ direct_response: { status: 403 } }))
  const onlyPost = exactMatch(
    ':method',
    { POST: { matcher: byId } },
    action({ direct_response: { status: 405 } }),
  )
  return onlyPost
}

function action(route: object): object {
  return {
    action: {
      name: 'route',
      typed_config: typed('config.route.v3.Route', { match: { prefix: '/' }, ...route }),
    },
  }
}

function exactMatch(headerName: string, map: object, onNoMatch: object): object {
  const input = {
    name: headerName,
    typed_config: typed('type.matcher.v3.HttpRequestHeaderMatchInput', { header_name: headerName }),
  }
  return { matcher_tree: { input, exact_match_map: { map } }, on_no_match: onNoMatch }
}
