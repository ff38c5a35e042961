import { type HistoryEvent, KINDS, type Recorded } from './event.ts'
import { textOf, toneOf } from './text.ts'

const KNOWN: ReadonlySet<string> = new Set(KINDS)

/** One line with its line break. An event with more octets loses its longest parts and gets `cut`. */
export function encode(event: HistoryEvent, seq: number, at: number, octetsMax: number): string {
  const line = `${JSON.stringify({ seq, at, ...event })}\n`
  if (line.length <= octetsMax / 3 || Buffer.byteLength(line) <= octetsMax) return line
  return `${JSON.stringify({ seq, at, ...cut(event), cut: true })}\n`
}

/** Null for an incomplete record, such as a line that was being written when the power failed. */
export function decode(line: string): Recorded | null {
  let value: unknown
  try {
    value = JSON.parse(line)
  } catch {
    return null
  }
  if (typeof value !== 'object' || value === null) return null
  const { seq, at, kind } = value as Partial<Recorded>
  const isWhole = Number.isSafeInteger(seq) && Number.isFinite(at) && KNOWN.has(String(kind))
  return isWhole ? (value as Recorded) : null
}

/** The last moment that a `Date` can hold (ECMA-262, "Time Values"). */
const AT_MAX = 8.64e15
const SEQ_MAX = 2 ** 52

/** Read as texts without a look at their type. */
const TEXT_FIELDS = ['zone', 'name', 'method', 'host', 'path']

/**
 * False for a record that can't be shown, because another version or a person wrote it. One such record would break every
 * page of the history.
 */
export function isReadable(record: Recorded): boolean {
  const { seq, at } = record
  const fields: ReadonlyMap<string, unknown> = new Map(Object.entries(record))
  const values = TEXT_FIELDS.map((name) => fields.get(name))
  if (values.some((value) => value !== undefined && typeof value !== 'string')) return false
  if (seq < 1 || seq > SEQ_MAX || Math.abs(at) > AT_MAX) return false
  try {
    return textOf(record) !== '' && toneOf(record) !== undefined
  } catch {
    return false
  }
}

/** Reads the records of many lines and skips other lines. */
export function* decodeLines(text: string): Generator<Recorded> {
  for (const line of text.split('\n')) {
    const record = line === '' ? null : decode(line)
    if (record !== null) yield record
  }
}

const TEXT_LENGTH_MAX = 200
const LIST_LENGTH_MAX = 20

function cut(event: HistoryEvent): object {
  switch (event.kind) {
    case 'started':
      return { ...shortened(event), config: {} }
    case 'config':
      return {
        kind: event.kind,
        file: event.file,
        changes: event.changes.slice(0, LIST_LENGTH_MAX).map(keyOnly),
      }
    default:
      return shortened(event)
  }
}

function keyOnly({ key }: { readonly key: string }): object {
  return { key: key.slice(0, TEXT_LENGTH_MAX) }
}

function shortened(value: object): object {
  return Object.fromEntries(
    Object.entries(value).map(([key, part]) => [
      key,
      typeof part === 'string'
        ? part.slice(0, TEXT_LENGTH_MAX)
        : Array.isArray(part)
          ? part
              .slice(0, LIST_LENGTH_MAX)
              .map((each) => (typeof each === 'string' ? each.slice(0, TEXT_LENGTH_MAX) : each))
          : part,
    ]),
  )
}
