import { spawnSync } from 'node:child_process'
import { globSync } from 'node:fs'
import { ensureEnvoy } from '../src/launch/envoy-binary.ts'
import { fetchKubernetesTools } from '../test/support/kubernetes.ts'

const HELP = `Runs the tests: unit (beside the code), fuzz (short), integration (real loopback peers), e2e (real Envoy),
browser (real Chromium), compose (real Docker).

usage: npm test [-- unit|fuzz|integration|e2e|browser|compose ...] [-- --test-name-pattern=TEXT]
`

/** Globs, because a bare \`node --test\` would run test/support as well. */
const KINDS = {
  unit: '{src,bench}/**/*.test.ts',
  fuzz: 'test/fuzz/**/*.test.ts',
  integration: 'test/integration/**/*.test.ts',
  e2e: 'test/e2e/**/*.test.ts',
  browser: 'test/browser/**/*.test.ts',
  compose: 'test/compose/**/*.test.ts',
} as const

/** Kinds whose files run side by side. Tests with a browser or Docker run alone: they need both cores of a small machine. */
const SIDE_BY_SIDE: ReadonlySet<string> = new Set(['unit', 'fuzz', 'integration', 'e2e'])
/** How many of those at a time: one for each core of a small machine. */
const AT_A_TIME = 2

async function main(): Promise<number> {
  const args = process.argv.slice(2)
  if (args.includes('--help') || args.includes('-h')) {
    process.stdout.write(HELP)
    return 0
  }
  const chosen = args.filter((argument) => !argument.startsWith('-'))
  const unknown = chosen.filter((kind) => !(kind in KINDS))
  if (unknown.length > 0)
    throw new Error(
      `no kind of test is named ${unknown.join(', ')}; there are ${Object.keys(KINDS).join(', ')}`,
    )
  const kinds = Object.entries(KINDS).filter(([kind]) => chosen.length === 0 || chosen.includes(kind))
  const say = (text: string): void => void process.stderr.write(`zonegate: ${text}\n`)
  await ensureEnvoy(say)
  fetchKubernetesTools(say)

  const options = args.filter((argument) => argument.startsWith('-'))
  const together = kinds.filter(([kind]) => SIDE_BY_SIDE.has(kind))
  const alone = kinds.filter(([kind]) => !SIDE_BY_SIDE.has(kind))
  const codes = [run(together, AT_A_TIME, options), run(alone, 1, options)]
  return Math.max(...codes)
}

/** @returns the exit code; 0 if there are no files to run */
function run(
  kinds: readonly (readonly [string, string])[],
  concurrency: number,
  options: readonly string[],
): number {
  const files = kinds.flatMap(([, glob]) => globSync(glob)).sort()
  if (files.length === 0) return 0
  const node = ['--disable-warning=ExperimentalWarning', '--test', `--test-concurrency=${concurrency}`]
  return (
    spawnSync(process.execPath, [...node, '--test-timeout=300000', ...options, ...files], {
      stdio: 'inherit',
    }).status ?? 1
  )
}

main().then(
  (code) => process.exit(code),
  (error: unknown) => {
    process.stderr.write(`zonegate: ${(error as Error).message}\n`)
    process.exit(1)
  },
)
