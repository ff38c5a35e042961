import { type Logger, pino } from 'pino'

export type { Logger }

/** JSON lines on standard output, one logger for the process. */
export function createLog(level: string): Logger {
  return pino({
    level,
    base: { service: 'zonegate' },
    timestamp: pino.stdTimeFunctions.isoTime,
    formatters: { level: (label) => ({ level: label }) },
  })
}
