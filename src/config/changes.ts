/** One key whose value differs between two configurations. */
export interface ConfigChange {
  /** The path of the key: `dns.budgetMs`, `zones.12`. A list counts as one value. */
  readonly key: string
  /** Undefined if the key was absent. `(secret)` instead of a secret. */
  readonly before: unknown
  /** Undefined if the key is absent. `(secret)` instead of a secret. */
  readonly after: unknown
}

/** Keys whose values must not appear in a log, a history or a diff. */
const SECRETS: ReadonlySet<string> = new Set(['listen.httpToken'])
const REDACTED = '(secret)'

/** What differs between two configurations, or between the same part of both. In the order of `before`. */
export function changesOf(before: object, after: object, prefix = ''): ConfigChange[] {
  const names = new Set([...Object.keys(before), ...Object.keys(after)])
  return [...names].flatMap((name) => {
    const [old, value] = [valueAt(before, name), valueAt(after, name)]
    if (JSON.stringify(old) === JSON.stringify(value)) return []
    const key = prefix === '' ? name : `${prefix}.${name}`
    if (isMap(value) && isMap(old)) return changesOf(old, value, key)
    return [{ key, before: shown(key, old), after: shown(key, value) }]
  })
}

/** The same configuration without its secrets. */
export function withoutSecrets<Value extends object>(config: Value, prefix = ''): Value {
  const entries = Object.entries(config).map(([name, value]) => {
    const key = prefix === '' ? name : `${prefix}.${name}`
    return [name, isMap(value) ? withoutSecrets(value, key) : shown(key, value)]
  })
  return Object.fromEntries(entries) as Value
}

function shown(key: string, value: unknown): unknown {
  return SECRETS.has(key) && value !== null && value !== undefined ? REDACTED : value
}

function valueAt(map: object, name: string): unknown {
  return Object.hasOwn(map, name) ? (map as Readonly<Record<string, unknown>>)[name] : undefined
}

function isMap(value: unknown): value is object {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
