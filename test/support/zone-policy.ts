import type { ZonePolicy } from '../../src/xds/catalog.ts'
import type { Duration } from '../../src/xds/messages.ts'
import type { RoutingRules, ServiceRoutes } from '../../src/xds/routing-rules.ts'

export const DEFAULT_SERVICE: ServiceRoutes = { name: 'default', paths: [] }
export const MAIL_SERVICE: ServiceRoutes = { name: 'mail', paths: ['/mail'] }

/** How long clusters drain by `zonePolicy`. */
export const DRAIN_MS = 300_000

/** Routing rules with one rule, for POST. */
export function routingRules(services: readonly ServiceRoutes[]): RoutingRules {
  return {
    routeHeader: 'x-mark',
    rules: [
      {
        prefix: '',
        methods: ['POST'],
        domains: (id) => [`POST/${id}`],
        services,
        unusual: [],
        knownHeaders: () => ({}),
      },
    ],
    zoneName: (service, id) => `zone${id}-${service}.test`,
  }
}

/** The smallest policy that zones can be learned by. @param timeout of the route `forward` */
export function zonePolicy({
  routeConfiguration = 'zonegate',
  timeout,
  connectSeconds = 1,
}: {
  readonly routeConfiguration?: string
  readonly timeout?: Duration
  readonly connectSeconds?: number
} = {}): ZonePolicy {
  const match = { prefix: '/' }
  return {
    routes: {
      routeConfiguration,
      coldRoutes: [
        { name: 'forward', match, route: { cluster: 'zones', ...(timeout && { timeout }) } },
        { name: 'ask', match, direct_response: { status: 502 } },
      ],
    },
    cluster: { connect_timeout: { seconds: connectSeconds } },
    requestTimeoutMs: DRAIN_MS,
  }
}
