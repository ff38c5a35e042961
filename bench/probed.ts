import { fileURLToPath } from 'node:url'
import { freePort } from './ports.ts'
import type { LiveMemory, LongestTurn } from './probe.ts'
import type { Setting } from './systems/system.ts'
import { type RunningZonegate, startZonegate, type ZonegateOptions } from './systems/zonegate.ts'

const probePath = fileURLToPath(new URL('probe.ts', import.meta.url))

/** Zonegate with a probe in its processor. */
export interface ProbedZonegate extends RunningZonegate {
  readonly probe: Probe
}

export interface Probe {
  memory(): Promise<LiveMemory>
  /** Begins to watch the event loop. */
  watch(): Promise<void>
  /** Ends that. */
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
