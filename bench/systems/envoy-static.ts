import { receiverPort, type Zone } from '../zones.ts'
import { envoyInstalled, startEnvoy, staticCluster, typed } from './envoy.ts'
import type { System } from './system.ts'

/**
 * What an operator would write by hand, knowing every zone and address beforehand: a static cluster for each zone, picked
 * by an exact match of the `server` header in a hash map. (Service `default` only; `mail` would double both.)
 */
export const envoyStatic: System = {
  name: 'envoy-static',
  title: 'hand-written Envoy, static zones',
  routesByZone: true,
  connectsByZone: true,
  installed: envoyInstalled,
  start: (setting) =>
    startEnvoy(setting, {
      virtualHost: { matcher: routesByZone(setting.zones) },
      clusters: setting.zones.map((zone) => staticCluster(`zone${zone.id}`, zone.address, receiverPort)),
    }),
}

function routesByZone(zones: readonly Zone[]): object {
  const toZone = zones.map((zone) => [
    zone.id,
    action({ route: { cluster: `zone${zone.id}`, timeout: '5s' } }),
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
