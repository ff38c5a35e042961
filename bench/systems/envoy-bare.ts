import { receiverAddresses, receiverPort } from '../zones.ts'
import { envoyInstalled, startEnvoy, staticCluster } from './envoy.ts'
import type { System } from './system.ts'

/** The limit of anything built on Envoy: one route to one known address, no filter but the router. */
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
