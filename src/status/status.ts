import type { ConfigStatus } from '../config/live-config.ts'
import { type Addresses, type Answer, areEndpoints, type Endpoint } from '../dns/answer.ts'
import type { Dns, DnsStatus, NameStatus } from '../dns/dns.ts'
import type { PinsStatus } from '../pins/pins.ts'
import { authorityOf } from '../routing/decision.ts'
import type { RejectReason } from '../routing/reject-reason.ts'
import type { Said } from '../routing/said.ts'
import type { ControlPlaneStatus } from '../xds/control-plane.ts'
import type { EnvoyStatus } from '../xds/envoy-stream.ts'
import type { ZoneRef } from '../zones/learned-zones.ts'
import type { ColdReason } from './cold-reasons.ts'
import type { AnswerClass, DecisionCounts, SpanCounts } from './counts.ts'
import type { RuleStatus } from './rule-counts.ts'
import { HISTORY_POINTS, SLOT_SECONDS, type ZoneActivity, type ZoneUse } from './zone-activity.ts'

/** Everything that an operator can ask a running processor. CLI, HTTP API, page and metrics are views of it. */
export interface Status {
  /** Milliseconds since 1970, on a clock that never jumps: the times below compare with it. */
  readonly at: number
  readonly build: Build
  /** How long no processor had served when this one started, milliseconds; null: unknown. */
  readonly awayMs: number | null
  readonly ready: boolean
  /** Why not, by part; empty when ready. */
  readonly unready: Readonly<Record<string, string>>
  readonly config: ConfigStatus
  readonly policy: PolicyStatus
  readonly dns: DnsStatus & {
    /** The longest lifetime of an answer here, seconds. */
    readonly ttlSecondsMax: number
  }
  readonly history: { readonly points: number; readonly slotSeconds: number; readonly slot: number }
  /** In the order of the configuration. */
  readonly rules: readonly RuleStatus[]
  /** Pins by command. */
  readonly pins: PinsStatus
  /** Files of `upstream.tls` with a fault or a warning; absent: none. */
  readonly certificates?: readonly CertificateStatus[]
  /** Spans since the start; absent: none was lost. */
  readonly spans?: SpanCounts
  readonly zonesLearned: number
  readonly zones: readonly ZoneStatus[]
  readonly envoys: readonly EnvoyStatus[]
  /** Caught exceptions, by place. Each is a bug that cost one request, one stream or one update; the log has it. */
  readonly exceptions: Readonly<Record<string, number>>
  readonly decisions: {
    readonly forwarded: number
    readonly refused: Readonly<Record<RejectReason, number>>
    readonly answers: Readonly<Record<AnswerClass, number>>
  }
}

export interface CertificateStatus {
  readonly file: string
  readonly use: 'ca' | 'cert' | 'key'
  /** Why Envoy can't use it, or when it expires. */
  readonly what: string
}

export interface Build {
  readonly version: string
  readonly node: string
  /** The version of Envoy that this build is tested with. */
  readonly envoy: string
  /** ISO 8601. */
  readonly startedAt: string
}

/** What Envoy's own files mean for learned zones. Each text is `file:line:column: field: what`. */
export interface PolicyStatus {
  /** Why no zone is learned: settings that a learned zone could not have. Empty: zones are learned. */
  readonly reasons: readonly string[]
  /** Faults of the files as they are now; the previous ones stay active. */
  readonly faults: readonly string[]
  /** Domains of virtual hosts that the operator wrote, such as `POST/7`: their ids are not learned. Absent: none. */
  readonly pinned?: readonly string[]
  /**
   * Fields of Envoy's files that its API doesn't have. Envoy ignores them, or does not start if its bootstrap has them.
   * Absent: none.
   */
  readonly unknown?: readonly string[]
  /** Files that changed since Envoy started; it reads them at its next start. */
  readonly needsRestart: readonly string[]
}

/**
 * What DNS knows of a zone's name: `fresh`, `expired`, `stale` and `uncached` have addresses, `denied` has none that may be
 * used. `expired`: past its TTL, nobody has asked since. `stale`: past its TTL, and nameservers fail; it serves on.
 * `uncached`: their TTL is 0, so each request asks a nameserver, and the zone is never learned. `pinned`, `maintenance`: DNS is
 * not asked.
 */
export type ZoneState =
  | 'pinned'
  | 'maintenance'
  | 'expired'
  | 'fresh'
  | 'uncached'
  | 'stale'
  | 'denied'
  | 'nxdomain'
  | 'nodata'
  | 'failed'
  | 'unknown'
/** `cold`: requests ask the processor. `learned`: pushed to the Envoys. `hot`: an Envoy has reported it as its own. */
export type ZoneRoute = 'cold' | 'learned' | 'hot'

export interface ZoneStatus {
  readonly service: string
  readonly id: string
  readonly name: string
  readonly state: ZoneState
  readonly addresses: readonly string[]
  /** The same with port, priority and weight, where SRV records give them. */
  readonly endpoints?: readonly Endpoint[]
  /** When the answer's lifetime ends or ended, on the clock of `at`; null where there is no answer. */
  readonly expiresAt: number | null
  readonly route: ZoneRoute
  /** Why its requests ask the processor; null where it is hot, or has no address. */
  readonly coldReason: ColdReason | null
  /** Envoys that have it. */
  readonly envoys: readonly string[]
  readonly requestsPerSecond: number
  /** Requests per second, oldest first, a point for each slot; absent unless asked for. */
  readonly history?: readonly number[]
  /** Tries within the history's time that got a 5xx, no answer or no connection. */
  readonly errors: number
}

