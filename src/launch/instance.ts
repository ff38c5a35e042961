import { type ChildProcess, spawn } from 'node:child_process'
import { request } from 'node:http'
import { fileURLToPath } from 'node:url'
import { wildcardToLoopback } from '../config/host-port.ts'
import { STOP_WITHIN_MS, watchOver } from './watch.ts'

const MAIN = fileURLToPath(new URL('../main.ts', import.meta.url))
/** How long a part may take to start. */
const READY_WITHIN_MS = 60_000
/** How long Envoy lets connections finish when it stops. */
const ENVOY_DRAIN_SECONDS = 5
/** Envoy gives requests of a replaced listener 300 s, and closes its connections with their next response. */
const LISTENER_DRAIN_OPTIONS = ['--drain-time-s', '300', '--drain-strategy', 'immediate']
/** Extra time for clients that send a request seldom: they see `connection: close` only in their next response. */
const DRAIN_SETTLE_MS = 1000
const DRAIN_LOOK_MS = 100
/** How often in a row Envoy must have no request and no new one: on a busy machine it may not have read what has arrived. */
const DRAIN_QUIET_LOOKS = 3

type Output = 'inherit' | number

/** Envoy or the processor, as a child process. */
export interface Part {
  readonly name: string
  readonly process: ChildProcess
  /** Resolves to the reason when the process has ended. */
  readonly gone: Promise<string>
  stop(signal?: NodeJS.Signals): Promise<void>
}

/** Starts a process that ends with this one, however this one ends. */
export function startPart(
  name: string,
  command: string,
  args: readonly string[],
  options: { cwd: string; output: Output; env?: NodeJS.ProcessEnv },
): Part {
  // `detached` puts it into its own process group, so that Ctrl-C reaches only the launcher, which stops the parts in order.
  const child = spawn(command, args, {
    cwd: options.cwd,
    env: { ...options.env, ...process.env },
    stdio: ['ignore', options.output, options.output],
    detached: true,
  })
  const gone = new Promise<string>((resolve) => {
    child.once('error', (error) => resolve(error.message))
    child.once('exit', (code, signal) => resolve(signal ? `ended by ${signal}` : `exit code ${code}`))
  })
  if (child.pid !== undefined) void gone.then(watchOver(child.pid))
  return {
    name,
    process: child,
    gone,
    stop: async (signal = 'SIGTERM') => {
      child.kill(signal)
      const timer = setTimeout(() => child.kill('SIGKILL'), STOP_WITHIN_MS)
      await gone
      clearTimeout(timer)
    },
  }
}

/**
 * On a large machine V8 collects late: after a flood of unknown ids it held 370 MB, of which 30 were in use. With these options
 * it held 165 MB. The operator's NODE_OPTIONS replace them, as in the image; see docs/operations.md.
 */
export const HEAP_OPTIONS = ['--max-semi-space-size=4', '--max-old-space-size=512']
/**
 * Let V8 compile and collect on the processor's own thread. On threads of its own, the compiler keeps 20 MB, and the collector
 * takes cores from Envoy (docs/decisions/0026, 0041). Node accepts these options only on the command line.
 */
export const THREAD_OPTIONS = ['--no-concurrent-recompilation', '--single-threaded-gc']
/** One malloc arena for all threads: with more, glibc keeps 14 MB of freed memory. */
export const MALLOC_ENV = { MALLOC_ARENA_MAX: '1' }

/** Node's options for the processor. */
export function nodeOptions(): string[] {
  const heap = process.env['NODE_OPTIONS'] ? [] : HEAP_OPTIONS
  return [...heap, ...THREAD_OPTIONS, '--disable-warning=ExperimentalWarning']
}

/**
 * Starts the processor in `cwd`, where it finds `envoy/` and `run/`.
 * @param environment added to this process's own variables, which take precedence
 */
export function startProcessor(
  cwd: string,
  config: string | undefined,
  output: Output,
  environment: NodeJS.ProcessEnv = {},
): Part {
  const args = [...nodeOptions(), MAIN, 'serve', ...(config === undefined ? [] : ['--config', config])]
  return startPart('processor', process.execPath, args, {
    cwd,
    output,
    env: { ...MALLOC_ENV, ...environment },
  })
}

interface EnvoyOptions {
  readonly binary: string
  readonly cwd: string
  /** Path of the bootstrap, relative to `cwd`. `run/envoy.yaml` by default. */
  readonly bootstrap?: string
  readonly output: Output
  /** Worker threads; Envoy's default is one for each core. */
  readonly concurrency?: number
}

/** Starts Envoy in `cwd` with the files in `run/` there. */
export function startEnvoy({
  binary,
  cwd,
  bootstrap = 'run/envoy.yaml',
  output,
  concurrency,
}: EnvoyOptions): Part {
  const args = ['-c', bootstrap, '--disable-hot-restart', '--log-level', 'warn']
  args.push(...LISTENER_DRAIN_OPTIONS, '--file-flush-interval-msec', '1000')
  // Access log and statistics show that the processor is down. ext_proc would add a warning for each request.
  args.push('--component-log-level', 'ext_proc:error')
  if (concurrency !== undefined) args.push('--concurrency', String(concurrency))
  return startPart('envoy', binary, args, { cwd, output })
}

