/**
 * Takes down one fence of docs/threat-model.md after the other, in a copy of the project, and sees whether the test that
 * attacks it fails then: a fence that nothing attacks could go without anybody noticing.
 */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { ensureEnvoy } from '../../src/launch/envoy-binary.ts'
import { FENCES, type Fence } from './fence-list.ts'

const USAGE = `npm run fences [-- OPTIONS]

Takes down each fence of docs/threat-model.md in a copy of the project, one at a time, and runs the test that attacks it:
it must fail. Takes some five minutes. Uses loopback addresses only.

  --only TEXT   the fences whose attack or file has this text
  --list        prints them and runs nothing
  --help

Exits with 1 when a test passes without its fence, or fails with it.`

const ROOT = fileURLToPath(new URL('../..', import.meta.url))
/** Not copied: linked, or of no use. */
const LINKED = ['node_modules', '.tools']
const LEFT_OUT = ['.git', 'dist', 'run', ...LINKED]
/** A test without its fence may wait for what never comes. */
const TEST_WITHIN_MS = 120_000

let running: ChildProcess | undefined

async function main(only: string): Promise<number> {
  const chosen = FENCES.filter(({ attack, file }) => attack.includes(only) || file.includes(only))
  if (chosen.length === 0) throw new Error(`no fence has "${only}" in its attack or file: see --list`)
  await ensureEnvoy(console.log)
  const copy = copyOfProject()
  const stop = (): void => {
    if (running?.pid !== undefined) endTree(running.pid)
    rmSync(copy, { recursive: true, force: true })
  }
  // Not once: from a terminal it comes twice, by way of npm.
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const)
    process.on(signal, () => {
      stop()
      process.exit(130)
    })
  try {
    let faults = 0
    for (const fence of chosen) {
      const verdict = await judge(copy, fence)
      if (verdict !== 'fails without it') faults += 1
      console.log(`${verdict.padEnd(18)}${fence.attack.padEnd(58)}${fence.file}  ${fence.test}`)
    }
    console.log(
      `\n${chosen.length - faults} of ${chosen.length} fences are attacked by a test that fails without them`,
    )
    return faults === 0 ? 0 : 1
  } finally {
    stop()
  }
}

type Verdict = 'fails without it' | 'PASSES WITHOUT IT' | 'FAILS WITH IT' | 'HAS MOVED'

async function judge(copy: string, fence: Fence): Promise<Verdict> {
  const path = join(copy, fence.file)
  const text = readFileSync(path, 'utf8')
  if (text.split(fence.text).length !== 2) return 'HAS MOVED'
  if (!(await passes(copy, fence))) return 'FAILS WITH IT'
  try {
    writeFileSync(
      path,
      text.replace(fence.text, () => fence.without),
    )
    return (await passes(copy, fence)) ? 'PASSES WITHOUT IT' : 'fails without it'
  } finally {
    writeFileSync(path, text)
  }
}

const passed = new Map<string, boolean>()

/** Once for each test while all fences stand. */
async function passes(copy: string, fence: Fence): Promise<boolean> {
  const asIs = readFileSync(join(copy, fence.file), 'utf8') === readFileSync(join(ROOT, fence.file), 'utf8')
  const key = `${fence.test} ${fence.titles}`
  const known = asIs ? passed.get(key) : undefined
  if (known !== undefined) return known
  const result = await run(copy, fence)
  if (asIs) passed.set(key, result)
  return result
}

function run(copy: string, { test, titles }: Fence): Promise<boolean> {
  const args = [
    '--disable-warning=ExperimentalWarning',
    '--test',
    '--test-name-pattern',
    String(titles),
    test,
  ]
  const { NODE_TEST_CONTEXT: _, ...env } = process.env
  // A session of its own: Ctrl-C would end the test alone, and leave what it has started.
  const child = spawn(process.execPath, args, {
    cwd: copy,
    stdio: ['ignore', 'pipe', 'ignore'],
    env,
    detached: true,
  })
  running = child
  let output = ''
  child.stdout.on('data', (chunk) => {
    output += chunk
  })
  const timer = setTimeout(() => child.pid !== undefined && endTree(child.pid), TEST_WITHIN_MS)
  return new Promise((resolve) => {
    child.once('close', (code) => {
      clearTimeout(timer)
      running = undefined
      const ran = Number(/^ℹ pass (\d+)$/m.exec(output)?.[1] ?? 0)
      resolve(code === 0 && ran > 0)
    })
  })
}

/** A test, and all that it has started: a gateway's processes have sessions of their own, and would outlive it. */
function endTree(pid: number): void {
  try {
    process.kill(pid, 'SIGSTOP') // so that it starts nothing while its children are counted
    const children = spawnSync('ps', ['-o', 'pid=', '--ppid', String(pid)], { encoding: 'utf8' }).stdout
    process.kill(pid, 'SIGKILL')
    for (const child of children.split('\n').filter((line) => line.trim() !== '')) endTree(Number(child))
  } catch {} // it has ended meanwhile
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
