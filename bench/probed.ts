import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { freePort } from '../test/support/ports.ts'
import type { LiveMemory, LongestTurn } from './probe.ts'
import { readAllocatedBytes } from './systems/envoy.ts'
import type { Setting } from './systems/system.ts'
import { type RunningZonegate, startZonegate, type ZonegateOptions } from './systems/zonegate.ts'

const probePath = fileURLToPath(new URL('probe.ts', import.meta.url))

/** Zonegate with a probe in its processor. */
export interface ProbedZonegate extends RunningZonegate {
  readonly probe: Probe
}

export interface Probe {
  memory(): Promise<LiveMemory>
  /** Starts to watch the event loop. */
  watch(): Promise<void>
  /** Ends the watch. */
  longestTurn(): Promise<LongestTurn>
}

export async function startProbed(
  setting: Setting,
  options: Omit<ZonegateOptions, 'nodeOptions' | 'env'>,
): Promise<ProbedZonegate> {
  const port = await freePort()
  const nodeOptions = ['--import', probePath]
  const running = await startZonegate(setting, {
    ...options,
    nodeOptions,
    env: { ZONEGATE_PROBE_PORT: `${port}` },
  })
  const ask = async (path: string) => {
    const response = await fetch(`http://127.0.0.1:${port}${path}`, { signal: AbortSignal.timeout(10_000) })
    return response.text()
  }
  const probe: Probe = {
    memory: async () => JSON.parse(await ask('/memory')) as LiveMemory,
    watch: async () => void (await ask('/watch')),
    longestTurn: async () => JSON.parse(await ask('/longest-turn')) as LongestTurn,
  }
  return { ...running, probe }
}

/** In bytes. */
export interface Memory {
  /** What Envoy's allocator has handed out and not got back. */
  readonly envoyAllocated: number
  readonly envoyRss: number
  /** What a garbage collection leaves. */
  readonly processorLive: number
  readonly processorRss: number
}

export async function memoryOf({ adminPort, envoy, processor, probe }: ProbedZonegate): Promise<Memory> {
  const { liveBytes } = await probe.memory()
  return {
    envoyAllocated: await readAllocatedBytes(adminPort),
    envoyRss: rssOf(envoy.pid),
    processorLive: liveBytes,
    processorRss: rssOf(processor.pid),
  }
}

function rssOf(pid: number): number {
  return Number(readFileSync(`/proc/${pid}/status`, 'utf8').match(/^VmRSS:\s+(\d+) kB/m)?.[1]) * 1024
}
