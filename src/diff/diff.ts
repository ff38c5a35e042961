import type { ConfigChange } from '../config/changes.ts'
import type { LogDiff } from './log.ts'
import type { PolicyDiff } from './policy.ts'
import type { ZoneDiff } from './zones.ts'

/** What a new configuration would move. */
export interface Diff {
  /** `unknown`: nothing is known to move, and not all could be compared. */
  readonly result: 'same' | 'moves' | 'unknown'
  /** What differs of the keys that say where requests go. */
  readonly changed: readonly ConfigChange[]
  /** How many zones requests go to now. */
  readonly live: number
  readonly requestsPerSecond: number
  readonly zones: readonly ZoneDiff[]
  /** Absent: Envoy's files were not compared. */
  readonly policy?: PolicyDiff
  /** Absent: no log was read. */
  readonly log?: LogDiff
  /** How many names DNS was asked for. */
  readonly namesAsked: number
  /** To be known, and no move. */
  readonly notes: readonly string[]
}
