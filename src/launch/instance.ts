import { type ChildProcess, spawn } from 'node:child_process'
import { request } from 'node:http'
import { fileURLToPath } from 'node:url'
import { STOP_WITHIN_MS, watchOver } from './watch.ts'

const MAIN = fileURLToPath(new URL('../main.ts', import.meta.url))
/** How long a part may take to come up. */
const READY_WITHIN_MS = 60_000
/** What Envoy lets connections finish in once it was told to stop. */
const ENVOY_DRAIN_SECONDS = 5
/** How long requests on a listener that was replaced may go on; its connections are told to close with their next answer. */
export const LISTENER_DRAIN_OPTIONS = ['--drain-time-s', '300', '--drain-strategy', 'immediate']
/** From then on each answer says `connection: close`; a client in a slow rhythm hears it a little later. */
const DRAIN_SETTLE_MS = 1000
const DRAIN_LOOK_MS = 100
/** A busy machine's Envoy may not have read yet what has come: so often in a row there is no request, and no new one. */
const DRAIN_QUIET_LOOKS = 3

export type Output = 'inherit' | number

/** One process, ended by its pid. */
export interface Part {
  readonly name: string
  readonly process: ChildProcess
  /** Settles when the process is gone, with why. */
  readonly gone: Promise<string>
  stop(signal?: NodeJS.Signals): Promise<void>
}

/** A process that ends with this one, however this one ends. */
export function startPart(
  name: string,
  command: string,
  args: readonly string[],
  options: { cwd: string; output: Output; env?: NodeJS.ProcessEnv },
): Part {
  // In a group of its own: a terminal's Ctrl-C reaches the launcher alone, which ends the parts in their order.
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
 * V8 takes what a large machine has to offer before it collects: 370 MB after a flood of unknown ids, of which 30 are in
 * use. With these it stays at 165. NODE_OPTIONS of the operator replace them, as in the image; see docs/operations.md.
 */
export const HEAP_OPTIONS = ['--max-semi-space-size=4', '--max-old-space-size=512']
/**
 * V8 compiles and collects on the processor's thread: beside it, the compiler keeps 20 MB, and the collector takes cores from Envoy
 * and more CPU in all (docs/decisions/0026, 0041). Node takes these from the command line only.
 */
export const THREAD_OPTIONS = ['--no-concurrent-recompilation', '--single-threaded-gc']
/** One arena for all threads: glibc's arenas keep what was freed, 14 MB. */
export const MALLOC_ENV = { MALLOC_ARENA_MAX: '1' }

/** What Node is given for the processor, before its file. */
export function nodeOptions(): string[] {
  const heap = process.env['NODE_OPTIONS'] ? [] : HEAP_OPTIONS
  return [...heap, ...THREAD_OPTIONS, '--disable-warning=ExperimentalWarning']
}

/**
 * Starts the processor in `cwd`, where it finds `envoy/` and `run/`.
 * @param environment beside this process's own, and below it
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

export interface EnvoyOptions {
  readonly binary: string
  readonly cwd: string
  /** Of the bootstrap, relative to `cwd`: `run/envoy.yaml`. */
  readonly bootstrap?: string
  readonly output: Output
  /** Worker threads; Envoy's default is one for each core. */
  readonly concurrency?: number
}

/** Starts Envoy in `cwd` with what is in `run/` there. */
export function startEnvoy({
  binary,
  cwd,
  bootstrap = 'run/envoy.yaml',
  output,
  concurrency,
}: EnvoyOptions): Part {
  const args = ['-c', bootstrap, '--disable-hot-restart', '--log-level', 'warn']
  args.push(...LISTENER_DRAIN_OPTIONS, '--file-flush-interval-msec', '1000')
  // A processor that is down is told by the access log and by statistics, not by one more line for each request.
  args.push('--component-log-level', 'ext_proc:error')
  if (concurrency !== undefined) args.push('--concurrency', String(concurrency))
  return startPart('envoy', binary, args, { cwd, output })
}

/** Waits for 200 from `http://host:port/path`, or throws what the part died of. */
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
    if (dead !== undefined) throw new Error(`${part.name} did not start: ${dead}; its own words are above`)
    if ((await httpStatus('GET', host, port, path)) === 200) return
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
  throw new Error(`${part.name} was not ready within ${withinMs / 1000} s: http://${host}:${port}${path}`)
}

/** An Envoy that refuses its listener is ready all the same, and nobody listens. @throws Error that says so */
export async function untilListening(
  { host, port }: { host: string; port: number },
  withinMs = LISTENER_WITHIN_MS,
): Promise<void> {
  const deadline = performance.now() + withinMs
  while (performance.now() < deadline) {
    if (/^callback::/m.test((await httpText('GET', host, port, '/listeners'))?.body ?? '')) return
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
  throw new Error('envoy does not take run/listener.yaml; its own words are above')
}

/** Envoy has looked at its listener when it is ready. */
const LISTENER_WITHIN_MS = 3000

/**
 * Has Envoy tell its clients to close their connections, while new ones are still taken; then closes its listeners, and
 * ends it when no connection is left, or none but idle ones. Ended with its listeners open it would cut off who connects
 * between the last look and the end.
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
  /** Under way. */
  readonly active: number
  /** Since Envoy started. */
  readonly requests: number
  readonly listenersStopped: number
}

/** Undefined where Envoy's admin interface does not answer. */
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
    const call = request({ method, host, port, path, timeout: 2000, agent: false }, (response) => {
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
