import { type Any, codec } from '../grpc/protos.ts'
import { conditionsOf, FORWARD, learnedRoute } from './learned-route.ts'
import type { Predicate, Route, TypedExtensionConfig, VirtualHost } from './messages.ts'
import { MESSAGE_NAMES, type Resource, typeUrl } from './resource.ts'
import { mayMatch } from './route-match.ts'
import { type Template, template } from './template.ts'

/** What learned zones' routes take over from Envoy's cold virtual host. */
export interface RoutePolicy {
  /** Name of the RouteConfiguration that asks for virtual hosts. */
  readonly routeConfiguration: string
  /** All routes of the cold virtual host in their order, one of which is the route `forward`. */
  readonly coldRoutes: readonly Route[]
}

/** What of the processor's rules shapes a virtual host. */
export interface RoutingRules {
  /** Header with the zone's id, in lower case. */
  readonly idHeader: string
  /** Header by which the processor lets a request pass to the route `forward`, in lower case. */
  readonly markHeader: string
  /** Methods that are forwarded. */
  readonly methods: readonly string[]
  /** Services by literal path. Exactly one has no paths: it has all the others. */
  readonly services: readonly ServiceRoutes[]
  /** The zone's name in DNS. It may depend on the id only by containing it. */
  readonly zoneName: (service: string, id: string) => string
}

export interface ServiceRoutes {
  readonly name: string
  readonly paths: readonly string[]
}

/** A virtual host that says which services it routes, each to the cluster `<service>/<id>`. */
export interface VirtualHostResource extends Resource {
  readonly services: ReadonlySet<string>
}

const { encode } = codec<VirtualHost>(MESSAGE_NAMES.virtualHost)

/** The virtual hosts of one policy: those of ids with the same services learned are alike but for the id. */
export class VirtualHosts {
  readonly #policy: RoutePolicy
  readonly #rules: RoutingRules
  /** Cold routes that look at the id: of two ids, one may need them and the other not. */
  readonly #routesAboutIds: readonly Route[]
  readonly #templates = new Map<string, { services: ReadonlySet<string>; hosts: Template }>()

