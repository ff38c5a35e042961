import { setImmediate as nextTurn } from 'node:timers/promises'
import { type HistoryEvent, KINDS, LANES, type Lane, laneOf, type Recorded } from './event.ts'
import type { History } from './history.ts'
import { type Tone, textOf, toneOf } from './text.ts'

/** Which events. */
export interface HistoryQuery {
  /** Milliseconds since 1970. */
  readonly since?: number | undefined
  readonly until?: number | undefined
  /** Events with a higher `seq`. */
  readonly after?: number | undefined
  /** `12`, or `mail/12`. */
  readonly zone?: string | undefined
  /** Empty: all. */
  readonly kinds: readonly HistoryEvent['kind'][]
  /** The newest events, at most this many. */
  readonly limit: number
}

export interface HistoryPage {
  /** The oldest first, by `seq`. */
  readonly events: readonly ToldEvent[]
  /** How many older events match, too. */
  readonly leftOut: number
  /** The time since which the history is complete; null: it always was. */
  readonly completeSince: string | null
  /** Why the file can't be written; null: it can, or there is none. */
  readonly fault: string | null
}

export type ToldEvent = Recorded & { readonly text: string; readonly tone: Tone }

/** @param namesOf the names that a zone has by the rules now */
export async function readHistory(
  history: History,
  query: HistoryQuery,
  namesOf: (zone: string) => readonly string[],
): Promise<HistoryPage> {
  const { since, until, after = 0, zone, limit } = query
  const kinds = query.kinds.length === 0 ? KINDS : query.kinds
  const lanes = LANES.filter((lane) => kinds.some((kind) => laneOf(kind) === lane))
  const names = zone === undefined ? null : await namesIn(history, zone, namesOf(zone))
  const found = await collect(
    history,
    { lanes, fromAt: since, toAt: until },
    (event) =>
      event.seq > after &&
      event.at >= (since ?? event.at) &&
      event.at <= (until ?? event.at) &&
      kinds.includes(event.kind) &&
      (zone === undefined || names === null || isOf(event, zone, names)),
    limit,
  )
  const complete = lanes.flatMap((lane) => history.completeSince(lane) ?? [])
  return {
    events: found.events.map((event) => ({ ...event, text: textOf(event), tone: toneOf(event) })),
    leftOut: found.leftOut,
    completeSince: complete.length === 0 ? null : new Date(Math.max(...complete)).toISOString(),
    fault: history.status().fault,
  }
}

/** The newest `limit` events that pass, by `seq`. Lets other work run between two parts. */
export async function collect(
  history: History,
  where: { lanes?: readonly Lane[]; fromAt?: number | undefined; toAt?: number | undefined },
  passes: (event: Recorded) => boolean,
  limit = Number.POSITIVE_INFINITY,
  mayBe?: (text: string) => boolean,
): Promise<{ events: Recorded[]; leftOut: number }> {
  const events: Recorded[] = []
  let leftOut = 0
  const { lanes = LANES, fromAt = Number.NEGATIVE_INFINITY, toAt = Number.POSITIVE_INFINITY } = where
  for (const lane of lanes) {
    const own: Recorded[] = []
    for (const part of history.parts({ lanes: [lane], fromAt, toAt }, mayBe)) {
      for (const event of part) if (passes(event)) own.push(event)
      if (own.length > 2 * limit) leftOut += own.splice(0, own.length - limit).length
      await nextTurn()
    }
    events.push(...own.slice(-Math.min(limit, own.length) || own.length))
    leftOut += Math.max(0, own.length - limit)
  }
  events.sort((a, b) => a.seq - b.seq)
  const more = Math.max(0, events.length - limit)
  return { events: events.slice(more), leftOut: leftOut + more }
}

/** The names of a zone, because answers have no zone: by the rules now, and by events of the zone. */
async function namesIn(
  history: History,
  zone: string,
  known: readonly string[],
): Promise<ReadonlySet<string>> {
  const names = new Set(known)
  const tail = `${zone.slice(zone.indexOf('/') + 1).toLowerCase()}"`
  const { events } = await collect(
    history,
    { lanes: ['zones', 'refused'] },
    (event) => isZoneOf(event, zone),
    Number.POSITIVE_INFINITY,
    (text) => text.includes(tail),
  )
  for (const event of events) if ('name' in event && event.name !== undefined) names.add(event.name)
  return names
}

function isOf(event: Recorded, zone: string, names: ReadonlySet<string>): boolean {
  if (event.kind === 'answer') return names.has(event.name)
  return isZoneOf(event, zone)
}

function isZoneOf(event: Recorded, zone: string): boolean {
  return 'zone' in event && event.zone !== undefined && isSameZone(event.zone, zone)
}

/** `12` is that id of any service; ids are compared without case. */
export function isSameZone(one: string, other: string): boolean {
  const [a, b] = [one.toLowerCase(), other.toLowerCase()]
  if (a.includes('/') && b.includes('/')) return a === b
  return a.slice(a.indexOf('/') + 1) === b.slice(b.indexOf('/') + 1)
}
