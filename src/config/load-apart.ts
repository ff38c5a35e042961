import { spawn } from 'node:child_process'
import { extname } from 'node:path'
import { fileURLToPath } from 'node:url'
import { ConfigError, type Fault } from './faults.ts'
import { CONFIG_FILE, type Environment, type LoadedConfig } from './load.ts'

/** What the reader process prints. */
export type Outcome = { readonly loaded: LoadedConfig } | { readonly faults: readonly Fault[] }

/** It stands beside this file, as TypeScript, or as JavaScript in a package. */
const READER = fileURLToPath(new URL(`./reader${extname(import.meta.url)}`, import.meta.url))
/** A file of the maximum size that is full of faults takes about 10 s. */
const WITHIN_MS = 60_000
const HEAP_MB_MAX = 256
/** More than the JSON of a configuration of the maximum size. */
const OUTPUT_LENGTH_MAX = 16 * 1024 * 1024

/**
 * Calls `loadConfig` in a separate process. A YAML file of a few KB can occupy its reader for a second, or use up all memory,
 * and this process must keep answering requests.
 * @throws ConfigError
 */
export async function loadConfigApart(
  path: string | undefined,
  environment: Environment,
): Promise<LoadedConfig> {
  const { code, signal, output, errors } = await runReader(path, environment)
  if (code === 0) {
    const outcome: Outcome = JSON.parse(output)
    if ('loaded' in outcome) return outcome.loaded
    throw new ConfigError(outcome.faults)
  }
  const why = signal === null ? (errors.trim().split('\n').at(-1) ?? '') : `its reader ended by ${signal}`
  throw new ConfigError([{ file: path ?? CONFIG_FILE, key: '', message: `can't be read: ${why}` }])
}

interface Run {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
  readonly output: string
  readonly errors: string
}

function runReader(path: string | undefined, env: Environment): Promise<Run> {
  const args = [`--max-old-space-size=${HEAP_MB_MAX}`, READER, ...(path === undefined ? [] : [path])]
  return new Promise((resolve) => {
    const reader = spawn(process.execPath, args, {
      env,
      stdio: ['ignore', 'pipe', 'pipe'],
      timeout: WITHIN_MS,
      killSignal: 'SIGKILL',
    })
    let output = ''
    let errors = ''
    reader.stdout.setEncoding('utf8').on('data', (text: string) => {
      output += text
      if (output.length > OUTPUT_LENGTH_MAX) reader.kill('SIGKILL')
    })
    reader.stderr.setEncoding('utf8').on('data', (text: string) => {
      errors = (errors + text).slice(-1000)
    })
    reader.on('error', (error) => resolve({ code: null, signal: null, output, errors: error.message }))
    reader.on('close', (code, signal) => resolve({ code, signal, output, errors }))
  })
}
