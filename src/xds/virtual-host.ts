import type { Struct, Value } from '../grpc/protos.ts'
import { messageCodec } from './envoy-api.ts'
import type {
  HeaderMatcher,
  RetryPolicy,
  Route,
  RouteAction,
  RouteMatch,
  TypedExtensionConfig,
  VirtualHost,
  VirtualHostFields,
} from './messages.ts'
import { contentVersion, MESSAGE_NAMES, type Resource, typeUrl, zoneKey } from './resource.ts'
import { type KnownHeader, mayMatch } from './route-match.ts'
import { type Template, template } from './template.ts'
import type { UpstreamCluster } from './upstream.ts'

/** What a learned zone's routes take over from Envoy's cold virtual host. */
export interface RoutePolicy {
  /** Name of the RouteConfiguration that asks for virtual hosts. */
  readonly routeConfiguration: string
  /** All routes of the cold virtual host in their order, one of which is the route `forward`. */
  readonly coldRoutes: readonly Route[]
  /** What else the cold virtual host has. */
  readonly fields?: VirtualHostFields
  /** The virtual hosts of the file, for the ids that are not learned because of them. */
  readonly pins?: readonly Pin[]
  /** Settings that `forward` has for filters which are on both paths; undefined: none. */
  readonly filterSettings?: Route['typed_per_filter_config']
}

/** A virtual host of the operator's own, which has requests for some ids: a pin. */
export interface Pin {
  readonly virtualHost: string
  /** `*` is none: the cold path's. */
  readonly domains: readonly string[]
}

/** What of the processor's rules shapes learned routes. */
export interface RoutingRules {
  /** Header by which Envoy finds the virtual host, in lower case. The processor puts the address in its place. */
  readonly routeHeader: string
  /** With prefixes of their own, and services that no other one has. */
  readonly rules: readonly RuleRoutes[]
  /** The zone's name in DNS, for Envoy's access log: `zone` in the route's metadata `zonegate`. */
  readonly zoneName: (service: string, id: string) => string
  /** The name in the certificate of a zone that is reached by TLS, whatever is said of it. */
  readonly serverName?: (service: string, id: string) => string
  /** What is another than for other ids; undefined: nothing. */
  readonly said?: (service: string, id: string) => SaidOfZone | undefined
}

export interface SaidOfZone {
  /** In place of `zoneName`. */
  readonly zoneName?: string
  /** In place of `serverName`. */
  readonly serverName?: string
  /** Its requests are answered so, and not forwarded. */
  readonly answer?: OwnAnswer
}

/** What Envoy answers by itself. */
export interface OwnAnswer {
  readonly status: number
  readonly text: string
  readonly retryAfterSeconds: number | null
}

export interface RuleRoutes {
  /**
   * In front of the id in the names of virtual hosts: empty, or a name with a dot behind it. Of a name with two slashes Envoy takes
   * over nothing, and says nothing.
   */
  readonly prefix: string
  /** What the listener makes of requests for an id, to find the virtual host by: each method is in one of its own. */
  readonly domains: (id: string) => readonly string[]
  /** Methods that are forwarded: only requests with one of them come to a learned zone's virtual host. */
  readonly methods: readonly string[]
  /** Services by literal path. Exactly one has no paths: it has all the others. */
  readonly services: readonly ServiceRoutes[]
  /** Requests with the key of a zone that Envoy can't read as strictly as the processor does: that one decides them. */
  readonly unusual: readonly RouteMatch[]
  /** What is known of the headers of every request with the key of an id, beside its key and method. */
  readonly knownHeaders: (id: string) => Readonly<Record<string, KnownHeader>>
  /** Further settings of filters on the route that asks the processor, for requests of this rule. */
  readonly askSettings?: Route['typed_per_filter_config']
  /**
   * What chooses the cluster in virtual hosts of many ids, by name: ids of which the service without paths alone is learned have their
   * routes there. Undefined: there are none.
   */
  readonly zoneOfKey?: string | undefined
  /** And on the routes of its learned zones. */
  readonly settings?: Route['typed_per_filter_config']
}

export interface ServiceRoutes {
  readonly name: string
  readonly paths: readonly string[]
  /** Its zones' addresses may have several priorities. */
  readonly hasPriorities?: boolean
  /** Undefined: its zones are reached by HTTP/1.1 in plain text. */
  readonly upstream?: UpstreamCluster | undefined
  /** Of filters on the routes of its learned zones, above all others. */
  readonly settings?: Route['typed_per_filter_config']
}

