import type { ConfigChange } from '../config/changes.ts'
import type { LogDiff } from './log.ts'
import type { PolicyDiff } from './policy.ts'
import type { ZoneDiff } from './zones.ts'

/** What a new configuration would change for the zones in use. */
export interface Diff {
  /** `unknown`: no move was found, but not everything could be compared. */
  readonly result: 'same' | 'moves' | 'unknown'
  /** Differences in the keys that decide where requests go. */
  readonly changed: readonly ConfigChange[]
  /** Zones in use now. */
  readonly live: number
  readonly requestsPerSecond: number
  readonly zones: readonly ZoneDiff[]
  /** Absent: Envoy's files are not compared. */
  readonly policy?: PolicyDiff
  /** Absent: no log is given. */
  readonly log?: LogDiff
  /** Names that this command asked DNS for. */
  readonly namesAsked: number
  /** Worth knowing, but no move. */
  readonly notes: readonly string[]
}
