import type { Config } from '../config/schema.ts'
import type { Answer } from '../dns/answer.ts'
import type { Dns } from '../dns/dns.ts'
import type { Logger } from '../log.ts'
import { fillHost, type Rules, type Zone, zoneOfRef } from '../routing/rules.ts'
import type { ZoneActivity } from '../status/zone-activity.ts'
import type { ZoneLoad } from '../xds/load-report-service.ts'
import { LearnedZones, type ZoneChange, type ZoneRef } from '../zones/learned-zones.ts'
import { type EnvoyControl, LOAD_REPORT_INTERVAL_MS } from './envoy-control.ts'

/** Sweeps within the stale time: each renews how long Envoys may use the addresses. */
const SWEEPS_PER_STALE_TIME = 10
const SWEEP_INTERVAL_MS = { min: 100, max: 5000 } as const

/** Which zones Envoy routes by itself, by one configuration. */
export interface ZoneLearning {
  /** A request of the zone was forwarded by way of the processor. */
  used(zone: Zone, answer: Answer): void
  /** Envoys have these: they stay until DNS proves them gone. */
  found(zones: Iterable<ZoneRef>): void
  reported(zone: ZoneRef, load: ZoneLoad): void
  /** The least recently used first. */
  zones(): Iterable<ZoneRef>
  /** Lets go of all; what Envoys have stays with them. */
  close(): void
}

export interface ZoneLearningParts {
  readonly config: Config
  readonly rules: Rules
  readonly search: () => string
  readonly dns: Dns
  readonly control: EnvoyControl
  readonly activity: ZoneActivity
  readonly log: Logger
}

export function learnZones(parts: ZoneLearningParts): ZoneLearning {
  const { config, rules, control } = parts
  if (!config.learned.enabled) return withoutLearning(parts)
  const zones = new LearnedZones(
    {
      zonesMax: config.learned.zonesMax,
      idleMs: config.learned.idleSeconds * 1000,
      staleMs: config.dns.staleSeconds * 1000,
      busyMs: 2 * LOAD_REPORT_INTERVAL_MS,
    },
    {
      now: () => performance.now(),
      resolveRef: ({ service, id }) => {
        const zone = zoneOfRef(service, id, rules, parts.search())
        return zone && { name: zone.name, port: zone.service.port }
      },
      dns: parts.dns,
      publish: (zone) => control.publish(zone),
      withdraw: (zone) => control.withdraw(zone),
      onChange: (zone, change) => tell(parts, zone, change),
    },
  )
  let search = parts.search()
  const sweep = setInterval(() => {
    if (parts.search() !== search) {
      search = parts.search() // every zone has another name now
      zones.forgetAll()
      control.follow(rules, search)
    }
    zones.sweep()
  }, sweepIntervalMs(config))
  sweep.unref()
  return {
    used: ({ service, id }, answer) => {
      if (control.active) zones.used({ service: service.name, id }, answer)
    },
    // The most recently used ones, where fewer are allowed than there were.
    found: (found) => {
      const all = [...found]
      const tooMany = Math.max(0, all.length - config.learned.zonesMax)
      for (const zone of all.slice(0, tooMany)) takeBack(parts, zone, 'evicted')
      zones.found(all.slice(tooMany))
    },
    reported: (zone, load) => zones.reported(zone, load),
    zones: () => zones.zones(),
    close: () => {
      clearInterval(sweep)
      zones.close()
    },
  }
}

/** `learned.enabled: false`: what Envoys have is taken back, so that every request asks. */
function withoutLearning(parts: ZoneLearningParts): ZoneLearning {
  return {
    used: () => undefined,
    found: (zones) => {
      for (const zone of zones) takeBack(parts, zone, 'evicted')
    },
    reported: () => undefined,
    zones: () => [],
    close: () => undefined,
  }
}

function takeBack(parts: ZoneLearningParts, zone: ZoneRef, change: ZoneChange): void {
  parts.control.withdraw(zone)
  tell(parts, zone, change)
}

function tell({ rules, search, activity, log }: ZoneLearningParts, zone: ZoneRef, change: ZoneChange): void {
  activity.changed(zone, change, fillHost(rules.host, zone.id, zone.service, search()))
  log.debug({ zone: `${zone.service}/${zone.id}`, change }, 'learned zones changed')
}

function sweepIntervalMs({ dns }: Config): number {
  const { min, max } = SWEEP_INTERVAL_MS
  return Math.min(max, Math.max(min, (dns.staleSeconds * 1000) / SWEEPS_PER_STALE_TIME))
}
