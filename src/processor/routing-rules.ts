import { askingSettings, type FilterSettings, HOT_SETTINGS } from '../envoy-files/body-filters.ts'
import { RUN_FOLDER } from '../envoy-files/folder.ts'
import { domainsOf, unusualOf } from '../envoy-files/key.ts'
import { generatedRoute } from '../envoy-files/policy.ts'
import { generateUpstreams, joinSettings, STREAMED, upstreamCluster } from '../envoy-files/upstreams.ts'
import { zoneOfKey } from '../envoy-files/zone-of-key.ts'
import { ROUTE_HEADER } from '../ext-proc/messages.ts'
import {
  fillServerName,
  looksIntoBody,
  type Rule,
  type Rules,
  servicesOf,
  zoneNameOf,
} from '../routing/rules.ts'
import type { SaidOfZones } from '../routing/said.ts'
import type { Route } from '../xds/messages.ts'
import type { RoutingRules, RuleRoutes } from '../xds/routing-rules.ts'

/**
 * What the rules say about learned routes.
 * @param hasFallback true if Envoy resolves names itself when the processor does not answer
 * @param saidNow what zonegate.yaml and pins say of zones now
 */
export function routingRules(
  rules: Rules,
  search: string,
  hasFallback: boolean,
  saidNow: () => SaidOfZones,
): RoutingRules {
  const services = new Map(rules.flatMap(servicesOf).map((service) => [service.name, service]))
  const ruleOf = new Map(rules.flatMap((rule) => servicesOf(rule).map(({ name }) => [name, rule])))
  const serverName = (name: string, id: string): string => {
    const [rule, service] = [ruleOf.get(name), services.get(name)]
    return rule === undefined || service === undefined ? '' : fillServerName(rule, service, id, search)
  }
  const upstreamSettings = generateUpstreams(rules)?.askSettings ?? {}
  return {
    serverName,
    said: (name, id) => {
      const service = services.get(name)
      const said = service && saidNow().of(service, id)
      const { merged, maintenance } = said ?? {}
      if (merged === undefined && maintenance === undefined) return undefined
      return {
        ...(merged && { zoneName: zoneNameOf(name, merged.id, rules, search) }),
        ...(merged && service?.upstream?.tls && { serverName: serverName(name, merged.id) }),
        ...(maintenance && { answer: maintenance }),
      }
    },
    routeHeader: ROUTE_HEADER,
    rules: rules.map((rule) => routesOf(rule, hasFallback, upstreamSettings)),
    zoneName: (service, id) => zoneNameOf(service, id, rules, search),
  }
}

function routesOf(rule: Rule, hasFallback: boolean, upstreamSettings: FilterSettings): RuleRoutes {
  const { prefix, methods, sources } = rule
  const [source] = sources
  const isHeader = sources.length === 1 && source?.kind === 'header'
  return {
    prefix,
    domains: (id) => domainsOf(rule, id),
    methods: [...methods],
    services: servicesOf(rule).map(({ name, paths, srv, upstream }) => ({
      name,
      paths,
      hasPriorities: srv !== undefined,
      ...(upstream && { upstream: upstreamCluster(upstream, RUN_FOLDER) }),
      ...(upstream?.http === 2 && { settings: settingsOf(STREAMED) }),
    })),
    unusual: unusualOf(rule).map((headers) => ({ prefix: '/', headers })),
    ...(looksIntoBody(rule) && {
      askSettings: settingsOf(joinSettings(askingSettings(rule, hasFallback), upstreamSettings)),
      settings: settingsOf(HOT_SETTINGS),
    }),
    zoneOfKey: zoneOfKey(rule)?.extension.name,
    knownHeaders: (id) => (isHeader ? { [source.name]: { values: [id], anyCase: true } } : {}),
  }
}

function settingsOf(settings: FilterSettings): NonNullable<Route['typed_per_filter_config']> {
  return generatedRoute({ typed_per_filter_config: settings }).typed_per_filter_config ?? {}
}
