import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { type AddressInfo, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { after, before, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { startNameserver } from '../../demo/nameserver.ts'
import { parseConfig } from '../../src/config/load.ts'
import { rulesOf } from '../../src/config/rules.ts'
import { REASONS, wayOutBy } from '../../src/status/reasons.ts'
import { eventually, runCli, startProcessorAlone, type TestProcessor } from '../support/processor.ts'

/** The command line, as an operator and as a script see it. */
const COMMANDS = [
  'serve',
  'validate',
  'diff',
  'explain',
  'status',
  'flush',
  'pin',
  'unpin',
  'pins',
  'healthcheck',
  'version',
]
const TOKEN = 'correct-horse-battery'
const MAIN = fileURLToPath(new URL('../../src/main.ts', import.meta.url))
let processor: TestProcessor
let nameserver: Awaited<ReturnType<typeof startNameserver>>
let folder: string

before(async () => {
  nameserver = await startNameserver('127.0.0.1', 0, {
    'zone1-default.game.test': ['10.0.0.1', '10.0.0.2'],
    'zone2-mail.game.test': [],
    'zone3-default.game.test': ['127.0.0.1'],
  })
  const dns = { search: 'game.test', nameservers: [`127.0.0.1:${nameserver.address().port}`] }
  processor = await startProcessorAlone({ config: { dns }, listen: { httpToken: TOKEN } })
  folder = mkdtempSync(join(tmpdir(), 'zonegate-cli-'))
})
after(async () => {
  await processor?.stop()
  nameserver?.close()
  rmSync(folder, { recursive: true, force: true })
})

test('--help lists the commands, and each has usage and an example', async () => {
  const { code, stdout } = await runCli(['--help'], folder)
  assert.equal(code, 0)
  for (const command of COMMANDS) assert.match(stdout, new RegExp(`^  ${command} +\\w`, 'm'))
  assert.match(stdout, /^example: zonegate /m)
  await Promise.all(
    COMMANDS.map(async (command) => {
      const help = await runCli([command, '--help'], folder)
      assert.equal(help.code, 0)
      assert.match(help.stdout, new RegExp(`^usage: zonegate ${command}`, 'm'))
      assert.match(help.stdout, new RegExp(`^example: zonegate ${command}`, 'm'))
    }),
  )
})

const WRONG: [args: string[], line: RegExp][] = [
  [['srve'], /^zonegate: there is no command "srve"; "zonegate --help" lists all commands\n$/],
  [
    ['status', 'zone'],
    /^zonegate: there is no view "zone"; the views are zones, rules, nameservers, envoys\n$/,
  ],
  [
    ['status', 'zones', 'more'],
    /^zonegate: unexpected "more"; "zonegate status --help" lists the options\n$/,
  ],
  [
    ['explain', '--idd', '1'],
    /^zonegate: Unknown option '--idd'; "zonegate explain --help" lists the options\n$/,
  ],
  [
    ['explain', 'no_reason'],
    /^zonegate: there is no reason "no_reason"; the reasons are no_rule, method_not_allowed, /,
  ],
  [['explain', 'zone_max'], /^zonegate: there is no reason "zone_max"; did you mean zones_max\?\n$/],
  [
    ['explain', '--id', '1', '--path', 'mail'],
    /^zonegate: --path: expected a path that begins with "\/", got "mail"\n$/,
  ],
  [['explain', '--header', 'server'], /^zonegate: --header: expected "name: value", got "server"\n$/],
  [['explain', '--curl', 'curl -d @f h'], /^zonegate: --curl: the command reads the file "f": /],
  [['explain', '--body', 'nothing-is-here'], /^zonegate: --body: can't read "nothing-is-here": ENOENT/],
  [['explain', '--body', '/dev/zero'], /^zonegate: --body: expected 1048576 octets or fewer/],
  [['diff'], /^zonegate: expected the new configuration: zonegate diff NEW\.yaml\n$/],
  [
    ['diff', 'nothing-is-here.yaml', '--rate', '0'],
    /^zonegate: --rate: expected a number from 1 to 10000, got "0"\n$/,
  ],
  [
    ['pin', '12', '10.0.0.5', '--config', 'zonegate.yaml'],
    /^zonegate: Unknown option '--config'; "zonegate pin --help" lists the options\n$/,
  ],
  [['diff', 'x.yaml', '--envoy', 'nothing-is-here'], /^zonegate: nothing-is-here\/envoy\.yaml: no such file/],
  [
    ['flush', '--server', 'processor'],
    /^zonegate: --server: expected a URL like http:\/\/127\.0\.0\.1:9003, got "processor"\n$/,
  ],
]
for (const [args, line] of WRONG) {
  test(`exit 2, one line: zonegate ${args.join(' ')}`, async () => {
    const { code, stderr, stdout } = await runCli(args, folder)
    assert.deepEqual([code, stdout], [2, ''])
    assert.match(stderr, line)
  })
}

test('no processor answers: exit 1, one line that says what to do', async () => {
  for (const args of [['status'], ['flush'], ['healthcheck'], ['explain', '--id', '1']]) {
    const { code, stderr } = await runCli([...args, '--server', 'http://127.0.0.1:1'], folder)
    assert.equal(code, 1)
    assert.match(
      stderr,
      /^zonegate: no processor answers on http:\/\/127\.0\.0\.1:1 \(ECONNREFUSED\): read its log and start it, or use --config or --server if it runs with another configuration\n$/,
    )
  }
})

test('a processor that hangs: exit 1, and that it hangs, not that there is none', async (context) => {
  const silent = createServer().listen(0, '127.0.0.1')
  context.after(() => silent.close())
  await once(silent, 'listening')
  const { port } = silent.address() as AddressInfo
  const { code, stderr } = await runCli(['healthcheck', '--server', `http://127.0.0.1:${port}`], folder)
  assert.equal(code, 1)
  assert.match(stderr, /^zonegate: the processor on \S+ gave no answer within 2 s: it hangs, or has no CPU\./)
})

test('a wrong token: exit 1, and which key', async () => {
  const server = `http://127.0.0.1:${processor.port}`
  const { code, stderr } = await runCli(['status', '--server', server], folder)
  assert.equal(code, 1)
  assert.match(
    stderr,
    / requires a token: set listen\.httpToken or listen\.httpTokenFile to the processor's\n$/,
  )
})

test('the token may come from a file, by the environment', async () => {
  writeFileSync(join(folder, 'token'), `${TOKEN}\n`)
  const environment = { ZONEGATE_HTTP_TOKEN_FILE: 'token', ZONEGATE_HTTP: `127.0.0.1:${processor.port}` }
  const { code, stdout } = await runCli(['status', '--json'], folder, environment)
  assert.equal(code, 0)
  assert.equal(JSON.parse(stdout).ready, true)
})

test('explain: exit 0 where a request is forwarded', async () => {
  const { code, stdout } = await processor.cli(['explain', '--id', '1'])
  assert.equal(code, 0)
  assert.match(
    stdout,
    /^POST \/, id 1\n\n {2}ok {2}method {5}POST is in methods\n {2}ok {2}id {9}header server: "1" matches idPattern\n/,
  )
  assert.match(stdout, /^ {2}ok {2}query .* asked for A over udp: NOERROR in \d+\.\d ms$/m)
  assert.match(
    stdout,
    /^ {2}ok {2}decision {3}forward to 10\.0\.0\.[12]:8101 or 10\.0\.0\.[12]:8101, in turn$/m,
  )
})

const REFUSED: [args: string[], reason: keyof typeof REASONS][] = [
  [['--id', '1', '--method', 'GET'], 'method_not_allowed'],
  [[], 'server_header_missing'],
  [['--id', '1', '--id', '2'], 'server_header_invalid'],
  [['--id', '404'], 'name_not_found'],
  [['--id', '2', '--path', '/mail'], 'no_address'],
  [['--id', '3'], 'address_denied'],
]
const [RULE] = rulesOf(parseConfig('', 'defaults'))
for (const [args, reason] of REFUSED) {
  test(`explain ${args.join(' ')}: exit 1, ${reason}, with cause and way out`, async () => {
    const { code, stdout } = await processor.cli(['explain', ...args])
    assert.equal(code, 1)
    const { status, cause } = REASONS[reason]
    const wayOut = wayOutBy(RULE, reason)
    assert.ok(
      stdout.endsWith(`refuse with ${status} ${reason}\n\nCause:   ${cause}\nWay out: ${wayOut}\n`),
      stdout,
    )
  })
}

const WHOLE: [args: string[], said: RegExp, code: number][] = [
  [['--header', 'Server: 1', '--host', 'a.test'], /^POST a\.test\/\n.*header server: "1".*forward to/s, 0],
  [
    ['--curl', "curl -X POST http://a.test/mail -H $'server: \\x32'"],
    /^POST a\.test\/mail\n.*no_address/s,
    1,
  ],
  [['--body', 'body.json', '--id', '1'], /^POST \/, id 1, a body of 8 octets\n/, 0],
  [['--curl', 'curl -d @body.json -H server:1 a.test', '--body', 'body.json'], /^POST .* 8 octets\n/, 0],
]
for (const [args, said, code] of WHOLE) {
  test(`explain ${args.join(' ')}: the same by the processor and offline`, async () => {
    writeFileSync(join(processor.folder, 'body.json'), '{"a": 1}')
    for (const more of [[], ['--offline']]) {
      const explained = await processor.cli(['explain', ...args, ...more])
      assert.equal(explained.code, code, explained.stderr)
      assert.match(explained.stdout, said)
    }
  })
}

test('explain --body - reads standard input', async () => {
  const args = [MAIN, 'explain', '--offline', '--id', '1', '--body', '-']
  const child = spawn(process.execPath, args, { cwd: processor.folder, stdio: ['pipe', 'pipe', 'inherit'] })
  child.stdin.end('x'.repeat(100_000))
  assert.match(await text(child.stdout), /^POST \/, id 1, a body of 100000 octets\n.*forward to/s)
})

test('explain --offline resolves by itself and says the same', async () => {
  const online = await processor.cli(['explain', '--id', '404', '--json'])
  const offline = await processor.cli(['explain', '--id', '404', '--offline', '--json'])
  assert.equal(offline.code, 1)
  assert.deepEqual(JSON.parse(offline.stdout).decision, JSON.parse(online.stdout).decision)
})

test('explain REASON asks no processor', async () => {
  const { status, cause, wayOut } = REASONS.upstream_timeout
  const { code, stdout } = await runCli(['explain', 'upstream_timeout'], folder)
  assert.deepEqual(
    [code, stdout],
    [0, `upstream_timeout (${status})\n\nCause:   ${cause}\nWay out: ${wayOut}\n`],
  )
})

test('status: an overview, and each view as a table', async () => {
  const overview = await processor.cli(['status'])
  assert.equal(overview.code, 0)
  assert.match(
    overview.stdout,
    /^zonegate \S+ on Node \S+: ready, up for \d+ (?:s|min)\nconfiguration zonegate\.yaml, read/,
  )
  const nameservers = await processor.cli(['status', 'nameservers'])
  assert.match(nameservers.stdout, /^NAMESERVER +STATE +RTT +QUERIES BY OUTCOME\n127\.0\.0\.1:\d+ +healthy/)
  const rules = await processor.cli(['status', 'rules'])
  assert.match(rules.stdout, /^RULE +REQ\/S +REQUESTS +HOT +REFUSED BY REASON\ndefault +0\.0 +0 +0 +-\n$/)
  assert.match(overview.stdout, /^RULE +REQ\/S/m)
  const envoys = await processor.cli(['status', 'envoys'])
  assert.match(envoys.stdout, /^No Envoy is connected, so/)
  const zones = await processor.cli(['status', 'zones'])
  assert.match(zones.stdout, /^No zone had requests lately/)
})

test('status VIEW --json has that part alone', async () => {
  const { stdout } = await processor.cli(['status', 'nameservers', '--json'])
  assert.deepEqual(Object.keys(JSON.parse(stdout)), ['at', 'nameservers'])
})

test('flush, healthcheck, version', async () => {
  // No request has come.
  for (const [args, nothing] of [
    [[], 'the cache is empty'],
    [['Zone1-default.game.test.'], 'the cache has no answer for zone1-default.game.test'],
  ] as [string[], string][]) {
    const { code, stdout } = await processor.cli(['flush', ...args])
    assert.deepEqual([code, stdout], [0, `nothing to flush: ${nothing}\n`])
  }
  assert.deepEqual(await processor.cli(['healthcheck']), { code: 0, stdout: '', stderr: '' })
  assert.match(
    (await runCli(['version'], folder)).stdout,
    /^zonegate \d+\.\d+\.\d+ \([\w-]+\) for Envoy 1\.40\.0, Node v\d+\.\d+\.\d+\n$/,
  )
  assert.deepEqual(Object.keys(JSON.parse((await runCli(['version', '--json'], folder)).stdout)), [
    ...['version', 'commit', 'envoy', 'node'],
  ])
})

for (const [what, broken, fault] of [
  [
    'a wrong value',
    (good: string) => `${good}foo: 1\n`,
    /^zonegate: note: zonegate\.yaml:\d+:1: foo: no such key/,
  ],
  ['broken YAML', (good: string) => `${good}rules: [\n`, /^zonegate: note: zonegate\.yaml:\d+:\d+: /],
] as const) {
  test(`beside a zonegate.yaml with ${what}, commands work and name the fault`, async (context) => {
    const file = join(processor.folder, 'zonegate.yaml')
    const good = readFileSync(file, 'utf8')
    context.after(() => writeFileSync(file, good))
    writeFileSync(file, broken(good))
    await eventually('the processor has read it, and status tells each fault once', async () => {
      const { stdout, stderr } = await processor.cli(['status'])
      return stderr === '' && /^not taken: zonegate\.yaml:/m.test(stdout)
    })
    const unreachable = await processor.cli(['status', '--server', 'http://127.0.0.1:9'])
    assert.equal(unreachable.code, 1)
    assert.match(unreachable.stderr, fault)
    for (const args of [['status', 'zones'], ['explain', '--id', '1'], ['flush'], ['healthcheck']]) {
      const { code, stderr } = await processor.cli(args)
      assert.deepEqual([args, code], [args, 0], stderr)
      assert.match(stderr, fault)
    }
    assert.equal((await processor.cli(['version'])).code, 0)
    for (const command of ['validate', 'serve']) {
      const { code, stdout, stderr } = await processor.cli([command])
      assert.deepEqual([command, code], [command, 1])
      assert.match(stdout + stderr, /zonegate\.yaml:\d+:\d+: /)
    }
  })
}

test('a pipe gets no escape sequences', async () => {
  const { stdout } = await processor.cli(['status'])
  assert.ok(!stdout.includes('\u001b'))
})

const NOTED: [what: string, text: string, notes: readonly RegExp[]][] = [
  ['a sound file', 'dns: { search: game.test }\n', []],
  ['a file at fault, whose search domain nobody has looked at', 'dns: { search: game.test, foo: 1 }\n', []],
  [
    'more learned zones than names in the cache',
    'dns: { search: game.test, cacheEntriesMax: 100 }\nlearned: { zonesMax: 200 }\n',
    [/learned\.zonesMax: expected dns\.cacheEntriesMax \(100\) or less, got 200/],
  ],
  [
    'rules without a fallback, each with its reasons',
    `dns: { search: game.test }
fallback: { enabled: true }
rules:
- { name: a, match: { paths: [/a] }, port: srv }
- { name: b, match: { paths: [/b] }, idPattern: '^(?!0)\\d+$' }
- { name: c }
`,
    [
      /fallback\.enabled: rule "a" has none: Envoy does not ask for SRV records, but port: srv is set for a/,
      /fallback\.enabled: rule "b" has none: Envoy may read its idPattern in another way/,
    ],
  ],
]
for (const [what, config, notes] of NOTED)
  test(`validate notes of ${what}: ${notes.length}`, async () => {
    writeFileSync(join(folder, 'noted.yaml'), config)
    const { stdout } = await runCli(['validate', 'noted.yaml', '--json'], folder)
    const report = JSON.parse(stdout) as { notes: { file: string; key: string; message: string }[] }
    const lines = report.notes.map(({ key, message }) => `${key}: ${message}`)
    assert.equal(lines.length, notes.length, lines.join('\n'))
    for (const [index, note] of notes.entries()) assert.match(lines[index] ?? '', note)
  })
