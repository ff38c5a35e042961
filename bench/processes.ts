import { execFile, spawn } from 'node:child_process'
import { accessSync, closeSync, constants, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs'
import { connect, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'

/** A process of the benchmark, with its role ("envoy", "processor", "nginx"). */
export interface Child {
  readonly role: string
  readonly pid: number
  /** Why it has ended; undefined while it runs. */
  ended(): string | undefined
  /** Resolves with its exit code when it has ended; a signal counts as 1. */
  readonly exit: Promise<number>
  /** What it wrote to stdout and stderr so far. */
  output(): string
}

const termGraceMs = 3_000

/** All that have to be ended. */
const alive = new Set<Processes>()

/** When this process ends, by a signal too, everything that it started ends as well. */
export function endAllOnExit(): void {
  process.once('exit', () => {
    for (const processes of alive) processes.kill()
  })
  for (const [signal, number] of [
    ['SIGINT', 2],
    ['SIGTERM', 15],
    ['SIGHUP', 1],
  ] as const) {
    process.on(signal, () => process.exit(128 + number))
  }
}

/** Processes that end together, with a scratch folder. */
export class Processes {
  readonly scratch = mkdtempSync(join(tmpdir(), 'zonegate-bench-'))
  readonly #running = new Set<Child>()

  constructor() {
    alive.add(this)
  }

  /** Starts a program as the leader of a new session, so that its children are measured and ended with it. */
  async start(
    role: string,
    command: string,
    args: readonly string[],
    options: StartOptions = {},
  ): Promise<Child> {
    const logPath = join(this.scratch, `${role}.log`)
    const log = openSync(logPath, 'w')
    const handle = spawn(command, args, {
      detached: true,
      stdio: ['ignore', log, log],
      cwd: options.cwd ?? this.scratch,
      env: { ...process.env, ...options.env },
    })
    closeSync(log)
    let ended: string | undefined
    const exit = new Promise<number>((resolve) => {
      handle.once('exit', (code, signal) => {
        ended = `${role} ended with ${signal ?? `exit code ${code}`}`
        signalGroup(handle.pid as number, 'SIGKILL') // its children
        resolve(code ?? 1)
      })
    })
    await new Promise<void>((resolve, reject) => {
      handle.once('spawn', resolve)
      handle.once('error', reject)
    })
    const child: Child = {
      role,
      pid: handle.pid as number,
      exit,
      ended: () => ended,
      output: () => readFileSync(logPath, 'utf8'),
    }
    this.#running.add(child)
    exit.then(() => this.#running.delete(child))
    return child
  }

  /** Ends every process, the last one first, and removes the scratch folder. */
  async stop(): Promise<void> {
    for (const child of [...this.#running].toReversed()) {
      if (child.ended() !== undefined) continue
      signalGroup(child.pid, 'SIGTERM')
      const gone = await Promise.race([
        child.exit.then(() => true),
        sleep(termGraceMs, false, { ref: false }),
      ])
      if (!gone) signalGroup(child.pid, 'SIGKILL')
      await child.exit
    }
    this.kill()
  }

  /** The same, at once. */
  kill(): void {
    for (const child of this.#running) {
      if (child.ended() === undefined) signalGroup(child.pid, 'SIGKILL')
    }
    rmSync(this.scratch, { recursive: true, force: true })
    alive.delete(this)
  }
}

export interface StartOptions {
  readonly cwd?: string
  readonly env?: NodeJS.ProcessEnv
}

function signalGroup(leader: number, signal: NodeJS.Signals): void {
  try {
    process.kill(-leader, signal)
  } catch {
    // The group has ended.
  }
}

/** Waits until `child` accepts connections at the address. Otherwise throws an error with the end of its output. */
export async function untilListening(child: Child, address: string, port: number, timeoutMs = 15_000) {
  const deadline = Date.now() + timeoutMs
  for (;;) {
    if (await accepts(address, port)) break
    if (child.ended() !== undefined) throw new Error(`${child.ended()}:\n${lastLines(child.output())}`)
    if (Date.now() > deadline) {
      throw new Error(`${child.role} doesn't listen on ${address}:${port}:\n${lastLines(child.output())}`)
    }
    await sleep(20)
  }
  // Another program may listen on that port. Then the child has ended.
  await sleep(20)
  if (child.ended() !== undefined) throw new Error(`${child.ended()}:\n${lastLines(child.output())}`)
}

/** True where nobody listens on a TCP port. */
export function isFree(address: string, port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer()
    server.once('error', () => resolve(false))
    server.listen(port, address, () => server.close(() => resolve(true)))
  })
}

function accepts(address: string, port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, address)
    socket.once('connect', () => resolve(true))
    socket.once('error', () => resolve(false))
    socket.once('connect', () => socket.destroy())
  })
}

export function lastLines(text: string, count = 8): string {
  return text.trimEnd().split('\n').slice(-count).join('\n')
}

// Debian installs daemons in folders that are not in an ordinary user's PATH.
const alsoIn = ['/usr/local/sbin', '/usr/sbin', '/sbin']

/** The path of an installed program, or undefined. */
export function findCommand(name: string): string | undefined {
  const folders = [...(process.env['PATH'] ?? '').split(delimiter), ...alsoIn]
  return folders.map((folder) => join(folder, name)).find(isExecutable)
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK)
    return true
  } catch {
    return false
  }
}

export interface Outcome {
  readonly ok: boolean
  /** stdout and stderr, because programs print their version to either. */
  readonly text: string
}

/** Runs a command that ends within 10 seconds. */
export function runCommand(command: string, args: readonly string[]): Promise<Outcome> {
  return new Promise((resolve) => {
    execFile(command, args, { timeout: 10_000 }, (error, stdout, stderr) => {
      resolve({ ok: error === null, text: `${stdout}${stderr}` })
    })
  })
}

/** The first version number in a program's output. */
export async function versionOf(command: string, ...args: string[]): Promise<string> {
  const { text } = await runCommand(command, args)
  return text.match(/\d+\.\d+(\.\d+)?/)?.[0] ?? 'unknown version'
}

export type Installed = { readonly version: string } | { readonly missing: string }

/** Whether a program is installed, and in which version. */
export async function installedProgram(
  title: string,
  name: string,
  ...versionArgs: string[]
): Promise<Installed> {
  const path = findCommand(name)
  return path === undefined
    ? { missing: `${name} is not installed` }
    : { version: `${title} ${await versionOf(path, ...versionArgs)}` }
}
