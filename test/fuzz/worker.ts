/** The thread that fuzz.ts watches. It runs endless rounds over the targets. */
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { parentPort, workerData } from 'node:worker_threads'
import { targets } from './targets.ts'

export interface Job {
  readonly seed: number
  /** Chooses the targets whose names contain this. Empty chooses all. */
  readonly only: string
  /** One failure again, as it was found. */
  readonly path?: string
}

export interface FromWorker {
  readonly target: string
  readonly seed: number
  readonly runs: number
  readonly failure: string | null
  /** Of the failure, to repeat it. */
  readonly path: string | null
  /** At the end of a round only: what is alive after a full collection. */
  readonly aliveMb: number | null
  readonly residentMb: number
}

/** One target's turn. The time ends it, not the number of runs. */
const TURN_MS = 1000
const RUNS_MAX = 1_000_000
/** Each round has another seed, starting with the job's. The step is odd, so that no seed repeats before all have been used. */
const SEED_STEP = 0x1e37_79b1
const SEEDS = 2 ** 31

setFlagsFromString('--expose-gc')
const collect = runInNewContext('gc') as () => void

async function fuzz({ seed: first, only, path }: Job): Promise<never> {
  const chosen = targets.filter(({ name }) => name.includes(only))
  for (let seed = first; ; seed = (seed + SEED_STEP) % SEEDS) {
    for (const [index, { name, check }] of chosen.entries()) {
      const options = { seed, runs: RUNS_MAX, timeoutMs: TURN_MS, ...(path !== undefined && { path }) }
      const { runs, failure, path: failurePath } = await check(options)
      const roundEnds = index === chosen.length - 1
      if (roundEnds) collect()
      const { heapUsed, external, rss } = process.memoryUsage()
      const message: FromWorker = {
        target: name,
        seed,
        runs,
        failure,
        path: failurePath,
        aliveMb: roundEnds ? (heapUsed + external) / 1e6 : null,
        residentMb: rss / 1e6,
      }
      parentPort?.postMessage(message)
      // Otherwise the target's timers and sockets would wait for ever.
      await new Promise((resolve) => setImmediate(resolve))
    }
  }
}

await fuzz(workerData as Job)
