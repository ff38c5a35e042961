import { machineMicros, ownMicros, type Usage, usageOf } from './cpu.ts'
import { faultOf, type Load, runLoad } from './load.ts'
import type { Nameserver } from './nameserver.ts'
import { Processes } from './processes.ts'
import type { Receivers } from './receivers.ts'
import type { Running, System } from './systems/system.ts'
import { verify } from './verify.ts'
import { firstZones } from './zones.ts'

/** What a turn is measured under. */
export interface Case {
  readonly zones: number
  readonly workers: number
}

/** One system's turn in one round. */
export interface Turn extends Case {
  readonly system: string
  readonly round: number
  readonly result: Figures | { readonly void: string }
}

export interface Figures {
  readonly requestsPerSecond: number
  readonly cpuMicrosPerRequest: number
  readonly p50Micros: number
  readonly p99Micros: number
  /** CPU that programs outside the benchmark used meanwhile, in cores: what makes a figure doubtful. */
  readonly coresUsedByOthers: number
  /** Each process of the system, by its role. */
  readonly processes: Readonly<Record<string, { cpuMicrosPerRequest: number; memoryBytes: number }>>
}

export interface Stage {
  readonly wrk: string
  readonly receivers: Receivers
  readonly nameserver: Nameserver
  readonly connections: number
  readonly seconds: number
  readonly requestIds: boolean
  /** Told of the processes of each turn, so that they can be ended whatever happens. */
  readonly owned: Set<Processes>
}

/** Long enough for a just-in-time compiler. */
const warmUpSeconds = 2

/** Starts a system alone, proves that it does its job, warms it up, measures it and ends it. */
export async function takeTurn(
  stage: Stage,
  system: System,
  { zones, workers }: Case,
): Promise<Turn['result']> {
  const processes = new Processes()
  stage.owned.add(processes)
  try {
    const { nameserver, requestIds } = stage
    const setting = { zones: firstZones(zones), workers, nameserver, processes, requestIds }
    const running = await system.start(setting)
    await verify(system, running, setting.zones)
    await running.settle?.()
    const load = { port: running.port, zones, connections: stage.connections }
    await runLoad(processes, stage.wrk, { ...load, seconds: warmUpSeconds })

    const before = await count(stage, running)
    const seen = await runLoad(processes, stage.wrk, { ...load, seconds: stage.seconds })
    const after = await count(stage, running)

    const dead = running.children.find((child) => child.ended() !== undefined)
    const missing = seen.requests - (after.served - before.served)
    const fault =
      dead?.ended() ?? faultOf(seen) ?? (missing > 0 ? `${missing} answers not by a receiver` : undefined)
    if (fault !== undefined) return { void: fault }

    return figures(running, seen, before, after)
  } catch (error) {
    return { void: (error as Error).message }
  } finally {
    await processes.stop()
    stage.owned.delete(processes)
  }
}

/** What has been counted up to a moment. */
interface Count {
  readonly used: ReadonlyMap<number, Usage>
  /** CPU time of everything on this machine but the benchmark. */
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
    // Ticks of different clocks: the difference may fall short of zero by one or two.
    coresUsedByOthers: Math.max(0, after.othersMicros - before.othersMicros) / seen.micros,
    processes: Object.fromEntries(costs),
  }
}
