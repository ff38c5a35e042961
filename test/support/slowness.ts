/** Milliseconds that the work below takes on the idle machine for which time limits in tests are written. */
const REFERENCE_MS = 4
const RUNS = 9

/** Work like the processor's: names, objects and a table. */
function work(): number {
  const zones = new Map<string, object>()
  for (let id = 0; id < 20_000; id++) zones.set(`default/${id}`, { id })
  return zones.size
}

const cpuMs = (): number => {
  const { user, system } = process.threadCpuUsage()
  return (user + system) / 1000
}

/**
 * How many times slower this machine is just now, at least 1. A time limit multiplied by it is equally strict on every machine.
 * @param nowMs what is measured: by default CPU time, which caches, clock and a hypervisor make differ. By the clock on the wall
 *   it also counts that other work has the cores
 */
export function slowness(nowMs: () => number = cpuMs): number {
  const startMs = nowMs()
  for (let run = 0; run < RUNS; run++) work()
  return Math.max(1, (nowMs() - startMs) / RUNS / REFERENCE_MS)
}
