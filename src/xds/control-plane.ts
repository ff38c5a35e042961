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
import { LoadReportService, loadReportDefinition, type ZoneLoad } from './load-report-service.ts'
import type { RouteConfiguration } from './messages.ts'
import type { Kind, Resource, ZoneKey } from './resource.ts'
import { FORWARD, type RoutingRules } from './virtual-host.ts'

/** Envoy's control plane, as those who know the zones see it. */
export interface ControlPlane {
  /** Gives all Envoys a zone, or its newer addresses. Cheap where nothing has changed: call it at every refresh. */
  publish(zone: LearnedZone): void
  /** Has all Envoys answer a zone's requests by themselves, with what the rules say of it. */
  publishAnswered(zone: { readonly service: string; readonly id: string }): void
  /** Takes a zone back: its requests ask the processor again. */
  withdraw(key: ZoneKey): void
  setPolicy(policy: ZonePolicy, rules: RoutingRules): void
  /** Asks Envoys whether they accept a route configuration and the cold cluster. @param done undefined: they do */
  prove(configuration: RouteConfiguration, done: (fault: string | undefined) => void): void
  cancelProof(): void
  /** The virtual host of the operator's own that has a zone's requests: it isn't learned. */
  pinOf(zone: { readonly service: string; readonly id: string }): string | undefined
  /** What each connected Envoy has of a zone. */
  zoneOnEnvoys(zone: { readonly service: string; readonly id: string }): readonly EnvoyWithZone[]
  /** Gives all Envoys the clusters of the cold path. */
  setColdClusters(clusters: readonly Resource[]): void
  /** Gives all Envoys the cluster by which they resolve names themselves; undefined: takes it back. */
  setNamesCluster(cluster: Resource | undefined): void
  /** What Envoys refused may be acceptable now: a file that they read was saved. */
  retryRefused(): void
  /** Every zone that is published, or found and not yet withdrawn. */
  zones(): Iterable<ZoneKey>
  /** Request headers that all connected Envoys keep apart from others; undefined where none has connected. */
  inlineHeaders(): ReadonlySet<string> | undefined
  status(): ControlPlaneStatus
  /** Ends the streams of all Envoys, which go on with what they have. */
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

/** What the control plane tells. */
export interface ControlPlaneEvents {
  /**
   * An Envoy has zones that were published by an earlier processor. They stay as they are, with the addresses that the
   * Envoy has, until they are published or withdrawn.
   */
  onZonesFound(envoy: string, zones: readonly { service: string; id: string; key: ZoneKey }[]): void
  /** What an Envoy did for a zone in the last period; a zone without requests is reported too. */
  onLoad(envoy: string, key: ZoneKey, load: ZoneLoad): void
  /** An Envoy that has nothing yet has connected: it has just started. */
  onStarted?(): void
  /** An Envoy has connected: `inlineHeaders` may be others. */
  onIntroduced?(): void
  /** An Envoy has taken over what was pushed to it, or refused it. */
  onAnswer(kind: Kind, answer: 'acks' | 'nacks'): void
  /** What has become of an Envoy. */
  onEnvoy?(event: EnvoyEvent): void
}

export interface ControlPlaneOptions {
  readonly policy: ZonePolicy
  readonly rules: RoutingRules
  readonly events: ControlPlaneEvents
  readonly timers: Timers
  readonly log: Log
  /** Told of an exception in the stream of an Envoy, or in that of its load reports. */
  readonly onBug: (place: 'envoy' | 'load_report') => OnBug
  /** Whether this release is tested with an Envoy of that version. */
  readonly isTestedVersion: (version: string) => boolean
  /** Another one for each process: tells its versions of endpoints from those of earlier ones. */
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

/** Route timeouts that are off leave the idle timeout; Envoy's own default for that is 5 minutes. */
const DRAIN_MS_MAX = 300_000
/** Envoy's default for `timeout` of a RouteAction. */
const ROUTE_TIMEOUT_MS_DEFAULT = 15_000

/** A route timeout: as long as a request that came over a withdrawn route may still have to be tried again. */
function drainMs({ routes }: ZonePolicy): number {
  const action = routes.coldRoutes.find(({ name }) => name === FORWARD)?.route
  if (action?.timeout === undefined) return ROUTE_TIMEOUT_MS_DEFAULT
  const timeoutMs = millisecondsOf(action.timeout)
  if (timeoutMs > 0) return Math.min(timeoutMs, DRAIN_MS_MAX)
  const idleMs = action.idle_timeout === undefined ? 0 : millisecondsOf(action.idle_timeout)
  return idleMs > 0 ? Math.min(idleMs, DRAIN_MS_MAX) : DRAIN_MS_MAX
}
