import { type ClusterPolicy, type ClusterTemplates, clusterResource, clusterTemplates } from './cluster.ts'
import { endpointsResource, sameAddresses, type ZoneAddresses } from './endpoints.ts'
import type { Pin, RoutePolicy } from './learned-routes.ts'
import type { RouteConfiguration } from './messages.ts'
import { pinOf, pinsOf } from './pins.ts'
import { proofOf } from './proof.ts'
import { type Kind, type Resource, type ZoneKey, type ZoneRef, zoneKey } from './resource.ts'
import { type HostKey, hostKeyOf, type OwnAnswer, partsOf, type RoutingRules } from './routing-rules.ts'
import type { UpstreamCluster } from './upstream.ts'
import { HOSTS_PER_SIZE, type VirtualHostResource, VirtualHosts } from './virtual-host.ts'

/** What learned zones copy from the operator's Envoy files. */
export interface ZonePolicy {
  readonly routes: RoutePolicy
  readonly cluster: ClusterPolicy
  /** How long a request may take to arrive whole. Absent: as long as it likes. */
  readonly requestTimeoutMs?: number
}

export interface LearnedZone extends ZoneAddresses {
  readonly service: string
  /** In lower case. */
  readonly id: string
}

/** A zone whose requests Envoys route without asking the processor. */
export interface CatalogZone {
  readonly service: string
  readonly id: string
  /** True once it has several addresses. It stays true, so that its cluster changes once, not each time their number does. */
  readonly hasHadSeveralAddresses: boolean
  /** Absent if an Envoy has the zone from an earlier processor, and DNS has not answered yet. */
  readonly known?: { readonly addresses: ZoneAddresses; readonly resource: Resource }
}

/** Keeps up with the catalogue: the Rollout of each Envoy does. */
export interface CatalogListener {
  /** A resource was added, changed or removed. */
  mark(kind: Kind, name: string): void
  /** Every cluster and every virtual host may have changed. */
  markAll(): void
  /** Envoys may accept what they refused before. */
  forgetRefusals(): void
}

/** Tells a listener of one change. */
export type CatalogChange = (listener: CatalogListener) => void

/**
 * The same addresses are sent again once less than this part of their time is left. So if the processor dies, Envoys can use
 * them for at least this part of the time; a higher value would mean more pushes.
 */
const REMAINING_MIN = 0.75
/**
 * The shortest and the longest drain; the longest is also that without `requestTimeoutMs`. A retry may come after the request's time. But
 * clusters of forgotten zones take memory.
 */
const DRAIN_MS = { min: 60_000, max: 3_600_000 } as const

/** What every Envoy should have in the end: the learned zones as resources. rollout.ts decides what an Envoy is sent when. */
export class Catalog {
  readonly #zones = new Map<ZoneKey, CatalogZone>()
  readonly #servicesOfHost = new Map<HostKey, Set<string>>()
  /** Virtual hosts of single ids, by the name of the shared one that they may be part of. Only of rules that share. */
  readonly #hostsOfShare = new Map<string, Set<HostKey>>()
  readonly #listeners = new Set<(change: CatalogChange) => void>()
  readonly #epoch: string
  #rules: RoutingRules
  /** By service, or by service and server name. */
  readonly #clusters = new Map<string, ClusterTemplates>()
  #clusterPolicy: ClusterPolicy
  #requestTimeoutMs: number | undefined
  #virtualHosts: VirtualHosts
  #coldClusters: ReadonlyMap<string, Resource> = new Map()
  #namesCluster: Resource | undefined
  #proof: ReadonlyMap<string, VirtualHostResource> = new Map()
  #proofs = 0
  #pins: readonly Pin[]
  #provedPins: readonly Pin[] = []
  #publications = 0

  /** @param epoch unique for each process: it makes versions of endpoints differ from those of earlier ones */
  constructor(policy: ZonePolicy, rules: RoutingRules, epoch: string) {
    this.#rules = rules
    this.#epoch = epoch
    this.#clusterPolicy = policy.cluster
    this.#requestTimeoutMs = policy.requestTimeoutMs
    this.#virtualHosts = new VirtualHosts(policy.routes, rules)
    this.#pins = policy.routes.pins ?? []
  }

