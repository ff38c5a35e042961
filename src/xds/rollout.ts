import type { DeltaDiscoveryRequest } from '../grpc/protos.ts'
import type { Catalog } from './catalog.ts'
import type { DeltaResponse } from './delta-response.ts'
import {
  type Kind,
  kindOf,
  parseZoneKey,
  type Resource,
  TYPE_URLS,
  type ZoneKey,
  zoneKey,
} from './resource.ts'
import { type Desired, type Offer, type Received, Subscription } from './subscription.ts'
import type { VirtualHostResource } from './virtual-host.ts'

/**
 * Keeps the making of one response, which holds the event loop, within a few milliseconds, also in a process that has just
 * started. Of virtual hosts there are more, since each push of them costs Envoy a new route table.
 */
const RESOURCES_PER_RESPONSE_MAX = { cluster: 150, endpoints: 150, virtualHost: 300 } as const
/** Envoy builds its whole route table anew at each push of virtual hosts, in its main thread. */
const ROUTE_INTERVAL_MIN_MS = 100
/** So that this work takes a fifth of that thread's time at most, however large the table is. */
const ROUTE_INTERVAL_PER_ACK = 5
/** So that one acknowledgement that a stopped machine held up for an hour doesn't hold up the next push for five. */
const ROUTE_INTERVAL_MAX_MS = 10_000
/** What a missing id reads as in Envoy's formats, so no zone has it. */
const NO_ID = '-'

export interface RolloutOptions {
  /** How long a cluster outlives its last route: requests under way may still have to be tried again. */
  drainMs(): number
}

/** What a request meant, and what it told of an earlier processor's zones. */
export interface RolloutEvent {
  readonly kind: Kind
  readonly received: Received<Resource>
  /** Zones that this Envoy has and the catalogue hasn't. */
  readonly found: readonly { readonly service: string; readonly id: string; readonly key: ZoneKey }[]
}

/**
 * Brings one Envoy from what it has to what the catalogue says, make-before-break ("Eventual consistency
 * considerations" of the xDS protocol). What is desired of a name depends on what this Envoy has acknowledged:
 *
 *   cluster ─► endpoints ─► virtual host         a zone is learned
 *   virtual host ─► (drain) ─► cluster           a zone is forgotten
 *
 * Pure: time comes in, responses go out.
 */
export class Rollout {
  readonly clusters: Subscription
  readonly endpoints: Subscription
  readonly virtualHosts: Subscription<VirtualHostResource>

  readonly #catalog: Catalog
  readonly #options: RolloutOptions
  /** Clusters without a zone or a route, by the moment at which they may go. */
  readonly #draining = new Map<string, number>()
  /** Clusters whose moment has come. */
  readonly #drained = new Set<string>()
  /** Clusters without a zone to which this Envoy still has a route. */
  readonly #routed = new Set<string>()
  #nowMs = 0
  #routesSentAtMs = Number.NEGATIVE_INFINITY
  #routesAckMs = 0

  constructor(catalog: Catalog, options: RolloutOptions) {
    this.#catalog = catalog
    this.#options = options
    const subscription = <R extends Resource>(kind: Kind, offer: Offer<R>): Subscription<R> =>
      new Subscription(TYPE_URLS[kind], offer, RESOURCES_PER_RESPONSE_MAX[kind])
    this.clusters = subscription('cluster', {
      names: () => catalog.keys(),
      desired: (name) => this.#cluster(name),
    })
    this.endpoints = subscription('endpoints', {
      names: () => catalog.keys(),
      desired: (name, asked) => this.#endpoints(name, asked),
    })
    this.virtualHosts = subscription('virtualHost', {
      names: () => catalog.virtualHostNames(),
      desired: (name) => this.#virtualHost(name),
      noneOf: () => catalog.virtualHostName(NO_ID),
    })
  }

  /** Says that the catalogue has changed. */
  mark(kind: Kind, name: string): void {
    this.subscription(kind).mark(name)
  }

