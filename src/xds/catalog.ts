import { type ClusterPolicy, type ClusterTemplates, clusterResource, clusterTemplates } from './cluster.ts'
import { endpointsResource, sameAddresses, type ZoneAddresses } from './endpoints.ts'
import { type Kind, type Resource, type ZoneKey, zoneKey } from './resource.ts'
import {
  type RoutePolicy,
  type RoutingRules,
  type VirtualHostResource,
  VirtualHosts,
} from './virtual-host.ts'

/** What learned zones take over from Envoy's own files. */
export interface ZonePolicy {
  readonly routes: RoutePolicy
  readonly cluster: ClusterPolicy
}

export interface LearnedZone extends ZoneAddresses {
  readonly service: string
  /** In lower case. */
  readonly id: string
}

/** A zone that Envoys route by themselves. */
export interface CatalogZone {
  readonly service: string
  readonly id: string
  readonly cluster: Resource
  /** Since it was learned. Envoy takes another cluster for it once, and not at each change of their number. */
  readonly hasHadSeveralAddresses: boolean
  /** Absent for a zone that an Envoy brought along and whose addresses are not known yet. */
  readonly known?: { readonly addresses: ZoneAddresses; readonly resource: Resource }
}

/**
 * Of the time for which addresses are good, an Envoy has at least so much left when the processor dies. The rest is what
 * it costs not to send all endpoints at every refresh.
 */
const REMAINING_MIN = 0.75

/**
 * What every Envoy should have in the end: the learned zones as resources. Which of them an Envoy may be told of now is
 * rollout.ts's business.
 */
export class Catalog {
  readonly #zones = new Map<ZoneKey, CatalogZone>()
  readonly #servicesOfId = new Map<string, Set<string>>()
  readonly #listeners = new Set<(kind: Kind, name: string) => void>()
  readonly #epoch: string
  #rules: RoutingRules
  #clusters: ClusterTemplates
  #virtualHosts: VirtualHosts
  #publications = 0

  /** @param epoch tells this process from the ones before and after it, in the versions of endpoints */
  constructor(policy: ZonePolicy, rules: RoutingRules, epoch: string) {
    this.#rules = rules
    this.#epoch = epoch
    this.#clusters = clusterTemplates(policy.cluster)
    this.#virtualHosts = new VirtualHosts(policy.routes, rules)
  }

  /** Calls back with each resource that has become another, has come or has gone. @returns ends it */
  onChange(listener: (kind: Kind, name: string) => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  get size(): number {
    return this.#zones.size
  }

  zone(key: string): CatalogZone | undefined {
    return this.#zones.get(key as ZoneKey)
  }

  keys(): Iterable<ZoneKey> {
    return this.#zones.keys()
  }

  /**
   * Adds a zone, or changes its addresses. An Envoy counts the time for which addresses are good from when it is sent
   * them; the same addresses are sent again only when it has used up some of that time.
   */
  publish(zone: LearnedZone, nowMs: number): void {
    const key = zoneKey(zone.service, zone.id)
    const before = this.#zones.get(key)
    if (before?.known !== undefined && sameAddresses(before.known.addresses, zone)) {
      const remainingMs = before.known.addresses.staleAtMs - nowMs
      if (remainingMs > 0 && remainingMs >= (zone.staleAtMs - nowMs) * REMAINING_MIN) return
    }
    this.#publications += 1
    const version = `${this.#epoch}.${this.#publications}`
    const known = { addresses: zone, resource: endpointsResource(key, zone, version) }
    const { service, id, addresses } = zone
    const hasHadSeveralAddresses = addresses.length > 1 || (before?.hasHadSeveralAddresses ?? false)
    const isSameCluster = before?.hasHadSeveralAddresses === hasHadSeveralAddresses
    const cluster = isSameCluster ? before.cluster : this.#cluster(key, hasHadSeveralAddresses)
    this.#set(key, { service, id, cluster, hasHadSeveralAddresses, known })
    this.#changed('endpoints', key)
    if (before?.known === undefined || !isSameCluster) this.#changed('cluster', key)
    if (before === undefined) this.#changed('virtualHost', this.virtualHostName(zone.id))
  }

  /** Adds a zone that an Envoy has from an earlier processor, so that it stays until its addresses are known. */
  adopt(service: string, id: string): void {
    const key = zoneKey(service, id)
    if (this.#zones.has(key)) return
    this.#set(key, { service, id, cluster: this.#cluster(key, false), hasHadSeveralAddresses: false })
    this.#changed('virtualHost', this.virtualHostName(id))
  }

  withdraw(key: ZoneKey): void {
    const zone = this.#zones.get(key)
    if (zone === undefined) return
    this.#zones.delete(key)
    const services = this.#servicesOfId.get(zone.id)
    services?.delete(zone.service)
    if (services?.size === 0) this.#servicesOfId.delete(zone.id)
    this.#changed('virtualHost', this.virtualHostName(zone.id))
    this.#changed('cluster', key)
    this.#changed('endpoints', key)
  }

  /** Gives all zones other routes and clusters. */
  setPolicy(policy: ZonePolicy, rules: RoutingRules): void {
    this.#rules = rules
    this.#virtualHosts = new VirtualHosts(policy.routes, rules)
    this.#clusters = clusterTemplates(policy.cluster)
    for (const [key, zone] of this.#zones) {
      this.#zones.set(key, { ...zone, cluster: this.#cluster(key, zone.hasHadSeveralAddresses) })
      this.#changed('cluster', key)
    }
    for (const id of this.#servicesOfId.keys()) this.#changed('virtualHost', this.virtualHostName(id))
  }

  *virtualHostNames(): Iterable<string> {
    for (const id of this.#servicesOfId.keys()) yield this.virtualHostName(id)
  }

  virtualHostName(id: string): string {
    return this.#virtualHosts.nameOf(id)
  }

  /** True for a service of the rules in force. */
  serves(service: string): boolean {
    return this.#rules.services.some(({ name }) => name === service)
  }

  /** The id that a virtual host is for, and the services that are learned of it. */
  learnedOf(
    virtualHost: string,
  ): { readonly id: string; readonly services: ReadonlySet<string> } | undefined {
    const id = this.#virtualHosts.idOf(virtualHost)
    const services = id === undefined ? undefined : this.#servicesOfId.get(id)
    return id === undefined || services === undefined ? undefined : { id, services }
  }

  /** The virtual host of an id, with routes to these of its services. */
  virtualHost(id: string, services: ReadonlySet<string>): VirtualHostResource {
    return this.#virtualHosts.resource(id, services)
  }

  #cluster(key: ZoneKey, hasSeveralAddresses: boolean): Resource {
    const { oneAddress, severalAddresses } = this.#clusters
    return clusterResource(key, hasSeveralAddresses ? severalAddresses : oneAddress)
  }

  #set(key: ZoneKey, zone: CatalogZone): void {
    this.#zones.set(key, zone)
    const services = this.#servicesOfId.get(zone.id)
    if (services === undefined) this.#servicesOfId.set(zone.id, new Set([zone.service]))
    else services.add(zone.service)
  }

  #changed(kind: Kind, name: string): void {
    for (const listener of this.#listeners) listener(kind, name)
  }
}