  constructor(policy: RoutePolicy, rules: RoutingRules) {
    this.#policy = policy
    this.#rules = rules
    this.#routesAboutIds = policy.coldRoutes.filter(({ match }) =>
      match.headers?.some(({ name }) => name.toLowerCase() === rules.idHeader),
    )
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
    const known = { [this.#rules.idHeader]: [id] }
    const alike = [...services].sort()
    for (const route of this.#routesAboutIds) alike.push(mayMatch(route, known) ? '+' : '-')
    const { hosts, services: learned } = this.#template(alike.join(), id, services)
    return {
      name: this.nameOf(id),
      version: hosts.version,
      services: learned,
      encode: () => hosts.stamp(id),
    }
  }

  #template(
    alike: string,
    id: string,
    services: ReadonlySet<string>,
  ): { services: ReadonlySet<string>; hosts: Template } {
    let known = this.#templates.get(alike)
    if (known === undefined) {
      const learned = new Set(services)
      const cold = this.#coldRoutes(id, learned)
      known = { services: learned, hosts: template((sample) => encode(this.#build(sample, learned, cold))) }
      this.#templates.set(alike, known)
    }
    return known
  }

  /** The message, as a template makes it for all ids with the same cold routes. */
  build(id: string, services: ReadonlySet<string>): VirtualHost {
    return this.#build(id, services, this.#coldRoutes(id, services))
  }

  /**
   * `vhost_header` has picked the virtual host by the first value of the id header. The matcher lets in what the learned
   * routes are for, and looks at all values, joined by commas: a repeated header takes the cold routes, and is refused.
   */
  #build(id: string, services: ReadonlySet<string>, cold: ColdRoutes): VirtualHost {
    const hot = [...cold.before, ...this.#learnedRoutes(id, services), ...cold.after]
    return {
      name: this.nameOf(id),
      domains: [id],
      matcher: {
        matcher_list: {
          matchers: [{ predicate: this.#isHot(id, services), on_match: { action: routeList(hot) } }],
        },
        on_no_match: { action: routeList(cold.all) },
      },
    }
  }

  /** One route for each path of a service, and the service of all other paths last. */
  #learnedRoutes(id: string, services: ReadonlySet<string>): Route[] {
    const { markHeader, zoneName } = this.#rules
    const [named, others] = this.#learnedServices(services)
    const route = (service: string, path: LearnedPath): Route =>
      learnedRoute(this.#forward, markHeader, { service, id, path, zoneName: zoneName(service, id) })
    return [
      ...named.flatMap(({ name, paths }) => paths.map((path) => route(name, { path }))),
      ...others.map(({ name }) => route(name, { prefix: '/' })),
    ]
  }

  #isHot(id: string, services: ReadonlySet<string>): Predicate {
    const { idHeader, methods } = this.#rules
    const [named, others] = this.#learnedServices(services)
    const conditions = [
      headerIs(idHeader, { exact: id, ignore_case: true }),
      anyOf(methods.map((method) => headerIs(':method', { exact: method }))),
    ]
    const cold = this.#rules.services.filter(({ name }) => !services.has(name)).flatMap(({ paths }) => paths)
    if (others.length === 0) conditions.push(anyOf(named.flatMap(({ paths }) => paths).flatMap(isPath)))
    else if (cold.length > 0) conditions.push({ not_matcher: anyOf(cold.flatMap(isPath)) })
    return { and_matcher: { predicate: conditions } }
  }

  /** Those with paths of their own, and the one for all others. */
  #learnedServices(services: ReadonlySet<string>): [named: ServiceRoutes[], others: ServiceRoutes[]] {
    const learned = this.#rules.services.filter(({ name }) => services.has(name))
    return [
      learned.filter(({ paths }) => paths.length > 0),
      learned.filter(({ paths }) => paths.length === 0),
    ]
  }

  get #forward(): Route {
    const forward = this.#policy.coldRoutes.find(({ name }) => name === FORWARD)
    if (forward === undefined) throw new Error('a route policy has the route "forward"')
    return forward
  }

  /** The cold routes that a request with this id may still need. */
  #coldRoutes(id: string, services: ReadonlySet<string>): ColdRoutes {
    const { idHeader, markHeader, methods } = this.#rules
    const { coldRoutes } = this.#policy
    const forward = this.#forward
    const at = coldRoutes.indexOf(forward)
    const hot = coldRoutes.filter((route) => mayMatch(route, { [idHeader]: [id], ':method': methods }))
    const all = coldRoutes.filter((route) => mayMatch(route, { [idHeader]: [id] }))
    // The processor lets nothing pass but other services' requests: a repeated header never.
    const isComplete = this.#rules.services.every(({ name }) => services.has(name))
    const isConditional = conditionsOf(forward, markHeader).length > 0
    return {
      before: hot.filter((route) => coldRoutes.indexOf(route) < at),
      after: isConditional ? hot.filter((route) => coldRoutes.indexOf(route) > at) : [],
      all: isComplete ? all.filter((route) => route !== forward) : all,
    }
  }
}

interface ColdRoutes {
  /** In front of the learned routes: where cold routes answer by themselves, they still do. */
  readonly before: readonly Route[]
  /** Behind the learned routes, where these have further conditions. */
  readonly after: readonly Route[]
  /** For all requests that are not for learned routes. */
  readonly all: readonly Route[]
}

type LearnedPath = Parameters<typeof learnedRoute>[2]['path']

type ValueMatch = NonNullable<Predicate['single_predicate']>['value_match']

function headerIs(header: string, value_match: ValueMatch): Predicate {
  const typed_config: Any = {
    '@type': typeUrl('envoy.type.matcher.v3.HttpRequestHeaderMatchInput'),
    header_name: header,
  }
  return { single_predicate: { input: { name: header, typed_config }, value_match } }
}

/** `/mail` and `/mail?x=1`, as `path` of a RouteMatch has it: the literal path before `?`. */
function isPath(path: string): Predicate[] {
  return [headerIs(':path', { exact: path }), headerIs(':path', { prefix: `${path}?` })]
}

/** Envoy wants two predicates or more in a list. */
function anyOf(predicates: readonly Predicate[]): Predicate {
  const [first, second] = predicates
  return first !== undefined && second === undefined ? first : { or_matcher: { predicate: predicates } }
}

function routeList(routes: readonly Route[]): TypedExtensionConfig {
  const name = 'envoy.config.route.v3.RouteList'
  const typed_config: Any = { '@type': typeUrl(name), routes }
  return { name: 'routes', typed_config }
}
