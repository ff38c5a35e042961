/**
 * `node --import` loads this into the processor. It reports what only the process itself knows: the memory that a garbage
 * collection leaves, and the longest turn of its event loop. It costs nothing until somebody asks.
 */
import { createServer } from 'node:http'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'

export interface LiveMemory {
  /** V8's heap, and the buffers beside it, after a garbage collection. */
  readonly liveBytes: number
  readonly rssBytes: number
}

/** The longest turn of the event loop since the watch started. */
export interface LongestTurn {
  /** By the clock, so the time that other programs had the CPU is included. */
  readonly wallMs: number
  /** CPU time of the main thread. Up to a millisecond more than the turn itself. */
  readonly cpuMs: number
}

const intervalMs = 1

setFlagsFromString('--expose-gc')
const collectGarbage = runInNewContext('gc') as () => void

let longest: LongestTurn = { wallMs: 0, cpuMs: 0 }
let timer: NodeJS.Timeout | undefined

/** A timer that is always due runs once in each turn of the event loop. */
function watch(): void {
  longest = { wallMs: 0, cpuMs: 0 }
  let [wallMs, cpuMs] = [performance.now(), threadMs()]
  timer = setInterval(() => {
    const [nowMs, nowCpuMs] = [performance.now(), threadMs()]
    longest = {
      wallMs: Math.max(longest.wallMs, nowMs - wallMs - intervalMs),
      cpuMs: Math.max(longest.cpuMs, nowCpuMs - cpuMs),
    }
    wallMs = nowMs
    cpuMs = nowCpuMs
  }, intervalMs)
}

function threadMs(): number {
  const { user, system } = process.threadCpuUsage()
  return (user + system) / 1000
}

function liveMemory(): LiveMemory {
  collectGarbage()
  const { heapUsed, external, rss } = process.memoryUsage()
  return { liveBytes: heapUsed + external, rssBytes: rss }
}

createServer((request, response) => {
  if (request.url === '/memory') response.end(JSON.stringify(liveMemory()))
  else if (request.url === '/watch') {
    clearInterval(timer)
    watch()
    response.end()
  } else {
    clearInterval(timer)
    response.end(JSON.stringify(longest))
  }
})
  .listen(Number(process.env['ZONEGATE_PROBE_PORT']), '127.0.0.1')
  .unref()
