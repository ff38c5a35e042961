import { Writable } from 'node:stream'
import { type Logger, pino } from 'pino'
import { LogOutput } from './log-output.ts'
import { plainJson } from './plain-json.ts'

export type { Logger }

export interface LogOptions {
  readonly level: string
  /** Lines for people; else JSON lines. */
  readonly pretty: boolean
  readonly colour: boolean
  readonly output: NodeJS.WritableStream
}

const STDOUT = 1
/** Characters of a text in a line, and entries of a list: what a client, an Envoy or a nameserver says may be of any length. */
const TEXT_LENGTH_MAX = 2000
const LIST_LENGTH_MAX = 100
const DEPTH_MAX = 4

/** One logger for the process. `flush` before it ends: the last lines may still be on their way. */
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
      log.warn({ lines }, 'lines are missing: the log was not read fast enough, or grew too fast'),
    ),
  )
  return log
}

/** The same with every text and every list cut. An error stays one, with a stack of ours and a message that may not be. */
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

/** `12:34:56.789 WARN  refused  reason=no_address id=12`; what is no JSON stays as it is. */
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

/** Bare where that is unmistakable; control characters of a client never reach the terminal. */
function valueText(value: unknown): string {
  if (typeof value === 'string' && /^[\w.:/@+-]+$/.test(value)) return value
  return plainJson(value)
}
