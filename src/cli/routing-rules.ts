import { askingSettings, type FilterSettings, HOT_SETTINGS } from '../envoy-files/body-filters.ts'
import { domainsOf, unusualOf } from '../envoy-files/key.ts'
import { zoneOfKey } from '../envoy-files/zone-of-key.ts'
import { ROUTE_HEADER } from '../ext-proc/messages.ts'
import { looksIntoBody, type Rule, type Rules, servicesOf, zoneNameOf } from '../routing/rules.ts'
import type { SaidOfZones } from '../routing/said.ts'
import type { Route } from '../xds/messages.ts'
import { generatedRoute } from '../xds/policy.ts'
import type { RoutingRules, RuleRoutes } from '../xds/virtual-host.ts'

/**
 * What of the rules shapes learned routes.
 * @param hasFallback Envoy resolves names itself where the processor does not answer
 * @param saidNow what is said of zones beside DNS
 */
export function routingRules(
  rules: Rules,
  search: string,
  hasFallback: boolean,
  saidNow: () => SaidOfZones,
): RoutingRules {
  const services = new Map(rules.flatMap(servicesOf).map((service) => [service.name, service]))
  return {
    said: (name, id) => {
      const service = services.get(name)
      const said = service && saidNow().of(service, id)
      const { merged, maintenance } = said ?? {}
      if (merged === undefined && maintenance === undefined) return undefined
      return {
        ...(merged && { zoneName: zoneNameOf(name, merged.id, rules, search) }),
        ...(maintenance && { answer: maintenance }),
      }
    },
    routeHeader: ROUTE_HEADER,
    rules: rules.map((rule) => routesOf(rule, hasFallback)),
    zoneName: (service, id) => zoneNameOf(service, id, rules, search),
  }
}

function routesOf(rule: Rule, hasFallback: boolean): RuleRoutes {
  const { prefix, methods, sources } = rule
  const [source] = sources
  const isHeader = sources.length === 1 && source?.kind === 'header'
  return {
    prefix,
    domains: (id) => domainsOf(rule, id),
    methods: [...methods],
    services: servicesOf(rule).map(({ name, paths, srv }) => ({
      name,
      paths,
      hasPriorities: srv !== undefined,
    })),
    unusual: unusualOf(rule).map((headers) => ({ prefix: '/', headers })),
    ...(looksIntoBody(rule) && {
      askSettings: settingsOf(askingSettings(rule, hasFallback)),
      settings: settingsOf(HOT_SETTINGS),
    }),
    zoneOfKey: zoneOfKey(rule)?.extension.name,
    knownHeaders: (id) => (isHeader ? { [source.name]: { values: [id], anyCase: true } } : {}),
  }
}

function settingsOf(settings: FilterSettings): NonNullable<Route['typed_per_filter_config']> {
  return generatedRoute({ typed_per_filter_config: settings }).typed_per_filter_config ?? {}
}
