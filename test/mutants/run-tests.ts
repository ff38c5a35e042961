import { type ChildProcess, spawn } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import type { Mutant } from './operators.ts'

export type Outcome = 'passed' | 'failed' | 'timed out'

const running = new Set<ChildProcess>()

/** Runs one test file in a process of its own, with one mutant or none. */
export function runTests(
  file: string,
  { mutant, coverage, timeoutMs }: { mutant?: Mutant; coverage?: string; timeoutMs: number },
): Promise<Outcome> {
  const args = [
    '--disable-warning=ExperimentalWarning',
    '--max-old-space-size=512',
    fileURLToPath(new URL('mutated-run.ts', import.meta.url)),
    file,
    ...(mutant === undefined ? [] : [JSON.stringify(mutant)]),
  ]
  const env = {
    ...process.env,
    ...(coverage !== undefined && { NODE_V8_COVERAGE: coverage }),
  }
  const child = spawn(process.execPath, args, { stdio: 'ignore', env })
  running.add(child)
  return new Promise((resolve) => {
    let late = false
    const timer = setTimeout(() => {
      late = true
      child.kill('SIGKILL')
    }, timeoutMs)
    child.once('close', (code) => {
      clearTimeout(timer)
      running.delete(child)
      resolve(late ? 'timed out' : code === 0 ? 'passed' : 'failed')
    })
  })
}

export function stopAll(): void {
  for (const child of running) child.kill('SIGKILL')
}