/** The cold route that forwards: every learned route is a copy of it. */
export const FORWARD = 'forward'
/** The name of a learned route: `%ROUTE_NAME%` in Envoy's access log. */
export const LEARNED = 'learned'
/** The name of the route of a zone that Envoy answers for: `local_reply_config` of the listener knows it. */
const MAINTENANCE = 'maintenance'

/** In front of the names of what chooses a cluster by the key, in Envoy's own routes (src/envoy-files/zone-of-key.ts). */
export const ZONE_OF_KEY = 'zonegate.zone_of_key'

/** What `forward` puts back into the header by which routes are found, where a learned zone's request has it still. */
export const KEPT_KEY = '%FILTER_STATE(zonegate.key:PLAIN)%'

/** What `forward` makes of Host, where it doesn't leave the client's: learned endpoints have the same as their names. */
export const HOST_REWRITE = '%DYNAMIC_METADATA(zonegate:address)%'

/** Namespace of route metadata and of the processor's dynamic metadata. */
const METADATA = 'zonegate'

const PREVIOUS_HOSTS: TypedExtensionConfig = {
  name: 'envoy.retry_host_predicates.previous_hosts',
  typed_config: { type_url: typeUrl('envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate') },
}
/**
 * A try that failed may have been the last address of its priority: the next one is sent to the next priority. Envoy notices for
 * good after three.
 */
const NEXT_PRIORITY: TypedExtensionConfig = {
  name: 'envoy.retry_priorities.previous_priorities',
  typed_config: {
    type_url: typeUrl('envoy.extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig'),
    value: Buffer.from([0x08, 1]), // update_frequency: 1
  },
}
/** How often a retry draws an address anew because it drew one that the request has tried. */
const HOST_SELECTION_ATTEMPTS = 5

const { encode } = messageCodec<VirtualHost>(MESSAGE_NAMES.virtualHost)

/** Of the virtual host that an id has by a rule: `12` or `pay.12`. */
export type HostKey = string

/** The rule and the id of a virtual host; undefined where no rule has such. */
export function partsOf(
  hostKey: HostKey,
  { rules }: Pick<RoutingRules, 'rules'>,
): { readonly rule: RuleRoutes; readonly id: string } | undefined {
  const at = hostKey.indexOf('.') + 1
  const rule = rules.find(({ prefix }) => prefix === hostKey.slice(0, at))
  return rule && { rule, id: hostKey.slice(at) }
}

/** The virtual host of a zone; one of a service that no rule has, which is on its way out, has the id alone. */
export function hostKeyOf(service: string, id: string, { rules }: Pick<RoutingRules, 'rules'>): HostKey {
  const rule = rules.find(({ services }) => services.some(({ name }) => name === service))
  return `${rule?.prefix ?? ''}${id}`
}

/** A virtual host that says which services it routes, each to the cluster `<service>/<id>`. */
export interface VirtualHostResource extends Resource {
  readonly services: ReadonlySet<string>
  /** Of many ids: their virtual hosts, which this one stands for. */
  readonly hosts?: ReadonlySet<HostKey>
}

const NOTHING_SAID: ReadonlyMap<string, SaidOfZone> = new Map()

/** What no id has: tells the name of a virtual host of many ids. */
const SHARED = '~'
/** So many of them: a change of one id sends the domains of those that share with it. */
const SHARED_HOSTS = 128
/** Of a shared virtual host so many cost as much to make, or to look at, as the virtual host of one id. */
export const HOSTS_PER_SIZE = 8

/** Where the virtual host of an id belongs: as good as any hash that is the same in each process (FNV-1a). */
function shareOfKey(hostKey: HostKey): number {
  let hash = 0x811c9dc5
  for (let at = 0; at < hostKey.length; at++) hash = Math.imul(hash ^ hostKey.charCodeAt(at), 0x01000193)
  return (hash >>> 0) % SHARED_HOSTS
}

/** The virtual hosts of one policy: those of ids with the same services learned are alike but for the id. */
export class VirtualHosts {
  readonly #policy: RoutePolicy
  readonly #rules: RoutingRules
  readonly #templates = new Map<string, { services: ReadonlySet<string>; hosts: Template }>()
  /** What shared virtual hosts have in common: all but names and domains. */
  readonly #common = new Map<string, { services: ReadonlySet<string>; bytes: Buffer }>()
  /** Cold routes that requests of an id may match: the same for many, and asked for again and again. */
  readonly #routesOf = new Map<HostKey, readonly Route[]>()

