import { machineMicros, ownMicros, type Usage, usageOf } from './machine.ts'
import { Processes } from './processes.ts'
import { plain, verify } from './requests.ts'
import { type Stage, settingOf } from './stage.ts'
import type { Running, System } from './systems/system.ts'
import { faultOf, type Load, runLoad } from './wrk.ts'
import { firstZones } from './zones.ts'

/** What a table is about. */
export interface Case {
  readonly zones: number
  readonly workers: number
}

/** One system's turn in one round. */
export interface Turn extends Case {
  readonly system: string
  readonly round: number
  readonly result: Result
}

export type Result = Figures | { readonly void: string }

export interface Figures {
  readonly requestsPerSecond: number
  readonly cpuMicrosPerRequest: number
  readonly p50Micros: number
  readonly p99Micros: number
  /** CPU that programs outside the benchmark used meanwhile, in cores. The more, the less a figure can be trusted. */
  readonly coresUsedByOthers: number
  /** The processes of the system, by role. */
  readonly processes: Readonly<Record<string, { cpuMicrosPerRequest: number; memoryBytes: number }>>
}

/** A system that is up and does its job. It stays up, and idle, while others take their turns. */
export interface Standing {
  readonly system: System
  readonly case: Case
  readonly running: Running
  readonly processes: Processes
}

/** Long enough for just-in-time compilers. */
const firstWarmUpSeconds = 3
/** Before each turn, because some systems have closed their idle connections and open new ones first. */
const warmUpSeconds = 1

/** Starts a system for all its turns, and checks that it does its job. */
export async function raise(
  stage: Stage,
  system: System,
  current: Case,
): Promise<Standing | { readonly void: string }> {
  const processes = new Processes()
  try {
    const zones = firstZones(current.zones)
    const running = await system.start({ ...settingOf(stage, zones, processes), workers: current.workers })
    await verify(system, running, zones)
    await running.settle?.()
    const standing = { system, case: current, running, processes }
    await load(stage, standing, firstWarmUpSeconds)
    return standing
  } catch (error) {
    await processes.stop()
    return { void: (error as Error).message }
  }
}

/** Loads a system and measures its cost. */
export async function takeTurn(stage: Stage, standing: Standing): Promise<Result> {
  const { running } = standing
  try {
    await load(stage, standing, warmUpSeconds)

    const before = await count(stage, running)
    const seen = await load(stage, standing, stage.seconds)
    const after = await count(stage, running)

    const dead = running.children.find((child) => child.ended() !== undefined)
    const missing = seen.requests - (after.served - before.served)
    const fault =
      dead?.ended() ??
      faultOf(seen) ??
      (missing > 0 ? `${missing} answers not by a receiver` : undefined) ??
      (await running.fault?.())
    return fault === undefined ? figures(running, seen, before, after) : { void: fault }
  } catch (error) {
    return { void: (error as Error).message }
  }
}

function load(stage: Stage, { running, processes, case: current }: Standing, seconds: number): Promise<Load> {
  const { port, form = plain } = running
  return runLoad(processes, stage.wrk, {
    port,
    form,
    zones: current.zones,
    connections: stage.connections,
    seconds,
  })
}

/** Counters at one moment. */
interface Count {
  readonly used: ReadonlyMap<number, Usage>
  /** CPU time of everything on this machine except the benchmark. */
  readonly othersMicros: number
  readonly served: number
}

async function count(stage: Stage, running: Running): Promise<Count> {
  const served = await stage.receivers.served()
  const used = usageOf([
    ...running.children.map((child) => child.pid),
    stage.receivers.pid,
    stage.nameserver.pid,
  ])
  const benchMicros = [...used.values()].reduce((sum, usage) => sum + usage.cpuMicros, ownMicros())
  return { used, othersMicros: machineMicros() - benchMicros, served }
}

function figures(running: Running, seen: Load, before: Count, after: Count): Figures {
  const costs = running.children.map(({ role, pid }) => {
    const cpuMicros = (after.used.get(pid)?.cpuMicros ?? 0) - (before.used.get(pid)?.cpuMicros ?? 0)
    const memoryBytes = after.used.get(pid)?.memoryBytes ?? 0
    return [role, { cpuMicrosPerRequest: cpuMicros / seen.requests, memoryBytes }] as const
  })
  return {
    requestsPerSecond: seen.requests / (seen.micros / 1e6),
    cpuMicrosPerRequest: costs.reduce((sum, [, cost]) => sum + cost.cpuMicrosPerRequest, 0),
    p50Micros: seen.p50Micros,
    p99Micros: seen.p99Micros,
    // The two come from different clocks, so the difference may be a tick or two below zero.
    coresUsedByOthers: Math.max(0, after.othersMicros - before.othersMicros) / seen.micros,
    processes: Object.fromEntries(costs),
  }
}