/** Where the parts of a status come from. Functions, because a reload replaces the parts. */
export interface StatusSources {
  readonly build: Build
  readonly awayMs: number | null
  /** Milliseconds since 1970, on a clock that never jumps. */
  readonly now: () => number
  readonly unready: () => Readonly<Record<string, string>>
  readonly config: () => ConfigStatus
  readonly policy: () => PolicyStatus
  readonly dns: () => Pick<Dns, 'status' | 'cached'>
  readonly ttlSecondsMax: () => number
  readonly activity: ZoneActivity
  readonly pins: () => PinsStatus
  readonly certificates: () => readonly {
    readonly file: string
    readonly use: CertificateStatus['use']
    readonly fault: string | null
    readonly warning: string | null
  }[]
  readonly spans: () => SpanCounts
  readonly controlPlane: () => ControlPlaneStatus | null
  readonly decisions: DecisionCounts
  readonly exceptions: () => Readonly<Record<string, number>>
  readonly coldReason: (zone: ZoneRef, state: ZoneState) => ColdReason | null
  /** Pin, merge or maintenance of a zone. */
  readonly said: (zone: ZoneRef) => Said | undefined
}

/** A status whose zones are read one by one, as they are taken: reading many at once would block the event loop. */
export interface StatusReading {
  readonly rest: Omit<Status, 'zones'>
  readonly zones: Iterable<ZoneStatus>
}

export function readStatus(sources: StatusSources, history: boolean): StatusReading {
  return { rest: readRest(sources), zones: zoneStatuses(sources, history) }
}

function readRest(sources: StatusSources): Omit<Status, 'zones'> {
  const { build, activity, decisions } = sources
  const at = sources.now()
  const dns = sources.dns()
  const unready = sources.unready()
  return {
    at,
    build,
    awayMs: sources.awayMs,
    ready: Object.keys(unready).length === 0,
    unready,
    config: sources.config(),
    policy: sources.policy(),
    dns: { ...dns.status(), ttlSecondsMax: sources.ttlSecondsMax() },
    history: { points: HISTORY_POINTS, slotSeconds: SLOT_SECONDS, slot: activity.slot },
    rules: decisions.rules.list(),
    pins: sources.pins(),
    ...certificatesToTell(sources),
    ...(sources.spans().failed > 0 && { spans: { ...sources.spans() } }),
    zonesLearned: activity.learnedCount,
    envoys: sources.controlPlane()?.envoys ?? [],
    exceptions: sources.exceptions(),
    decisions: {
      forwarded: decisions.forwarded,
      refused: { ...decisions.refused },
      answers: { ...decisions.answers },
    },
  }
}

function certificatesToTell({ certificates }: StatusSources): Pick<Status, 'certificates'> {
  const told = certificates().flatMap(({ file, use, fault, warning }) => {
    const what = fault ?? warning
    return what === null ? [] : [{ file, use, what }]
  })
  return told.length === 0 ? {} : { certificates: told }
}

function* zoneStatuses(
  { activity, coldReason, said, dns, now }: StatusSources,
  history: boolean,
): Generator<ZoneStatus> {
  for (const use of activity.list(history))
    yield zoneStatus(use, dns().cached(use.name), now(), coldReason, said(use))
}

export function zoneStatus(
  use: ZoneUse,
  known: NameStatus | undefined,
  at: number,
  coldReason: StatusSources['coldReason'],
  said: Said | undefined,
): ZoneStatus {
  const { learned, ...rest } = use
  const isSaid = said?.pinned !== undefined || said?.maintenance !== undefined
  const answer = (isSaid ? null : known?.answer) ?? null
  const secondsLeft = (isSaid ? null : known?.secondsLeft) ?? null
  const state = saidState(said) ?? (known?.expired === true ? 'expired' : stateOf(answer))
  const isHot = learned && use.envoys.length > 0
  const found = said?.pinned?.addresses ?? addressesIn(answer)
  const hasAddress = found.length > 0 && state !== 'maintenance'
  return {
    ...rest,
    state,
    ...addressesOf(state === 'maintenance' ? [] : found),
    // Rounded to 0.1 s: two readings of one answer show the same number.
    expiresAt: secondsLeft === null ? null : Math.round((at + secondsLeft * 1000) / 100) * 100,
    route: isHot ? 'hot' : learned ? 'learned' : 'cold',
    coldReason: isHot || !hasAddress ? null : coldReason(use, state),
  }
}

/** Addresses as texts, and as endpoints where each has its port. */
export function addressesOf(addresses: Addresses): Pick<ZoneStatus, 'addresses' | 'endpoints'> {
  return { addresses: addressTexts(addresses), ...(areEndpoints(addresses) && { endpoints: addresses }) }
}

export function addressesIn(answer: Answer | null): Addresses {
  return answer?.kind === 'positive' ? answer.addresses : []
}

/** Addresses as operators read them, with the port where each has its own. */
export function addressTexts(addresses: Addresses): readonly string[] {
  return areEndpoints(addresses)
    ? addresses.map(({ address, port }) => authorityOf(address, port))
    : addresses
}

/** Null: `zones` and pins say nothing, so DNS decides. */
export function saidState(said: Said | undefined): ZoneState | null {
  if (said?.maintenance !== undefined) return 'maintenance'
  if (said?.pinned === undefined) return null
  return said.pinned.addresses.length > 0 ? 'pinned' : 'denied'
}

export function stateOf(answer: Answer | null): ZoneState {
  if (answer === null) return 'unknown'
  if (answer.kind === 'failure') return 'failed'
  if (answer.kind !== 'positive') return answer.kind
  if (answer.stale) return 'stale'
  if (answer.addresses.length === 0) return 'denied'
  return answer.ttlSeconds === 0 ? 'uncached' : 'fresh'
}
