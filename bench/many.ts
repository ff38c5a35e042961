import { setTimeout as sleep } from 'node:timers/promises'
import { type Usage, usageOf } from './machine.ts'
import { type Memory, memoryOf, type ProbedZonegate, startProbed } from './probed.ts'
import { Processes } from './processes.ts'
import { align, median } from './report.ts'
import { askAll, plain } from './requests.ts'
import { histogramsAfterMs, mebibytes, times, timeToHot, virtualHostStat } from './scale.ts'
import { type Stage, settingOf } from './stage.ts'
import { readDurations, readStat } from './systems/envoy.ts'
import { askedSoFar, untilHot } from './systems/zonegate.ts'
import { faultOf, type Load, runLoad } from './wrk.ts'
import { firstZones, type Zone } from './zones.ts'

/** A few zones have most of the requests (Zipf's law): how many requests ask the processor, and what they cost. */

/** How many more zones Envoy learns one by one under load. */
export const newZones = 5

export interface Many {
  readonly zones: number
  readonly zonesMax: number
  readonly sharedRoutes: boolean
  readonly load: Load
  /** The share of requests that asked the processor, from 0 to 1. */
  readonly asked: number
  readonly envoyMicros: number
  readonly processorMicros: number
  readonly memory: Memory
  readonly toHotMs: readonly number[]
  readonly pushes: { readonly count: number; readonly totalMs: number }
}

export async function measureMany(
  stage: Stage,
  count: number,
  options: { readonly zonesMax: number | undefined; readonly sharedRoutes: boolean },
): Promise<Many> {
  const processes = new Processes()
  try {
    const all = firstZones(count + newZones)
    const [zones, more] = [all.slice(0, count), all.slice(count)]
    const { sharedRoutes, zonesMax = all.length } = options
    const setting = { ...settingOf(stage, all, processes), requestIds: true }
    const zonegate = await startProbed(setting, { learned: true, accessLog: true, zonesMax, sharedRoutes })
    const load = (seconds: number): Promise<Load> => zipf(stage, zonegate, processes, count, seconds)

    await askAll(zonegate, zones)
    // Otherwise some zones are never learned.
    if (zonesMax >= count) await untilHot(zonegate, zones)
    else await load(warmUpSeconds)
    const before = await countsOf(zonegate)
    const seen = await load(stage.seconds)
    const after = await countsOf(zonegate)
    const memory = await memoryOf(zonegate)
    const toHotMs = zonesMax >= all.length ? await underLoad(load, zonegate, more) : []
    await sleep(histogramsAfterMs)
    const requests = after.requests - before.requests
    const used = (pid: number): number => (cpuOf(after.used, pid) - cpuOf(before.used, pid)) / requests
    const fault = faultOf(seen)
    if (fault !== undefined) console.log(`${count} zones: ${fault}`)
    return {
      zones: count,
      zonesMax,
      sharedRoutes,
      load: seen,
      asked: (after.asked - before.asked) / requests,
      envoyMicros: used(zonegate.envoy.pid),
      processorMicros: used(zonegate.processor.pid),
      memory,
      toHotMs,
      pushes: await readDurations(zonegate.adminPort, `${virtualHostStat}.update_duration`),
    }
  } finally {
    await processes.stop()
  }
}

/** Afterwards the busy zones are hot. */
const warmUpSeconds = 15
/** Longer than all new zones need to become hot. */
const underLoadSeconds = 20

function zipf(
  { wrk, connections }: Stage,
  { port }: ProbedZonegate,
  processes: Processes,
  zones: number,
  seconds: number,
): Promise<Load> {
  return runLoad(processes, wrk, { port, form: plain, zones, zipf: true, connections, seconds })
}

async function underLoad(
  load: (seconds: number) => Promise<Load>,
  zonegate: ProbedZonegate,
  zones: readonly Zone[],
): Promise<number[]> {
  const loaded = load(underLoadSeconds)
  const toHotMs: number[] = []
  for (const zone of zones) toHotMs.push(await timeToHot(zonegate, zone))
  await loaded
  return toHotMs
}

interface Counts {
  readonly requests: number
  readonly asked: number
  readonly used: ReadonlyMap<number, Usage>
}

async function countsOf(zonegate: ProbedZonegate): Promise<Counts> {
  return {
    requests: await readStat(zonegate.adminPort, 'http.callback.downstream_rq_total'),
    asked: await askedSoFar(zonegate),
    used: usageOf([zonegate.envoy.pid, zonegate.processor.pid]),
  }
}

function cpuOf(used: ReadonlyMap<number, Usage>, pid: number): number {
  return used.get(pid)?.cpuMicros ?? 0
}

const columns = [
  'zones',
  'zonesMax',
  'routes',
  'req/s',
  'by the processor',
  'µs/req Envoy',
  'processor',
  'p50 ms',
  'p99',
  'Envoy MiB',
  'RSS',
  'processor MiB',
  'RSS',
  'to hot ms',
  'VHDS',
]

export function renderMany(all: readonly Many[]): string {
  const lines = all.map((one) => [
    `${one.zones}`,
    `${one.zonesMax}`,
    one.sharedRoutes ? 'shared' : 'own',
    (one.load.requests / (one.load.micros / 1e6)).toFixed(0),
    `${(one.asked * 100).toFixed(2)} %`,
    one.envoyMicros.toFixed(0),
    one.processorMicros.toFixed(1),
    (one.load.p50Micros / 1000).toFixed(1),
    (one.load.p99Micros / 1000).toFixed(1),
    mebibytes(one.memory.envoyAllocated),
    mebibytes(one.memory.envoyRss),
    mebibytes(one.memory.processorLive),
    mebibytes(one.memory.processorRss),
    one.toHotMs.length === 0
      ? '-'
      : `${median(one.toHotMs).toFixed(0)} (${Math.max(...one.toHotMs).toFixed(0)})`,
    times(one.pushes),
  ])
  return `${align([columns, ...lines])}\n${legend}`
}

const legend = `
Ids by Zipf's law: id n has 1/n as many requests as id 1. By the processor: the share of requests that asked it. Memory under
load: what Envoy's allocator has handed out, what a garbage collection leaves in the processor, and RSS. To hot: from the
second request for a new zone to its first hot one, under the same load, median (and longest) of ${newZones}. VHDS: pushes of
virtual hosts × mean ms of Envoy's main thread.`
