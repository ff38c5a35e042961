import { setTimeout as sleep } from 'node:timers/promises'
import type { LongestTurn } from './probe.ts'
import { type Memory, memoryOf, type ProbedZonegate, startProbed } from './probed.ts'
import { type Child, Processes } from './processes.ts'
import { align, median } from './report.ts'
import { askAll, asking } from './requests.ts'
import { type Stage, settingOf } from './stage.ts'
import { type Durations, readDurations, readStat } from './systems/envoy.ts'
import { untilHot } from './systems/zonegate.ts'
import { firstZones, type Zone } from './zones.ts'

/** What learned zones cost, by their number: memory, and the time until Envoy routes them. */

/** How many more zones Envoy learns one by one, after all others. */
export const sampleSize = 10

/** Pushes by kind, as Envoy counted them. */
interface Pushes {
  readonly clusters: Durations
  readonly virtualHosts: Durations
}

export interface Scale {
  readonly zones: number
  /** Every zone had a request, and none is learned yet. */
  readonly cold: Memory
  /** Every zone is learned and has an open connection. */
  readonly used: Memory
  /** Every zone is learned, and the connections are closed again. */
  readonly idle: Memory
  /** From the second request for a zone to its first hot one, for each zone of the sample. */
  readonly toHotMs: readonly number[]
  /** A new Envoy: from its connection until it has the last virtual host. */
  readonly pushMs: number
  readonly pushes: Pushes
  /** The processor's event loop meanwhile. */
  readonly longestTurn: LongestTurn
}

export async function measureScale(stage: Stage, count: number, sharedRoutes: boolean): Promise<Scale> {
  const processes = new Processes()
  try {
    const all = firstZones(count + sampleSize)
    const [zones, sample] = [all.slice(0, count), all.slice(count)]
    const setting = { ...settingOf(stage, all, processes), requestIds: true }
    const zonegate = await startProbed(setting, { learned: true, accessLog: true, sharedRoutes })

    await askAll(zonegate, zones)
    const cold = await memoryOf(zonegate)
    await untilHot(zonegate, zones)
    const used = await memoryOf(zonegate)
    await sleep(connectionsCloseMs)
    const idle = await memoryOf(zonegate)

    const toHotMs: number[] = []
    for (const zone of sample) toHotMs.push(await timeToHot(zonegate, zone))
    return { zones: count, cold, used, idle, toHotMs, ...(await pushToNewEnvoy(zonegate, count)) }
  } finally {
    await processes.stop()
  }
}

/** Longer than the idle timeout of upstream connections in Envoy's file. */
const connectionsCloseMs = 6_000

const betweenRequestsMs = 5
const hotWithinMs = 10_000

/** Envoy's access log names the path; the answers to hot and cold requests are the same. */
export function timeToHot(zonegate: ProbedZonegate, zone: Zone): Promise<number> {
  const { envoy } = zonegate
  return asking(zonegate, (ask) => poll((tag) => ask('POST', zone.id, `${zone.id}-${tag}`), envoy, zone))
}

async function poll(post: (tag: string) => Promise<unknown>, envoy: Child, zone: Zone): Promise<number> {
  await post('first')
  await sleep(betweenPushesMs)
  const deadline = performance.now() + hotWithinMs
  for (let turn = 0; performance.now() < deadline; turn++) {
    await post(`${turn}`)
    await sleep(betweenRequestsMs)
    // Envoy writes its log every 200 ms, so more frequent reads would find nothing new.
    if (turn % 20 !== 19) continue
    const lines = envoy
      .output()
      .split('\n')
      .filter((line) => line.includes(`"request_id":"${zone.id}-`))
      .map((line) => JSON.parse(line) as { request_id: string; time: string; path: string })
    const second = lines.find((line) => line.request_id === `${zone.id}-0`)
    const hot = lines.filter((line) => line.path === 'hot').map((line) => Date.parse(line.time))
    if (second !== undefined && hot.length > 0) return Math.min(...hot) - Date.parse(second.time)
  }
  throw new Error(`zone ${zone.id} is not hot after ${hotWithinMs / 1000} s`)
}

/** Afterwards no other push is due. */
const betweenPushesMs = 500