  /** Takes a request. @returns undefined for a type that isn't served here */
  receive(request: DeltaDiscoveryRequest, nowMs: number): RolloutEvent | undefined {
    const kind = kindOf(request.type_url)
    if (kind === undefined) return undefined
    const first = !this.subscription(kind).started
    const received = this.subscription(kind).receive(request)
    if (received.kind === 'ack') {
      if (kind === 'cluster') this.#clustersRemoved(received.removed)
      if (kind !== 'virtualHost') this.#markRoutesTo(received.updated)
    }
    if (kind === 'virtualHost' && received.kind !== 'request') {
      this.#routesAckMs = nowMs - this.#routesSentAtMs
      for (const name of this.#routed) this.clusters.mark(name)
    }
    // Virtual hosts wait until it is known which clusters and endpoints a reconnected Envoy has.
    if (kind !== 'virtualHost' && first) this.#markVirtualHosts()
    return { kind, received, found: kind === 'cluster' && first ? this.#unknownZones() : [] }
  }

  /** The responses to send now, in order. Call it after each request, after changes, and at `wakeAtMs`. */
  next(nowMs: number): DeltaResponse[] {
    this.#nowMs = nowMs
    this.#endDrains(nowMs)
    // Clusters and virtual hosts take turns: a large push of the ones would pass for a slow table of the others.
    const routes = this.#routesAreDue(nowMs) ? this.virtualHosts.next() : undefined
    if (routes !== undefined) this.#routesSentAtMs = nowMs
    const clusters = this.virtualHosts.inFlight ? undefined : this.clusters.next()
    // "Resource warming": Envoy takes over a changed cluster, and acknowledges it, only when endpoints follow it.
    for (const { name } of clusters?.updated ?? []) this.endpoints.resend(name)
    return [clusters, this.endpoints.next(), routes].filter((response) => response !== undefined)
  }

  /** When `next` may have something that it hasn't now, without a request or a change. */
  wakeAtMs(): number | undefined {
    let atMs = Number.POSITIVE_INFINITY
    for (const drainedAtMs of this.#draining.values()) atMs = Math.min(atMs, drainedAtMs)
    if (this.virtualHosts.pending && !this.virtualHosts.inFlight && !this.clusters.inFlight)
      atMs = Math.min(atMs, this.#routesDueAtMs())
    return atMs === Number.POSITIVE_INFINITY ? undefined : atMs
  }

  #routesAreDue(nowMs: number): boolean {
    return !this.clusters.inFlight && nowMs >= this.#routesDueAtMs()
  }

  #routesDueAtMs(): number {
    const intervalMs = Math.max(ROUTE_INTERVAL_MIN_MS, this.#routesAckMs * ROUTE_INTERVAL_PER_ACK)
    return this.#routesSentAtMs + Math.min(intervalMs, ROUTE_INTERVAL_MAX_MS)
  }

  // Stages: what is desired of a name on this Envoy, as things are.

  #cluster(name: string): Desired<Resource> {
    const zone = this.#catalog.zone(name)
    if (zone !== undefined) {
      this.#stay(name)
      // Envoy warms a new or changed cluster until its endpoints are sent: without any it would wait.
      return zone.known === undefined ? 'later' : zone.cluster
    }
    if (!this.#hasCluster(name)) return 'absent'
    // "Stale CDS clusters ... can then be removed": when no route is left, and no request that came over one.
    if (this.#isRouted(name)) {
      this.#routed.add(name)
      return 'later'
    }
    this.#routed.delete(name)
    if (this.#drained.has(name)) return 'absent'
    if (!this.#draining.has(name)) this.#draining.set(name, this.#nowMs + this.#options.drainMs())
    return 'later'
  }

  #endpoints(name: string, asked: boolean): Desired<Resource> {
    const zone = this.#catalog.zone(name)
    if (zone !== undefined) return zone.known?.resource ?? 'later'
    // The cluster of a forgotten zone keeps its endpoints while it drains. But one that is being warmed waits for an
    // answer, and Envoy takes no other cluster before.
    return asked || !this.#hasCluster(name) ? 'absent' : 'later'
  }

  #virtualHost(name: string): Desired<VirtualHostResource> {
    const learned = this.#catalog.learnedOf(name)
    if (learned === undefined) return 'absent'
    if (!this.clusters.started) return 'later'
    const ready = new Set<string>()
    for (const service of learned.services) {
      const key = zoneKey(service, learned.id)
      if (!this.clusters.holds(key)) continue
      // After a reconnect: what it has of the endpoints is in a request that is yet to come.
      if (!this.endpoints.started) return 'later'
      if (this.endpoints.holds(key)) ready.add(service)
    }
    return ready.size === 0 ? 'absent' : this.#catalog.virtualHost(learned.id, ready)
  }

  #hasCluster(name: string): boolean {
    return this.clusters.held.has(name) || this.clusters.isInFlight(name)
  }

  /** True where a virtual host that this Envoy has, or is being sent, may lead to the cluster. */
  #isRouted(name: string): boolean {
    const zone = parseZoneKey(name)
    if (zone === undefined) return false
    const virtualHost = this.#catalog.virtualHostName(zone.id)
    if (this.virtualHosts.isInFlight(virtualHost)) return true
    const held = this.virtualHosts.held.get(virtualHost)
    if (held === undefined) return false
    const services = held.resource?.services ?? this.#servicesOfVersion(virtualHost, held.version)
    return services?.has(zone.service) ?? true
  }

  /** A virtual host from an earlier stream is known by its version, if it is the one that would be sent now. */
  #servicesOfVersion(virtualHost: string, version: string): ReadonlySet<string> | undefined {
    const desired = this.#virtualHost(virtualHost)
    return typeof desired === 'object' && desired.version === version ? desired.services : undefined
  }

  // What an acknowledgement sets going.

  #clustersRemoved(removed: readonly string[]): void {
    for (const name of removed) {
      this.#stay(name)
      // Should the zone come back, its endpoints are those of another cluster.
      this.endpoints.forget(name)
    }
  }

  /** An Envoy acknowledges a new cluster and its endpoints in either order. */
  #markRoutesTo(clusters: readonly Resource[]): void {
    for (const { name } of clusters) {
      const zone = this.#catalog.zone(name)
      if (zone !== undefined) this.virtualHosts.mark(this.#catalog.virtualHostName(zone.id))
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

  #markVirtualHosts(): void {
    for (const name of this.virtualHosts.held.keys()) this.virtualHosts.mark(name)
    for (const name of this.#catalog.virtualHostNames()) this.virtualHosts.mark(name)
  }

  #unknownZones(): RolloutEvent['found'] {
    const found: RolloutEvent['found'][number][] = []
    for (const name of this.clusters.held.keys()) {
      const zone = this.#catalog.zone(name) === undefined ? parseZoneKey(name) : undefined
      if (zone !== undefined && this.#catalog.serves(zone.service)) found.push(zone)
    }
    return found
  }

  subscription(kind: Kind): Subscription | Subscription<VirtualHostResource> {
    return kind === 'cluster' ? this.clusters : kind === 'endpoints' ? this.endpoints : this.virtualHosts
  }
}
