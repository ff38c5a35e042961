/**
 * Takes down one fence of docs/threat-model.md after another, in a copy of the project, and checks that the test that attacks
 * the fence then fails by its own assertion. Otherwise somebody could remove the fence without noticing.
 */
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { ensureEnvoy } from '../../src/launch/envoy-binary.ts'
import { type Outcome, type Run, runAttack } from './attack-run.ts'
import type { Fence } from './fence.ts'
import { FENCES } from './fence-list.ts'

const USAGE = `npm run fences [-- OPTIONS]

Takes down each fence of docs/threat-model.md in a copy of the project, one at a time, and runs the test that attacks it:
an assertion of it must fail. Takes some twenty minutes. Uses loopback addresses only; needs openssl, and kubectl or
kustomize for those of deploy/kubernetes.

  --only TEXT   the fences whose attack or file has this text
  --list        prints them and runs nothing
  --help

Exits with 1 when a test passes without its fence, fails with it, or breaks: it could not begin, hung, or failed in another
way than by an assertion of its own, which does not show that the attack comes through.`

const ROOT = fileURLToPath(new URL('../..', import.meta.url))
/** Folders that are linked or left out, not copied. */
const LINKED = ['node_modules', '.tools']
const LEFT_OUT = ['.git', 'dist', 'run', ...LINKED]
/** A limit, because a test may wait for something that never comes. */
const TEST_WITHIN_MS = 300_000
/** A short wait, because without the fence most tests wait in vain. */
const EVENTUALLY_MS = 10_000

let running: Run | undefined

async function main(only: string): Promise<number> {
  const chosen = FENCES.filter(({ attack, file }) => attack.includes(only) || file.includes(only))
  if (chosen.length === 0) throw new Error(`no fence has "${only}" in its attack or file: see --list`)
  await ensureEnvoy(console.log)
  const copy = copyOfProject()
  const stop = (): void => {
    running?.stop()
    rmSync(copy, { recursive: true, force: true })
  }
  // Not `once`, because a terminal's signal arrives twice: directly and through npm.
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const)
    process.on(signal, () => {
      stop()
      process.exit(130)
    })
  try {
    let faults = 0
    for (const fence of chosen) {
      const { verdict, why } = await judge(copy, fence)
      if (verdict !== 'fails without it') faults += 1
      console.log(`${verdict.padEnd(19)}${fence.attack.padEnd(58)}${fence.file}  ${fence.test}`)
      for (const line of why) console.log(line.replace(/^/gm, '    '))
    }
    console.log(
      `\n${chosen.length - faults} of ${chosen.length} fences are attacked by a test that fails without them`,
    )
    return faults === 0 ? 0 : 1
  } finally {
    stop()
  }
}

interface Judgement {
  readonly verdict:
    | 'fails without it'
    | 'PASSES WITHOUT IT'
    | 'BREAKS WITHOUT IT'
    | 'FAILS WITH IT'
    | 'HAS MOVED'
  /** What the tests said, where they should not have. */
  readonly why: readonly string[]
}

async function judge(copy: string, fence: Fence): Promise<Judgement> {
  const path = join(copy, fence.file)
  const text = readFileSync(path, 'utf8')
  if (text.split(fence.text).length !== 2) return { verdict: 'HAS MOVED', why: [] }
  const withIt = await outcomeWithAll(copy, fence)
  if (withIt.kind !== 'held') return { verdict: 'FAILS WITH IT', why: withIt.why }
  try {
    writeFileSync(
      path,
      text.replace(fence.text, () => fence.without),
    )
    const outcome = await run(copy, fence, EVENTUALLY_MS)
    if (outcome.kind === 'held') return { verdict: 'PASSES WITHOUT IT', why: [] }
    // If the project can't start or a test hangs, that does not prove that the attack comes through.
    if (outcome.kind === 'broke') return { verdict: 'BREAKS WITHOUT IT', why: outcome.why }
    return { verdict: 'fails without it', why: [] }
  } finally {
    writeFileSync(path, text)
  }
}

const known = new Map<string, Outcome>()

/** Once for each test. */
async function outcomeWithAll(copy: string, fence: Fence): Promise<Outcome> {
  const key = `${fence.test} ${fence.titles}`
  const outcome = known.get(key) ?? (await run(copy, fence))
  known.set(key, outcome)
  return outcome
}

function run(cwd: string, { test, titles }: Fence, eventuallyMs?: number): Promise<Outcome> {
  const wait = eventuallyMs === undefined ? {} : { eventuallyMs }
  running = runAttack({ cwd, test, titles, withinMs: TEST_WITHIN_MS, ...wait })
  return running.outcome
}

function copyOfProject(): string {
  const copy = mkdtempSync(join(tmpdir(), 'zonegate-fences-'))
  const left = new Set(LEFT_OUT)
  cpSync(ROOT, copy, { recursive: true, filter: (path) => !left.has(relative(ROOT, path)) })
  for (const name of LINKED) symlinkSync(join(ROOT, name), join(copy, name))
  return copy
}

const { values } = parseArgs({
  options: {
    only: { type: 'string', default: '' },
    list: { type: 'boolean', default: false },
    help: { type: 'boolean', default: false },
  },
})
if (values.help) console.log(USAGE)
else if (values.list)
  for (const { attack, file, test } of FENCES) console.log(`${attack.padEnd(58)}${file}  ${test}`)
else process.exitCode = await main(values.only)
