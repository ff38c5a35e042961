import type { ColdReason } from '../status/cold-reasons.ts'
import type { ExplainedEnvoy } from '../status/explain.ts'
import type { ZoneState } from '../status/status.ts'
import type { ZoneRef } from '../zones/learned-zones.ts'
import type { EnvoyControl } from './envoy-control.ts'
import type { ZoneLearning } from './zone-learning.ts'

/** After a request with keys of other rules, the processor assumes for so long that an Envoy still has the previous listener. */
const OTHER_KEYS_MS = 60_000

/** Notes requests whose keys follow other rules than those in force. Such requests don't make a zone learned. */
export class OtherKeys {
  readonly #now: () => number
  #seenAtMs = Number.NEGATIVE_INFINITY

  /** @param now monotonic, milliseconds */
  constructor(now: () => number) {
    this.#now = now
  }

  seen(): void {
    this.#seenAtMs = this.#now()
  }

  /** True if such a request came within the last minute. */
  get lately(): boolean {
    return this.#now() - this.#seenAtMs < OTHER_KEYS_MS
  }
}

export interface ColdReasonParts {
  readonly control: Pick<EnvoyControl, 'policy' | 'pinOf' | 'zoneOnEnvoys' | 'active'>
  readonly zones: Pick<ZoneLearning, 'whyNot'>
  readonly otherKeys: OtherKeys
}

interface Cold {
  readonly reason: ColdReason
  /** The file, pin or zone at fault. */
  readonly detail?: string | undefined
}

/** Why requests to a zone with addresses ask the processor. Null if some Envoy routes the zone itself. */
export function coldReasonOf(zone: ZoneRef, state: ZoneState, parts: ColdReasonParts): ColdReason | null {
  const cold = notLearned(zone, state, parts)
  if (cold !== null) return cold.reason
  const envoys = parts.control.zoneOnEnvoys(zone)
  if (envoys.length === 0) return 'no_envoy'
  if (envoys.some((envoy) => envoy.state === 'refused')) return 'refused_by_envoy'
  return envoys.some((envoy) => envoy.state === 'held') ? null : 'being_pushed'
}

/**
 * How each Envoy handles a request to a zone.
 * @param isRead true if Envoy can find the zone's route from this request
 */
export function envoysWith(
  zone: ZoneRef,
  state: ZoneState,
  isRead: boolean,
  parts: ColdReasonParts,
): ExplainedEnvoy[] {
  const cold = notLearned(zone, state, parts) ?? (isRead ? null : ({ reason: 'spelling' } as const))
  return parts.control.zoneOnEnvoys(zone).map(({ envoy, state: has, rejection }): ExplainedEnvoy => {
    if (cold !== null) return { envoy, route: 'cold', ...cold }
    if (has === 'held') return { envoy, route: 'hot' }
    return has === 'refused'
      ? { envoy, route: 'cold', reason: 'refused_by_envoy', detail: rejection }
      : { envoy, route: 'cold', reason: 'being_pushed' }
  })
}

/** The order matters: an operator must remove an earlier reason before a later one counts. */
function notLearned(
  zone: ZoneRef,
  state: ZoneState,
  { control, zones, otherKeys }: ColdReasonParts,
): Cold | null {
  const why = zones.whyNot(zone)
  if (why === 'learning_off') return { reason: why }
  if (!control.active) return { reason: 'envoy_files', detail: fileFault(control) }
  const pin = control.pinOf(zone)
  if (pin !== undefined) return { reason: 'pinned', detail: pin }
  if (state === 'uncached') return { reason: 'ttl_zero' }
  if (why === 'not_asked' && otherKeys.lately) return { reason: 'keys_changed' }
  return why && { reason: why }
}

function fileFault(control: ColdReasonParts['control']): string | undefined {
  const { reasons, faults } = control.policy()
  return reasons[0] ?? faults[0]
}
