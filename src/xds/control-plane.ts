import type { EventEmitter } from 'node:events'
import { status } from '@grpc/grpc-js'
import type { Service } from '../grpc/server.ts'
import type { OnBug } from '../guard.ts'
import { AdsService, adsDefinition } from './ads-service.ts'
import { Catalog, type ZonePolicy } from './catalog.ts'
import type { AdsOptions, EnvoyEvents, EnvoyStatus } from './envoy-stream.ts'
import { type LoadReportOptions, LoadReportService, loadReportDefinition } from './load-report-service.ts'
import type { RoutingRules } from './routing-rules.ts'

/** Envoy's control plane. */
export interface ControlPlane {
  /** What every Envoy should have. A change reaches all Envoys. */
  readonly catalog: Catalog
  /** The streams of the Envoys. */
  readonly ads: AdsService
  readonly loads: LoadReportService
  status(): ControlPlaneStatus
  /** Ends the streams of all Envoys. They keep what they have. */
  close(): void
}

export interface ControlPlaneStatus {
  readonly zones: number
  readonly envoys: readonly EnvoyStatus[]
}

export interface ControlPlaneEvents extends EnvoyEvents, Pick<LoadReportOptions, 'onLoad'> {}

export interface ControlPlaneOptions extends Pick<AdsOptions, 'timers' | 'log' | 'isTestedVersion'> {
  readonly policy: ZonePolicy
  readonly rules: RoutingRules
  readonly events: ControlPlaneEvents
  /** Hears of an exception, which is a bug, in an Envoy's ADS stream or in that of its load reports. */
  readonly onBug: (place: 'envoy' | 'load_report') => OnBug
  /** Unique for each process: it makes versions of endpoints differ from those of earlier ones. */
  readonly epoch: string
  readonly loadReportIntervalMs: number
}

export function createControlPlane(options: ControlPlaneOptions): ControlPlane {
  const { policy, rules, epoch, events, timers, log, isTestedVersion, onBug } = options
  const catalog = new Catalog(policy, rules, epoch)
  const ads = new AdsService({ ...events, catalog, timers, log, isTestedVersion, onBug: onBug('envoy') })
  const loads = new LoadReportService({
    intervalMs: options.loadReportIntervalMs,
    timers,
    onLoad: events.onLoad,
    onBug: onBug('load_report'),
  })
  return {
    catalog,
    ads,
    loads,
    status: () => ({ zones: catalog.size, envoys: ads.status() }),
    close() {
      ads.close()
      loads.close()
    },
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
    [adsDefinition, { DeltaAggregatedResources: handled(({ ads }) => ads.handle) }],
    [loadReportDefinition, { StreamLoadStats: handled(({ loads }) => loads.handle) }],
  ]
}
