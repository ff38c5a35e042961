import { envoySource, MARK } from '../envoy-files/envoy-source.ts'
import { headOf } from '../envoy-files/key.ts'
import { type IdSource, isBodySource, type SourceKind, sourceText } from '../routing/id-sources.ts'
import type { RequestHead, Rule } from '../routing/rules.ts'
import { withId } from '../status/request-description.ts'

/** The fields of an access log line that a decision depends on (`access_log` of envoy/listener.yaml). */
export interface Logged {
  readonly method: string
  readonly host: string
  /** Without the query. */
  readonly path: string
  readonly key: string | undefined
  /** DNS name of the zone that received the request. */
  readonly zone: string | undefined
  readonly reason: string | undefined
  /** False if Envoy shortened a field that rules look at. */
  readonly isWhole: boolean
}

/** A request that could have written the line. */
export interface LoggedHead {
  readonly head: RequestHead
  /** True if the line tells what the request has in this place. It may tell that the request has nothing there. */
  readonly knows: (source: IdSource) => boolean
}

/** The lengths to which envoy/listener.yaml shortens texts of a client. */
const LENGTH_MAX = { method: 32, host: 255, uri: 512, key: 128 } as const
/** Envoy writes this for an absent value. */
const NOTHING = '-'

/** Null: the text is not a line of the access log. */
export function parseLine(text: string): Logged | null {
  let line: unknown
  try {
    line = JSON.parse(text)
  } catch {
    return null
  }
  if (typeof line !== 'object' || line === null) return null
  const { method, uri, host, key, zone, reason } = line as Record<string, unknown>
  if (typeof method !== 'string' || typeof uri !== 'string') return null
  const textOf = (value: unknown): string | undefined => (typeof value === 'string' ? value : undefined)
  return {
    method,
    host: textOf(host) ?? '',
    path: uri,
    key: textOf(key),
    zone: textOf(zone),
    reason: textOf(reason),
    isWhole:
      method.length < LENGTH_MAX.method &&
      uri.length < LENGTH_MAX.uri &&
      (textOf(host) ?? '').length < LENGTH_MAX.host,
  }
}

/**
 * The requests that could have written a line. There may be several, because its key does not always tell which source the id is from.
 * @param rule the rule in force that fits the line
 * @returns a text with the reason if the key can't be read
 */
export function headsOf(logged: Logged, rule: Rule | undefined): LoggedHead[] | string {
  const { method, host: authority, path, key } = logged
  const bare: RequestHead = { method, path, authority, headers: {} }
  if (rule === undefined || !rule.methods.has(method)) return [{ head: bare, knows: knowing([]) }]
  const { sources } = rule
  if (key === undefined || sources.every(isInLine)) return [{ head: bare, knows: knowing([]) }]
  if (key.length >= LENGTH_MAX.key) return 'the log shortened the key'
  const start = `${method}${headOf(rule)}`
  if (!key.startsWith(start)) return 'other rules than those in force made its key'
  const rest = key.slice(start.length)
  if (rest === '!body') {
    const body = sources.findIndex(isBodySource)
    return [{ head: bare, knows: knowing(sources.slice(0, Math.max(0, body))) }]
  }
  const isSeveral = rest === '!several'
  const value = rest.slice(1)
  const places = sources.flatMap((source, index) => {
    if (isSeveral ? envoySource(source).header === null : MARK[source.kind] !== rest[0]) return []
    if (VALUE_IN[source.kind] === 'nothing') return [{ head: bare, knows: knowing(sources.slice(0, index)) }]
    const knows = knowing(sources.slice(0, index + 1))
    if (isSeveral) return [{ head: withId(withId(bare, source, '1'), source, '2'), knows }]
    return [{ head: value === '' || value === NOTHING ? bare : placed(bare, source, value), knows }]
  })
  return places.length > 0 ? places : 'other rules than those in force made its key'
}

/** What of a line has the value of a source. No line has all cookies of a request. */
const VALUE_IN: Readonly<Record<SourceKind, 'line' | 'key' | 'decoded key' | 'nothing'>> = {
  header: 'key',
  query: 'decoded key',
  path: 'line',
  host: 'line',
  cookie: 'nothing',
  json: 'key',
  form: 'decoded key',
}

function isInLine({ kind }: IdSource): boolean {
  return VALUE_IN[kind] === 'line'
}

function knowing(sources: readonly IdSource[]): (source: IdSource) => boolean {
  const known = new Set(sources.map(sourceText))
  return (source) => isInLine(source) || known.has(sourceText(source))
}

function placed(head: RequestHead, source: IdSource, value: string): RequestHead {
  if (isInLine(source)) return head
  return withId(head, source, VALUE_IN[source.kind] === 'decoded key' ? encodeURIComponent(value) : value)
}
