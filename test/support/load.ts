import { Agent } from 'node:http'
import { call, type Reply } from './http.ts'

export interface Load {
  /** Outcomes since the start or the last `reset`: `200`, or status and reason, or the error. */
  readonly outcomes: Map<string, number>
  /** Milliseconds of each request since then. */
  readonly durationsMs: number[]
  reset(): void
  stop(): Promise<void>
}

/** A request that was not answered with 200: when it began, and when it was given up or answered. */
export interface Failure {
  readonly outcome: string
  readonly beganMs: number
  readonly endedMs: number
}

/**
 * Between two requests of a connection, milliseconds. Some are under way at any time, and the cores are free for what happens to
 * them: without a pause, most of the CPU of a test went into its load.
 */
const PAUSE_MS = 20

/** Sends requests for the ids in turn until it is stopped, on several connections at once. */
export function startLoad(
  port: number,
  connections: number,
  ids: readonly string[],
  pauseMs = PAUSE_MS,
  onFailure: (failure: Failure) => void = () => undefined,
): Load {
  const agent = new Agent({ keepAlive: true, maxSockets: connections })
  const send = (id: string): Promise<Reply> => call(port, { headers: [['server', id]], body: 'x', agent })
  const load = startLoadOf(send, connections, ids, pauseMs, onFailure)
  return {
    ...load,
    stop: async () => {
      await load.stop()
      agent.destroy()
    },
  }
}

/** So many requests at once, one after the other in each of the lines, sent as `send` does. */
export function startLoadOf(
  send: (id: string) => Promise<Reply>,
  lines: number,
  ids: readonly string[],
  pauseMs = PAUSE_MS,
  onFailure: (failure: Failure) => void = () => undefined,
): Load {
  const outcomes = new Map<string, number>()
  const durationsMs: number[] = []
  let running = true
  let turn = 0
  const one = async (): Promise<void> => {
    const id = ids[turn++ % ids.length] ?? ''
    const started = performance.now()
    let outcome: string
    try {
      const reply = await send(id)
      outcome = reply.status === 200 ? '200' : `${reply.status} ${reply.json()['reason']}`
    } catch (error) {
      outcome = (error as Error).message
    }
    const ended = performance.now()
    durationsMs.push(ended - started)
    if (outcome !== '200') onFailure({ outcome, beganMs: started, endedMs: ended })
    outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1)
  }
  const worker = async (): Promise<void> => {
    while (running) {
      await one()
      if (pauseMs > 0) await new Promise((done) => setTimeout(done, pauseMs))
    }
  }
  const workers = Array.from({ length: lines }, worker)
  return {
    outcomes,
    durationsMs,
    reset: () => {
      outcomes.clear()
      durationsMs.length = 0
    },
    stop: async () => {
      running = false
      await Promise.all(workers)
    },
  }
}

/** A percentile. */
export function percentile(values: readonly number[], percent: number): number {
  const sorted = [...values].sort((a, b) => a - b)
  return sorted[Math.min(sorted.length - 1, Math.floor((sorted.length * percent) / 100))] ?? 0
}