export const virtualHostStat = 'http.callback.rds.vhds.zonegate'
/** Envoy adds up histograms every 5 seconds. */
export const histogramsAfterMs = 6_000
const settledAfterMs = 3_000
const pushedWithinMs = 240_000
/** Envoy takes longer for each cluster, the more it has. */
const pushedWithinMsPerZone = 10

async function pushToNewEnvoy(
  { envoy, processor, probe, adminPort, startEnvoy }: ProbedZonegate,
  count: number,
): Promise<Pick<Scale, 'pushMs' | 'pushes' | 'longestTurn'>> {
  process.kill(envoy.pid, 'SIGKILL')
  await envoy.exit
  await probe.watch()
  await startEnvoy()
  const lastPush = () => readStat(adminPort, `${virtualHostStat}.update_time`)
  const withinMs = Math.max(pushedWithinMs, count * pushedWithinMsPerZone)
  const deadline = performance.now() + withinMs
  for (;;) {
    const clusters = await readStat(adminPort, 'cluster_manager.active_clusters')
    if (clusters >= count && Date.now() - (await lastPush()) > settledAfterMs) break
    if (performance.now() > deadline) throw new Error(`${clusters} clusters after ${withinMs / 1000} s`)
    await sleep(250)
  }
  const longestTurn = await probe.longestTurn()
  const connected = processor
    .output()
    .split('\n')
    .findLast((line) => line.includes('an Envoy has connected'))
  if (connected === undefined) throw new Error('the processor does not log that an Envoy has connected')
  const pushMs = (await lastPush()) - Date.parse((JSON.parse(connected) as { time: string }).time)
  await sleep(histogramsAfterMs)
  const pushes = {
    clusters: await readDurations(adminPort, 'cluster_manager.cds.update_duration'),
    virtualHosts: await readDurations(adminPort, `${virtualHostStat}.update_duration`),
  }
  return { pushMs, pushes, longestTurn }
}

const columns = [
  'zones',
  'Envoy MiB cold',
  'learned',
  'RSS',
  'KB/zone',
  'in use',
  'RSS KB/zone',
  'processor MiB cold',
  'learned',
  'RSS',
  'to hot ms',
  'push ms',
  'CDS',
  'VHDS',
  'turn ms CPU',
  'wall',
]

export function renderScale(scales: readonly Scale[]): string {
  const lines = scales.map(({ zones, cold, used, idle, toHotMs, pushMs, pushes, longestTurn }) => [
    `${zones}`,
    mebibytes(cold.envoyAllocated),
    mebibytes(idle.envoyAllocated),
    mebibytes(idle.envoyRss),
    perZone(idle.envoyAllocated - cold.envoyAllocated, zones),
    perZone(used.envoyAllocated - cold.envoyAllocated, zones),
    perZone(used.envoyRss - cold.envoyRss, zones),
    mebibytes(cold.processorLive),
    mebibytes(idle.processorLive),
    mebibytes(idle.processorRss),
    `${median(toHotMs).toFixed(0)} (${Math.max(...toHotMs).toFixed(0)})`,
    pushMs.toFixed(0),
    times(pushes.clusters),
    times(pushes.virtualHosts),
    longestTurn.cpuMs.toFixed(1),
    longestTurn.wallMs.toFixed(1),
  ])
  return `${align([columns, ...lines])}\n${legend}`
}

const legend = `
Envoy: memory that its allocator has handed out, before and after it learned the zones; RSS; KB for each zone, without and
with one upstream connection each. Processor: memory after a garbage collection; RSS. To hot: from a zone's second request
to its first hot one, after all other zones are learned, median (and longest) of ${sampleSize}. Push: a new Envoy gets all zones,
from its connection until it has the last virtual host; CDS and VHDS: pushes × mean ms of Envoy's main thread. Turn: the
longest turn of the processor's event loop meanwhile, in CPU time (at most 1 ms too much) and by the clock.`

export function times({ count, totalMs }: Durations): string {
  return count === 0 ? '-' : `${count} × ${(totalMs / count).toFixed(0)}`
}

export function mebibytes(bytes: number): string {
  return (bytes / 2 ** 20).toFixed(1)
}

function perZone(bytes: number, zones: number): string {
  return (bytes / 1000 / zones).toFixed(1)
}
