import { headOf, MARK } from '../envoy-files/key.ts'
import { type IdSource, isBodySource, sourceText } from '../routing/id-sources.ts'
import type { RequestHead, Rule } from '../routing/rules.ts'
import { withId } from '../status/request-description.ts'

/** The fields of an access log line that a decision depends on (`access_log` of envoy/listener.yaml). */
export interface Logged {
  readonly method: string
  readonly host: string
  /** Without the query. */
  readonly path: string
  readonly key: string | undefined
  /** DNS name of the zone that got the request. */
  readonly zone: string | undefined
  readonly reason: string | undefined
  /** False where Envoy shortened a field that rules look at. */
  readonly isWhole: boolean
}

/** A request that could have written the line. */
export interface LoggedHead {
  readonly head: RequestHead
  /** Whether the line tells what the request had in this place, even if that is nothing. */
  readonly knows: (source: IdSource) => boolean
}

/** Where envoy/listener.yaml cuts a client's text. */
const LENGTH_MAX = { method: 32, host: 255, uri: 512, key: 128 } as const
/** Envoy writes this for an absent value. */
const NOTHING = '-'

/** Null: it is not a line of the access log. */
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
 * The requests that could have written a line: its key has the id, and does not always tell its place.
 * @param rule of the rules in force that fits the line
 * @returns the reason as a text, if the key can't be read
 */
export function headsOf(logged: Logged, rule: Rule | undefined): LoggedHead[] | string {
  const { method, host: authority, path, key } = logged
  const bare: RequestHead = { method, path, authority, headers: {} }
  if (rule === undefined || !rule.methods.has(method)) return [{ head: bare, knows: knowing([]) }]
  const { sources } = rule
  const alwaysKnown = sources.findIndex((source) => !isInHead(source)) < 0
  if (alwaysKnown) return [{ head: bare, knows: knowing([]) }]
  if (key === undefined) return [{ head: bare, knows: knowing([]) }]
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
    if (isSeveral ? source.kind !== 'header' : MARK[source.kind] !== rest[0]) return []
    const knows = knowing(sources.slice(0, index + 1))
    // The log does not have the other cookies of the request.
    if (source.kind === 'cookie') return [{ head: bare, knows: knowing(sources.slice(0, index)) }]
    if (isSeveral) return [{ head: withId(withId(bare, source, '1'), source, '2'), knows }]
    return [{ head: value === '' || value === NOTHING ? bare : placed(bare, source, value), knows }]
  })
  return places.length > 0 ? places : 'other rules than those in force made its key'
}

/** Each line has the path and the host. */
function isInHead({ kind }: IdSource): boolean {
  return kind === 'path' || kind === 'host'
}

function knowing(sources: readonly IdSource[]): (source: IdSource) => boolean {
  const known = new Set(sources.map(sourceText))
  return (source) => isInHead(source) || known.has(sourceText(source))
}

function placed(head: RequestHead, source: IdSource, value: string): RequestHead {
  if (isInHead(source)) return head
  return withId(
    head,
    source,
    source.kind === 'query' || source.kind === 'form' ? encodeURIComponent(value) : value,
  )
}
