import { type Any, codec, type Struct, type Value } from '../grpc/protos.ts'
import type {
  HeaderMatcher,
  RetryPolicy,
  Route,
  RouteMatch,
  TypedExtensionConfig,
  VirtualHost,
} from './messages.ts'
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
  /** Header with the zone's id, in lower case. */
  readonly idHeader: string
  /** Header by which the processor lets a request pass to the route `forward`, in lower case. */
  readonly markHeader: string
  /** Methods that are forwarded. */
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
  // An id has no comma, so from here the processor never lets a request pass: the route `forward` would be dead weight.
  const cold = routeList(policy.coldRoutes.filter(({ name }) => name !== FORWARD))
  return template((id) =>
    encode({
      name: virtualHostName(policy, id),
      domains: [id],
      // `vhost_header` has looked at the first value of a repeated id header only. The matcher looks at all of them,
      // joined by commas: such a request takes the cold routes, and is refused there.
      matcher: {
        matcher_list: {
          matchers: [
            {
              predicate: {
                single_predicate: {
                  input: headerInput(rules.idHeader),
                  value_match: { exact: id, ignore_case: true },
                },
              },
              on_match: { action: routeList(routesOf(id, learned, policy, rules)) },
            },
          ],
        },
        on_no_match: { action: cold },
      },
    }),
  )
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

/** Where the cold routes refuse or answer by themselves they still do; the learned routes stand just before `forward`. */
export function routesOf(
  id: string,
  learned: ReadonlySet<string>,
  policy: RoutePolicy,
  rules: RoutingRules,
): Route[] {
  const at = policy.coldRoutes.findIndex(({ name }) => name === FORWARD)
  const forward = policy.coldRoutes[at]
  if (forward === undefined) throw new Error('a route policy has the route "forward"')
  const before = policy.coldRoutes.slice(0, at)
  const guarded = before.some((route) => refusesOtherMethods(route, rules.methods))
  const guard = guarded ? [] : [methodMatcher(rules.methods)]

  const hot: Route[] = []
  const unlearnedPaths: string[] = []
  for (const { name, paths } of rules.services) {
    if (!learned.has(name)) unlearnedPaths.push(...paths)
    else for (const path of paths) hot.push(learnedRoute(forward, name, id, { path }, guard, rules))
  }
  for (const { name, paths } of rules.services) {
    if (paths.length > 0 || !learned.has(name)) continue
    const others = [...guard, ...unlearnedPaths.flatMap(notThePath)]
    hot.push(learnedRoute(forward, name, id, { prefix: '/' }, others, rules))
  }
  const complete = guarded && rules.services.every(({ name }) => learned.has(name))
  return [...before, ...hot, ...(complete ? [] : policy.coldRoutes.slice(at))]
}

/** The cold route with the processor's part taken out and the zone's own cluster put in. */
function learnedRoute(
  forward: Route,
  service: string,
  id: string,
  path: Pick<RouteMatch, 'path' | 'prefix'>,
  matchers: readonly HeaderMatcher[],
  rules: RoutingRules,
): Route {
  const { prefix: _all, ...match } = forward.match
  // HTTP filters run as the route says on which a request comes in, which on the cold path is never `forward`.
  const { typed_per_filter_config: _unused, ...rest } = forward
  const isNoMark = (header: string): boolean => header.toLowerCase() !== rules.markHeader
  const conditions = (match.headers ?? []).filter(({ name }) => isNoMark(name))
  return {
    ...rest,
    name: LEARNED,
    match: { ...match, ...path, headers: [...conditions, ...matchers] },
    request_headers_to_remove: (forward.request_headers_to_remove ?? []).filter(isNoMark),
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

/** `/mail` and `/mail?x=1`, as `path` of a RouteMatch would have them: the literal path before `?`. */
function notThePath(path: string): HeaderMatcher[] {
  return [
    { name: ':path', string_match: { exact: path }, invert_match: true },
    { name: ':path', string_match: { prefix: `${path}?` }, invert_match: true },
  ]
}

function methodMatcher(methods: readonly string[]): HeaderMatcher {
  const [first, ...more] = methods
  return {
    name: ':method',
    string_match: more.length === 0 ? { exact: first } : { safe_regex: { regex: methods.join('|') } },
  }
}

/** True for a route that surely answers every request whose method the processor would refuse. */
function refusesOtherMethods({ direct_response, match }: Route, methods: readonly string[]): boolean {
  const { prefix, headers = [], ...conditions } = match
  const [method] = headers
  return (
    direct_response !== undefined &&
    prefix === '/' &&
    Object.keys(conditions).length === 0 &&
    headers.length === 1 &&
    method?.name === ':method' &&
    method.invert_match === true &&
    methods.includes(String(method.string_match?.['exact']))
  )
}

function headerInput(header: string): TypedExtensionConfig {
  return {
    name: header,
    typed_config: {
      '@type': typeUrl('envoy.type.matcher.v3.HttpRequestHeaderMatchInput'),
      header_name: header,
    },
  }
}

function routeList(routes: readonly Route[]): TypedExtensionConfig {
  const name = 'envoy.config.route.v3.RouteList'
  const typed_config: Any = { '@type': typeUrl(name), routes }
  return { name: 'routes', typed_config }
}
