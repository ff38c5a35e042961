import { codec, type Struct, type Value } from '../grpc/protos.ts'
import type { RetryPolicy, Route, RouteMatch, TypedExtensionConfig, VirtualHost } from './messages.ts'
import { MESSAGE_NAMES, type Resource, typeUrl, zoneKey } from './resource.ts'
import { type Template, template } from './template.ts'

/** What a learned zone's routes take over from Envoy's cold virtual host. */
export interface RoutePolicy {
  /** Name of the RouteConfiguration that asks for virtual hosts. */
  readonly routeConfiguration: string
  /** All routes of the cold virtual host in their order, one of which is the route `forward`. */
  readonly coldRoutes: readonly Route[]
}

/** What of the processor's rules shapes a learned route. */
export interface RoutingRules {
  /** Header by which Envoy finds the virtual host, in lower case. The processor puts the address in its place. */
  readonly routeHeader: string
  /** Methods that are forwarded: only requests with one of them come to a learned zone's virtual host. */
  readonly methods: readonly string[]
  /** Services by literal path. Exactly one has no paths: it has all the others. */
  readonly services: readonly ServiceRoutes[]
  /** The zone's name in DNS, for Envoy's access log: `zone` in the route's metadata `zonegate`. */
  readonly zoneName: (service: string, id: string) => string
}

export interface ServiceRoutes {
  readonly name: string
  readonly paths: readonly string[]
}

/** The cold route that forwards: every learned route is a copy of it. */
export const FORWARD = 'forward'
/** The name of a learned route: `%ROUTE_NAME%` in Envoy's access log. */
export const LEARNED = 'learned'

/** Namespace of route metadata and of the processor's dynamic metadata. */
const METADATA = 'zonegate'

const PREVIOUS_HOSTS: TypedExtensionConfig = {
  name: 'envoy.retry_host_predicates.previous_hosts',
  typed_config: { '@type': typeUrl('envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate') },
}
/** How often a retry draws an address anew because it drew one that the request has tried. */
const HOST_SELECTION_ATTEMPTS = 5

const { encode } = codec<VirtualHost>(MESSAGE_NAMES.virtualHost)

/** The virtual hosts of all ids of which the same services are learned: alike but for the id. */
export function virtualHostTemplate(
  policy: RoutePolicy,
  rules: RoutingRules,
  learned: ReadonlySet<string>,
): Template {
  return template((id) =>
    encode({
      name: virtualHostName(policy, id),
      domains: rules.methods.map((method) => routeKey(method, id)),
      routes: routesOf(id, learned, policy, rules),
    }),
  )
}

/**
 * What the listener makes of a request for Envoy to find its virtual host by: the method, and all values of the id
 * header joined by commas. So a request with another method, without an id or with several comes to no learned zone's
 * virtual host, and is refused by the cold one. Envoy compares without case.
 */
export function routeKey(method: string, id: string): string {
  return `${method}/${id}`
}

/** A virtual host that says which services it routes, each to the cluster `<service>/<id>`. */
export interface VirtualHostResource extends Resource {
  readonly id: string
  readonly services: ReadonlySet<string>
}

export function virtualHostResource(
  name: string,
  id: string,
  services: ReadonlySet<string>,
  virtualHosts: Template,
): VirtualHostResource {
  return { name, version: virtualHosts.version, id, services, encode: () => virtualHosts.stamp(id) }
}

/** Envoy ignores the removal of a virtual host whose name doesn't begin with the route configuration's. */
export function virtualHostName(policy: RoutePolicy, id: string): string {
  return `${policy.routeConfiguration}/${id}`
}

/** Reads the id back; undefined where the name is another route configuration's. */
export function virtualHostId(policy: RoutePolicy, name: string): string | undefined {
  const prefix = `${policy.routeConfiguration}/`
  return name.startsWith(prefix) ? name.slice(prefix.length) : undefined
}

/**
 * The routes of one id: its learned services lead to their clusters, the paths of the others to the route that asks the
 * processor. In front stand the cold routes that stand before `forward` there, but for those that refuse a method or an id.
 */
export function routesOf(
  id: string,
  learned: ReadonlySet<string>,
  policy: RoutePolicy,
  rules: RoutingRules,
): Route[] {
  const at = policy.coldRoutes.findIndex(({ name }) => name === FORWARD)
  const forward = policy.coldRoutes[at]
  const ask = policy.coldRoutes[at + 1]
  if (forward === undefined || ask === undefined) throw new Error('a route policy has "forward" and one more')
  const routeTo = (service: string, path: Pick<RouteMatch, 'path' | 'prefix'>): Route =>
    learned.has(service) ? learnedRoute(forward, service, id, path, rules) : { ...ask, match: path }

  const before = policy.coldRoutes.slice(0, at).filter((route) => !isDecidedByKey(route, rules))
  const byPath = rules.services.flatMap(({ name, paths }) => paths.map((path) => routeTo(name, { path })))
  const others = rules.services.filter(({ paths }) => paths.length === 0)
  return [...before, ...byPath, ...others.map(({ name }) => routeTo(name, { prefix: '/' }))]
}

/** True for a refusal that looks at nothing but the method or the key: what comes to a learned zone has passed it. */
function isDecidedByKey({ direct_response, match }: Route, rules: RoutingRules): boolean {
  const { prefix, headers = [], ...conditions } = match
  const [only] = headers
  if (direct_response === undefined || prefix !== '/' || headers.length !== 1 || only === undefined)
    return false
  if (Object.keys(conditions).length > 0) return false
  if (only.name.toLowerCase() === rules.routeHeader) return true
  const [method, ...more] = rules.methods
  return (
    only.name === ':method' &&
    more.length === 0 &&
    only.invert_match === true &&
    only.string_match?.['exact'] === method
  )
}

/** The cold route with the processor's part taken out and the zone's own cluster put in. */
function learnedRoute(
  forward: Route,
  service: string,
  id: string,
  path: Pick<RouteMatch, 'path' | 'prefix'>,
  rules: RoutingRules,
): Route {
  const { prefix: _all, ...match } = forward.match
  // HTTP filters run as the route says on which a request comes in, which on the cold path is never `forward`.
  const { typed_per_filter_config: _unused, ...rest } = forward
  const isOther = (header: string): boolean => header.toLowerCase() !== rules.routeHeader
  const conditions = (match.headers ?? []).filter(({ name }) => isOther(name))
  return {
    ...rest,
    name: LEARNED,
    match: { ...match, ...path, headers: conditions },
    metadata: withZone(forward.metadata, rules.zoneName(service, id)),
    route: {
      ...forward.route,
      cluster: zoneKey(service, id),
      auto_host_rewrite: { value: true },
      ...(forward.route?.retry_policy && { retry_policy: toOtherHosts(forward.route.retry_policy) }),
    },
  }
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

function withZone(metadata: Route['metadata'], zone: string): NonNullable<Route['metadata']> {
  const others = metadata?.filter_metadata ?? {}
  const fields: Record<string, Value> = {
    ...others[METADATA]?.fields,
    zone: { stringValue: zone },
    path: { stringValue: 'hot' },
  }
  const own: Struct = { fields }
  return { filter_metadata: { ...others, [METADATA]: own } }
}
