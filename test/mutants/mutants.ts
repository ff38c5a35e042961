/**
 * Changes the routing core and the DNS client in small ways, one at a time, and sees whether a test notices. What
 * survives is printed with its place: a test that is missing, or a change that makes no difference.
 *
 * usage: npm run mutants [-- PATH ...] [--sample N] [--seed N] [--seconds N] [--list]
 *   PATH       sources or folders; src/routing and src/dns by default
 *   --sample   so many mutants drawn at random, instead of all
 *   --seconds  the longest to take; what is left out is said
 *   --list     prints the mutants and runs nothing
 */
import { globSync, readFileSync, statSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { seededRandom } from '../soak/faults.ts'
import { measure, type TestFile } from './coverage.ts'
import { type Mutant, mutantsOf } from './operators.ts'
import { runTests, stopAll } from './run-tests.ts'

/** Source folders, and the tests that are there for them. Those that need a nameserver program are left out. */
const TESTS: Readonly<Record<string, readonly string[]>> = {
  'src/routing': ['src/{routing,status}/**/*.test.ts'],
  'src/dns': ['src/dns/**/*.test.ts', 'test/integration/dns-{faults-*,unknown-names}.test.ts'],
}
const PARALLEL = 2
/** Of a mutant that runs for ever; a loaded machine is slow. */
const SLOWER_MAX = 4
const TIMEOUT_MS_MIN = 5000

type Verdict = 'killed' | 'survived' | 'not covered'

function sourcesOf(paths: readonly string[]): string[] {
  return paths
    .flatMap((path) => (statSync(path).isDirectory() ? globSync(join(path, '**/*.ts')) : [path]))
    .filter((path) => !path.endsWith('.test.ts'))
    .sort()
}

async function judge(mutant: Mutant, tests: readonly TestFile[]): Promise<Verdict> {
  // Right before: to V8 what stands behind `??` and its like is a block that begins with the operator.
  const concerned = tests.filter(({ covers }) => covers(mutant.file, Math.max(0, mutant.start - 1)))
  for (const { file, durationMs } of concerned) {
    const timeoutMs = Math.max(TIMEOUT_MS_MIN, durationMs * SLOWER_MAX)
    if ((await runTests(file, { mutant, timeoutMs })) !== 'passed') return 'killed'
  }
  return concerned.length === 0 ? 'not covered' : 'survived'
}

function sampled(mutants: readonly Mutant[], count: number, seed: number): Mutant[] {
  const random = seededRandom(seed)
  return mutants
    .map((mutant) => ({ mutant, rank: random() }))
    .sort((a, b) => a.rank - b.rank)
    .slice(0, count)
    .map(({ mutant }) => mutant)
}

function print(verdicts: ReadonlyMap<Mutant, Verdict>, total: number): void {
  const alive = [...verdicts].filter(([, verdict]) => verdict !== 'killed')
  for (const [{ file, line, text }, verdict] of alive.sort(([a], [b]) => byPlace(a, b)))
    console.log(
      `${verdict.padEnd(12)}${file.replace(`${process.cwd()}/`, '')}:${line}  ${text.replaceAll(/\s+/g, ' ')}`,
    )
  const files = [...new Set([...verdicts.keys()].map(({ file }) => file))].sort()
  console.log('')
  for (const file of files) {
    const own = [...verdicts].filter(([mutant]) => mutant.file === file).map(([, verdict]) => verdict)
    console.log(`${score(own)}  ${file.replace(`${process.cwd()}/`, '')}`)
  }
  console.log(`${score([...verdicts.values()])}  together, ${verdicts.size} of ${total} mutants tried`)
}

function byPlace(a: Mutant, b: Mutant): number {
  return a.file === b.file ? a.start - b.start : a.file < b.file ? -1 : 1
}

function score(verdicts: readonly Verdict[]): string {
  const killed = verdicts.filter((verdict) => verdict === 'killed').length
  const percent = (100 * killed) / verdicts.length
  return `${percent.toFixed(1).padStart(5)} %  ${String(killed).padStart(4)} of ${String(verdicts.length).padStart(4)}`
}

async function main(): Promise<void> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      sample: { type: 'string' },
      seed: { type: 'string', default: '1' },
      seconds: { type: 'string' },
      list: { type: 'boolean', default: false },
    },
  })
  const sources = sourcesOf(positionals.length > 0 ? positionals : Object.keys(TESTS))
  const all = sources.flatMap((path) => mutantsOf(resolve(path), readFileSync(path, 'utf8')))
  const count = values.sample === undefined ? all.length : Number(values.sample)
  const mutants = values.sample === undefined ? all : sampled(all, count, Number(values.seed))
  if (values.list) {
    for (const { file, line, text } of mutants) console.log(`${file}:${line}  ${text}`)
    return
  }
  const startedMs = performance.now()
  const deadlineMs = startedMs + 1000 * Number(values.seconds ?? Number.POSITIVE_INFINITY)
  const tests: TestFile[] = []
  const folders = Object.entries(TESTS).filter(([folder]) => sources.some((path) => path.startsWith(folder)))
  for (const file of globSync(folders.flatMap(([, globs]) => globs)).sort())
    tests.push(await measure(resolve(file)))
  tests.sort((a, b) => a.durationMs - b.durationMs)
  console.log(`${mutants.length} mutants of ${sources.length} files, ${tests.length} test files`)

  const verdicts = new Map<Mutant, Verdict>()
  let next = 0
  const work = async (): Promise<void> => {
    for (let mutant = mutants[next++]; mutant !== undefined; mutant = mutants[next++]) {
      if (performance.now() >= deadlineMs) return
      verdicts.set(mutant, await judge(mutant, tests))
      if (verdicts.size % 100 === 0)
        console.log(`${verdicts.size} tried, ${Math.round((performance.now() - startedMs) / 1000)} s`)
    }
  }
  const stop = (): void => {
    next = mutants.length
    stopAll()
  }
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, stop)
  await Promise.all(Array.from({ length: PARALLEL }, work))
  print(verdicts, all.length)
}

try {
  await main()
} catch (error) {
  console.error((error as Error).message)
  process.exitCode = 2
}
