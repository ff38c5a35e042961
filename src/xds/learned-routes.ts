import type { Struct, Value } from '../grpc/protos.ts'
import type {
  HeaderMatcher,
  RetryPolicy,
  Route,
  RouteAction,
  RouteMatch,
  TypedExtensionConfig,
  VirtualHostFields,
} from './messages.ts'
import { typeUrl, zoneKey } from './resource.ts'
import { mayMatch } from './route-match.ts'
import type { OwnAnswer, RoutingRules, RuleRoutes, SaidOfZone, ServiceRoutes } from './routing-rules.ts'

/** What a learned zone's routes copy from the virtual host of the cold path. */
export interface RoutePolicy {
  /** Name of the RouteConfiguration that gets virtual hosts over VHDS. */
  readonly routeConfiguration: string
  /** All routes of the cold virtual host in their order. One of them is `forward`, the next asks the processor. */
  readonly coldRoutes: readonly Route[]
  /** The other fields of the cold virtual host. */
  readonly fields?: VirtualHostFields
  /** The operator's virtual hosts. Ids whose requests they get are not learned. */
  readonly pins?: readonly Pin[]
  /** Settings in `forward` for filters that are on both paths; undefined: none. */
  readonly filterSettings?: Route['typed_per_filter_config']
}

/** A pin: a virtual host of the operator that gets the requests of some ids. */
export interface Pin {
  readonly virtualHost: string
  /** Without `*`, the domain of the cold path. */
  readonly domains: readonly string[]
}

/** The cold route that forwards: every learned route is a copy of it. */
export const FORWARD = 'forward'
/** The name of a learned route: `%ROUTE_NAME%` in Envoy's access log. */
export const LEARNED = 'learned'
/** The name of the route of a zone in maintenance. `local_reply_config` of the listener refers to it. */
const MAINTENANCE = 'maintenance'

/** Prefix of the names of the plugins that choose a cluster by the key (src/envoy-files/zone-of-key.ts). */
export const ZONE_OF_KEY = 'zonegate.zone_of_key'

/** The cold path puts the key back into the route header with this format. On the hot path the header still has it. */
export const KEPT_KEY = '%FILTER_STATE(zonegate.key:PLAIN)%'

/** The Host that `forward` sets, if it does not leave the client's. Learned endpoints have the same text as their host name. */
export const HOST_REWRITE = '%DYNAMIC_METADATA(zonegate:address)%'

/** Namespace of route metadata and of the processor's dynamic metadata. */
const METADATA = 'zonegate'

const PREVIOUS_HOSTS: TypedExtensionConfig = {
  name: 'envoy.retry_host_predicates.previous_hosts',
  typed_config: { type_url: typeUrl('envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate') },
}
/**
 * Sends each retry to the next priority, because the failed address may have been the last one of its priority. Outlier detection
 * notices that only after three failures.
 */
const NEXT_PRIORITY: TypedExtensionConfig = {
  name: 'envoy.retry_priorities.previous_priorities',
  typed_config: {
    type_url: typeUrl('envoy.extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig'),
    value: Buffer.from([0x08, 1]), // update_frequency: 1
  },
}
/** How often a retry picks again if it picked an address that the request has tried. */
const HOST_SELECTION_ATTEMPTS = 5

/** What the virtual host of an id is made of. */
export interface LearnedId {
  readonly rule: RuleRoutes
  readonly id: string
  /** Its learned services. */
  readonly services: ReadonlySet<string>
  /** The cold routes that come first (`coldRoutesBefore`). */
  readonly before: readonly Route[]
  /** What is said of its zones, by service. */
  readonly said: ReadonlyMap<string, SaidOfZone>
  /** True: the virtual host is for many ids like this one. */
  readonly isShared?: boolean
}

/**
 * A virtual host without its name and domains. It routes to the clusters of the learned services; the other services' paths ask
 * the processor.
 */
