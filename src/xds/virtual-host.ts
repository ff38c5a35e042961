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

/** The part of the processor's rules that shapes learned routes. */
export interface RoutingRules {
  /** The header by which Envoy finds the virtual host, in lower case. On the cold path the address replaces its value. */
  readonly routeHeader: string
  /** Each has another prefix, and services that no other rule has. */
  readonly rules: readonly RuleRoutes[]
  /** The zone's DNS name, for Envoy's access log: `zone` in the route's metadata `zonegate`. */
  readonly zoneName: (service: string, id: string) => string
  /** The name that the certificate of a zone with TLS must have, unless `said` has another. */
  readonly serverName?: (service: string, id: string) => string
  /** What `zones` of the configuration or a pin says of a zone; undefined: nothing. */
  readonly said?: (service: string, id: string) => SaidOfZone | undefined
}

export interface SaidOfZone {
  /** In place of `zoneName`. */
  readonly zoneName?: string
  /** In place of `serverName`. */
  readonly serverName?: string
  /** Envoy answers its requests with this instead of forwarding them. */
  readonly answer?: OwnAnswer
}

/** An answer that Envoy gives without a zone. */
export interface OwnAnswer {
  readonly status: number
  readonly text: string
  readonly retryAfterSeconds: number | null
}

export interface RuleRoutes {
  /**
   * Stands before the id in names of virtual hosts: empty, or a name with a dot at the end. It has no slash, because Envoy silently
   * ignores virtual hosts with two slashes in their names.
   */
  readonly prefix: string
  /** Domains of an id's virtual host: the keys that the listener makes from its requests, one for each method. */
  readonly domains: (id: string) => readonly string[]
  /** Methods that are forwarded. Only requests with one of them reach a learned zone's virtual host. */
  readonly methods: readonly string[]
  /** Services by literal path. Exactly one has no paths: it gets all other paths. */
  readonly services: readonly ServiceRoutes[]
  /** Requests that Envoy can't check as strictly as the processor does. They ask it although their zone is learned. */
  readonly unusual: readonly RouteMatch[]
  /** What is known about the headers of every request with an id's key, besides the key and the method. */
  readonly knownHeaders: (id: string) => Readonly<Record<string, KnownHeader>>
  /** Further filter settings on the route that asks the processor, for requests of this rule. */
  readonly askSettings?: Route['typed_per_filter_config']
  /**
   * Name of the plugin that chooses the cluster in shared virtual hosts. They have the routes of ids of which only the service
   * without paths is learned. Undefined: the rule has no shared virtual hosts.
   */
  readonly zoneOfKey?: string | undefined
  /** Further filter settings on the routes of learned zones. */
  readonly settings?: Route['typed_per_filter_config']
}

