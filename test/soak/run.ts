import { readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { type ParseArgsOptionsConfig, parseArgs } from 'node:util'

/** Values of `--name value` by name. Ends the program after `--help`, and with an error after an unknown option. */
export function readOptions(
  usage: string,
  options: ParseArgsOptionsConfig,
): Record<string, string | boolean> {
  try {
    const all: ParseArgsOptionsConfig = { ...options, help: { type: 'boolean', short: 'h', default: false } }
    const values = parseArgs({ options: all, strict: true }).values as Record<string, string | boolean>
    if (values['help'] !== true) return values
  } catch (error) {
    console.error(`${(error as Error).message}\n\n${usage}`)
    process.exit(2)
  }
  console.log(usage.trimEnd())
  process.exit(0)
}

export function positiveNumber(name: string, value: string | boolean | undefined): number {
  const number = Number(value)
  if (Number.isFinite(number) && number > 0) return number
  console.error(`--${name} takes a number above 0, not ${value}`)
  process.exit(2)
}

/** Aborted by the first Ctrl-C or SIGTERM. Whoever started something ends it. */
export function untilInterrupted(): AbortSignal {
  const controller = new AbortController()
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => controller.abort())
  return controller.signal
}

/** Waits. Returns early when aborted. */
export async function pause(ms: number, signal: AbortSignal): Promise<void> {
  await sleep(Math.max(0, ms), undefined, { signal }).catch(() => undefined)
}

/** Resident memory of a process in MB (10^6 octets); NaN when the process has ended. */
export function residentMb(pid: number | undefined): number {
  try {
    const [, kib] = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8')) ?? []
    return (Number(kib) * 1024) / 1e6
  } catch {
    return Number.NaN
  }
}

export function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length
}

/** Prints a line with the seconds since `startedMs`. */
export function sayAt(startedMs: number, text: string): void {
  const seconds = Math.floor((performance.now() - startedMs) / 1000)
  console.log(`${String(seconds).padStart(4)} s  ${text}`)
}

/** Waits for all tasks. When one fails, `over` ends the others early. */
export async function together(tasks: readonly Promise<void>[], over: AbortController): Promise<void> {
  try {
    await Promise.all(tasks)
  } finally {
    over.abort()
    await Promise.allSettled(tasks)
  }
}