export function learnedFields(
  { coldRoutes, fields = {}, filterSettings }: RoutePolicy,
  rules: RoutingRules,
  { rule, id, services, before, said, isShared = false }: LearnedId,
): VirtualHostFields & { readonly routes: readonly Route[] } {
  const { services: all, unusual, askSettings, settings, zoneOfKey } = rule
  const at = coldRoutes.findIndex(({ name }) => name === FORWARD)
  const forward = coldRoutes[at]
  const coldAsk = coldRoutes[at + 1]
  if (forward === undefined || coldAsk === undefined)
    throw new Error('a route policy has "forward" and one more')
  const ask: Route = {
    ...coldAsk,
    ...(askSettings && {
      typed_per_filter_config: { ...coldAsk.typed_per_filter_config, ...askSettings },
    }),
  }
  const kept = {
    headers: conditionsOf(forward, rules),
    settings: { ...filterSettings, ...settings },
    routeHeader: rules.routeHeader,
  }
  const routeTo = (
    { name, hasPriorities = false, settings: ofService }: ServiceRoutes,
    path: Pick<RouteMatch, 'path' | 'prefix'>,
  ): Route => {
    if (!services.has(name)) return { ...ask, match: path }
    const { answer, zoneName = rules.zoneName(name, id) } = said.get(name) ?? {}
    if (answer !== undefined) return answeredRoute(answer, zoneName, path, kept.settings)
    const own = isShared ? { zoneOfKey } : { key: zoneKey(name, id), name: zoneName }
    const ofRoute = ofService === undefined ? kept : { ...kept, settings: { ...kept.settings, ...ofService } }
    return learnedRoute(forward, { ...own, hasPriorities }, path, ofRoute)
  }
  const byPath = all.flatMap((service) => service.paths.map((path) => routeTo(service, { path })))
  const others = all.filter(({ paths }) => paths.length === 0)
  const isConditional = kept.headers.length > 0 || (forward.match?.query_parameters ?? []).length > 0
  const { retry_policy } = fields
  return {
    ...fields,
    ...(retry_policy && {
      retry_policy: toOthers(
        retry_policy,
        all.some(({ hasPriorities }) => hasPriorities),
      ),
    }),
    routes: [
      ...before,
      ...unusual.map((match): Route => ({ ...ask, match })),
      ...byPath,
      ...others.map((service) => routeTo(service, { prefix: '/' })),
      // A request that fails another condition of `forward` ends in the same route as on the cold path.
      ...(isConditional ? [ask] : []),
    ],
  }
}

/** The cold routes before `forward` that a request in this id's virtual host can match. */
export function coldRoutesBefore(
  { coldRoutes }: RoutePolicy,
  { routeHeader }: RoutingRules,
  { domains, methods, knownHeaders }: RuleRoutes,
  id: string,
): Route[] {
  const values = domains(id)
  const known = {
    ...knownHeaders(id),
    // Envoy finds the virtual host whatever the case of the key, and over HTTP/2 the method is as the client wrote it.
    ':method': { values: methods, anyCase: true },
    ...(!values.some((value) => value.endsWith('*')) && {
      [routeHeader]: { values, anyCase: true },
    }),
  }
  const at = coldRoutes.findIndex(({ name }) => name === FORWARD)
  return coldRoutes.slice(0, at).filter((route) => mayMatch(route, known))
}

/** What is said of an id's zones, by service. Empty for most ids. */
export function saidOf(
  rules: RoutingRules,
  { services }: RuleRoutes,
  id: string,
): ReadonlyMap<string, SaidOfZone> {
  const said = new Map<string, SaidOfZone>()
  for (const { name } of services) {
    const own = rules.said?.(name, id)
    if (own !== undefined) said.set(name, own)
  }
  return said
}

/**
 * A copy of `forward` without the processor's part, and with the zone's own cluster.
 * @param zone without `key`: the route of a shared virtual host, where the request's key says which zone it is for
 */
