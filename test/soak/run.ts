import { readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { type ParseArgsOptionsConfig, parseArgs } from 'node:util'

/** Values of `--name value` by name; ends the program for `--help`, and with a sentence where one isn't known. */
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

/** Aborted by the first Ctrl-C or SIGTERM; what runs is ended by whoever started it. */
export function untilInterrupted(): AbortSignal {
  const controller = new AbortController()
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => controller.abort())
  return controller.signal
}

/** Returns early when aborted. */
export async function pause(ms: number, signal: AbortSignal): Promise<void> {
  await sleep(Math.max(0, ms), undefined, { signal }).catch(() => undefined)
}

/** Resident memory of a process in MB (10^6 octets); NaN when it is gone. */
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
