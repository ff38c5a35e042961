import { Writable } from 'node:stream'
import { type Logger, pino } from 'pino'
import { LogOutput } from './log-output.ts'
import { plainJson } from './plain-json.ts'

export type { Logger }

export interface LogOptions {
  readonly level: string
  /** True for lines that people read, false for JSON lines. */
  readonly pretty: boolean
  readonly colour: boolean
  readonly output: NodeJS.WritableStream
}

const STDOUT = 1
/** Limits on a log line's values, because clients, Envoys and nameservers may send texts and lists of any length. */
const TEXT_LENGTH_MAX = 2000
const LIST_LENGTH_MAX = 100
const DEPTH_MAX = 4

/** Creates the logger of the process. Call `flush` before the process ends, because the last lines may not be written yet. */
export function createLog({ level, pretty, colour, output }: LogOptions): Logger {
  const options = {
    level,
    base: { service: 'zonegate' },
    timestamp: pino.stdTimeFunctions.isoTime,
    formatters: {
      level: (label: string) => ({ level: label }),
      log: (fields: Record<string, unknown>) => cut(fields, 0) as Record<string, unknown>,
    },
  }
  if (pretty) return pino(options, prettyStream(output, colour))
  const log: Logger = pino(
    options,
    new LogOutput(STDOUT, (lines) =>
      log.warn({ lines }, 'lines are missing: the log grew too fast, or its reader is too slow'),
    ),
  )
  return log
}

/** Shortens every text and list in a value. An error keeps its shape, but its message may contain a client's text. */
function cut(value: unknown, depth: number): unknown {
  if (typeof value === 'string')
    return value.length > TEXT_LENGTH_MAX ? `${value.slice(0, TEXT_LENGTH_MAX)}…` : value
  if (typeof value !== 'object' || value === null) return value
  if (depth > DEPTH_MAX) return '…'
  if (Array.isArray(value)) return value.slice(0, LIST_LENGTH_MAX).map((item) => cut(item, depth + 1))
  if (value instanceof Error) {
    const { type, message, stack, ...more } = pino.stdSerializers.err(value)
    return { type, ...(cut({ message, stack, ...more }, depth) as object) }
  }
  if (Object.getPrototypeOf(value) !== Object.prototype) return value
  return Object.fromEntries(
    Object.entries(value)
      .slice(0, LIST_LENGTH_MAX)
      .map(([key, item]) => [key, cut(item, depth + 1)]),
  )
}

/** Turns pino's JSON lines into lines for people. */
function prettyStream(output: NodeJS.WritableStream, colour: boolean): Writable {
  return new Writable({
    decodeStrings: false,
    write(line: string | Buffer, _encoding, done) {
      output.write(prettyLine(String(line), colour))
      done()
    },
  })
}

const COLOURS: Readonly<Record<string, number>> = {
  trace: 90,
  debug: 90,
  info: 32,
  warn: 33,
  error: 31,
  fatal: 31,
}

/** Turns JSON into `12:34:56.789 WARN  refused  reason=no_address id=12`. Returns other text unchanged. */
export function prettyLine(json: string, colour: boolean): string {
  let fields: Record<string, unknown>
  try {
    fields = JSON.parse(json)
  } catch {
    return json
  }
  const { time, level, msg, service: _, err, ...rest } = fields
  const paint = (code: number, text: string): string => (colour ? `\x1b[${code}m${text}\x1b[0m` : text)
  const clock = String(time).slice(11, 23)
  const label = paint(COLOURS[String(level)] ?? 0, String(level).toUpperCase().padEnd(5))
  const pairs = Object.entries(rest).map(([key, value]) => `${paint(90, `${key}=`)}${valueText(value)}`)
  const stack = typeof err === 'object' && err !== null ? `\n${(err as { stack?: string }).stack ?? ''}` : ''
  return `${[paint(90, clock), label, String(msg ?? ''), '', ...pairs].join(' ').trimEnd()}${stack}\n`
}

/** Quotes a value unless it is plain, so that control characters from a client never reach the terminal. */
function valueText(value: unknown): string {
  if (typeof value === 'string' && /^[\w.:/@+-]+$/.test(value)) return value
  return plainJson(value)
}