function learnedRoute(
  forward: Route,
  zone: {
    readonly key?: string
    readonly zoneOfKey?: string | undefined
    readonly name?: string
    readonly hasPriorities: boolean
  },
  path: Pick<RouteMatch, 'path' | 'prefix'>,
  kept: {
    readonly headers: readonly HeaderMatcher[]
    readonly settings: NonNullable<Route['typed_per_filter_config']>
    readonly routeHeader: string
  },
): Route {
  // The paths of services are case-sensitive, whatever `forward` says.
  const { prefix: _all, case_sensitive: _always, ...match } = forward.match ?? {}
  // HTTP filters take their settings from the first route that a request matches, on the cold path the one that asks. Its
  // settings are those of `forward`, except for filters of the cold path (`differencesOfRoutes` checks it).
  const { typed_per_filter_config: _unused, request_headers_to_add: added = [], ...rest } = forward
  // The header has this value already. It is written again so that it stands in the same place as on the cold path.
  const addedHere = added.map((option) =>
    option.header?.value === KEPT_KEY
      ? { ...option, header: { ...option.header, value: `%REQ(${kept.routeHeader})%` } }
      : option,
  )
  const { host_rewrite, ...action } = forward.route ?? {}
  const { prefix_rewrite, retry_policy } = action
  return {
    ...rest,
    ...(addedHere.length > 0 && { request_headers_to_add: addedHere }),
    ...(Object.keys(kept.settings).length > 0 && { typed_per_filter_config: kept.settings }),
    name: LEARNED,
    match: { ...match, ...path, headers: kept.headers },
    metadata: hotMetadata(forward.metadata, zone.name),
    route: {
      ...(zone.key === undefined ? bySharedKey(action, zone.zoneOfKey) : { ...action, cluster: zone.key }),
      ...(host_rewrite === HOST_REWRITE && { auto_host_rewrite: { value: true } }),
      // In `forward` it replaces the prefix "/"; with a literal path it would replace the whole path.
      ...(prefix_rewrite && path.path && { prefix_rewrite: prefix_rewrite + path.path.slice(1) }),
      ...(retry_policy && { retry_policy: toOthers(retry_policy, zone.hasPriorities) }),
    },
  }
}

/** Gives the same answer as the processor does for a zone in maintenance. */
function answeredRoute(
  { status, text, retryAfterSeconds }: OwnAnswer,
  zoneName: string,
  match: Pick<RouteMatch, 'path' | 'prefix'>,
  settings: NonNullable<Route['typed_per_filter_config']>,
): Route {
  const header = { key: 'retry-after', value: String(retryAfterSeconds) }
  return {
    name: MAINTENANCE,
    match,
    metadata: hotMetadata(undefined, zoneName),
    ...(Object.keys(settings).length > 0 && { typed_per_filter_config: settings }),
    ...(retryAfterSeconds !== null && {
      response_headers_to_add: [{ header, append_action: 'OVERWRITE_IF_EXISTS_OR_ADD' }],
    }),
    direct_response: { status, body: { inline_string: text } },
  }
}

/** The header conditions of `forward`, except for the one on the route header, which the address fulfils. */
function conditionsOf(forward: Route, { routeHeader }: RoutingRules): readonly HeaderMatcher[] {
  return (forward.match?.headers ?? []).filter(({ name }) => name?.toLowerCase() !== routeHeader)
}

function toOthers(policy: RetryPolicy, hasPriorities: boolean): RetryPolicy {
  return { ...(hasPriorities && { retry_priority: NEXT_PRIORITY }), ...toOtherHosts(policy) }
}

function toOtherHosts(policy: RetryPolicy): RetryPolicy {
  const predicates = policy.retry_host_predicate ?? []
  if (predicates.some(({ name }) => name === PREVIOUS_HOSTS.name)) return policy
  return {
    host_selection_retry_max_attempts: HOST_SELECTION_ATTEMPTS,
    ...policy,
    retry_host_predicate: [...predicates, PREVIOUS_HOSTS],
  }
}

function bySharedKey({ cluster: _cold, ...action }: RouteAction = {}, zoneOfKey = ZONE_OF_KEY): RouteAction {
  return { ...action, cluster_specifier_plugin: zoneOfKey }
}

/** @param zone its DNS name; undefined if the cluster's metadata has it */
function hotMetadata(metadata: Route['metadata'], zone?: string): NonNullable<Route['metadata']> {
  const others = metadata?.filter_metadata ?? {}
  const fields: Record<string, Value> = {
    ...others[METADATA]?.fields,
    ...(zone !== undefined && { zone: { stringValue: zone } }),
    path: { stringValue: 'hot' },
  }
  const own: Struct = { fields }
  return { filter_metadata: { ...others, [METADATA]: own } }
}
