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
  /** Memory it allocated, what its processes share counted once; program files are left out. */
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
      memoryBytes: before.memoryBytes + allocatedBytes(readProc(pid, 'smaps_rollup')),
    })
  }
  return usage
}

/**
 * Time that the whole machine was busy so far, stolen time included: what this benchmark's own processes don't explain of
 * it, other programs took. Interrupts belong to it, because Linux charges them to the process they interrupt as well.
 */
export function machineMicros(): number {
  // proc(5), /proc/stat: cpu user nice system idle iowait irq softirq steal
  const [, user, nice, system, , , irq, softirq, steal] = readFileSync('/proc/stat', 'utf8')
    .split(/\s+/, 9)
    .map(Number)
  return (
    [user, nice, system, irq, softirq, steal].reduce<number>((sum, ticks) => sum + (ticks ?? 0), 0) *
    microsPerTick
  )
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

function allocatedBytes(rollup: string): number {
  const kib = (field: string) => Number(rollup.match(new RegExp(`^${field}:\\s+(\\d+) kB`, 'm'))?.[1] ?? 0)
  return (kib('Pss_Anon') + kib('Pss_Shmem')) * 1024
}
