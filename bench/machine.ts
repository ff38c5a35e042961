import { readdirSync, readFileSync } from 'node:fs'
import { cpus, release, totalmem } from 'node:os'

export interface Machine {
  readonly cpu: string
  readonly cores: number
  readonly memoryGiB: number
  readonly kernel: string
}

export function describeMachine(): Machine {
  return {
    cpu: cpus()[0]?.model.trim() ?? 'unknown CPU',
    cores: cpus().length,
    memoryGiB: Math.round(totalmem() / 2 ** 30),
    kernel: release(),
  }
}

/** How many files, and so connections, a process may open. Node raises its own limit, which its children inherit. */
export function openFilesMax(): number {
  const soft = readFileSync('/proc/self/limits', 'utf8').match(/^Max open files\s+(\S+)/m)?.[1]
  return soft === 'unlimited' ? Number.POSITIVE_INFINITY : Number(soft)
}

/** proc(5): CPU times in /proc/PID/stat count in USER_HZ, which is 100 on every architecture. */
const microsPerTick = 1_000_000 / 100

export interface Usage {
  /** User and system time so far. */
  readonly cpuMicros: number
  /** Allocated memory, without program files. Memory that processes share counts once. */
  readonly memoryBytes: number
}

/**
 * What each session has used so far, from /proc (Linux). The benchmark starts each process of a system as the leader of a
 * session, so workers and short-lived children count too.
 * @param leaders process ids
 */
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
 * How long the whole machine was busy so far, including stolen time. Subtract the benchmark's own processes to get what
 * other programs used. Interrupts count, because Linux also charges them to the process that they interrupt.
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

/** CPU time of this process and of every child that it has waited for. */
export function ownMicros(): number {
  return parseStat(readFileSync('/proc/self/stat', 'utf8')).ticks * microsPerTick
}

/** Empty for a process that has just ended. Its parent's times include it then. */
function readProc(pid: string, file: string): string {
  try {
    return readFileSync(`/proc/${pid}/${file}`, 'utf8')
  } catch {
    return ''
  }
}

/**
 * proc(5), /proc/PID/stat. The times include ended threads, and children that ended and were waited for. The second field,
 * the program's name, may contain blanks and parentheses.
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
