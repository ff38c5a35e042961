/**
 * Sends whatever strangers might send to every input of Zonegate, round after round. Nothing may crash, hang or grow. Uses
 * loopback only. Shrinks a failure, and prints it with the options that repeat it.
 *
 * usage: npm run fuzz [-- --seconds 600] [--seed N] [--only TEXT] [--path P]
 */
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { Worker } from 'node:worker_threads'
import { targets } from './targets.ts'
import type { FromWorker, Job } from './worker.ts'

/** Much longer than any round takes. */
const HANG_MS = 60_000
const MINUTE_MS = 60_000
/** Time until caches, code and the heap have reached their size. */
const WARM_UP_MS = 30_000
/** The limit on growth of the heap after a full collection. */
const GROWTH_MB_MAX = 8

interface Options extends Job {
  readonly seconds: number
}

function readOptions(): Options {
  const { values } = parseArgs({
    options: {
      seconds: { type: 'string', default: '600' },
      seed: { type: 'string', default: String(Date.now() % 1_000_000_000) },
      only: { type: 'string', default: '' },
      path: { type: 'string' },
    },
  })
  const [seconds, seed] = [Number(values.seconds), Number(values.seed)]
  if (!(seconds > 0)) throw new Error(`--seconds takes a number above 0, not ${values.seconds}`)
  if (!Number.isInteger(seed) || seed < 0 || seed >= 2 ** 31)
    throw new Error(`--seed takes a whole number from 0 to 2^31, not ${values.seed}`)
  if (!targets.some(({ name }) => name.includes(values.only)))
    throw new Error(
      `no target's name contains "${values.only}"; there are ${targets.map(({ name }) => name).join('; ')}`,
    )
  return { seconds, seed, only: values.only, ...(values.path !== undefined && { path: values.path }) }
}

/** Runs jobs in a separate thread, which can be ended even if it hangs. */
class Fuzzing {
  readonly #options: Options
  readonly #startedMs = performance.now()
  readonly #runs = new Map<string, number>()
  readonly #aliveMb: { readonly atMs: number; readonly mb: number }[] = []
  #last = 'the start'
  #lastMs = performance.now()
  #printedMs = performance.now()

  constructor(options: Options) {
    this.#options = options
  }

  async run(): Promise<number> {
    const { seconds, seed } = this.#options
    this.#say(`seed ${seed}, ${seconds} s, ${targets.length} targets`)
    const worker = new Worker(fileURLToPath(new URL('worker.ts', import.meta.url)), {
      workerData: this.#options,
    })
    const failure = await new Promise<string | null>((resolve) => {
      const watch = setInterval(() => {
        if (performance.now() - this.#lastMs > HANG_MS)
          resolve(`hangs for ${HANG_MS / 1000} s after: ${this.#last}`)
      }, 1000)
      const stop = (): void => resolve('interrupted')
      for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, stop)
      worker.on('message', (message: FromWorker) => {
        this.#lastMs = performance.now()
        const found = this.#take(message)
        const over = performance.now() - this.#startedMs >= seconds * 1000 || this.#options.path !== undefined
        if (found !== null || over) resolve(found)
      })
      worker.on('error', (error) => resolve(`crashed after: ${this.#last}\n${error.stack}`))
      worker.on('exit', (code) => resolve(`ended with ${code} after: ${this.#last}`))
      worker.once('exit', () => clearInterval(watch))
    })
    await worker.terminate()
    return this.#verdict(failure)
  }

  /** What is wrong, or null. */
  #take({ target, seed, runs, failure, path, aliveMb, residentMb }: FromWorker): string | null {
    this.#last = `--only ${JSON.stringify(target)} --seed ${seed}`
    if (failure !== null) return `${target}\n${failure}\nrepeat: npm run fuzz -- ${this.#last} --path ${path}`
    this.#runs.set(target, (this.#runs.get(target) ?? 0) + runs)
    if (aliveMb === null) return null
    const nowMs = performance.now()
    this.#aliveMb.push({ atMs: nowMs - this.#startedMs, mb: aliveMb })
    if (nowMs - this.#printedMs < MINUTE_MS) return null
    this.#printedMs = nowMs
    this.#say(`${this.#total()} runs, ${aliveMb.toFixed(1)} MB alive, ${residentMb.toFixed(0)} MB resident`)
    return null
  }

  #verdict(failure: string | null): number {
    for (const [name, runs] of this.#runs) console.log(`${String(runs).padStart(9)}  ${name}`)
    if (failure !== null) {
      console.error(`\nBROKEN  ${failure}`)
      return failure === 'interrupted' ? 130 : 1
    }
    const warm = this.#aliveMb.filter(({ atMs }) => atMs >= Math.min(WARM_UP_MS, this.#options.seconds * 250))
    const [first, last] = [
      median(warm.slice(0, Math.ceil(warm.length / 3))),
      median(warm.slice(-Math.ceil(warm.length / 3))),
    ]
    const growth = last - first
    const flat = warm.length < 3 || growth <= GROWTH_MB_MAX
    this.#say(
      `${this.#total()} runs, no crash, no hang; alive ${first.toFixed(1)} MB in the first third, ${last.toFixed(1)} MB ` +
        `in the last, growth ${growth.toFixed(1)} MB (bound ${GROWTH_MB_MAX}): ${flat ? 'ok' : 'BROKEN'}`,
    )
    return flat ? 0 : 1
  }

  #total(): number {
    return [...this.#runs.values()].reduce((sum, runs) => sum + runs, 0)
  }

  #say(text: string): void {
    const seconds = Math.round((performance.now() - this.#startedMs) / 1000)
    console.log(`${String(seconds).padStart(4)} s  ${text}`)
  }
}

function median(samples: readonly { readonly mb: number }[]): number {
  const sorted = samples.map(({ mb }) => mb).sort((a, b) => a - b)
  return sorted[Math.floor(sorted.length / 2)] ?? Number.NaN
}

try {
  process.exitCode = await new Fuzzing(readOptions()).run()
} catch (error) {
  console.error((error as Error).message)
  process.exitCode = 2
}
