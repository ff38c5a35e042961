import { codec, type HeaderValueOption, type Struct, type Value } from '../grpc/protos.ts'
import type {
  HeaderMatcher,
  RetryPolicy,
  Route,
  RouteMatch,
  TypedExtensionConfig,
  VirtualHost,
} from './messages.ts'
import { MESSAGE_NAMES, type Resource, typeUrl, zoneKey } from './resource.ts'
import { mayMatch } from './route-match.ts'
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
  /** Header with the id, in lower case. Envoy makes one of several of them, the ids joined by commas. */
  readonly idHeader: string
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

/**
 * What the listener makes of a request for Envoy to find its virtual host by: the method, and the value of the id header. So a
 * request with another method, without an id or with several comes to no learned zone's virtual host, and is refused by the
 * cold one. Envoy compares without case.
 */
export function routeKey(method: string, id: string): string {
  return `${method}/${id}`
}

/** The same in Envoy's words, with an id header of any name. */
const ROUTE_KEY_FORMAT = /^%REQ\(:METHOD\)%\/%REQ\([^():]+\)%$/

/** A virtual host that says which services it routes, each to the cluster `<service>/<id>`. */
export interface VirtualHostResource extends Resource {
  readonly services: ReadonlySet<string>
}

/** The virtual hosts of one policy: those of ids with the same services learned are alike but for the id. */
export class VirtualHosts {
  readonly #policy: RoutePolicy
  readonly #rules: RoutingRules
  readonly #templates = new Map<string, { services: ReadonlySet<string>; hosts: Template }>()

  constructor(policy: RoutePolicy, rules: RoutingRules) {
    this.#policy = policy
    this.#rules = rules
  }

  /** Envoy ignores the removal of a virtual host whose name doesn't begin with the route configuration's. */
  nameOf(id: string): string {
    return `${this.#policy.routeConfiguration}/${id}`
  }

  /** Reads the id back; undefined where the name is another route configuration's. */
  idOf(name: string): string | undefined {
    const prefix = `${this.#policy.routeConfiguration}/`
    return name.startsWith(prefix) ? name.slice(prefix.length) : undefined
  }

  /** The virtual host of an id, with routes to these of its services. */
  resource(id: string, services: ReadonlySet<string>): VirtualHostResource {
    const before = this.#routesBefore(id)
    const alike = [...services, ...before.map((route) => this.#policy.coldRoutes.indexOf(route))].join()
    let known = this.#templates.get(alike)
    if (known === undefined) {
      const learned = new Set(services)
      known = { services: learned, hosts: template((sample) => encode(this.#build(sample, learned, before))) }
      this.#templates.set(alike, known)
    }
    const { hosts, services: learned } = known
    return {
      name: this.nameOf(id),
      version: hosts.version,
      services: learned,
      encode: () => hosts.stamp(id),
    }
  }

  /** The message before it is encoded. */
  build(id: string, services: ReadonlySet<string>): VirtualHost {
    return this.#build(id, services, this.#routesBefore(id))
  }

  /**
   * Its learned services lead to their clusters, the paths of the others to the route that asks the processor. In front
   * stand the cold routes that stand before `forward` there.
   */
  #build(id: string, services: ReadonlySet<string>, before: readonly Route[]): VirtualHost {
    const { methods, services: all } = this.#rules
    const { coldRoutes } = this.#policy
    const at = coldRoutes.findIndex(({ name }) => name === FORWARD)
    const forward = coldRoutes[at]
    const ask = coldRoutes[at + 1]
    if (forward === undefined || ask === undefined)
      throw new Error('a route policy has "forward" and one more')
    const routeTo = (service: string, path: Pick<RouteMatch, 'path' | 'prefix'>): Route =>
      services.has(service) ? learnedRoute(forward, service, id, path, this.#rules) : { ...ask, match: path }
    const byPath = all.flatMap(({ name, paths }) => paths.map((path) => routeTo(name, { path })))
    const others = all.filter(({ paths }) => paths.length === 0)
    const isConditional = conditionsOf(forward, this.#rules).length > 0
    return {
      name: this.nameOf(id),
      domains: methods.map((method) => routeKey(method, id)),
      routes: [
        ...before,
        ...byPath,
        ...others.map(({ name }) => routeTo(name, { prefix: '/' })),
        // What fails a further condition of `forward` is refused where it fails it on the cold path.
        ...(isConditional ? [ask] : []),
      ],
    }
  }

  /** The cold routes that a request with this id, which has come to its virtual host, can match. */
  #routesBefore(id: string): Route[] {
    const { methods, routeHeader, idHeader } = this.#rules
    const known = {
      [idHeader]: { values: [id], anyCase: true },
      ':method': { values: methods },
      [routeHeader]: { values: methods.map((method) => routeKey(method, id)), anyCase: true },
    }
    const at = this.#policy.coldRoutes.findIndex(({ name }) => name === FORWARD)
    return this.#policy.coldRoutes.slice(0, at).filter((route) => mayMatch(route, known))
  }
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
  const { typed_per_filter_config: _unused, request_headers_to_add: added = [], ...rest } = forward
  const toAdd = added.filter((option) => !restoresRouteKey(option, rules))
  return {
    ...rest,
    ...(toAdd.length > 0 && { request_headers_to_add: toAdd }),
    name: LEARNED,
    match: { ...match, ...path, headers: conditionsOf(forward, rules) },
    metadata: withZone(forward.metadata, rules.zoneName(service, id)),
    route: {
      ...forward.route,
      cluster: zoneKey(service, id),
      auto_host_rewrite: { value: true },
      ...(forward.route?.retry_policy && { retry_policy: toOtherHosts(forward.route.retry_policy) }),
    },
  }
}

/** The header conditions of `forward` but the one that the processor fulfils. */
function conditionsOf(forward: Route, { routeHeader }: RoutingRules): readonly HeaderMatcher[] {
  return (forward.match.headers ?? []).filter(({ name }) => name.toLowerCase() !== routeHeader)
}

/** True for what puts back what the processor has overwritten: no processor is on this way, it is still there. */
function restoresRouteKey({ header }: HeaderValueOption, { routeHeader }: RoutingRules): boolean {
  return header?.key?.toLowerCase() === routeHeader && ROUTE_KEY_FORMAT.test(header.value ?? '')
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
