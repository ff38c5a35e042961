import { fileURLToPath } from 'node:url'
import { findCommand, lastLines, type Processes, versionOf } from './processes.ts'
import type { RequestForm } from './systems/system.ts'

/** What wrk measured. */
export interface Load {
  readonly requests: number
  readonly micros: number
  readonly p50Micros: number
  readonly p99Micros: number
  readonly maxMicros: number
  readonly errors: Readonly<Record<'connect' | 'read' | 'write' | 'status' | 'timeout', number>>
}

export interface LoadOptions {
  readonly port: number
  readonly form: RequestForm
  readonly zones: number
  /** The id of each request is drawn by Zipf's law; otherwise ids take turns. */
  readonly zipf?: boolean
  readonly connections: number
  readonly seconds: number
}

const script = fileURLToPath(new URL('wrk.lua', import.meta.url))

/** The path of wrk and its version. Throws an error that says how to install it. */
export async function findWrk(): Promise<{ path: string; version: string }> {
  const path = findCommand('wrk')
  if (path === undefined) {
    throw new Error('wrk makes the load, and it is not installed: apt-get install wrk')
  }
  return { path, version: await versionOf(path, '-v') }
}

/** Loads the proxy on 127.0.0.1:port with one thread over keep-alive connections, as fast as the proxy answers. */
export async function runLoad(processes: Processes, wrk: string, options: LoadOptions): Promise<Load> {
  const { port, form, zones, zipf = false, connections, seconds } = options
  const args = [
    '-t1',
    `-c${connections}`,
    `-d${seconds}s`,
    '-s',
    script,
    `http://127.0.0.1:${port}`,
    '--',
    `${zones}${zipf ? ' zipf' : ''}`,
    form.path,
    form.body,
    ...Object.entries(form.headers).flat(),
  ]
  const child = await processes.start('wrk', wrk, args)
  const code = await child.exit
  const result = child.output().match(/^\{"requests".*\}$/m)?.[0]
  if (code !== 0 || result === undefined) throw new Error(`wrk failed:\n${lastLines(child.output())}`)
  return JSON.parse(result) as Load
}

/** Why the figures are not valid; undefined when every request got its answer. wrk's `status` counts 400 and up. */
export function faultOf(load: Load): string | undefined {
  const { status, ...broken } = load.errors
  if (status > 0) return `${status} of ${load.requests} answers were not 2xx`
  const faults = Object.entries(broken).filter(([, count]) => count > 0)
  if (faults.length > 0) return faults.map(([kind, count]) => `${count} ${kind} errors`).join(', ')
  return load.requests === 0 ? 'no answers' : undefined
}
