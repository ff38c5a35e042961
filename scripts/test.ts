import { spawnSync } from 'node:child_process'
import { globSync } from 'node:fs'
import { ensureEnvoy } from '../src/launch/envoy-binary.ts'

const HELP = `Runs the tests: unit (beside the code), integration (real loopback peers), e2e (real Envoy),
browser (real Chromium), compose (real Docker).

usage: npm test [-- unit|integration|e2e|browser|compose ...] [-- --test-name-pattern=TEXT]
`

/** Globs, because a bare \`node --test\` would run test/support as well. */
const KINDS = {
  unit: '{src,bench}/**/*.test.ts',
  integration: 'test/integration/**/*.test.ts',
  e2e: 'test/e2e/**/*.test.ts',
  browser: 'test/browser/**/*.test.ts',
  compose: 'test/compose/**/*.test.ts',
} as const

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
  const files = kinds.flatMap(([, glob]) => globSync(glob)).sort()
  await ensureEnvoy((text) => process.stderr.write(`zonegate: ${text}\n`))

  const options = args.filter((argument) => argument.startsWith('-'))
  // Files run two at a time: each may have an Envoy, and the tests must fit two cores.
  const node = [
    '--disable-warning=ExperimentalWarning',
    '--test',
    '--test-concurrency=2',
    '--test-timeout=120000',
    ...options,
    ...files,
  ]
  return spawnSync(process.execPath, node, { stdio: 'inherit' }).status ?? 1
}

main().then(
  (code) => process.exit(code),
  (error: unknown) => {
    process.stderr.write(`zonegate: ${(error as Error).message}\n`)
    process.exit(1)
  },
)
