import { Writable } from 'node:stream'
import { type Logger, pino } from 'pino'
import { LogOutput } from './log-output.ts'

export type { Logger }

export interface LogOptions {
  readonly level: string
  /** Lines for people; else JSON lines. */
  readonly pretty: boolean
  readonly colour: boolean
  readonly output: NodeJS.WritableStream
}

const STDOUT = 1

/** One logger for the process. `flush` before it ends: the last lines may still be on their way. */
export function createLog({ level, pretty, colour, output }: LogOptions): Logger {
  const options = {
    level,
    base: { service: 'zonegate' },
    timestamp: pino.stdTimeFunctions.isoTime,
    formatters: { level: (label: string) => ({ level: label }) },
  }
  if (pretty) return pino(options, prettyStream(output, colour))
  const log: Logger = pino(
    options,
    new LogOutput(STDOUT, (lines) =>
      log.warn({ lines }, 'the log was not read fast enough: lines are missing'),
    ),
  )
  return log
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

/** Terminals obey these too, and JSON lets them through. */
const C1_CONTROLS = /[\u007f-\u009f]/g
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
  return JSON.stringify(value).replace(C1_CONTROLS, (control) => `\\u00${control.charCodeAt(0).toString(16)}`)
}
