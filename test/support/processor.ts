import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { cpSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { type IncomingHttpHeaders, type RequestOptions, request } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { stringify } from 'yaml'
import { freePort } from './ports.ts'

const MAIN = fileURLToPath(new URL('../../src/main.ts', import.meta.url))
const ENVOY_FILES = fileURLToPath(new URL('../../envoy', import.meta.url))
const READY_WITHIN_MS = 60_000
/** Shorter in `npm run fences`: while a fence is down, the awaited thing never comes. */
const EVENTUALLY_MS = Number(process.env['EVENTUALLY_MS'] ?? 60_000)

/** What a child process gets of this one's variables. Its Node shares the compile cache: half the CPU of a short command. */
export const INHERITED: NodeJS.ProcessEnv = {
  PATH: process.env['PATH'],
  NODE_COMPILE_CACHE: process.env['NODE_COMPILE_CACHE'],
}

export interface Answered {
  readonly status: number
  readonly headers: IncomingHttpHeaders
  readonly text: string
  // biome-ignore lint/suspicious/noExplicitAny: tests read what they expect
  json(): any
}

export type AskOptions = RequestOptions & { readonly body?: string | Buffer }

export interface ProcessorOptions {
  /** zonegate.yaml, without `listen`. */
  readonly config?: Readonly<Record<string, unknown>>
  readonly listen?: Readonly<Record<string, unknown>>
  readonly environment?: NodeJS.ProcessEnv
  /** True: puts Envoy's files beside it, so that it has a control plane. */
  readonly envoyFiles?: boolean
  /** Called with the scratch folder before it starts. */
  readonly prepare?: (folder: string) => void
}

/** A real processor alone, in a scratch folder: no Envoy. */
export interface TestProcessor {
  readonly folder: string
  readonly port: number
  readonly pid: number
  /** Its log so far, a line each. */
  lines(): Record<string, unknown>[]
  ask(path: string, options?: AskOptions): Promise<Answered>
  signal(signal: NodeJS.Signals): void
  /** Runs the command line in the same folder. */
  cli(args: readonly string[], environment?: NodeJS.ProcessEnv): Promise<CliResult>
  stop(): Promise<void>
}

export interface CliResult {
  readonly code: number
  readonly stdout: string
  readonly stderr: string
}

export async function startProcessorAlone(options: ProcessorOptions = {}): Promise<TestProcessor> {
  const folder = mkdtempSync(join(tmpdir(), 'zonegate-processor-'))
  if (options.envoyFiles === true) cpSync(ENVOY_FILES, join(folder, 'envoy'), { recursive: true })
  options.prepare?.(folder)
  const port = await freePort()
  const listen = { http: `127.0.0.1:${port}`, ...options.listen }
  const dns = { search: 'game.test', nameservers: ['127.0.0.1:9'], timeoutMs: 200, budgetMs: 400 }
  writeFileSync(join(folder, 'zonegate.yaml'), stringify({ dns, ...options.config, listen }))
  const child = spawn(process.execPath, [MAIN, 'serve'], {
    cwd: folder,
    env: { ...INHERITED, ...options.environment },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let output = ''
  for (const stream of [child.stdout, child.stderr])
    stream.setEncoding('utf8').on('data', (text: string) => {
      output += text
    })
  const gone = new Promise<void>((resolve) => child.once('exit', () => resolve()))
  const processor: TestProcessor = {
    folder,
    port,
    pid: child.pid ?? 0,
    lines: () =>
      output
        .split('\n')
        .filter((line) => line.startsWith('{'))
        .map((line) => JSON.parse(line)),
    ask: (path, given = {}) => ask(port, path, given),
    signal: (signal) => void child.kill(signal),
    cli: (args, environment) => runCli(args, folder, environment),
    stop: async () => {
      child.kill('SIGKILL')
      await gone
      rmSync(folder, { recursive: true, force: true })
    },
  }
  const deadline = performance.now() + READY_WITHIN_MS
  while (performance.now() < deadline && child.exitCode === null) {
    const ready = await processor.ask('/readyz').catch(() => undefined)
    if (ready?.status === 200) return processor
    await new Promise((resolve) => setTimeout(resolve, 30))
  }
  await processor.stop()
  throw new Error(`the processor did not start: ${output}`)
}

export function ask(port: number, path: string, { body, ...options }: AskOptions = {}): Promise<Answered> {
  return new Promise((resolve, reject) => {
    const call = request(
      { host: '127.0.0.1', port, path, agent: false, timeout: 30_000, ...options },
      (response) => {
        let text = ''
        response.setEncoding('utf8').on('data', (chunk: string) => {
          text += chunk
        })
        response.on('end', () =>
          resolve({
            status: response.statusCode ?? 0,
            headers: response.headers,
            text,
            json: () => JSON.parse(text),
          }),
        )
        response.on('error', reject)
      },
    )
    call.on('timeout', () => call.destroy(new Error('no answer')))
    call.on('error', reject)
    call.end(body)
  })
}

/** `zonegate ARGS`, its standard output a pipe. */
export function runCli(
  args: readonly string[],
  cwd: string,
  environment: NodeJS.ProcessEnv = {},
): Promise<CliResult> {
  return new Promise((resolve) => {
    const env = { ...INHERITED, ...environment }
    const child = spawn(process.execPath, [MAIN, ...args], { cwd, env, stdio: ['ignore', 'pipe', 'pipe'] })
    const timer = setTimeout(() => child.kill('SIGKILL'), 60_000)
    let stdout = ''
    let stderr = ''
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      stdout += text
    })
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      stderr += text
    })
    child.on('close', (code) => {
      clearTimeout(timer)
      resolve({ code: code ?? -1, stdout, stderr })
    })
  })
}

/** Waits until a condition holds, much longer than any machine needs. */
export async function eventually(
  what: string,
  probe: () => Promise<boolean> | boolean,
  withinMs = EVENTUALLY_MS,
): Promise<void> {
  const deadline = performance.now() + withinMs
  while (!(await probe())) {
    if (performance.now() > deadline) assert.fail(`not within ${withinMs} ms: ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 30))
  }
}