export interface ServiceRoutes {
  readonly name: string
  readonly paths: readonly string[]
  /** Its zones' addresses may have several priorities. */
  readonly hasPriorities?: boolean
  /** Undefined: its zones are reached by HTTP/1.1 in plain text. */
  readonly upstream?: UpstreamCluster | undefined
  /** Filter settings on the routes of its learned zones. They override all others. */
  readonly settings?: Route['typed_per_filter_config']
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

const { encode } = messageCodec<VirtualHost>(MESSAGE_NAMES.virtualHost)

/** Identifies the virtual host of an id: the rule's prefix and the id, `12` or `pay.12`. */
export type HostKey = string

/** The rule and the id of a virtual host; undefined if no rule has its prefix. */
export function partsOf(
  hostKey: HostKey,
  { rules }: Pick<RoutingRules, 'rules'>,
): { readonly rule: RuleRoutes; readonly id: string } | undefined {
  const at = hostKey.indexOf('.') + 1
  const rule = rules.find(({ prefix }) => prefix === hostKey.slice(0, at))
  return rule && { rule, id: hostKey.slice(at) }
}

/** The virtual host of a zone. A service that no rule has any more counts as one without a prefix. */
export function hostKeyOf(service: string, id: string, { rules }: Pick<RoutingRules, 'rules'>): HostKey {
  const rule = rules.find(({ services }) => services.some(({ name }) => name === service))
  return `${rule?.prefix ?? ''}${id}`
}

/** A virtual host, with the services that it routes, each to the cluster `<service>/<id>`. */
export interface VirtualHostResource extends Resource {
  readonly services: ReadonlySet<string>
  /** If it is a shared one: the virtual hosts of single ids that it replaces. */
  readonly hosts?: ReadonlySet<HostKey>
}

const NOTHING_SAID: ReadonlyMap<string, SaidOfZone> = new Map()

/** A character that no id has. Names of shared virtual hosts begin with it. */
const SHARED = '~'
/** Number of shared virtual hosts. When one id changes, the domains of all ids in its shared virtual host are sent again. */
const SHARED_HOSTS = 128
/** So many ids of a shared virtual host are as much work as one virtual host of a single id. */
export const HOSTS_PER_SIZE = 8

/** Which shared virtual host an id belongs to: FNV-1a, because the hash must be the same in each process. */
function shareOfKey(hostKey: HostKey): number {
  let hash = 0x811c9dc5
  for (let at = 0; at < hostKey.length; at++) hash = Math.imul(hash ^ hostKey.charCodeAt(at), 0x01000193)
  return (hash >>> 0) % SHARED_HOSTS
}

/** Makes the virtual hosts of one policy. Those of ids with the same learned services differ only in the id. */
export class VirtualHosts {
  readonly #policy: RoutePolicy
  readonly #rules: RoutingRules
  readonly #templates = new Map<string, { services: ReadonlySet<string>; hosts: Template }>()
  /** The encoded part that shared virtual hosts have in common: everything except names and domains. */
  readonly #common = new Map<string, { services: ReadonlySet<string>; bytes: Buffer }>()
  /** The cold routes that requests of an id may match. Only for ids in shared virtual hosts, which need them often. */
  readonly #routesOf = new Map<HostKey, readonly Route[]>()

  constructor(policy: RoutePolicy, rules: RoutingRules) {
    this.#policy = policy
    this.#rules = rules
  }

  /** Envoy ignores the removal of a virtual host whose name doesn't begin with the route configuration's. */
  nameOf(hostKey: HostKey): string {
    return `${this.#policy.routeConfiguration}/${hostKey}`
  }

  /** The inverse of `nameOf`; undefined for a name of another route configuration. */
  keyOf(name: string): HostKey | undefined {
    const prefix = `${this.#policy.routeConfiguration}/`
    return name.startsWith(prefix) ? name.slice(prefix.length) : undefined
  }

  /** The name of the shared virtual host that an id belongs to, if its rule has any. */
  shareOf(hostKey: HostKey): string {
    const prefix = hostKey.slice(0, hostKey.indexOf('.') + 1)
    return this.nameOf(`${prefix}${SHARED}${shareOfKey(hostKey)}`)
  }

  /** True for the name of a shared virtual host. */
  isShared(name: string): boolean {
    return this.keyOf(name)?.includes(SHARED) === true
  }

  /** The service that shared virtual hosts of an id's rule route; undefined: the rule has none. */
  sharedServiceOf(hostKey: HostKey): string | undefined {
    const { rule } = partsOf(hostKey, this.#rules) ?? {}
    return rule?.zoneOfKey !== undefined
      ? rule.services.find(({ paths }) => paths.length === 0)?.name
      : undefined
  }

  /** The shared virtual host of ids of one rule. Each has only the service without paths learned. */
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
      // Two encoded parts make one message (protobuf encoding, "Last One Wins").
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

  /** What is said of an id's zones, by service. Empty for most ids. */
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
   * Routes to the clusters of the learned services; the other services' paths ask the processor. The cold routes that stand before
   * `forward` come first here, too.
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
        // A request that fails another condition of `forward` ends in the same route as on the cold path.
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

  /** The cold routes before `forward` that a request in this id's virtual host can match. */
  #routesBefore({ domains, methods, knownHeaders }: RuleRoutes, id: string): Route[] {
    const values = domains(id)
    const known = {
      ...knownHeaders(id),
      // Envoy finds the virtual host whatever the case of the key, and over HTTP/2 the method is as the client wrote it.
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
