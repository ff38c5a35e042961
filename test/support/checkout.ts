import { type ChildProcess, spawn } from 'node:child_process'
import {
  closeSync,
  cpSync,
  existsSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { stringify } from 'yaml'
import { type RunningPart, runningParts } from '../../src/launch/leftovers.ts'
import { makePatient } from './gateway.ts'
import { freePort } from './ports.ts'
import { eventually } from './processor.ts'

const ROOT = fileURLToPath(new URL('../..', import.meta.url))
const COPIED = ['src', 'proto', 'envoy', 'scripts', 'package.json', 'package-lock.json', '.npmrc']

/** A copy of the checkout, in which `npm start` runs. */
export interface Checkout {
  readonly folder: string
  readonly port: number
  readonly adminPort: number
  readonly httpPort: number
  /** The launcher, or npm. */
  readonly child: ChildProcess
  /** Its output so far. */
  log(): string
  /** The pid of a part that runs. */
  pid(name: RunningPart['name']): number | undefined
  /** Starts it once more; settles when it is ready, or throws with its log when it ends. */
  start(): Promise<void>
  /** Ends it and all processes that it left behind. */
  stop(): Promise<void>
}

export interface CheckoutOptions {
  /** zonegate.yaml, without `listen`. */
  readonly config: Readonly<Record<string, unknown>>
  readonly port?: number
  readonly adminPort?: number
  readonly args?: readonly string[]
  /** True: runs `npm start`; false: runs the launcher alone, as systemd does. */
  readonly npm?: boolean
}

export async function startCheckout(options: CheckoutOptions): Promise<Checkout> {
  const { config, args = [], npm = false } = options
  const folder = mkdtempSync(join(tmpdir(), 'zonegate-checkout-'))
  for (const part of COPIED) cpSync(join(ROOT, part), join(folder, part), { recursive: true })
  makePatient(join(folder, 'envoy'))
  for (const part of ['node_modules', '.tools']) symlinkSync(join(ROOT, part), join(folder, part))
  const [httpPort, port, adminPort] = [
    await freePort(),
    options.port ?? (await freePort()),
    options.adminPort ?? (await freePort()),
  ]
  const file = join(folder, 'zonegate.yaml')
  writeFileSync(file, stringify({ ...config, listen: { http: `127.0.0.1:${httpPort}` } }))
  const command = npm
    ? ['npm', 'start', '--']
    : [process.execPath, '--disable-warning=ExperimentalWarning', 'src/launch/start.ts']
  command.push('--config', file, '--listen', `127.0.0.1:${port}`, '--admin', `127.0.0.1:${adminPort}`)
  let child: ChildProcess
  let gone: Promise<void>
  const log = (): string => readFileSync(join(folder, 'start.log'), 'utf8')
  const start = async (): Promise<void> => {
    const before = existsSync(join(folder, 'start.log')) ? log().length : 0
    const output = openSync(join(folder, 'start.log'), 'a')
    const [program = '', ...rest] = [...command, ...args]
    child = spawn(program, rest, { cwd: folder, stdio: ['ignore', output, output] })
    closeSync(output)
    gone = new Promise((resolve) => child.once('exit', () => resolve()))
    await eventually('it is ready', () => {
      const said = log().slice(before)
      if (child.exitCode !== null) throw new Error(`it ended\n${said}`)
      return /^zonegate: ready on /m.test(said)
    })
  }
  const stop = async (): Promise<void> => {
    child.kill('SIGTERM') // it ends its parts
    await gone
    for (const { pid } of runningParts(folder)) process.kill(pid, 'SIGKILL')
    rmSync(folder, { recursive: true, force: true })
  }
  try {
    await start()
  } catch (error) {
    await stop()
    throw error
  }
  return {
    folder,
    port,
    adminPort,
    httpPort,
    get child() {
      return child
    },
    log,
    pid: (name) => runningParts(folder).find((part) => part.name === name)?.pid,
    start,
    stop,
  }
}
