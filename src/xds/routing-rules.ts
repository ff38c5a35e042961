import type { Route, RouteMatch } from './messages.ts'
import type { KnownHeader } from './route-match.ts'
import type { UpstreamCluster } from './upstream.ts'

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
