const VALUE_LENGTH_MAX = 120

/** One field whose value differs between two documents. */
export interface FieldChange {
  /** The path of the field: `virtual_hosts[cold].routes[forward].route.timeout`. */
  readonly field: string
  /** The value as JSON, or a duration as text (`0.5s`). Null if the field is absent. */
  readonly before: string | null
  readonly after: string | null
}

/** The fields that differ, each as deep in the document as both versions have it. */
export function fieldChanges(before: unknown, after: unknown, path: string): FieldChange[] {
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
  // Only the order differs. It matters: Envoy takes the first route that matches.
  return found.length > 0
    ? found
    : [{ field: path, before: [...was.keys()].join(' '), after: [...is.keys()].join(' ') }]
}

/** The parts of a value by their field, in a list by their name or else their index. Null if it has no parts. */
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

/** A duration as `0.5s`. Null for other values. */
function durationText(value: unknown): string | null {
  if (typeof value !== 'object' || value === null) return null
  const { seconds = 0, nanos = 0, ...others } = value as Record<string, unknown>
  const isDuration = Object.keys(value).length > 0 && Object.keys(others).length === 0
  return isDuration ? `${Number(seconds) + Number(nanos) / 1e9}s` : null
}

function jsonOf(value: unknown): string {
  return JSON.stringify(value) ?? ''
}
