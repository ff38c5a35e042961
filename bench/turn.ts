import { usageOf } from './cpu.ts'
import { faultOf, runLoad } from './load.ts'
import type { Nameserver } from './nameserver.ts'
import { Processes } from './processes.ts'
import type { Receivers } from './receivers.ts'
import type { System } from './systems/system.ts'
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

const warmUpSeconds = 1

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

    const leaders = running.children.map((child) => child.pid)
    const [usedBefore, servedBefore] = [usageOf(leaders), await stage.receivers.served()]
    const seen = await runLoad(processes, stage.wrk, { ...load, seconds: stage.seconds })
    const [usedAfter, servedAfter] = [usageOf(leaders), await stage.receivers.served()]

    const dead = running.children.find((child) => child.ended() !== undefined)
    const missing = seen.requests - (servedAfter - servedBefore)
    const fault =
      dead?.ended() ?? faultOf(seen) ?? (missing > 0 ? `${missing} answers not by a receiver` : undefined)
    if (fault !== undefined) return { void: fault }

    const costs = running.children.map(({ role, pid }) => {
      const [before, after] = [usedBefore.get(pid), usedAfter.get(pid)]
      const cpuMicros = (after?.cpuMicros ?? 0) - (before?.cpuMicros ?? 0)
      const cost = { cpuMicrosPerRequest: cpuMicros / seen.requests, memoryBytes: after?.memoryBytes ?? 0 }
      return [role, cost] as const
    })
    return {
      requestsPerSecond: seen.requests / (seen.micros / 1e6),
      cpuMicrosPerRequest: costs.reduce((sum, [, cost]) => sum + cost.cpuMicrosPerRequest, 0),
      p50Micros: seen.p50Micros,
      p99Micros: seen.p99Micros,
      processes: Object.fromEntries(costs),
    }
  } catch (error) {
    return { void: (error as Error).message }
  } finally {
    await processes.stop()
    stage.owned.delete(processes)
  }
}
