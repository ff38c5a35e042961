import { readPolicyFor } from '../config/envoy-files.ts'
import type { Config } from '../config/schema.ts'
import type { PolicyFiles, PolicyReading } from '../xds/policy.ts'

/** What another folder of Envoy's files would change for every zone. */
export interface PolicyDiff {
  readonly changes: readonly PolicyChange[]
  /** Why no zone is learned, by the files before and by those after; empty: zones are learned. */
  readonly reasonsBefore: readonly string[]
  readonly reasonsAfter: readonly string[]
}

export interface PolicyChange {
  /** `routes.yaml: virtual_hosts[cold].routes[forward].route.timeout`. */
  readonly field: string
  /** As JSON, a duration as text; null: not there. */
  readonly before: string | null
  readonly after: string | null
}

const VALUE_LENGTH_MAX = 120

/** @throws Error where a file can't be read */
export function readPolicies(
  config: Config,
  before: PolicyFiles,
  after: PolicyFiles,
): { readonly diff: PolicyDiff; readonly after: PolicyReading } {
  // Both by the new rules: what follows from these is none of the files'.
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

function changesOf(file: string, before: unknown, after: unknown): PolicyChange[] {
  return fieldChanges(before, after, '').map(({ field, ...values }) => ({
    field: `${file}: ${field || 'all'}`,
    ...values,
  }))
}

/** The fields that differ, each as deep down as both have it. */
export function fieldChanges(before: unknown, after: unknown, path: string): PolicyChange[] {
  if (jsonOf(before) === jsonOf(after)) return []
  const [was, is] = [partsOf(before), partsOf(after)]
  if (was === null || is === null)
    return [{ field: path, before: valueText(before), after: valueText(after) }]
  const keys = [...new Set([...was.keys(), ...is.keys()])]
  const found = keys.flatMap((key) =>
    fieldChanges(
      was.get(key),
      is.get(key),
      path === '' || key.startsWith('[') ? path + key : `${path}.${key}`,
    ),
  )
  // The same parts in another order: of routes, the first that fits counts.
  return found.length > 0
    ? found
    : [{ field: path, before: [...was.keys()].join(' '), after: [...is.keys()].join(' ') }]
}

/** By field, by name in a list, else by place; null: it has no parts. */
function partsOf(value: unknown): Map<string, unknown> | null {
  if (typeof value !== 'object' || value === null || Buffer.isBuffer(value) || durationText(value) !== null)
    return null
  if (!Array.isArray(value)) return new Map(Object.entries(value))
  return new Map(
    value.map((item: unknown, index) => {
      const name = typeof item === 'object' && item !== null ? (item as { name?: unknown }).name : undefined
      return [`[${typeof name === 'string' ? name : index}]`, item]
    }),
  )
}

function valueText(value: unknown): string | null {
  if (value === undefined || value === null) return null
  const text = durationText(value) ?? jsonOf(value)
  return text.length > VALUE_LENGTH_MAX ? `${text.slice(0, VALUE_LENGTH_MAX)}…` : text
}

/** `0.5s`; null: it is no duration. */
function durationText(value: unknown): string | null {
  if (typeof value !== 'object' || value === null) return null
  const { seconds = 0, nanos = 0, ...others } = value as Record<string, unknown>
  const isDuration = Object.keys(value).length > 0 && Object.keys(others).length === 0
  return isDuration ? `${Number(seconds) + Number(nanos) / 1e9}s` : null
}

function jsonOf(value: unknown): string {
  return JSON.stringify(value) ?? ''
}
