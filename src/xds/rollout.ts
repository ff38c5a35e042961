/**
 * The way of a learned zone to an Envoy:
 *
 *   LearnedZones (src/zones)       publishes the zone and its addresses at its second request
 *   EnvoyControl (src/processor)   passes it on while Envoy's files let zones be learned
 *   Catalog                        holds what every Envoy should have, and marks each changed name in every Rollout
 *   EnvoyStream                    one for each Envoy: sends what its Rollout says, and gives it the Envoy's answers
 *   Rollout                        says what this Envoy should have under a name now
 *   Subscription                   one for each kind: makes a response of the marked names; the next one waits for the answer
 *
 * The first two responses bring the cluster and its endpoints. Once the Envoy has acknowledged both, `#markRoutesTo` marks the virtual
 * host, which comes in a third. When that is acknowledged, the zone is `held`: Envoy routes it without the processor.
 */
import type { DeltaDiscoveryRequest } from '../grpc/protos.ts'
import type { Catalog, CatalogListener } from './catalog.ts'
import type { DeltaResponse } from './delta-response.ts'
import {
  isReachedAlike,
  KINDS,
  type Kind,
  kindOf,
  parseZoneKey,
  type Resource,
  TYPE_URLS,
  type ZoneKey,
  type ZoneRef,
  zoneKey,
} from './resource.ts'
import type { HostKey } from './routing-rules.ts'
import { type Desired, type Offer, type Received, Subscription } from './subscription.ts'
import type { VirtualHostResource, VirtualHosts } from './virtual-host.ts'

/**
 * Making a response blocks the event loop. With so many resources it takes a few milliseconds, even in a process that has just
 * started. Responses have more virtual hosts, because each push of virtual hosts makes Envoy build a new route table.
 */
const RESOURCES_PER_RESPONSE_MAX = { cluster: 150, endpoints: 150, virtualHost: 300 } as const
/** At each push of virtual hosts Envoy's main thread builds the whole route table anew. */
const ROUTE_INTERVAL_MIN_MS = 100
/** The pause between pushes, as a multiple of the time that Envoy took for the last one: pushes take at most a fifth of its time. */
const ROUTE_INTERVAL_PER_ACK = 5
/** The longest pause. Without it, a machine that slept for an hour would delay the next push by five hours. */
const ROUTE_INTERVAL_MAX_MS = 10_000
/** No zone has this id: in Envoy's formats it means "no value". */
const NO_ID = '-'

/** Whether an Envoy routes a zone: yes (`held`), it refused (`refused`), or it has not acknowledged everything yet (`pending`). */
export type ZoneOnEnvoy = 'held' | 'refused' | 'pending'

/** What a request meant, and which zones of an earlier processor it mentioned. */
export interface RolloutEvent {
  readonly kind: Kind
  /** Whether it was the first request of this kind on its stream. */
  readonly first: boolean
  readonly received: Received<Resource>
  /** Zones that this Envoy has but the catalogue has not. */
  readonly found: readonly (ZoneRef & { readonly key: ZoneKey })[]
}

/**
 * Brings one Envoy from what it has to what the catalogue says, make-before-break ("Eventual consistency
 * considerations" of the xDS protocol). What this Envoy should have next depends on what it has acknowledged:
 *
 *   cluster ─► endpoints ─► virtual host         a zone is learned
 *   virtual host ─► (drain) ─► cluster           a zone is forgotten
 *
 * Pure: time comes in, responses go out.
 */
export class Rollout implements CatalogListener {
  readonly clusters: Subscription
  readonly endpoints: Subscription
  readonly virtualHosts: Subscription<VirtualHostResource>

  readonly #catalog: Catalog
  /** Clusters without a zone or a route → the time from which they may be removed. */
  readonly #draining = new Map<string, number>()
  /** Clusters that may be removed now. */
  readonly #drained = new Set<string>()
  /** Clusters that must not be changed or removed yet because this Envoy still has a route to them. */
  readonly #routed = new Set<string>()
  /** Virtual hosts with a domain that another virtual host still has on this Envoy. */
  readonly #waiting = new Set<string>()
  /** Shared virtual hosts that this Envoy refused. Each of their ids gets its own, so that a bad one does not affect the others. */
  readonly #apart = new Set<string>()
  #nowMs = 0
  #routesSentAtMs = Number.NEGATIVE_INFINITY
  #routesAckMs = 0

