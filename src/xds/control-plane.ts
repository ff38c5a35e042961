import type { EventEmitter } from 'node:events'
import { status } from '@grpc/grpc-js'
import type { Service } from '../grpc/server.ts'
import type { OnBug } from '../guard.ts'
import type { Timers } from '../timers.ts'
import {
  AdsService,
  adsDefinition,
  type EnvoyEvent,
  type EnvoyStatus,
  type EnvoyWithZone,
  type Log,
} from './ads-service.ts'
import { Catalog, type LearnedZone, type ZonePolicy } from './catalog.ts'
import { millisecondsOf } from './duration.ts'
import { FORWARD } from './learned-routes.ts'
import { LoadReportService, loadReportDefinition, type ZoneLoad } from './load-report-service.ts'
import type { RouteConfiguration } from './messages.ts'
import type { Kind, Resource, ZoneKey, ZoneRef } from './resource.ts'
import type { RoutingRules } from './routing-rules.ts'

/** Envoy's control plane. */
export interface ControlPlane {
  /** Gives all Envoys a zone, or its new addresses. Cheap if nothing has changed, so call it at every refresh. */
  publish(zone: LearnedZone): void
  /** Has all Envoys answer a zone's requests themselves, as its rules say (maintenance). */
  publishAnswered(zone: ZoneRef): void
  /** Removes a zone from all Envoys: its requests ask the processor again. */
  withdraw(key: ZoneKey): void
  setPolicy(policy: ZonePolicy, rules: RoutingRules): void
  /** Asks Envoys whether they accept a route configuration and the cold clusters. @param done gets their error text; undefined: they accept */
  prove(configuration: RouteConfiguration, done: (fault: string | undefined) => void): void
  cancelProof(): void
  /** The operator's virtual host that gets a zone's requests, so that the zone isn't learned; undefined: none does. */
  pinOf(zone: ZoneRef): string | undefined
  /** What each connected Envoy has of a zone. */
  zoneOnEnvoys(zone: ZoneRef): readonly EnvoyWithZone[]
  /** Gives all Envoys the clusters of the cold path. */
  setColdClusters(clusters: readonly Resource[]): void
  /** Gives all Envoys the cluster with which they resolve names themselves. @param cluster undefined: removes it */
  setNamesCluster(cluster: Resource | undefined): void
  /** Call it when a file that Envoys read was saved: they may accept what they refused before. */
  retryRefused(): void
  /** Every zone that was published or found, and not withdrawn since. */
  zones(): Iterable<ZoneKey>
  /** The inline headers that all connected Envoys have; undefined if none is connected. */
  inlineHeaders(): ReadonlySet<string> | undefined
  status(): ControlPlaneStatus
  /** Ends the streams of all Envoys. They keep what they have. */
  close(): void
  /** Handles one stream of the aggregated discovery service. */
  readonly handleDiscovery: AdsService['handle']
  /** Handles one stream of the load reporting service. */
  readonly handleLoadReports: LoadReportService['handle']
}

export interface ControlPlaneStatus {
  readonly zones: number
  readonly envoys: readonly EnvoyStatus[]
}

/** What the control plane reports. */
export interface ControlPlaneEvents {
  /** An Envoy has zones from an earlier processor. It keeps them, with their addresses, until they are published or withdrawn. */
  onZonesFound(envoy: string, zones: readonly (ZoneRef & { key: ZoneKey })[]): void
  /** What an Envoy did for a zone in the last period. Zones without requests are reported, too. */
  onLoad(envoy: string, key: ZoneKey, load: ZoneLoad): void
  /** An Envoy without any resources has connected: it has just started. */
  onStarted?(): void
  /** An Envoy has connected: `inlineHeaders` may have changed. */
  onIntroduced?(): void
  /** An Envoy has accepted or refused a push. */
  onAnswer(kind: Kind, answer: 'acks' | 'nacks'): void
  /** An Envoy connected, disconnected or refused something. */
  onEnvoy?(event: EnvoyEvent): void
}