  constructor(policy: RoutePolicy, rules: RoutingRules) {
    this.#policy = policy
    this.#rules = rules
  }

  /** Envoy ignores the removal of a virtual host whose name doesn't begin with the route configuration's. */
  nameOf(hostKey: HostKey): string {
    return `${this.#policy.routeConfiguration}/${hostKey}`
  }

  /** Reads the key back; undefined where the name is another route configuration's. */
  keyOf(name: string): HostKey | undefined {
    const prefix = `${this.#policy.routeConfiguration}/`
    return name.startsWith(prefix) ? name.slice(prefix.length) : undefined
  }

  /** The name of the virtual host that this one shares with others, if its rule shares any. */
  shareOf(hostKey: HostKey): string {
    const prefix = hostKey.slice(0, hostKey.indexOf('.') + 1)
    return this.nameOf(`${prefix}${SHARED}${shareOfKey(hostKey)}`)
  }

  /** Of a name, whether it is that of a virtual host of many ids. */
  isShared(name: string): boolean {
    return this.keyOf(name)?.includes(SHARED) === true
  }

  /** The service whose zones may share, of the rule of an id; undefined: its rule shares nothing. */
  sharedServiceOf(hostKey: HostKey): string | undefined {
    const { rule } = partsOf(hostKey, this.#rules) ?? {}
    return rule?.zoneOfKey !== undefined
      ? rule.services.find(({ paths }) => paths.length === 0)?.name
      : undefined
  }

  /** The virtual host of many ids of one rule, of which each has the service without paths learned, and no other. */
  shared(name: string, hostKeys: readonly HostKey[]): VirtualHostResource {
    const hosts = new Set(hostKeys)
    const { rule, id: sample } = this.#parts(hostKeys[0] ?? '')
    const before = new Set<Route>()
    for (const host of hosts) for (const route of this.#before(host)) before.add(route)
    const routes = this.#policy.coldRoutes.filter((route) => before.has(route))
    const alike = [
      SHARED,
      rule.prefix,
      ...routes.map((route) => this.#policy.coldRoutes.indexOf(route)),
    ].join()
    let common = this.#common.get(alike)
    if (common === undefined) {
      const service = this.sharedServiceOf(hostKeys[0] ?? '') ?? ''
      const {
        name: _name,
        domains: _domains,
        ...fields
      } = this.#build(rule, sample, new Set([service]), routes, NOTHING_SAID, true)
      common = { bytes: encode(fields), services: new Set([service]) }
      this.#common.set(alike, common)
    }
    const { bytes, services } = common
    const domains = (): string[] => [...hosts].flatMap((host) => rule.domains(this.#parts(host).id))
    return {
      name,
      version: contentVersion(bytes, [...hosts].sort().join()),
      services,
      hosts,
      size: 1 + hosts.size / HOSTS_PER_SIZE,
      // Fields of a message may come in any order, and in parts (protobuf encoding, "Field Order").
      encode: () => Buffer.concat([bytes, encode({ name, domains: domains() })]),
    }
  }

  /** The virtual host of an id, with routes to these of its services. */
  resource(hostKey: HostKey, services: ReadonlySet<string>): VirtualHostResource {
    const { rule, id } = this.#parts(hostKey)
    const before = this.#before(hostKey)
    const said = this.#saidOf(rule, id)
    const alike = [
      rule.prefix,
      ...services,
      ...before.map((route) => this.#policy.coldRoutes.indexOf(route)),
      ...(said.size === 0 ? [] : [JSON.stringify([...said])]),
    ].join()
    let known = this.#templates.get(alike)
    if (known === undefined) {
      const learned = new Set(services)
      known = {
        services: learned,
        hosts: template((sample) => encode(this.#build(rule, sample, learned, before, said))),
      }
      this.#templates.set(alike, known)
    }
    const { hosts, services: learned } = known
    return {
      name: this.nameOf(hostKey),
      version: hosts.version,
      services: learned,
      encode: () => hosts.stamp(id),
    }
  }

  /** The message before it is encoded. */
  build(
    hostKey: HostKey,
    services: ReadonlySet<string>,
  ): VirtualHost & { readonly routes: readonly Route[] } {
    const { rule, id } = this.#parts(hostKey)
    return this.#build(rule, id, services, this.#routesBefore(rule, id), this.#saidOf(rule, id))
  }

  /** By service; most ids have none. */
  #saidOf({ services }: RuleRoutes, id: string): ReadonlyMap<string, SaidOfZone> {
    const said = new Map<string, SaidOfZone>()
    for (const { name } of services) {
      const own = this.#rules.said?.(name, id)
      if (own !== undefined) said.set(name, own)
    }
    return said
  }

  #parts(hostKey: HostKey): { readonly rule: RuleRoutes; readonly id: string } {
    const parts = partsOf(hostKey, this.#rules)
    if (parts === undefined) throw new Error(`no rule has the virtual host ${hostKey}`)
    return parts
  }

  /**
   * Its learned services lead to their clusters, the paths of the others to the route that asks the processor. In front
   * stand the cold routes that stand before `forward` there.
   */
  #build(
    { prefix, domains, services: all, unusual, askSettings, settings, zoneOfKey }: RuleRoutes,
    id: string,
    services: ReadonlySet<string>,
    before: readonly Route[],
    said: ReadonlyMap<string, SaidOfZone>,
    isShared = false,
  ): VirtualHost & { readonly routes: readonly Route[] } {
    const { coldRoutes } = this.#policy
    const fields: VirtualHostFields = this.#policy.fields ?? {}
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
      headers: conditionsOf(forward, this.#rules),
      settings: { ...this.#policy.filterSettings, ...settings },
      routeHeader: this.#rules.routeHeader,
    }
    const routeTo = (
      { name, hasPriorities = false, settings: ofService }: ServiceRoutes,
      path: Pick<RouteMatch, 'path' | 'prefix'>,
    ): Route => {
      if (!services.has(name)) return { ...ask, match: path }
      const { answer, zoneName = this.#rules.zoneName(name, id) } = said.get(name) ?? {}
      if (answer !== undefined) return answeredRoute(answer, zoneName, path, kept.settings)
      const own = isShared ? { zoneOfKey } : { key: zoneKey(name, id), name: zoneName }
      const ofRoute =
        ofService === undefined ? kept : { ...kept, settings: { ...kept.settings, ...ofService } }
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
      name: this.nameOf(`${prefix}${id}`),
      domains: domains(id),
      routes: [
        ...before,
        ...unusual.map((match): Route => ({ ...ask, match })),
        ...byPath,
        ...others.map((service) => routeTo(service, { prefix: '/' })),
        // What fails a further condition of `forward` is refused where it fails it on the cold path.
        ...(isConditional ? [ask] : []),
      ],
    }
  }

  #before(hostKey: HostKey): readonly Route[] {
    let routes = this.#routesOf.get(hostKey)
    if (routes === undefined) {
      const { rule, id } = this.#parts(hostKey)
      routes = this.#routesBefore(rule, id)
      if (rule.zoneOfKey !== undefined) this.#routesOf.set(hostKey, routes)
    }
    return routes
  }

  /** The cold routes that a request with this id, which has come to its virtual host, can match. */
  #routesBefore({ domains, methods, knownHeaders }: RuleRoutes, id: string): Route[] {
    const values = domains(id)
    const known = {
      ...knownHeaders(id),
      // Envoy finds the virtual host without regard to case, and over HTTP/2 a method comes as the client wrote it.
      ':method': { values: methods, anyCase: true },
      ...(!values.some((value) => value.endsWith('*')) && {
        [this.#rules.routeHeader]: { values, anyCase: true },
      }),
    }
    const at = this.#policy.coldRoutes.findIndex(({ name }) => name === FORWARD)
    return this.#policy.coldRoutes.slice(0, at).filter((route) => mayMatch(route, known))
  }
}

/**
 * The cold route with the processor's part taken out and the zone's own cluster put in.
 * @param zone without a key: it is told by that of each request
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
  // Services are told apart by the case of their paths.
  const { prefix: _all, case_sensitive: _always, ...match } = forward.match ?? {}
  // HTTP filters run as the route says to which a request comes first: on the cold path the one that asks. The two have the
  // same settings, but for the filters that are on that path alone.
  const { typed_per_filter_config: _unused, request_headers_to_add: added = [], ...rest } = forward
  // Written anew all the same, so that the header stands where it stands on the cold path.
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
      // On the cold path it replaces "/", here it would replace the whole path.
      ...(prefix_rewrite && path.path && { prefix_rewrite: prefix_rewrite + path.path.slice(1) }),
      ...(retry_policy && { retry_policy: toOthers(retry_policy, zone.hasPriorities) }),
    },
  }
}

/** Answers as the processor does for the zone. */
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

/** The header conditions of `forward` but the one that the processor fulfils. */
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

/** @param zone its name in DNS; undefined where the cluster says it */
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
