import type { ColdReason } from '../status/cold-reasons.ts'
import type { ExplainedEnvoy } from '../status/explain.ts'
import type { ZoneState } from '../status/status.ts'
import type { ZoneRef } from '../zones/learned-zones.ts'
import type { EnvoyControl } from './envoy-control.ts'
import type { ZoneLearning } from './zone-learning.ts'

/** A request that comes by keys of other rules is a sign that an Envoy has the listener of the rules before, for so long. */
const OTHER_KEYS_MS = 60_000

/** Requests whose keys are by other rules than those in force: their zones are not learned by them. */
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

  /** True where one came within the last minute. */
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
  /** What is at fault, by name. */
  readonly detail?: string | undefined
}

/** Why requests of a zone that has addresses ask the processor; null: some Envoy routes it. */
export function coldReasonOf(zone: ZoneRef, state: ZoneState, parts: ColdReasonParts): ColdReason | null {
  const cold = notLearned(zone, state, parts)
  if (cold !== null) return cold.reason
  const envoys = parts.control.zoneOnEnvoys(zone)
  if (envoys.length === 0) return 'no_envoy'
  if (envoys.some((envoy) => envoy.state === 'refused')) return 'refused_by_envoy'
  return envoys.some((envoy) => envoy.state === 'held') ? null : 'being_pushed'
}

/**
 * What becomes of a request to a zone on each Envoy.
 * @param isRead Envoy finds the zone's route by this request
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

/** The first of these reasons is the one that has to go before another one counts. */
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
