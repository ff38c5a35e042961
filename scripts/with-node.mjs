// Runs a TypeScript file of this project with Node 24 or newer: the machine's own, else the pinned one from npm. First installs
// missing dependencies from the lock file. This file is plain JavaScript, because it must run on Node 20.
//
// usage: node scripts/with-node.mjs FILE.ts [ARG ...]
import { spawn, spawnSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const NODE_MAJOR_LEAST = 24
const PARENT_LOOK_MS = 250
/** Files that need Linux: they use /proc, addresses such as 127.0.1.1, and an Envoy binary. */
const ON_LINUX_ONLY = ['src/launch/start.ts', 'demo/demo.ts']
const root = dirname(dirname(fileURLToPath(import.meta.url)))
const say = (text) => process.stderr.write(`zonegate: ${text}\n`)

function installed() {
  // npm writes this file last and lists in it what it installed, so it shows an interrupted or outdated install.
  try {
    const want = JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8')).packages
    const have = JSON.parse(readFileSync(join(root, 'node_modules/.package-lock.json'), 'utf8')).packages
    return Object.entries(want).every(
      ([path, { version, optional, os, cpu }]) =>
        path === '' ||
        have[path]?.version === version ||
        (have[path] === undefined && (optional || os || cpu)),
    )
  } catch {
    return false
  }
}

function install() {
  say('installing dependencies from the lock file (once; about 100 MB)')
  const { status, error } = spawnSync(
    'npm',
    ['ci', '--ignore-scripts', '--no-audit', '--no-fund', '--loglevel=error'],
    {
      cwd: root,
      stdio: ['ignore', 2, 2],
    },
  )
  if (error || status !== 0) {
    say(`npm ci failed${error ? `: ${error.message}` : ''}; mend that and try again`)
    process.exit(1)
  }
}

function nodeBinary() {
  const major = Number(process.versions.node.split('.')[0])
  if (major >= NODE_MAJOR_LEAST) return process.execPath
  const require = createRequire(join(root, 'package.json'))
  try {
    const manifest = require.resolve(`node-${process.platform}-${process.arch}/package.json`)
    const binary = join(dirname(manifest), 'bin/node')
    if (existsSync(binary)) return binary
  } catch {}
  say(
    `Node ${NODE_MAJOR_LEAST} or newer is needed, this is ${process.versions.node}, and npm has none for ${process.platform}-${process.arch}`,
  )
  process.exit(1)
}

const [file, ...args] = process.argv.slice(2)
if (process.platform !== 'linux' && ON_LINUX_ONLY.includes(file)) {
  const profile =
    file === 'demo/demo.ts' ? 'ZONEGATE_CONFIG_DIR=./demo docker compose --profile demo' : 'docker compose'
  say(`this runs on Linux only, not on ${process.platform}. Use Docker instead: ${profile} up --build`)
  process.exit(1)
}
if (!installed()) install()
const child = spawn(nodeBinary(), [file, ...args], {
  stdio: 'inherit',
  cwd: root,
  env: {
    // With a compile cache, Node strips types and compiles only once: a third less CPU for a short command.
    NODE_COMPILE_CACHE: join(root, 'node_modules/.cache/node'),
    ...process.env,
    // Long-running children end when this process has ended (src/launch/watch.ts).
    ZONEGATE_PARENT_PID: String(process.pid),
  },
})
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => child.kill(signal))
if (process.env.npm_lifecycle_event !== undefined) endWithNpm(() => child.kill('SIGTERM'))
child.on('exit', (code, signal) => process.exit(signal ? 1 : code))

/**
 * npm sends a signal to the shell between it and this process, but some shells (dash) end without passing it on. So this
 * process checks whether both still run.
 */
function endWithNpm(end) {
  const shell = process.ppid
  const npm = parentOf(shell)
  // Some shells replace themselves with the command (exec). Then the parent is npm itself.
  const watched = npm !== null && isNpm(npm) ? npm : null
  const timer = setInterval(() => {
    if (process.ppid === shell && (watched === null || parentOf(shell) === watched)) return
    clearInterval(timer)
    end()
  }, PARENT_LOOK_MS)
  timer.unref()
}

/** On Linux only. Null on other systems. */
function parentOf(pid) {
  try {
    return Number(readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ').at(-1).split(' ')[1])
  } catch {
    return null
  }
}

function isNpm(pid) {
  try {
    return /^npm\b|\/npm(-cli\.js)?\0/.test(readFileSync(`/proc/${pid}/cmdline`, 'utf8'))
  } catch {
    return false
  }
}
