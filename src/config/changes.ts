/** One key whose value differs between two configurations. */
export interface ConfigChange {
  /** `dns.budgetMs`, `zones.12`; lists are told as one. */
  readonly key: string
  /** Undefined: it was not there. Of a secret: `(secret)`. */
  readonly before: unknown
  /** Undefined: it is there no more. Of a secret: `(secret)`. */
  readonly after: unknown
}

/** Keys whose values nobody may read in a log, a history or a diff. */
const SECRETS: ReadonlySet<string> = new Set(['listen.httpToken'])
const REDACTED = '(secret)'

/** What differs between two configurations, or the same part of both, in the order of the first. */
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

/** The same configuration, with no secret in it. */
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
