/** Runs the tests of one file that attack a fence. Distinguishes an attack that came through from a test that broke. */
import { spawn, spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { ATTACKED } from '../support/gateway.ts'
import type { TestEnd } from './attack-reporter.ts'

const REPORTER = fileURLToPath(new URL('attack-reporter.ts', import.meta.url))

export interface Attack {
  /** The folder of the project. */
  readonly cwd: string
  /** Relative to it. */
  readonly test: string
  readonly titles: RegExp
  /** When to end a test that hangs, with all processes that it has started. */
  readonly withinMs: number
  /** How long `eventually` waits in it, where that is not its own time. */
  readonly eventuallyMs?: number
}

/**
 * `held`: all passed, and there was one. `through`: an assertion failed, and nothing else did. `broke`: it could not begin,
 * hung, or failed in another way: that says nothing about the fence.
 */
export type Outcome =
  | { readonly kind: 'held' }
  | { readonly kind: 'through' | 'broke'; readonly why: readonly string[] }

export interface Run {
  readonly outcome: Promise<Outcome>
  /** Ends it, and all that it has started. */
  stop(): void
}

export function runAttack({ cwd, test, titles, withinMs, eventuallyMs }: Attack): Run {
  const args = [
    '--disable-warning=ExperimentalWarning',
    '--test',
    `--test-reporter=${REPORTER}`,
    '--test-name-pattern',
    String(titles),
    test,
  ]
  const { NODE_TEST_CONTEXT: _, ...inherited } = process.env
  const env = {
    ...inherited,
    [ATTACKED]: '1',
    ...(eventuallyMs !== undefined && { EVENTUALLY_MS: String(eventuallyMs) }),
  }
  // `detached` starts a session. Otherwise Ctrl-C would end the test, but not the processes that it has started.
  const child = spawn(process.execPath, args, {
    cwd,
    stdio: ['ignore', 'pipe', 'ignore'],
    env,
    detached: true,
  })
  const stop = (): void => {
    if (child.pid !== undefined && child.exitCode === null) endTree(child.pid)
  }
  let output = ''
  child.stdout.setEncoding('utf8').on('data', (chunk: string) => {
    output += chunk
  })
  let late = false
  const timer = setTimeout(() => {
    late = true
    stop()
  }, withinMs)
  const outcome = new Promise<Outcome>((resolve) => {
    child.once('close', (code) => {
      clearTimeout(timer)
      resolve(
        late
          ? { kind: 'broke', why: [`no end within ${withinMs} ms`] }
          : outcomeOf(endsOf(output, test), code),
      )
    })
  })
  return { outcome, stop }
}

/** A file without a test that was meant passes as a test of its own name. */
function endsOf(output: string, file: string): TestEnd[] {
  return output
    .split('\n')
    .filter((line) => line.startsWith('{"title":'))
    .map((line): TestEnd => JSON.parse(line))
    .filter(({ title, end }) => end !== 'passed' || title !== file)
}

function outcomeOf(ends: readonly TestEnd[], code: number | null): Outcome {
  const bad = ends.filter(({ end }) => end !== 'passed')
  const why = bad.map(({ title, why: reason }) => `${title}: ${reason}`)
  if (bad.length === 0 && code !== 0)
    return { kind: 'broke', why: [`exit code ${code}, and no test has failed`] }
  if (ends.length === 0) return { kind: 'broke', why: ['no test has such a title'] }
  if (bad.length === 0) return { kind: 'held' }
  return { kind: bad.every(({ end }) => end === 'shown') ? 'through' : 'broke', why }
}

/** Ends a test and all its processes. Those of a gateway have their own sessions, so they would outlive the test. */
function endTree(pid: number): void {
  try {
    process.kill(pid, 'SIGSTOP') // so that it starts nothing while its children are counted
    const children = spawnSync('ps', ['-o', 'pid=', '--ppid', String(pid)], { encoding: 'utf8' }).stdout
    process.kill(pid, 'SIGKILL')
    for (const child of children.split('\n').filter((line) => line.trim() !== '')) endTree(Number(child))
  } catch {} // it has ended meanwhile
}
