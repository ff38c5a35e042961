import { readdirSync, readFileSync } from 'node:fs'

/**
 * What processes cost, from /proc (Linux).
 *
 * Every system under test is started as the leader of a session, so "its processes" are those of that session:
 * workers and short-lived children are in, wrk, receivers and nameserver (sessions of their own) are out.
 */

/** proc(5): the unit of CPU times in /proc/PID/stat is USER_HZ, which is 100 on every architecture Linux shows to users. */
const microsPerTick = 1_000_000 / 100

export interface Usage {
  /** User and system time so far. */
  readonly cpuMicros: number
  /** Proportional set size: memory shared by several processes is counted once. */
  readonly memoryBytes: number
}

/** What the session of each leader has used so far. */
export function usageOf(leaders: readonly number[]): Map<number, Usage> {
  const usage = new Map<number, Usage>(leaders.map((leader) => [leader, { cpuMicros: 0, memoryBytes: 0 }]))
  for (const pid of readdirSync('/proc')) {
    if (!/^\d+$/.test(pid)) continue
    const { session, ticks } = parseStat(readProc(pid, 'stat'))
    const before = usage.get(session)
    if (before === undefined) continue
    usage.set(session, {
      cpuMicros: before.cpuMicros + ticks * microsPerTick,
      memoryBytes: before.memoryBytes + proportionalSetSize(readProc(pid, 'smaps_rollup')),
    })
  }
  return usage
}

/**
 * User, system and stolen time of the whole machine so far: what this benchmark's own processes don't explain of it, other
 * programs took. Interrupts are left out, because Linux charges them to no process.
 */
export function machineMicros(): number {
  // proc(5), /proc/stat: cpu user nice system idle iowait irq softirq steal
  const [, user, nice, system, , , , , steal] = readFileSync('/proc/stat', 'utf8').split(/\s+/, 9).map(Number)
  return ((user ?? 0) + (nice ?? 0) + (system ?? 0) + (steal ?? 0)) * microsPerTick
}

/** This process and every child it has waited for. */
export function ownMicros(): number {
  return parseStat(readFileSync('/proc/self/stat', 'utf8')).ticks * microsPerTick
}

/** Empty for a process that ended since the folder was listed; its time is in its parent's by then. */
function readProc(pid: string, file: string): string {
  try {
    return readFileSync(`/proc/${pid}/${file}`, 'utf8')
  } catch {
    return ''
  }
}

/**
 * proc(5), /proc/PID/stat. Times cover all threads, ended ones too, and the children that ended and were waited for.
 * The second field, the program's name, may itself hold blanks and parentheses.
 */
export function parseStat(line: string): { session: number; ticks: number } {
  const fields = line.slice(line.lastIndexOf(')') + 2).split(' ')
  const field = (number: number) => Number(fields[number - 3])
  const [session, utime, stime, cutime, cstime] = [6, 14, 15, 16, 17] as const
  return { session: field(session), ticks: field(utime) + field(stime) + field(cutime) + field(cstime) }
}

function proportionalSetSize(rollup: string): number {
  return Number(rollup.match(/^Pss:\s+(\d+) kB/m)?.[1] ?? 0) * 1024
}
