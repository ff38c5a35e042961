import type { Answer } from '../dns/answer.ts'
import type { Dns, DnsStatus, NameStatus } from '../dns/dns.ts'
import type { RejectReason } from '../routing/reject-reason.ts'
import type { EnvoyStatus } from '../xds/ads-service.ts'
import type { ControlPlaneStatus } from '../xds/control-plane.ts'
import type { AnswerClass, DecisionCounts } from './decision-counts.ts'
import { HISTORY_POINTS, SLOT_SECONDS, type ZoneActivity, type ZoneUse } from './zone-activity.ts'

/** Everything an operator can ask of a running processor. CLI, HTTP API, page and metrics are views of it. */
export interface Status {
  /** Milliseconds since 1970, on a clock that never jumps: the times below compare with it. */
  readonly at: number
  readonly build: Build
  readonly ready: boolean
  /** Why not, by part; empty when ready. */
  readonly unready: Readonly<Record<string, string>>
  readonly config: ConfigStatus
  readonly dns: DnsStatus & {
    /** The longest lifetime of an answer here, seconds. */
    readonly ttlSecondsMax: number
  }
  readonly history: { readonly points: number; readonly slotSeconds: number; readonly slot: number }
  readonly zonesLearned: number
  readonly zones: readonly ZoneStatus[]
  readonly envoys: readonly EnvoyStatus[]
  readonly decisions: {
    readonly forwarded: number
    readonly refused: Readonly<Record<RejectReason, number>>
    readonly answers: Readonly<Record<AnswerClass, number>>
  }
}

export interface Build {
  readonly version: string
  readonly node: string
  /** The Envoy that it is made for. */
  readonly envoy: string
  /** ISO 8601. */
  readonly startedAt: string
}

export interface ConfigStatus {
  /** The file in force, or `defaults`. */
  readonly source: string
  /** When what is in force was read, ISO 8601. */
  readonly loadedAt: string
  /** What is wrong with the file as it is now, `file:line:column: key: ...`; what was read before is in force. */
  readonly faults: readonly string[]
  /** Keys whose new value waits for a restart. */
  readonly needsRestart: readonly string[]
  readonly reloads: { readonly accepted: number; readonly rejected: number }
}

/** What DNS knows of a zone's name: `fresh` and `stale` have addresses, `denied` has none that may be used. */
export type ZoneState = 'fresh' | 'stale' | 'denied' | 'nxdomain' | 'nodata' | 'failed' | 'unknown'
/** `cold`: requests ask the processor. `learned`: pushed to the Envoys. `hot`: an Envoy has reported it as its own. */
export type ZoneRoute = 'cold' | 'learned' | 'hot'

export interface ZoneStatus {
  readonly service: string
  readonly id: string
  readonly name: string
  readonly state: ZoneState
  readonly addresses: readonly string[]
  /** When the answer's lifetime ends or ended, on the clock of `at`; null where there is no answer. */
  readonly expiresAt: number | null
  readonly route: ZoneRoute
  /** Envoys that have it. */
  readonly envoys: readonly string[]
  readonly requestsPerSecond: number
  /** Requests per second, oldest first, a point for each slot; absent where it wasn't asked for. */
  readonly history?: readonly number[]
  /** Within the history: tries that ended with a 5xx answer or none, failed connections among them. */
  readonly errors: number
}

/** Where the parts of a status come from. Functions, because a reload swaps what runs. */
export interface StatusSources {
  readonly build: Build
  /** Milliseconds since 1970, on a clock that never jumps. */
  readonly now: () => number
  readonly unready: () => Readonly<Record<string, string>>
  readonly config: () => ConfigStatus
  readonly dns: () => Pick<Dns, 'status' | 'names'>
  readonly ttlSecondsMax: () => number
  readonly activity: ZoneActivity
  readonly controlPlane: () => ControlPlaneStatus | null
  readonly decisions: DecisionCounts
}

export function readStatus(sources: StatusSources, history: boolean): Status {
  const { build, activity, decisions } = sources
  const at = sources.now()
  const dns = sources.dns()
  const unready = sources.unready()
  return {
    at,
    build,
    ready: Object.keys(unready).length === 0,
    unready,
    config: sources.config(),
    dns: { ...dns.status(), ttlSecondsMax: sources.ttlSecondsMax() },
    history: { points: HISTORY_POINTS, slotSeconds: SLOT_SECONDS, slot: activity.slot },
    zonesLearned: activity.learnedCount,
    zones: zoneStatuses(activity, history, dns, at),
    envoys: sources.controlPlane()?.envoys ?? [],
    decisions: {
      forwarded: decisions.forwarded,
      refused: { ...decisions.refused },
      answers: { ...decisions.answers },
    },
  }
}

function zoneStatuses(
  activity: ZoneActivity,
  history: boolean,
  dns: Pick<Dns, 'names'>,
  at: number,
): ZoneStatus[] {
  const uses = [...activity.list(history)]
  const wanted = new Set(uses.map(({ name }) => name))
  const names = new Map<string, NameStatus>()
  for (const status of dns.names()) if (wanted.has(status.name)) names.set(status.name, status)
  return uses.map((use) => zoneStatus(use, names.get(use.name), at))
}

export function zoneStatus(use: ZoneUse, known: NameStatus | undefined, at: number): ZoneStatus {
  const { learned, ...rest } = use
  const answer = known?.answer ?? null
  const secondsLeft = known?.secondsLeft ?? null
  return {
    ...rest,
    state: stateOf(answer),
    addresses: answer?.kind === 'positive' ? answer.addresses : [],
    // To a tenth of a second: the same moment, told at another time, is the same number.
    expiresAt: secondsLeft === null ? null : Math.round((at + secondsLeft * 1000) / 100) * 100,
    route: !learned ? 'cold' : use.envoys.length > 0 ? 'hot' : 'learned',
  }
}

export function stateOf(answer: Answer | null): ZoneState {
  if (answer === null) return 'unknown'
  if (answer.kind === 'failure') return 'failed'
  if (answer.kind !== 'positive') return answer.kind
  return answer.stale ? 'stale' : answer.addresses.length > 0 ? 'fresh' : 'denied'
}
