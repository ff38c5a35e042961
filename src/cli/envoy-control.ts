import { randomUUID } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { type ServerDuplexStream, status, type UntypedHandleCall } from '@grpc/grpc-js'
import { ROUTES_FILE } from '../config/announce-routes.ts'
import { watchFileForChanges } from '../config/watch-file.ts'
import { nodeTimers } from '../dns/timers.ts'
import { ROUTE_HEADER } from '../ext-proc/messages.ts'
import { loadReporting } from '../grpc/protos.ts'
import type { Service } from '../grpc/server.ts'
import type { Logger } from '../log.ts'
import { fillHost, type Rules, servicesOf } from '../routing/rules.ts'
import { isTestedEnvoy } from '../status/version.ts'
import { adsDefinition } from '../xds/ads-service.ts'
import { type ControlPlane, type ControlPlaneStatus, createControlPlane } from '../xds/control-plane.ts'
import type { ZoneLoad } from '../xds/load-report-service.ts'
import { PolicySource } from '../xds/policy-source.ts'
import { zoneKey } from '../xds/resource.ts'
import type { RoutingRules } from '../xds/virtual-host.ts'
import type { PublishedZone, ZoneRef } from '../zones/learned-zones.ts'

/** Envoy's bootstrap, relative to the working directory. */
export const BOOTSTRAP_FILE = 'envoy/envoy.yaml'
const POLICY_POLL_MS = 250
export const LOAD_REPORT_INTERVAL_MS = 5000

/** The control plane of all Envoys, for as long as the processor runs. */
export interface EnvoyControl {
  /** For the gRPC server. */
  readonly services: readonly Service[]
  /** False as long as Envoy's own files can't be understood: no zone can be published. */
  readonly active: boolean
  /** Takes over other rules. */
  follow(rules: Rules, search: string): void
  publish(zone: PublishedZone): void
  withdraw(zone: ZoneRef): void
  /** Null while it is not active. */
  status(): ControlPlaneStatus | null
  close(): void
}

export interface EnvoyControlEvents {
  /** An Envoy brought along zones of an earlier processor. */
  readonly onZonesFound: (zones: readonly ZoneRef[]) => void
  readonly onLoad: (envoy: string, zone: ZoneRef, load: ZoneLoad) => void
}

/**
 * Joins Envoy's control plane to the files that it copies from. As long as those can't be understood no zone is learned,
 * and Envoys keep the zones that they have.
 */
export function startEnvoyControl(events: EnvoyControlEvents, log: Logger): EnvoyControl {
  let plane: ControlPlane | undefined
  let rules: RoutingRules | undefined
  const source = policySource(log)

  const reload = (): void => {
    const policy = rules && source.reload(rules.idHeader)
    if (policy === undefined || rules === undefined) return
    if (plane === undefined) plane = createPlane(policy, rules, events, log)
    else plane.setPolicy(policy, rules)
    log.info(
      { files: [ROUTES_FILE, BOOTSTRAP_FILE] },
      'learned zones follow the routes and the cluster of these files',
    )
  }
  const unwatch = [ROUTES_FILE, BOOTSTRAP_FILE].map((file) =>
    watchFileForChanges(file, POLICY_POLL_MS, reload),
  )

  return {
    services: [
      [
        adsDefinition,
        { DeltaAggregatedResources: handing(() => plane?.services[0]?.[1]['DeltaAggregatedResources']) },
      ],
      [loadReporting, { StreamLoadStats: handing(() => plane?.services[1]?.[1]['StreamLoadStats']) }],
    ],
    get active() {
      return plane !== undefined
    },
    follow: (next, search) => {
      rules = routingRules(next, search)
      if (source.policy === undefined) reload()
      else plane?.setPolicy(source.policy, rules)
    },
    publish: (zone) => plane?.publish(zone),
    withdraw: ({ service, id }) => plane?.withdraw(zoneKey(service, id)),
    status: () => plane?.status() ?? null,
    close: () => {
      for (const stop of unwatch) stop()
      plane?.close()
    },
  }
}

function createPlane(
  policy: Parameters<ControlPlane['setPolicy']>[0],
  rules: RoutingRules,
  events: EnvoyControlEvents,
  log: Logger,
): ControlPlane {
  return createControlPlane({
    policy,
    rules,
    events: {
      onZonesFound: (envoy, found) => {
        log.info({ envoy, zones: found.length }, 'an Envoy brought along zones of an earlier processor')
        events.onZonesFound(found)
      },
      onLoad: (envoy, key, load) => {
        const [service = '', id = ''] = key.split('/')
        events.onLoad(envoy, { service, id }, load)
      },
    },
    timers: nodeTimers(() => performance.now()),
    log,
    isTestedVersion: isTestedEnvoy,
    epoch: randomUUID().slice(0, 8),
    loadReportIntervalMs: LOAD_REPORT_INTERVAL_MS,
  })
}

function policySource(log: Logger): PolicySource {
  return new PolicySource({
    routesPath: ROUTES_FILE,
    bootstrapPath: BOOTSTRAP_FILE,
    routeHeader: ROUTE_HEADER,
    readFile: (path) => readFileSync(path, 'utf8'),
    log,
  })
}

function routingRules(rules: Rules, search: string): RoutingRules {
  return {
    routeHeader: ROUTE_HEADER,
    idHeader: rules.header,
    methods: [...rules.methods],
    services: servicesOf(rules),
    zoneName: (service, id) => fillHost(rules.host, id, service, search),
  }
}

/** Hands a stream to the control plane once there is one; until then Envoy is told to come back. */
function handing(
  handler: () => UntypedHandleCall | undefined,
): (call: ServerDuplexStream<unknown, unknown>) => void {
  return (call) => {
    const handle = handler() as ((call: ServerDuplexStream<unknown, unknown>) => void) | undefined
    if (handle !== undefined) handle(call)
    else call.emit('error', { code: status.UNAVAILABLE, details: "Envoy's files can't be understood yet" })
  }
}
