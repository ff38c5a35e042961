import assert from 'node:assert/strict'
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, suite, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'

/**
 * Every command of the documents, as it is written there: in a network namespace of its own, where the demo's ports are
 * free, whatever runs on this machine.
 */
const ROOT = fileURLToPath(new URL('../..', import.meta.url))
const DOCUMENTS = [
  'README.md',
  'README.zh-CN.md',
  'docs/troubleshooting.md',
  'docs/tuning.md',
  'docs/moving-from-openresty.md',
]
const WITHIN_MS = 60_000
/** Ports and `run/` of its own. */
const APART = ['unshare', '--net', '--mount', 'sh', '-c']
const PREPARED = 'ip link set lo up && mkdir -p run && mount -t tmpfs run run &&'

/** Indented lines that a reader would type, without the comment behind them. */
function commandsOf(document: string): string[] {
  return readFileSync(join(ROOT, document), 'utf8')
    .split('\n')
    .filter((line) => /^ {4}(npm|npx|node|curl|docker|ZONEGATE_\w+=\S+ docker) /.test(line))
    .map((line) => line.trim().replace(/ {2,}#.*$/, ''))
}

/** Run elsewhere: `npm test` is this, `npm run check` precedes it in CI, containers have test/compose. */
const ELSEWHERE = /^(npm test|npm run (check|demo|package|bench.*)$|(ZONEGATE_\w+=\S+ )?docker compose )/
/** What README's table says of its four lines, in their order: the status, and the body where it shows one. */
const ANSWERS = [
  ...readFileSync(join(ROOT, 'README.md'), 'utf8').matchAll(
    /^\| `(?<status>\d{3} [^`]+)` \| (`(?<body>\{[^`]+\})`)?/gm,
  ),
].map(({ groups }) => ({ status: groups?.['status'] ?? '', body: asPattern(groups?.['body'] ?? '') }))
/** Commands that say no are commands that work: these ids are not the demo's. */
const REFUSED = /explain --id 12\b/

/** A text of the documents, where … is anything. */
function asPattern(text: string): RegExp {
  return new RegExp(text.replaceAll(/[^\w\s…]/g, '\\$&').replaceAll('…', '.*'))
}

const commands = new Set(DOCUMENTS.flatMap(commandsOf))
const matching = (start: RegExp): string[] => [...commands].filter((command) => start.test(command))

suite('the commands of the documents', { skip: whatIsMissing() ?? false }, () => {
  let demo: Started
  before(async () => {
    demo = start([...APART, `${PREPARED} exec npm run demo`])
    await demo.says(/^Zonegate is up/m)
  })
  after(() => demo.stop())

  test('are all run, here or elsewhere', () => {
    const known = /^(curl (-i|-s -o|-s 127)|npm start|npm run zonegate -- )/
    const unknown = [...commands].filter((command) => !known.test(command) && !ELSEWHERE.test(command))
    assert.deepEqual(unknown, [])
    const { scripts } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8'))
    for (const command of matching(/^npm run /)) assert.ok(scripts[command.split(' ')[2] ?? ''], command)
  })

  const shown = commandsOf('README.md').filter((line) => line.startsWith('curl -i'))
  test('npm run demo prints the requests of README', () => {
    const printed = demo.output().match(/^ {2}curl .*?(?= +# \d{3}: )/gm) ?? []
    assert.deepEqual(
      printed.map((line) => line.trim()),
      shown,
    )
  })

  for (const command of matching(/^curl -i/))
    test(command, async () => {
      const { code, output } = await runInside(demo, command)
      assert.equal(code, 0)
      const { status, body } = ANSWERS[shown.indexOf(command)] ?? assert.fail('README says what it answers')
      assert.ok(output.includes(`HTTP/1.1 ${status}\r\n`), output)
      assert.match(output, body)
    })

  test('the answer that docs/troubleshooting.md shows', async () => {
    const [, head = '', body = ''] =
      /```\n(HTTP.*?)\n\n(\{.*?\})\n```/s.exec(readFileSync(join(ROOT, 'docs/troubleshooting.md'), 'utf8')) ??
      []
    const { output } = await runInside(demo, "curl -i -X POST -H 'server: 99' http://127.0.0.1:8101/")
    for (const line of head.split('\n')) assert.ok(output.includes(`${line}\r\n`), `${line} in ${output}`)
    assert.match(output, asPattern(body.replace(/[0-9a-f-]{36}/, '…')))
  })

  for (const command of matching(/^curl -s -o/))
    test(command, async () => assert.match((await runInside(demo, command)).output, /^200 0\.\d+$/m))

  for (const command of matching(/^curl -s 127/))
    test(command, async () => {
      // The demo has no zone 12. Its zone 1 is hot after two requests, and has its rule's name in front.
      const ofZone1 = `${shown[0]} && ${shown[0]} && sleep 2 && ${command.replace('default/12', '.*default/1')}`
      assert.match(
        (await runInside(demo, ofZone1)).output,
        /^.*default\/1::[^:]+:\d+::health_flags::healthy$/m,
      )
    })

  for (const command of matching(/^npm run zonegate -- (?!.*--watch)/))
    test(command, async () => {
      const { code, output } = await runInside(demo, command)
      assert.equal(code, REFUSED.test(command) ? 1 : 0, output)
      assert.doesNotMatch(output, /^zonegate: /m)
    })

  for (const command of matching(/^npm run zonegate -- .*--watch/))
    test(command, async () => {
      const watching = start(inside(demo, command))
      await watching.says(/zone1-default\.game\.test/)
      await watching.stop()
    })
})

suite('npm start, as documented', { skip: whatIsMissing() ?? false }, () => {
  let folder: string
  before(() => {
    folder = mkdtempSync(join(tmpdir(), 'zonegate-start-'))
    const [, yaml = ''] = /```yaml\n(.*?)```/s.exec(readFileSync(join(ROOT, 'README.md'), 'utf8')) ?? []
    writeFileSync(join(folder, 'my.yaml'), yaml)
  })
  after(() => rmSync(folder, { recursive: true, force: true }))

  for (const command of matching(/^npm start/))
    test(command, async () => {
      // This machine may have no search domain, which `npm start` alone takes from resolv.conf.
      const own = command.includes('my.yaml') ? command.replace('my.yaml', `${folder}/my.yaml`) : command
      const gateway = start(
        [...APART, `${PREPARED} exec ${own}`],
        command === own ? { ZONEGATE_CONFIG: `${folder}/my.yaml` } : {},
      )
      try {
        await gateway.says(/^zonegate: ready on /m)
      } finally {
        await gateway.stop()
      }
    })
})

interface Started {
  readonly process: ChildProcess
  /** Waits for it, in what it writes to either stream. */
  says(text: RegExp): Promise<void>
  /** What it has written to either stream. */
  output(): string
  /** As Ctrl-C. */
  stop(): Promise<void>
}

function start([command = '', ...args]: readonly string[], environment: NodeJS.ProcessEnv = {}): Started {
  const child = spawn(command, args, {
    cwd: ROOT,
    env: { ...process.env, NO_COLOR: '1', ...environment },
    stdio: ['ignore', 'pipe', 'pipe'],
    detached: true,
  })
  let output = ''
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk) => (output += String(chunk)))
  const gone = once(child, 'exit')
  return {
    process: child,
    output: () => output,
    says: async (text) => {
      const deadline = performance.now() + WITHIN_MS
      while (!text.test(output)) {
        assert.ok(performance.now() < deadline && child.exitCode === null, `expected ${text} in:\n${output}`)
        await sleep(50)
      }
    },
    stop: async () => {
      if (child.exitCode === null && child.pid !== undefined) process.kill(-child.pid, 'SIGINT')
      await gone
    },
  }
}

/** In the network namespace of what was started. */
function inside(started: Started, command: string): string[] {
  return ['nsenter', '--target', String(started.process.pid), '--net', 'sh', '-c', command]
}

async function runInside(started: Started, command: string): Promise<{ code: number; output: string }> {
  const [file = '', ...args] = inside(started, command)
  const child = spawn(file, args, { cwd: ROOT, env: { ...process.env, NO_COLOR: '1' }, timeout: WITHIN_MS })
  let output = ''
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (chunk) => (output += String(chunk)))
  const [code] = await once(child, 'close')
  return { code: Number(code), output }
}

/** Why these tests can't run here; undefined when they can. */
function whatIsMissing(): string | undefined {
  const works = (...[command = '', ...args]: string[]): boolean => spawnSync(command, args).status === 0
  if (!works(...APART, 'ip link set lo up'))
    return 'no network namespace can be made here (root, and Debian: iproute2)'
  return works('curl', '--version') ? undefined : 'curl is not installed'
}
