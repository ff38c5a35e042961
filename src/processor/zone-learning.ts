import { now } from '../clock.ts'
import type { Config } from '../config/schema.ts'
import type { Answer } from '../dns/answer.ts'
import type { Dns } from '../dns/dns.ts'
import { guarded, type OnBug } from '../guard.ts'
import type { Logger } from '../log.ts'
import { pinnedAnswer } from '../routing/decision.ts'
import { type Rules, type Zone, zoneNameOf, zoneOfRef } from '../routing/rules.ts'
import type { SaidOfZones } from '../routing/said.ts'
import type { ZoneActivity } from '../status/zone-activity.ts'
import { nodeTimers } from '../timers.ts'
import { type Task, Turns } from '../turns.ts'
import type { ZoneLoad } from '../xds/load-report-service.ts'
import {
  LearnedZones,
  type NotLearned,
  type ZoneChange,
  type ZonePlace,
  type ZoneRef,
} from '../zones/learned-zones.ts'
import type { Bugs } from './bugs.ts'
import { type EnvoyControl, LOAD_REPORT_INTERVAL_MS } from './envoy-control.ts'
import type { HistoryRecorder } from './record-history.ts'

/** Sweeps within the stale time. Each sweep renews how long Envoys may use the addresses. */
const SWEEPS_PER_STALE_TIME = 10
const SWEEP_INTERVAL_MS = { min: 100, max: 5000 } as const

/** Decides which zones Envoy routes by itself, for one configuration. */
export interface ZoneLearning {
  /** A request of the zone asked the processor. @param answer null if the zone is in maintenance */
  used(zone: Zone, answer: Answer | null): void
  /** What zonegate.yaml or a pin says of a zone has changed. */
  placed(zone: ZoneRef): void
  /** Envoys still have these zones. They stay learned until DNS proves that they are gone. */
  found(zones: readonly ZoneRef[]): void
  /**
   * Takes over the zones of the previous configuration, and closes its learning.
   * @param samePlaces true if no zone has another name, port or upstream than before
   */
  takeOver(before: ZoneLearning, samePlaces: boolean): void
  reported(zone: ZoneRef, load: ZoneLoad): void
  /** Why a zone is not learned. Null if it is. */
  whyNot(zone: ZoneRef): NotLearned | 'learning_off' | null
  /** Null if learning is off. */
  readonly learned: LearnedZones | null
  /** Stops learning. Envoys keep the zones that they have. */
  close(): void
}

interface ZoneLearningParts {
  readonly config: Config
  readonly rules: Rules
  readonly search: () => string
  /** What zonegate.yaml and pins say of zones now. */
  readonly said: () => SaidOfZones
  readonly dns: Dns
  readonly control: EnvoyControl
  readonly activity: ZoneActivity
  readonly recorder: HistoryRecorder
  readonly log: Logger
  readonly bugs: Bugs
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
      now,
      resolveRef: (zone) => placeOf(zone, parts),
      dns: parts.dns,
      publish: (zone) => control.publish(zone),
      publishAnswered: (zone) => control.publishAnswered(zone),
      withdraw: (zone) => control.withdraw(zone),
      onChange: (zone, change, wasLearned) => tell(parts, zone, change, wasLearned),
    },
  )
  const onBug = parts.bugs.at('timer')
  const turns = new Turns(nodeTimers(now, onBug))
  const sweepStep = goingOn(onBug, () => zones.sweepStep())
  const takeOverStep = goingOn(onBug, () => zones.takeOverStep())
  let search = parts.search()
  const sweep = guarded(onBug, () => {
    if (parts.search() !== search) {
      search = parts.search() // Every zone has another name now.
      zones.forgetAll('renamed')
      const names = { nameservers: parts.dns.nameservers(), search }
      control.follow({ config, rules, search, names, said: parts.said })
    }
    turns.take(sweepStep)
  })
  const timer = setInterval(sweep, sweepIntervalMs(config)).unref()
  return {
    used: ({ service, id }, answer) => {
      if (control.active) zones.used({ service: service.name, id }, answer)
    },
    placed: (zone) => zones.placed(zone),
    found: (found) => zones.found(found),
    takeOver: (before, samePlaces) => {
      if (before.learned !== null) zones.takeOver(before.learned, samePlaces)
      turns.take(takeOverStep)
      before.close()
    },
    reported: (zone, load) => zones.reported(zone, load),
    whyNot: (zone) => zones.whyNot(zone),
    learned: zones,
    close: () => {
      clearInterval(timer)
      turns.close()
      zones.close()
    },
  }
}

/** With `learned.enabled: false`, withdraws all zones that Envoys have, so that every request asks. */
function withoutLearning(parts: ZoneLearningParts): ZoneLearning {
  const takeBack = (zones: Iterable<ZoneRef>): void => {
    for (const zone of zones) {
      parts.control.withdraw(zone)
      tell(parts, zone, 'evicted')
    }
  }
  return {
    used: () => undefined,
    placed: () => undefined,
    found: takeBack,
    takeOver: (before) => {
      takeBack(before.learned?.zones() ?? [])
      before.close()
    },
    reported: () => undefined,
    whyNot: () => 'learning_off',
    learned: null,
    close: () => undefined,
  }
}

/** An exception at one zone ends a step. The next step goes on with the next zone. */
function goingOn(onBug: OnBug, step: Task): Task {
  return () => {
    try {
      return step()
    } catch (error) {
      onBug(error)
      return true
    }
  }
}

function placeOf({ service, id }: ZoneRef, { rules, search, said }: ZoneLearningParts): ZonePlace | null {
  const zone = zoneOfRef(service, id, rules, search(), said())
  if (zone === null) return null
  const answer = pinnedAnswer(zone)
  const by = zone.said?.pinned?.by
  const untilMs = by !== undefined && 'who' in by ? now() + by.untilMs - Date.now() : Number.POSITIVE_INFINITY
  return {
    name: zone.name,
    port: zone.service.port,
    ...(zone.service.upstream && { upstream: `${zone.service.upstream.cluster} ${zone.serverName ?? ''}` }),
    ...(answer && { pinned: { answer, untilMs } }),
    isAnswered: zone.said?.maintenance !== undefined,
  }
}

function tell(parts: ZoneLearningParts, zone: ZoneRef, change: ZoneChange, wasLearned = false): void {
  const { rules, search, said, activity, recorder, log } = parts
  const name = zoneNameOf(zone.service, zone.id, rules, search(), said())
  activity.changed(zone, change, name)
  recorder.zone(zone, change, name, wasLearned)
  log.debug({ zone: `${zone.service}/${zone.id}`, change }, 'learned zones changed')
}

function sweepIntervalMs({ dns }: Config): number {
  const { min, max } = SWEEP_INTERVAL_MS
  return Math.min(max, Math.max(min, (dns.staleSeconds * 1000) / SWEEPS_PER_STALE_TIME))
}
