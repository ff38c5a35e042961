import { randomUUID } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { type ServerDuplexStream, status, type UntypedHandleCall } from '@grpc/grpc-js'
import { ROUTES_FILE } from '../config/announce-routes.ts'
import type { Config } from '../config/schema.ts'
import { watchFileForChanges } from '../config/watch-file.ts'
import type { Answer } from '../dns/answer.ts'
import type { Dns } from '../dns/dns.ts'
import { FORWARD_HEADER } from '../ext-proc/messages.ts'
import { aggregatedDiscovery, loadReporting } from '../grpc/protos.ts'
import type { Service } from '../grpc/server.ts'
import type { Logger } from '../log.ts'
import { fillHost, type Rules, servicesOf, type Zone, zoneOfRef } from '../routing/rules.ts'
import type { ZonePolicy } from '../xds/catalog.ts'
import { type ControlPlane, createControlPlane } from '../xds/control-plane.ts'
import { PolicySource } from '../xds/policy-source.ts'
import { zoneKey } from '../xds/resource.ts'
import type { RoutingRules } from '../xds/virtual-host.ts'
import { LearnedZones } from '../zones/learned-zones.ts'

/** Envoy's bootstrap, relative to the working directory. */
const BOOTSTRAP_FILE = 'envoy/envoy.yaml'
const POLICY_POLL_MS = 500
const LOAD_REPORT_INTERVAL_MS = 5000
/** Sweeps within the stale time: each renews how long Envoys may use the addresses. */
const SWEEPS_PER_STALE_TIME = 10
const SWEEP_INTERVAL_MS = { min: 100, max: 5000 } as const

export interface Learning {
  /** Envoy's control plane, for the gRPC server. */
  readonly services: readonly Service[]
  /** A request of the zone was forwarded. */
  used(zone: Zone, answer: Answer): void
  close(): void
}

interface Active {
  readonly plane: ControlPlane
  readonly zones: LearnedZones
}

interface Parts {
  readonly config: Config
  readonly rules: Rules
  readonly search: () => string
  readonly dns: Dns
  readonly log: Logger
}

/**
 * Learned zones: joins DNS, the zones in use, Envoy's control plane, and what of Envoy's own files it copies. As long as
 * those files can't be understood no zone is learned, and Envoys keep the zones that they have.
 */
export function startLearning(parts: Parts): Learning {
  const { config, rules, log } = parts
  let active: Active | undefined
  let search = parts.search()
  const source = new PolicySource({
    routesPath: ROUTES_FILE,
    bootstrapPath: BOOTSTRAP_FILE,
    idHeader: config.rules.header,
    readFile: (path) => readFileSync(path, 'utf8'),
    log,
  })
  const reload = (): void => {
    const policy = source.reload()
    if (policy === undefined) return
    if (active === undefined) active = activate(parts, policy)
    else active.plane.setPolicy(policy, routingRules(rules, search))
    log.info(
      { files: [ROUTES_FILE, BOOTSTRAP_FILE] },
      'learned zones follow the routes and the cluster of these files',
    )
  }
  reload()

  const staleMs = config.dns.staleSeconds * 1000
  const sweepMs = Math.min(
    SWEEP_INTERVAL_MS.max,
    Math.max(SWEEP_INTERVAL_MS.min, staleMs / SWEEPS_PER_STALE_TIME),
  )
  const sweep = setInterval(() => {
    if (parts.search() !== search && source.policy !== undefined) {
      search = parts.search() // every zone has another name now
      active?.zones.forgetAll()
      active?.plane.setPolicy(source.policy, routingRules(rules, search))
    }
    active?.zones.sweep()
  }, sweepMs)
  sweep.unref()
  const unwatch = [ROUTES_FILE, BOOTSTRAP_FILE].map((file) =>
    watchFileForChanges(file, POLICY_POLL_MS, reload),
  )

  return {
    services: [
      [
        aggregatedDiscovery,
        {
          DeltaAggregatedResources: handing(() => active?.plane.services[0]?.[1]['DeltaAggregatedResources']),
        },
      ],
      [loadReporting, { StreamLoadStats: handing(() => active?.plane.services[1]?.[1]['StreamLoadStats']) }],
    ],
    used: ({ service, id }, answer) => active?.zones.used({ service: service.name, id }, answer),
    close: () => {
      clearInterval(sweep)
      for (const stop of unwatch) stop()
      active?.plane.close()
      active?.zones.close()
    },
  }
}

function activate({ config, rules, search, dns, log }: Parts, policy: ZonePolicy): Active {
  const clock = { nowMs: () => performance.now(), schedule }
  const plane = createControlPlane({
    policy,
    rules: routingRules(rules, search()),
    events: {
      onZonesFound: (envoy, found) => {
        log.info({ envoy, zones: found.length }, 'an Envoy brought along zones of an earlier processor')
        zones.found(found)
      },
      onLoad: (_envoy, key, load) => {
        const [service = '', id = ''] = key.split('/')
        zones.reported({ service, id }, load)
      },
    },
    clock,
    log,
    epoch: randomUUID().slice(0, 8),
    loadReportIntervalMs: LOAD_REPORT_INTERVAL_MS,
  })
  const zones = new LearnedZones(
    {
      zonesMax: config.learned.zonesMax,
      idleMs: config.learned.idleSeconds * 1000,
      staleMs: config.dns.staleSeconds * 1000,
      busyMs: 2 * LOAD_REPORT_INTERVAL_MS,
    },
    {
      now: clock.nowMs,
      resolveRef: ({ service, id }) => {
        const zone = zoneOfRef(service, id, rules, search())
        return zone && { name: zone.name, port: zone.service.port }
      },
      dns,
      publish: (zone) => plane.publish(zone),
      withdraw: ({ service, id }) => plane.withdraw(zoneKey(service, id)),
      onChange: (zone, change) => log.debug({ ...zone, change }, 'learned zones changed'),
    },
  )
  return { plane, zones }
}

function routingRules(rules: Rules, search: string): RoutingRules {
  return {
    idHeader: rules.header,
    markHeader: FORWARD_HEADER,
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

function schedule(delayMs: number, callback: () => void): () => void {
  const timer = setTimeout(callback, delayMs)
  timer.unref()
  return () => clearTimeout(timer)
}
