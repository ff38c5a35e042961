/**
 * Preloaded into the processor (`node --import`), to tell what only the process itself knows: the memory that is left
 * after a garbage collection, and how long its event loop was held. It costs nothing until it is asked.
 */
import { createServer } from 'node:http'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'

export interface LiveMemory {
  /** Of V8's heap and of buffers beside it, after a garbage collection. */
  readonly liveBytes: number
  readonly rssBytes: number
}

/** The longest turn of the event loop since the watch began. */
export interface LongestTurn {
  /** The clock's time, in which other programs may have had the CPU. */
  readonly wallMs: number
  /** CPU time of the main thread alone. Up to a millisecond more than the turn itself. */
  readonly cpuMs: number
}

const intervalMs = 1

setFlagsFromString('--expose-gc')
const collectGarbage = runInNewContext('gc') as () => void

let longest: LongestTurn = { wallMs: 0, cpuMs: 0 }
let timer: NodeJS.Timeout | undefined

/** Between two runs of a timer that is always due lies one turn of the event loop. */
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
