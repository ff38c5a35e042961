import { type HistoryEvent, KINDS } from '../history/event.ts'
import type { HistoryQuery } from '../history/read-history.ts'

const LIMIT_DEFAULT = 1000
const LIMIT_MAX = 10_000
const ZONE_LENGTH_MAX = 300

/** @returns a text that says what is wrong, if something is */
export function historyQueryOf(params: URLSearchParams): HistoryQuery | string {
  const faults: string[] = []
  const number = (name: string, least: number, most: number): number | undefined => {
    const text = params.get(name)
    if (text === null) return undefined
    const value = momentOf(text)
    if (!(value >= least && value <= most)) faults.push(name)
    return value
  }
  const since = number('since', 0, Number.MAX_SAFE_INTEGER)
  const until = number('until', 0, Number.MAX_SAFE_INTEGER)
  const after = number('after', 0, Number.MAX_SAFE_INTEGER)
  const limit = number('limit', 1, LIMIT_MAX) ?? LIMIT_DEFAULT
  const kinds = params.getAll('kind')
  if (!kinds.every(isKind)) faults.push('kind')
  const zone = params.get('zone') ?? undefined
  if (zone !== undefined && (zone === '' || zone.length > ZONE_LENGTH_MAX)) faults.push('zone')
  if (faults.length === 0) return { since, until, after, zone, limit, kinds: kinds.filter(isKind) }
  return `expected ${faults.join(', ')} as in ?since=MS&until=MS&after=SEQ&zone=ID&kind=KIND&limit=N: times since 1970 or ISO 8601, N up to ${LIMIT_MAX}, kinds ${KINDS.join(', ')}`
}

/** @returns milliseconds since 1970; NaN if the text is no time */
export function momentOf(text: string): number {
  return /^\d+(?:\.\d+)?$/.test(text) ? Number(text) : Date.parse(text)
}

function isKind(text: string): text is HistoryEvent['kind'] {
  return (KINDS as readonly string[]).includes(text)
}