  /** @param listener called at each change. @returns stops it */
  onChange(listener: (change: CatalogChange) => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  /**
   * How long a cluster outlives its last route. Envoy chooses a request's route at its first octet. It looks for the cluster once the
   * whole body is there, and again for a retry.
   */
  get drainMs(): number {
    const { min, max } = DRAIN_MS
    return Math.min(max, Math.max(min, this.#requestTimeoutMs ?? max))
  }

  /** The clusters of the cold path, one for each way to reach zones. While empty (unreadable), Envoys keep those that they have. */
  get coldClusters(): ReadonlyMap<string, Resource> {
    return this.#coldClusters
  }

  setColdClusters(clusters: readonly Resource[]): void {
    const before = this.#coldClusters
    this.#coldClusters = new Map(clusters.map((cluster) => [cluster.name, cluster]))
    for (const name of new Set([...before.keys(), ...this.#coldClusters.keys()]))
      this.#changed('cluster', name)
  }

  /** The cluster with which Envoys resolve names themselves; undefined: none. */
  get namesCluster(): Resource | undefined {
    return this.#namesCluster
  }

  setNamesCluster(cluster: Resource | undefined): void {
    const before = this.#namesCluster
    this.#namesCluster = cluster
    for (const name of new Set([before?.name, cluster?.name]))
      if (name !== undefined) this.#changed('cluster', name)
  }

  /** Virtual hosts that are sent only to see whether Envoys accept them, by name (proof.ts). */
  get proof(): ReadonlyMap<string, VirtualHostResource> {
    return this.#proof
  }

  /** Asks Envoys whether they accept a route configuration. @param configuration undefined: stop asking */
  setProof(configuration: RouteConfiguration | undefined): void {
    const before = this.#proof
    this.#proofs += 1
    const version = `${this.#epoch}.${this.#proofs}`
    const hosts = configuration === undefined ? [] : proofOf(configuration, version)
    this.#proof = new Map(hosts.map((host) => [host.name, host]))
    for (const name of new Set([...before.keys(), ...this.#proof.keys()])) this.#changed('virtualHost', name)
    // Envoy refuses the file while it has a learned virtual host for one of the file's domains, so those are withdrawn.
    const pinsBefore = this.#provedPins
    this.#provedPins = configuration === undefined ? [] : pinsOf(configuration)
    for (const host of this.#servicesOfHost.keys())
      if (this.#pinIn([...pinsBefore, ...this.#provedPins], host) !== undefined) this.#hostChanged(host)
  }

  *clusterNames(): Iterable<string> {
    yield* this.#coldClusters.keys()
    if (this.#namesCluster !== undefined) yield this.#namesCluster.name
    yield* this.#zones.keys()
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
   * Adds a zone, or changes its addresses. Envoys may use addresses for a limited time from when they receive them. The same
   * addresses are sent again only once a part of that time has passed (REMAINING_MIN).
   */
  publish(zone: LearnedZone, nowMs: number): void {
    const key = zoneKey(zone.service, zone.id)
    const before = this.#zones.get(key)
    if (before?.known !== undefined && sameAddresses(before.known.addresses, zone)) {
      const remainingMs = before.known.addresses.staleAtMs - nowMs
      const wantedMs = zone.staleAtMs - nowMs
      // Nor may they last much longer than they should: those of a pin may have no end.
      const isEnough = remainingMs >= wantedMs * REMAINING_MIN && remainingMs * REMAINING_MIN <= wantedMs
      if (remainingMs > 0 && isEnough) return
    }
    this.#publications += 1
    const version = `${this.#epoch}.${this.#publications}`
    const known = { addresses: zone, resource: endpointsResource(key, zone, version) }
    const { service, id, addresses } = zone
    const hasHadSeveralAddresses = addresses.length > 1 || (before?.hasHadSeveralAddresses ?? false)
    const isSameCluster = before?.hasHadSeveralAddresses === hasHadSeveralAddresses
    this.#set(key, { service, id, hasHadSeveralAddresses, known })
    this.#changed('endpoints', key)
    if (before?.known === undefined || !isSameCluster) this.#changed('cluster', key)
    if (before === undefined) this.#hostChanged(this.hostOf(zone))
  }

  /** Adds a zone without addresses: an Envoy has it from an earlier processor, or Envoys answer its requests themselves (maintenance). */
  adopt({ service, id }: ZoneRef): void {
    const key = zoneKey(service, id)
    if (this.#zones.has(key)) return
    const zone = { service, id, hasHadSeveralAddresses: false }
    this.#set(key, zone)
    this.#hostChanged(this.hostOf(zone))
  }

  /** What Envoys answer to a zone's requests themselves; undefined: they forward them. */
  answerOf(host: HostKey, service: string): OwnAnswer | undefined {
    const id = partsOf(host, this.#rules)?.id
    return id === undefined ? undefined : this.#rules.said?.(service, id)?.answer
  }

  withdraw(key: ZoneKey): void {
    const zone = this.#zones.get(key)
    if (zone === undefined) return
    this.#zones.delete(key)
    const host = this.hostOf(zone)
    const services = this.#servicesOfHost.get(host)
    services?.delete(zone.service)
    if (services?.size === 0) {
      this.#servicesOfHost.delete(host)
      this.#leaveShare(host)
    }
    this.#hostChanged(host)
    this.#changed('cluster', key)
    this.#changed('endpoints', key)
  }

  /**
   * Gives all zones other routes and clusters. The new resources are made when they are sent: making them all here would block
   * the event loop for a third of a second at 10,000 zones and 50 Envoys.
   */
  setPolicy(policy: ZonePolicy, rules: RoutingRules): void {
    this.#rules = rules
    this.#virtualHosts = new VirtualHosts(policy.routes, rules)
    this.#clusterPolicy = policy.cluster
    this.#requestTimeoutMs = policy.requestTimeoutMs
    this.#clusters.clear()
    this.#pins = policy.routes.pins ?? []
    // With other rules the same zones have other virtual hosts.
    this.#servicesOfHost.clear()
    this.#hostsOfShare.clear()
    for (const zone of this.#zones.values()) this.#serve(zone)
    this.#tell((listener) => listener.markAll())
  }

  /** Call it when the operator has saved a file that Envoys read: they may accept what they refused before. */
  retryRefused(): void {
    this.#tell((listener) => listener.forgetRefusals())
  }

  *virtualHostNames(): Iterable<string> {
    yield* this.#proof.keys()
    yield* this.#hostsOfShare.keys()
    for (const host of this.#servicesOfHost.keys()) yield this.#virtualHosts.nameOf(host)
  }

  virtualHostName(zone: ZoneRef): string {
    return this.#virtualHosts.nameOf(this.hostOf(zone))
  }

  /** Names and makes virtual hosts, by the policy and rules in force. */
  get virtualHosts(): VirtualHosts {
    return this.#virtualHosts
  }

  hostOf({ service, id }: ZoneRef): HostKey {
    return hostKeyOf(service, id, this.#rules)
  }

  /** True if the rule of an id has shared virtual hosts. */
  sharesRoutes(host: HostKey): boolean {
    return this.#virtualHosts.sharedServiceOf(host) !== undefined
  }

  /** How much work a virtual host is, in virtual hosts of one id. */
  sizeOf(virtualHost: string): number {
    return 1 + (this.#hostsOfShare.get(virtualHost)?.size ?? 0) / HOSTS_PER_SIZE
  }

  /** False if the rules in force have shared virtual hosts, but without routes to this service. */
  sharesService(host: HostKey, service: string): boolean {
    const shared = this.#virtualHosts.sharedServiceOf(host)
    return shared === undefined || shared === service
  }

  /** The ids that belong to a shared virtual host. */
  hostsOfShare(virtualHost: string): Iterable<HostKey> {
    return this.#hostsOfShare.get(virtualHost) ?? []
  }

  /** True if an id needs no virtual host of its own: only its service without paths is learned, and nothing is said of the zone. */
  mayShare(host: HostKey, services: ReadonlySet<string>): boolean {
    const shared = this.#virtualHosts.sharedServiceOf(host)
    if (shared === undefined || services.size !== 1 || !services.has(shared)) return false
    const id = partsOf(host, this.#rules)?.id ?? ''
    return this.#rules.said?.(shared, id) === undefined
  }

  /** The operator's virtual host that gets this zone's requests, in the files in force or in those that are being proved. */
  pinOf(zone: ZoneRef): string | undefined {
    return this.pinOfHost(this.hostOf(zone))
  }

  pinOfHost(host: HostKey): string | undefined {
    return this.#pinIn(this.#pins, host) ?? this.#pinIn(this.#provedPins, host)
  }

  #pinIn(pins: readonly Pin[], host: HostKey): string | undefined {
    return pinOf(pins, host, this.#virtualHosts.nameOf(host), this.#rules)
  }

  /** True for a learned virtual host that Envoys must drop, because a virtual host of the operator takes its place. */
  isPinned(virtualHost: string): boolean {
    const host = this.#virtualHosts.keyOf(virtualHost)
    return host !== undefined && this.pinOfHost(host) !== undefined
  }

  /** True for a service of the rules in force. */
  serves(service: string): boolean {
    return this.#rules.rules.some(({ services }) => services.some(({ name }) => name === service))
  }

  /** The cluster of a zone of this catalogue. */
  cluster({ service, id, hasHadSeveralAddresses }: CatalogZone): Resource {
    const said = this.#rules.said?.(service, id)?.serverName
    const { oneAddress, severalAddresses } = this.#clustersOf(service, said)
    const clusters = hasHadSeveralAddresses ? severalAddresses : oneAddress
    return clusterResource(zoneKey(service, id), clusters, id, this.#upstreamOf(service)?.cluster)
  }

  #upstreamOf(service: string): UpstreamCluster | undefined {
    for (const { services } of this.#rules.rules)
      for (const { name, upstream } of services) if (name === service) return upstream
    return undefined
  }

  /** The id of a virtual host, and which of its services are learned; undefined: none is. */
  learnedOf(
    virtualHost: string,
  ): { readonly host: HostKey; readonly id: string; readonly services: ReadonlySet<string> } | undefined {
    const host = this.#virtualHosts.keyOf(virtualHost)
    const parts = host === undefined ? undefined : partsOf(host, this.#rules)
    const services = host === undefined ? undefined : this.#servicesOfHost.get(host)
    if (host === undefined || parts === undefined || services === undefined) return undefined
    return { host, id: parts.id, services }
  }

  /** The clusters of a service differ only in the id. @param said the server name, if `zones` sets one for this zone */
  #clustersOf(service: string, said?: string): ClusterTemplates {
    const alike = said === undefined ? service : `${service} ${said}`
    let clusters = this.#clusters.get(alike)
    if (clusters === undefined) {
      const { rules, zoneName, serverName } = this.#rules
      const rule = rules.find(({ services }) => services.some(({ name }) => name === service))
      clusters = clusterTemplates(this.#clusterPolicy, {
        nameOf: (id) => zoneKey(service, id),
        zoneName: rule?.zoneOfKey !== undefined ? (id) => zoneName(service, id) : undefined,
        upstream: this.#upstreamOf(service),
        serverName: said !== undefined ? () => said : serverName && ((id) => serverName(service, id)),
      })
      this.#clusters.set(alike, clusters)
    }
    return clusters
  }

  #set(key: ZoneKey, zone: CatalogZone): void {
    this.#zones.set(key, zone)
    this.#serve(zone)
  }

  #serve(zone: CatalogZone): void {
    const host = this.hostOf(zone)
    const services = this.#servicesOfHost.get(host)
    if (services === undefined) this.#servicesOfHost.set(host, new Set([zone.service]))
    else services.add(zone.service)
    if (!this.sharesRoutes(host)) return
    const share = this.#virtualHosts.shareOf(host)
    const hosts = this.#hostsOfShare.get(share)
    if (hosts === undefined) this.#hostsOfShare.set(share, new Set([host]))
    else hosts.add(host)
  }

  #leaveShare(host: HostKey): void {
    const share = this.#virtualHosts.shareOf(host)
    const hosts = this.#hostsOfShare.get(share)
    hosts?.delete(host)
    if (hosts?.size === 0) this.#hostsOfShare.delete(share)
  }

  /** Marks both virtual hosts that may have the routes of an id: its own and the shared one. */
  #hostChanged(host: HostKey): void {
    this.#changed('virtualHost', this.#virtualHosts.nameOf(host))
    if (this.sharesRoutes(host)) this.#changed('virtualHost', this.#virtualHosts.shareOf(host))
  }

  #changed(kind: Kind, name: string): void {
    this.#tell((listener) => listener.mark(kind, name))
  }

  #tell(change: CatalogChange): void {
    for (const listener of this.#listeners) listener(change)
  }
}
