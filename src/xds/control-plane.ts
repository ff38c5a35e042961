import type { ServiceDefinition, UntypedServiceImplementation } from '@grpc/grpc-js'
import { loadReporting } from '../grpc/protos.ts'
import { AdsService, adsDefinition, type EnvoyStatus, type Log } from './ads-service.ts'
import { Catalog, type LearnedZone, type ZonePolicy } from './catalog.ts'
import { millisecondsOf } from './duration.ts'
import { LoadReportService, type ZoneLoad } from './load-report-service.ts'
import type { ZoneKey } from './resource.ts'
import type { Timers } from './timers.ts'
import { FORWARD, type RoutingRules } from './virtual-host.ts'

/** Envoy's control plane, as those who know the zones see it. */
export interface ControlPlane {
  /** Gives all Envoys a zone, or its newer addresses. Cheap where nothing has changed: call it at every refresh. */
  publish(zone: LearnedZone): void
  /** Takes a zone back: its requests ask the processor again. */
  withdraw(key: ZoneKey): void
  setPolicy(policy: ZonePolicy, rules: RoutingRules): void
  /** Every zone that is published, or found and not yet withdrawn. */
  zones(): Iterable<ZoneKey>
  status(): ControlPlaneStatus
  /** Ends the streams of all Envoys, which go on with what they have. */
  close(): void
  /** For the gRPC server. */
  readonly services: readonly (readonly [ServiceDefinition, UntypedServiceImplementation])[]
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
}

export interface ControlPlaneOptions {
  readonly policy: ZonePolicy
  readonly rules: RoutingRules
  readonly events: ControlPlaneEvents
  readonly timers: Timers
  readonly log: Log
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
  })
  const loads = new LoadReportService({
    intervalMs: options.loadReportIntervalMs,
    onLoad: events.onLoad,
    onBug: (error) => log.error({ err: error }, "an Envoy's stream of load reports failed"),
  })
  return {
    publish: (zone) => catalog.publish(zone, timers.now()),
    withdraw: (key) => catalog.withdraw(key),
    setPolicy(next, rules) {
      policy = next
      catalog.setPolicy(next, rules)
    },
    zones: () => catalog.keys(),
    status: () => ({ zones: catalog.size, envoys: ads.status() }),
    close() {
      ads.close()
      loads.close()
    },
    services: [
      [adsDefinition, { DeltaAggregatedResources: ads.handle }],
      [loadReporting, { StreamLoadStats: loads.handle }],
    ],
  }
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
