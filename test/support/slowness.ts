/** What the work below takes on the machine that bounds of time are written for, while nothing else runs there, milliseconds. */
const REFERENCE_MS = 4
const RUNS = 9

/** Names, objects and a table: what the processor's turns are made of. */
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
 * How many times slower than that machine this one is just now, 1 at least. A bound of time that is multiplied by it is the same
 * bound everywhere.
 * @param nowMs what is measured: by default CPU time, which caches, clock and a hypervisor make differ. By the clock on the wall
 *   it also counts that other work has the cores
 */
export function slowness(nowMs: () => number = cpuMs): number {
  const startMs = nowMs()
  for (let run = 0; run < RUNS; run++) work()
  return Math.max(1, (nowMs() - startMs) / RUNS / REFERENCE_MS)
}
