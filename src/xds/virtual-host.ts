import { messageCodec } from './envoy-api.ts'
import { coldRoutesBefore, learnedFields, type RoutePolicy, saidOf } from './learned-routes.ts'
import type { Route, VirtualHost } from './messages.ts'
import { contentVersion, MESSAGE_NAMES, type Resource } from './resource.ts'
import { type HostKey, partsOf, type RoutingRules, type RuleRoutes } from './routing-rules.ts'
import { type Template, template } from './template.ts'

const { encode } = messageCodec<VirtualHost>(MESSAGE_NAMES.virtualHost)

/** A virtual host, with the services that it routes, each to the cluster `<service>/<id>`. */
export interface VirtualHostResource extends Resource {
  readonly services: ReadonlySet<string>
  /** If it is a shared one: the virtual hosts of single ids that it replaces. */
  readonly hosts?: ReadonlySet<HostKey>
}

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
      const services = new Set([service])
      const of = { rule, id: sample, services, before: routes, said: new Map(), isShared: true }
      common = { bytes: encode(learnedFields(this.#policy, this.#rules, of)), services }
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
    const said = saidOf(this.#rules, rule, id)
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
        hosts: template((sample) =>
          encode({
            ...learnedFields(this.#policy, this.#rules, {
              rule,
              id: sample,
              services: learned,
              before,
              said,
            }),
            name: this.nameOf(`${rule.prefix}${sample}`),
            domains: rule.domains(sample),
          }),
        ),
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

  #parts(hostKey: HostKey): { readonly rule: RuleRoutes; readonly id: string } {
    const parts = partsOf(hostKey, this.#rules)
    if (parts === undefined) throw new Error(`no rule has the virtual host ${hostKey}`)
    return parts
  }

  #before(hostKey: HostKey): readonly Route[] {
    let routes = this.#routesOf.get(hostKey)
    if (routes === undefined) {
      const { rule, id } = this.#parts(hostKey)
      routes = coldRoutesBefore(this.#policy, this.#rules, rule, id)
      if (rule.zoneOfKey !== undefined) this.#routesOf.set(hostKey, routes)
    }
    return routes
  }
}