/** Waits for 200 from `http://host:port/path`. @throws Error with the reason if the part ends, or is not ready in time */
export async function untilReady(
  part: Part,
  host: string,
  port: number,
  path: string,
  withinMs = READY_WITHIN_MS,
): Promise<void> {
  let dead: string | undefined
  part.gone.then((why) => {
    dead = why
  })
  const deadline = performance.now() + withinMs
  while (performance.now() < deadline) {
    if (dead !== undefined)
      throw new Error(`${part.name} did not start: ${dead}; see its own log lines above`)
    if ((await httpStatus('GET', host, port, path)) === 200) return
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
  throw new Error(`${part.name} was not ready within ${withinMs / 1000} s: http://${host}:${port}${path}`)
}

/** Waits until Envoy listens: an Envoy that refuses its listener still reports that it is ready. @throws Error if it does not */
export async function untilListening(
  { host, port }: { host: string; port: number },
  withinMs = LISTENER_WITHIN_MS,
): Promise<void> {
  const deadline = performance.now() + withinMs
  while (performance.now() < deadline) {
    if (/^callback::/m.test((await httpText('GET', host, port, '/listeners'))?.body ?? '')) return
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
  throw new Error('envoy refuses run/listener.yaml; see its own log lines above')
}

/** Short, because Envoy reads its listener before it reports that it is ready. */
const LISTENER_WITHIN_MS = 3000

/**
 * Stops Envoy without cutting off requests. First Envoy asks its clients to close their connections while it still accepts new
 * ones. Then it closes its listeners, and ends once all connections are closed or idle. With open listeners, it would cut off
 * a client that connects just before the end.
 */
export async function drainEnvoy(envoy: Part, admin: { host: string; port: number }): Promise<void> {
  const post = (path: string): Promise<number | undefined> => httpStatus('POST', admin.host, admin.port, path)
  if ((await post('/drain_listeners?inboundonly&graceful&skip_exit')) === 200) {
    const toldAllMs = performance.now() + ENVOY_DRAIN_SECONDS * 1000
    await untilSo(envoy, toldAllMs, async () => (await downstream(admin))?.connections === 0)
    await post('/drain_listeners?inboundonly')
    const settledMs = toldAllMs + DRAIN_SETTLE_MS
    let requestsBefore: number | undefined
    let quietLooks = 0
    await untilSo(envoy, settledMs + ENVOY_DRAIN_SECONDS * 1000, async () => {
      const seen = await downstream(admin)
      if (seen === undefined || seen.listenersStopped === 0) return false
      if (seen.connections === 0) return true
      quietLooks = seen.active === 0 && seen.requests === requestsBefore ? quietLooks + 1 : 0
      requestsBefore = seen.requests
      return performance.now() > settledMs && quietLooks >= DRAIN_QUIET_LOOKS
    })
  }
  await envoy.stop()
}

async function untilSo(envoy: Part, deadlineMs: number, probe: () => Promise<boolean>): Promise<void> {
  while (performance.now() < deadlineMs && envoy.process.exitCode === null && !(await probe()))
    await new Promise((resolve) => setTimeout(resolve, DRAIN_LOOK_MS))
}

interface Downstream {
  readonly connections: number
  /** Requests under way. */
  readonly active: number
  /** Requests since Envoy started. */
  readonly requests: number
  readonly listenersStopped: number
}

/** Reads Envoy's statistics. Undefined if its admin interface does not answer. */
async function downstream({ host, port }: { host: string; port: number }): Promise<Downstream | undefined> {
  const filter =
    '^(http\\.callback\\.downstream_(cx_active|rq_active|rq_total)|listener_manager\\.listener_stopped)$'
  const answer = await httpText('GET', host, port, `/stats?filter=${encodeURIComponent(filter)}`)
  if (answer === undefined) return undefined
  const value = (name: string): number => Number(new RegExp(`\\.${name}: (\\d+)`).exec(answer.body)?.[1] ?? 0)
  return {
    connections: value('downstream_cx_active'),
    active: value('downstream_rq_active'),
    requests: value('downstream_rq_total'),
    listenersStopped: value('listener_stopped'),
  }
}

async function httpStatus(
  method: string,
  host: string,
  port: number,
  path: string,
): Promise<number | undefined> {
  return (await httpText(method, host, port, path))?.status
}

function httpText(
  method: string,
  host: string,
  port: number,
  path: string,
): Promise<{ status: number | undefined; body: string } | undefined> {
  return new Promise((resolve) => {
    const to = { host: wildcardToLoopback(host), port }
    const call = request({ ...to, method, path, timeout: 2000, agent: false }, (response) => {
      let body = ''
      response.setEncoding('utf8')
      response.on('data', (text: string) => {
        body += text
      })
      response.on('end', () => resolve({ status: response.statusCode, body }))
      response.on('error', () => resolve(undefined))
    })
    call.on('timeout', () => call.destroy())
    call.on('error', () => resolve(undefined))
    call.end()
  })
}
