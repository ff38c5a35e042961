import { readPolicyFor } from '../config/envoy-files.ts'
import type { Config } from '../config/schema.ts'
import type { PolicyFiles, PolicyReading } from '../envoy-files/policy.ts'
import { type FieldChange, fieldChanges } from '../field-changes.ts'

/** What new files for Envoy would change for every zone. */
export interface PolicyDiff {
  readonly changes: readonly FieldChange[]
  /** Why no zone is learned, with the old and the new files; empty: zones are learned. */
  readonly reasonsBefore: readonly string[]
  readonly reasonsAfter: readonly string[]
}

/** @throws Error where a file can't be read */
export function readPolicies(
  config: Config,
  before: PolicyFiles,
  after: PolicyFiles,
): { readonly diff: PolicyDiff; readonly after: PolicyReading } {
  // Both with the new rules, so that the differences come from the files only.
  const [was, is] = [readPolicyFor(config, before), readPolicyFor(config, after)]
  for (const reading of [was, is]) if (reading.kind === 'faults') throw new Error(reading.faults.join('\n'))
  return {
    after: is,
    diff: {
      changes: [
        ...changesOf('routes.yaml', coldOf(was).configuration, coldOf(is).configuration),
        ...changesOf('clusters.yaml', coldOf(was).cluster, coldOf(is).cluster),
      ],
      reasonsBefore: reasonsOf(was),
      reasonsAfter: reasonsOf(is),
    },
  }
}

function coldOf(reading: PolicyReading): Extract<PolicyReading, { cold: unknown }>['cold'] {
  return reading.kind === 'faults' ? {} : reading.cold
}

function reasonsOf(reading: PolicyReading): readonly string[] {
  return reading.kind === 'cold only' ? reading.reasons : []
}

function changesOf(file: string, before: unknown, after: unknown): FieldChange[] {
  return fieldChanges(before, after, '').map(({ field, ...values }) => ({
    field: `${file}: ${field || 'all'}`,
    ...values,
  }))
}
