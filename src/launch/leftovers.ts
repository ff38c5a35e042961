import { readdirSync, readFileSync, readlinkSync } from 'node:fs'
import { resolve } from 'node:path'

/** A process of a checkout: Envoy or a processor, with its launcher if that still runs. */
export interface RunningPart {
  readonly name: 'envoy' | 'processor'
  readonly pid: number
  readonly launcherPid: number | null
}

/**
 * Finds the parts that run in `root`, from /proc. Finds nothing on a system without /proc, and no processes of other users.
 */
export function runningParts(root: string): RunningPart[] {
  return pids().flatMap((pid): RunningPart[] => {
    const name = partOf(pid, root)
    if (name === null) return []
    const parent = parentOf(pid)
    return [{ name, pid, launcherPid: parent !== null && isLauncher(parent) ? parent : null }]
  })
}

/** Says what runs and how to end it. Null if nothing runs. */
export function leftoversText(parts: readonly RunningPart[]): string | null {
  const list = (some: readonly RunningPart[]): string =>
    some.map(({ name, pid }) => `${name} (pid ${pid})`).join(' and ')
  const left = parts.filter(({ launcherPid }) => launcherPid === null)
  if (left.length > 0)
    return `${list(left)} of an earlier start of this checkout still run without their launcher; to stop them: kill ${left.map(({ pid }) => pid).join(' ')}`
  const [part] = parts
  if (part === undefined) return null
  return `Zonegate already runs in this checkout: ${list(parts)}; to stop it: kill ${part.launcherPid}`
}

function partOf(pid: number, root: string): RunningPart['name'] | null {
  const args = argumentsOf(pid)
  if (args.length === 0 || folderOf(pid) !== resolve(root)) return null
  if (args.some((arg, at) => arg === '-c' && args[at + 1] === 'run/envoy.yaml')) return 'envoy'
  const main = args.findIndex((arg) => arg.endsWith('src/main.ts'))
  return main >= 0 && args[main + 1] === 'serve' ? 'processor' : null
}

function isLauncher(pid: number): boolean {
  return argumentsOf(pid).some((arg) => /(^|\/)(src\/launch\/start|demo\/demo)\.ts$/.test(arg))
}

function pids(): number[] {
  try {
    return readdirSync('/proc')
      .filter((name) => /^\d+$/.test(name))
      .map(Number)
  } catch {
    return []
  }
}

function argumentsOf(pid: number): string[] {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0').filter(Boolean)
  } catch {
    return []
  }
}

function folderOf(pid: number): string | null {
  try {
    return readlinkSync(`/proc/${pid}/cwd`)
  } catch {
    return null
  }
}

function parentOf(pid: number): number | null {
  try {
    // The process name may contain spaces and brackets, so read behind the last bracket.
    const [, parent] = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ').at(-1)?.split(' ') ?? []
    return Number(parent)
  } catch {
    return null
  }
}