export interface ControlPlaneOptions {
  readonly policy: ZonePolicy
  readonly rules: RoutingRules
  readonly events: ControlPlaneEvents
  readonly timers: Timers
  readonly log: Log
  /** Hears of an exception, which is a bug, in an Envoy's ADS stream or in that of its load reports. */
  readonly onBug: (place: 'envoy' | 'load_report') => OnBug
  /** Whether this release is tested with an Envoy of that version. */
  readonly isTestedVersion: (version: string) => boolean
  /** Unique for each process: it makes versions of endpoints differ from those of earlier ones. */
  readonly epoch: string
  readonly loadReportIntervalMs: number
}

export function createControlPlane(options: ControlPlaneOptions): ControlPlane {
  const { timers, events, log } = options
  let policy = options.policy
  const catalog = new Catalog(policy, options.rules, options.epoch)
  const ads = new AdsService({
    catalog,
    timers,
    log,
    isTestedVersion: options.isTestedVersion,
    drainMs: () => drainMs(policy),
    onZonesFound(envoy, zones) {
      for (const { service, id } of zones) catalog.adopt(service, id)
      events.onZonesFound(envoy, zones)
    },
    onStarted: () => events.onStarted?.(),
    onIntroduced: () => events.onIntroduced?.(),
    onAnswer: events.onAnswer,
    onEnvoy: (event) => events.onEnvoy?.(event),
    onBug: options.onBug('envoy'),
  })
  const loads = new LoadReportService({
    intervalMs: options.loadReportIntervalMs,
    timers,
    onLoad: events.onLoad,
    onBug: options.onBug('load_report'),
  })
  return {
    publish: (zone) => catalog.publish(zone, timers.now()),
    publishAnswered: ({ service, id }) => catalog.publishAnswered(service, id),
    withdraw: (key) => catalog.withdraw(key),
    setPolicy(next, rules) {
      policy = next
      catalog.setPolicy(next, rules)
    },
    prove: (configuration, done) => ads.prove(configuration, done),
    cancelProof: () => ads.cancelProof(),
    pinOf: (zone) => catalog.pinOf(zone),
    zoneOnEnvoys: (zone) => ads.zoneOnEnvoys(zone),
    setColdClusters: (clusters) => catalog.setColdClusters(clusters),
    setNamesCluster: (cluster) => catalog.setNamesCluster(cluster),
    retryRefused: () => catalog.retryRefused(),
    zones: () => catalog.keys(),
    inlineHeaders: () => ads.inlineHeaders(),
    status: () => ({ zones: catalog.size, envoys: ads.status() }),
    close() {
      ads.close()
      loads.close()
    },
    handleDiscovery: ads.handle,
    handleLoadReports: loads.handle,
  }
}

/**
 * The control plane's services, for a gRPC server that may start before it.
 * @param plane undefined: there is none yet, and its streams fail with UNAVAILABLE
 */
export function controlPlaneServices(plane: () => ControlPlane | undefined): readonly Service[] {
  const handled =
    <Call extends EventEmitter>(handlerOf: (plane: ControlPlane) => (call: Call) => void) =>
    (call: Call): void => {
      const current = plane()
      if (current !== undefined) handlerOf(current)(call)
      else call.emit('error', { code: status.UNAVAILABLE, details: "Envoy's files can't be read yet" })
    }
  return [
    [adsDefinition, { DeltaAggregatedResources: handled(({ handleDiscovery }) => handleDiscovery) }],
    [loadReportDefinition, { StreamLoadStats: handled(({ handleLoadReports }) => handleLoadReports) }],
  ]
}

/** The default of Envoy's idle timeout, which counts if the route timeout is off. */
const DRAIN_MS_MAX = 300_000
/** Envoy's default for `timeout` of a RouteAction. */
const ROUTE_TIMEOUT_MS_DEFAULT = 15_000

/** How long a request that used a withdrawn route may still need a retry: the route's timeout. */
function drainMs({ routes }: ZonePolicy): number {
  const action = routes.coldRoutes.find(({ name }) => name === FORWARD)?.route
  if (action?.timeout === undefined) return ROUTE_TIMEOUT_MS_DEFAULT
  const timeoutMs = millisecondsOf(action.timeout)
  if (timeoutMs > 0) return Math.min(timeoutMs, DRAIN_MS_MAX)
  const idleMs = action.idle_timeout === undefined ? 0 : millisecondsOf(action.idle_timeout)
  return idleMs > 0 ? Math.min(idleMs, DRAIN_MS_MAX) : DRAIN_MS_MAX
}