  constructor(catalog: Catalog) {
    this.#catalog = catalog
    const subscription = <R extends Resource>(kind: Kind, offer: Offer<R>): Subscription<R> =>
      new Subscription(TYPE_URLS[kind], offer, RESOURCES_PER_RESPONSE_MAX[kind])
    this.clusters = subscription('cluster', {
      names: () => catalog.clusterNames(),
      desired: (name) => this.#cluster(name),
    })
    this.endpoints = subscription('endpoints', {
      names: () => catalog.keys(),
      desired: (name, asked) => this.#endpoints(name, asked),
    })
    this.virtualHosts = subscription('virtualHost', {
      names: () => catalog.virtualHostNames(),
      desired: (name) => this.#virtualHost(name),
      sizeOf: (name) => catalog.sizeOf(name),
      noneOf: () => catalog.virtualHostName({ service: '', id: NO_ID }),
    })
  }

  mark(kind: Kind, name: string): void {
    this.subscription(kind).mark(name)
  }

  markAll(): void {
    this.clusters.markAll()
    this.virtualHosts.markAll()
  }

  forgetRefusals(): void {
    for (const kind of KINDS) this.subscription(kind).forgetRefusals()
    for (const name of this.#apart) this.#markShare(name)
    this.#apart.clear()
  }

  /** Takes a request, or the first part of one. @returns undefined for a resource type that isn't served here */
  receive(request: DeltaDiscoveryRequest, nowMs: number): RolloutEvent | undefined {
    const kind = kindOf(request.type_url)
    if (kind === undefined) return undefined
    const first = !this.subscription(kind).started
    const received = this.subscription(kind).receive(request, nowMs)
    if (received.kind === 'ack') {
      if (kind === 'cluster') this.#clustersRemoved(received.removed)
      if (kind !== 'virtualHost') this.#markRoutesTo(received.updated)
    }
    if (kind === 'virtualHost' && received.kind !== 'request') {
      this.#routesAckMs = nowMs - this.#routesSentAtMs
      for (const name of this.#routed) this.clusters.mark(name)
      for (const name of this.#waiting) this.virtualHosts.mark(name)
      this.#waiting.clear()
    }
    if (received.kind === 'nack' && received.atFault?.again === true)
      this.#setApart(received.atFault.resource.name)
    // After a reconnect, virtual hosts wait until the Envoy has said which clusters and endpoints it has.
    if (kind !== 'virtualHost' && first) this.virtualHosts.markAll()
    return { kind, first, received, found: this.#foundBy(kind, first, request) }
  }

  /** Takes a further part of a request. Don't call `next` before the last part. */
  receiveMore(request: DeltaDiscoveryRequest, { kind, first }: RolloutEvent): RolloutEvent['found'] {
    this.subscription(kind).receiveMore(request, first)
    return this.#foundBy(kind, first, request)
  }

  /** The responses to send now, in order. Call it after each request, after changes, and at `wakeAtMs`. */
  next(nowMs: number): DeltaResponse[] {
    this.#nowMs = nowMs
    this.#endDrains(nowMs)
    // Clusters and virtual hosts are never in flight together: the time that Envoy needs for clusters would count as time for
    // its route table.
    const routes = this.#routesAreDue(nowMs) ? this.virtualHosts.next(nowMs) : undefined
    if (routes !== undefined) this.#routesSentAtMs = nowMs
    const clusters = this.virtualHosts.inFlight ? undefined : this.clusters.next(nowMs)
    // "Resource warming": Envoy takes over a changed cluster, and acknowledges it, only when endpoints follow it.
    for (const { name } of clusters?.updated ?? []) this.endpoints.resend(name)
    return [clusters, this.endpoints.next(nowMs), routes].filter((response) => response !== undefined)
  }

  /** When `next` may have something to send although no request came and nothing changed; undefined: never. */
  wakeAtMs(): number | undefined {
    let atMs = Number.POSITIVE_INFINITY
    for (const drainedAtMs of this.#draining.values()) atMs = Math.min(atMs, drainedAtMs)
    // A kind with a response in flight needs no timer: the caller asks again when the answer comes.
    if (!this.endpoints.inFlight) atMs = Math.min(atMs, this.endpoints.wakeAtMs())
    if (!this.clusters.inFlight && !this.virtualHosts.inFlight) {
      atMs = Math.min(atMs, this.clusters.wakeAtMs())
      atMs = Math.min(atMs, Math.max(this.virtualHosts.wakeAtMs(), this.#routesDueAtMs()))
    }
    return atMs === Number.POSITIVE_INFINITY ? undefined : atMs
  }

  #routesAreDue(nowMs: number): boolean {
    return !this.clusters.inFlight && nowMs >= this.#routesDueAtMs()
  }

  #routesDueAtMs(): number {
    const intervalMs = Math.max(ROUTE_INTERVAL_MIN_MS, this.#routesAckMs * ROUTE_INTERVAL_PER_ACK)
    return this.#routesSentAtMs + Math.min(intervalMs, ROUTE_INTERVAL_MAX_MS)
  }

  /** What this Envoy has of a zone of the catalogue. */
  stateOf({ service, id }: ZoneRef): ZoneOnEnvoy {
    const key = zoneKey(service, id)
    const host = this.#catalog.hostOf({ service, id })
    const virtualHost = this.#hosts.nameOf(host)
    const share = this.#hosts.shareOf(host)
    // Unknown if the virtual host came on an earlier stream.
    const services = this.virtualHosts.held.get(virtualHost)?.resource?.services
    if (this.virtualHosts.holds(virtualHost) && (services?.has(service) ?? this.clusters.holds(key)))
      return 'held'
    if (
      this.virtualHosts.holds(share) &&
      this.#catalog.sharesService(host, service) &&
      this.#mayRoute(share, host)
    )
      return 'held'
    const refused =
      this.clusters.refuses(key) || this.endpoints.refuses(key) || this.virtualHosts.refuses(virtualHost)
    return refused ? 'refused' : 'pending'
  }

  get #hosts(): VirtualHosts {
    return this.#catalog.virtualHosts
  }

  // What this Envoy should have under a name now.

  #cluster(name: string): Desired<Resource> {
    const zone = this.#catalog.zone(name)
    if (zone !== undefined) {
      this.#stay(name)
      // Envoy would wait for the endpoints of a new or changed cluster, and there are none to send yet.
      if (zone.known === undefined) return 'later'
      const cluster = this.#catalog.cluster(zone)
      // New endpoints reach the old cluster, too: for a moment requests could go in plain text to a TLS port. So a cluster changes
      // between plain text and TLS only once no route leads to it.
      const held = this.clusters.held.get(name)
      if (held !== undefined && !isReachedAlike(held, cluster) && this.#isRouted(name)) {
        this.#routed.add(name)
        return 'later'
      }
      return cluster
    }
    const { coldClusters, namesCluster } = this.#catalog
    const cold = coldClusters.get(name)
    if (cold !== undefined) {
      this.#stay(name)
      return cold
    }
    if (namesCluster?.name === name) return namesCluster
    if (!this.#hasCluster(name)) return 'absent'
    // A cluster of the cold path, whose file can't be read now: the Envoy keeps it.
    if (coldClusters.size === 0 && !name.includes('/')) return 'later'
    // "Stale CDS clusters ... can then be removed": once no route leads there and no request that used one is left.
    if (this.#isRouted(name)) {
      this.#routed.add(name)
      return 'later'
    }
    this.#routed.delete(name)
    if (this.#drained.has(name)) return 'absent'
    if (!this.#draining.has(name)) this.#draining.set(name, this.#nowMs + this.#catalog.drainMs)
    return 'later'
  }

  #endpoints(name: string, asked: boolean): Desired<Resource> {
    const zone = this.#catalog.zone(name)
    if (zone !== undefined) {
      const sent = this.clusters.inFlightOf(name) ?? this.clusters.held.get(name)
      const isOthers = sent !== undefined && !isReachedAlike(sent, this.#catalog.cluster(zone))
      return isOthers ? 'later' : (zone.known?.resource ?? 'later')
    }
    // The cluster of a forgotten zone keeps its endpoints while it drains. But if Envoy asks for them, it is warming the cluster
    // and takes no other one before it has an answer.
    return asked || !this.#hasCluster(name) ? 'absent' : 'later'
  }

  /** True once this Envoy has accepted the proof and the cold clusters, and if it does not subscribe to virtual hosts at all. */
  get accepts(): boolean {
    const { proof, coldClusters } = this.#catalog
    const hasClusters = [...coldClusters.values()].every(
      ({ name, version }) => this.clusters.held.get(name)?.version === version,
    )
    const hasProof = [...proof.values()].every(
      ({ name, version }) => this.virtualHosts.held.get(name)?.version === version,
    )
    const hasPinned =
      proof.size > 0 && [...this.virtualHosts.held.keys()].some((name) => this.#isPinned(name))
    return !this.virtualHosts.started || (hasClusters && hasProof && !hasPinned)
  }

  #virtualHost(name: string): Desired<VirtualHostResource> {
    const proof = this.#catalog.proof.get(name)
    if (proof !== undefined) return proof
    if (this.#hosts.isShared(name)) return this.#sharedVirtualHost(name)
    const ready = this.#ready(name)
    if (typeof ready === 'string') return ready
    const { host, services } = ready
    const share = this.#hosts.shareOf(host)
    if (this.#catalog.mayShare(host, services) && !this.#apart.has(share)) return 'absent'
    // Envoy refuses two virtual hosts with the same domain.
    if (this.#mayRoute(share, host)) {
      this.#waiting.add(name)
      return 'later'
    }
    return this.#hosts.resource(host, services)
  }

  /** The services of an id that this Envoy can route to now. */
  #ready(name: string): { host: HostKey; services: ReadonlySet<string> } | 'absent' | 'later' {
    const learned = this.#catalog.learnedOf(name)
    if (learned === undefined || this.#catalog.pinOfHost(learned.host) !== undefined) return 'absent'
    if (!this.clusters.started) return 'later'
    const services = new Set<string>()
    for (const service of learned.services) {
      if (this.#catalog.answerOf(learned.host, service) !== undefined) {
        services.add(service)
        continue
      }
      const key = zoneKey(service, learned.id)
      if (!this.clusters.holds(key) || this.#isReachedOtherwise(key)) continue
      // After a reconnect: the request that says which endpoints the Envoy has is yet to come.
      if (!this.endpoints.started) return 'later'
      if (this.endpoints.holds(key)) services.add(service)
    }
    return services.size === 0 ? 'absent' : { host: learned.host, services }
  }

  #sharedVirtualHost(name: string): Desired<VirtualHostResource> {
    if (this.#apart.has(name)) return 'absent'
    const hosts: HostKey[] = []
    for (const host of this.#catalog.hostsOfShare(name)) {
      const own = this.#hosts.nameOf(host)
      const ready = this.#ready(own)
      if (ready === 'later') return 'later'
      if (ready === 'absent' || !this.#catalog.mayShare(host, ready.services)) continue
      if (this.virtualHosts.held.has(own) || this.virtualHosts.isInFlight(own)) this.#waiting.add(name)
      else hosts.push(host)
    }
    return hosts.length === 0 ? 'absent' : this.#hosts.shared(name, hosts)
  }

  /** True if a shared virtual host that this Envoy has, or is being sent, may have the routes of an id. */
  #mayRoute(share: string, host: HostKey): boolean {
    if (this.virtualHosts.inFlightOf(share)?.hosts?.has(host) === true) return true
    const held = this.virtualHosts.held.get(share)
    return held !== undefined && (this.#hostsHeld(share)?.has(host) ?? true)
  }

  /** Undefined if an earlier processor sent a version with other ids, which are unknown here. */
  #hostsHeld(share: string): ReadonlySet<HostKey> | undefined {
    const held = this.virtualHosts.held.get(share)
    if (held?.resource !== undefined) return held.resource.hosts
    const desired = this.#sharedVirtualHost(share)
    if (typeof desired !== 'object' || desired.version !== held?.version) return undefined
    this.virtualHosts.held.set(share, { version: held.version, resource: desired })
    return desired.hosts
  }

  #isPinned(virtualHost: string): boolean {
    if (!this.#hosts.isShared(virtualHost)) return this.#catalog.isPinned(virtualHost)
    const hosts = this.#hostsHeld(virtualHost) ?? this.#catalog.hostsOfShare(virtualHost)
    return [...hosts].some((host) => this.#catalog.pinOfHost(host) !== undefined)
  }

  #setApart(name: string): void {
    if (!this.#hosts.isShared(name) || this.#apart.has(name)) return
    this.#apart.add(name)
    this.#markShare(name)
  }

  #markShare(name: string): void {
    this.virtualHosts.mark(name)
    for (const host of this.#catalog.hostsOfShare(name)) this.virtualHosts.mark(this.#hosts.nameOf(host))
  }

  /** True if this Envoy's cluster for the zone uses another protocol (TLS, HTTP/2). Routes to it go before it changes. */
  #isReachedOtherwise(key: string): boolean {
    const zone = this.#catalog.zone(key)
    const held = this.clusters.held.get(key)
    return zone !== undefined && held !== undefined && !isReachedAlike(held, this.#catalog.cluster(zone))
  }

  #hasCluster(name: string): boolean {
    return this.clusters.held.has(name) || this.clusters.isInFlight(name)
  }

  /** True if a virtual host that this Envoy has, or is being sent, may lead to the cluster. */
  #isRouted(name: string): boolean {
    const zone = parseZoneKey(name)
    if (zone === undefined) return false
    const virtualHost = this.#catalog.virtualHostName(zone)
    if (this.virtualHosts.isInFlight(virtualHost)) return true
    const host = this.#catalog.hostOf(zone)
    if (this.#catalog.sharesService(host, zone.service) && this.#mayRoute(this.#hosts.shareOf(host), host))
      return true
    const held = this.virtualHosts.held.get(virtualHost)
    if (held === undefined) return false
    const services = held.resource?.services ?? this.#servicesOfVersion(virtualHost, held.version)
    return services?.has(zone.service) ?? true
  }

  /** A virtual host from an earlier stream is recognised by its version if the same one would be sent now. */
  #servicesOfVersion(virtualHost: string, version: string): ReadonlySet<string> | undefined {
    const desired = this.#virtualHost(virtualHost)
    return typeof desired === 'object' && desired.version === version ? desired.services : undefined
  }

  // What follows from an acknowledgement.

  #clustersRemoved(removed: readonly string[]): void {
    for (const name of removed) {
      this.#stay(name)
      // Envoy dropped the endpoints with the cluster: if the zone comes back, it needs them again.
      this.endpoints.forget(name)
    }
  }

  /** Call it for clusters and for endpoints, because an Envoy acknowledges the two in either order. */
  #markRoutesTo(clusters: readonly Resource[]): void {
    for (const { name } of clusters) {
      const zone = this.#catalog.zone(name)
      if (zone === undefined) continue
      const host = this.#catalog.hostOf(zone)
      this.virtualHosts.mark(this.#hosts.nameOf(host))
      if (this.#catalog.sharesRoutes(host)) this.virtualHosts.mark(this.#hosts.shareOf(host))
    }
  }

  #endDrains(nowMs: number): void {
    for (const [name, atMs] of this.#draining) {
      if (atMs > nowMs) continue
      this.#draining.delete(name)
      this.#drained.add(name)
      this.clusters.mark(name)
    }
  }

  #stay(name: string): void {
    this.#routed.delete(name)
    this.#draining.delete(name)
    this.#drained.delete(name)
  }

  #foundBy(kind: Kind, first: boolean, request: DeltaDiscoveryRequest): RolloutEvent['found'] {
    if (kind !== 'cluster' || !first) return []
    const found: RolloutEvent['found'][number][] = []
    for (const name of Object.keys(request.initial_resource_versions ?? {})) {
      if (!this.clusters.held.has(name) || this.#catalog.zone(name) !== undefined) continue
      const zone = parseZoneKey(name)
      if (zone !== undefined && this.#catalog.serves(zone.service)) found.push(zone)
    }
    return found
  }

  subscription(kind: Kind): Subscription | Subscription<VirtualHostResource> {
    return kind === 'cluster' ? this.clusters : kind === 'endpoints' ? this.endpoints : this.virtualHosts
  }
}
