import assert from 'node:assert/strict'
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import type { Arguments, Terminal } from '../../src/cli/command.ts'
import { findEnvoy } from '../../src/cli/envoy-validate.ts'
import { validateCommand } from '../../src/cli/validate.ts'

/** `zonegate validate` on broken files: each fault is told by line, column and key, with what was expected there. */
const ENVOY_FILES = fileURLToPath(new URL('../../envoy', import.meta.url))
const startedIn = process.cwd()
let folder: string

before(() => {
  folder = mkdtempSync(join(tmpdir(), 'zonegate-validate-test-'))
  process.chdir(folder)
})
after(() => {
  process.chdir(startedIn)
  rmSync(folder, { recursive: true, force: true })
})

async function validate(environment: NodeJS.ProcessEnv = {}): Promise<{ code: number; lines: string[] }> {
  let text = ''
  const stdout = { write: (chunk: string) => (text += chunk) }
  const args: Arguments = {
    positionals: ['z.yaml'],
    text: () => undefined,
    texts: () => [],
    flag: () => false,
  }
  const terminal = { environment, stdout, colour: false } as unknown as Terminal
  const code = await validateCommand.run(args, terminal)
  return { code, lines: text.trimEnd().split('\n') }
}

const faultsIn = (lines: readonly string[]): string[] =>
  lines.filter((line) => line.startsWith('fault  ')).map((line) => line.slice('fault  '.length))

/** A search domain, whatever this machine's resolv.conf has: without one there is a note. */
const WITH_SEARCH = { LOCALDOMAIN: 'a.test' }
const NOT_CHECKED =
  'note   not checked: envoy/routes.yaml and envoy/envoy.yaml: not both in the working directory'

/** All that is printed of each. */
const BROKEN: [yaml: string, ...faults: string[]][] = [
  ['dns:\n  budget: 5\n', '2:3: dns.budget: no such key, did you mean budgetMs?'],
  ['dsn: {}\n', '1:1: dsn: no such key, did you mean dns?'],
  ['retries: 3\n', '1:1: retries: no such key, expected one of listen, rules, dns, addresses, learned, log'],
  ['dns:\n  budgetMs: soon\n', '2:3: dns.budgetMs: expected a number, got "soon"'],
  ['dns: { budgetMs: 0.5 }\n', '1:8: dns.budgetMs: expected a whole number, got 0.5'],
  ['dns: { budgetMs: 0 }\n', '1:8: dns.budgetMs: expected 1 or more, got 0'],
  ['rules:\n  port: 70000\n', '2:3: rules.port: expected 65535 or less, got 70000'],
  [
    'dns:\n  nameservers:\n  - 10.0.0.1\n',
    '3:5: dns.nameservers.0: expected address:port, like 127.0.0.1:53 or [::1]:53, got "10.0.0.1"',
  ],
  ['dns: { nameservers: [] }\n', '1:8: dns.nameservers: expected 1 or more entries'],
  ['dns: { nameservers: 10.0.0.1:53 }\n', '1:8: dns.nameservers: expected a list, got "10.0.0.1:53"'],
  ['dns: { search: "a..b" }\n', '1:8: dns.search: expected a domain name, got "a..b"'],
  ['dns: { family: ipv5 }\n', '1:8: dns.family: expected one of ipv4, ipv6, both, got "ipv5"'],
  ['dns: { ttlSeconds: { min: 61 } }\n', '1:8: dns.ttlSeconds: expected min to be at most max'],
  ['dns: 5\n', '1:1: dns: expected keys with values, got 5'],
  [
    'rules: { idPattern: "(" }\n',
    '1:10: rules.idPattern: expected a regular expression (Invalid regular expression: /(/: Unterminated group), got "("',
  ],
  [
    'rules: { host: "x.{search}" }\n',
    '1:10: rules.host: expected a pattern that contains {id}, got "x.{search}"',
  ],
  [
    'rules: { host: "{id}.{zone}" }\n',
    '1:10: rules.host: expected no placeholder but {id}, {service} and {search}, got "{id}.{zone}"',
  ],
  ['rules: { methods: [post] }\n', '1:20: rules.methods.0: expected a method in upper case, got "post"'],
  [
    'rules: { services: { mail: { paths: [/mail] } } }\n',
    '1:10: rules.services: expected exactly one service without paths: the one for every other path',
  ],
  [
    'rules: { services: { a: { paths: [mail] }, b: {} } }\n',
    '1:35: rules.services.a.paths.0: expected a path that begins with "/", got "mail"',
  ],
  [
    'rules:\n  services: { a: { paths: [/m] }, b: { paths: [/m] }, c: {} }\n',
    '2:48: rules.services.b.paths.0: expected a path of one service only, "a" has it too, got "/m"',
  ],
  [
    'addresses: { allow: ["10.0.0.1"] }\n',
    '1:22: addresses.allow.0: expected a CIDR, like 127.0.0.0/8, got "10.0.0.1"',
  ],
  [
    'listen: { grpc: /run/p.sock }\n',
    '1:11: listen.grpc: expected unix:PATH or host:port, got "/run/p.sock"',
  ],
  [
    'listen: { grpc: "0.0.0.0:9004" }\n',
    '1:11: listen.grpc: expected listen.tls (or listen.insecure: true) beside an address that is not loopback, got "0.0.0.0:9004"',
  ],
  [
    'listen: { tls: { cert: c, key: k, clientCa: ca } }\n',
    '1:11: listen.tls: expected host:port as listen.grpc beside it; a Unix socket needs none',
  ],
  [
    'listen: { grpc: "0.0.0.0:9004", insecure: true, tls: { cert: c, key: k, clientCa: ca } }\n',
    '1:33: listen.insecure: expected listen.tls or listen.insecure, not both, got true',
  ],
  [
    'listen: { grpc: "0.0.0.0:9004", tls: { cert: c, key: k } }\n',
    '1:33: listen.tls.clientCa: expected a text',
  ],
  [
    'listen: { http: "0.0.0.0:9003" }\n',
    '1:11: listen.http: expected listen.httpToken or listen.httpTokenFile beside an address that is not loopback, got "0.0.0.0:9003"',
  ],
  [
    'listen: { httpToken: hunter2 }\n',
    '1:11: listen.httpToken: expected 16 printable characters or more, without spaces',
  ],
  ['learned: { enabled: yes please }\n', '1:12: learned.enabled: expected true or false, got "yes please"'],
  [
    'log: { level: loud }\n',
    '1:8: log.level: expected one of trace, debug, info, warn, error, fatal, silent, got "loud"',
  ],
  ['log: { level: info }\nlog: { level: warn }\n', '2:1: Map keys must be unique'],
  ['- 1\n', '1:1: expected keys with values, got a list'],
  ['dns: [\n', '2:1: Flow sequence in block collection must be sufficiently indented and end with a ]'],
  [
    'rules: { port: 0 }\nlog: { level: loud }\nfoo: 1\n',
    '1:10: rules.port: expected 1 or more, got 0',
    '2:8: log.level: expected one of trace, debug, info, warn, error, fatal, silent, got "loud"',
    '3:1: foo: no such key, expected one of listen, rules, dns, addresses, learned, log',
  ],
]
for (const [yaml, ...faults] of BROKEN) {
  test(`${JSON.stringify(yaml)}`, async () => {
    writeFileSync('z.yaml', yaml)
    const { code, lines } = await validate(WITH_SEARCH)
    assert.equal(code, 1)
    assert.deepEqual(lines, [
      ...faults.map((fault) => `fault  z.yaml:${fault}`),
      NOT_CHECKED,
      `failed ${faults.length} ${faults.length === 1 ? 'fault' : 'faults'}`,
    ])
  })
}

test('aliases that multiply themselves are refused', async () => {
  const level = (n: number): string =>
    `l${n}: &l${n} [${Array(9)
      .fill(`*l${n - 1}`)
      .join(', ')}]\n`
  writeFileSync('z.yaml', `l0: &l0 [x]\n${[1, 2, 3, 4, 5, 6].map(level).join('')}`)
  const { code, lines } = await validate()
  assert.equal(code, 1)
  assert.match(faultsIn(lines)[0] ?? '', /Excessive alias count/)
})

test('a sound file says what was checked, and what not', async () => {
  writeFileSync('z.yaml', 'dns: { search: a.test }\n')
  assert.deepEqual(await validate(), {
    code: 0,
    lines: [NOT_CHECKED, 'ok     z.yaml'],
  })
})

test("Envoy's files go with other rules only if they are changed too", async () => {
  writeFileSync('z.yaml', 'dns: { search: a.test }\nrules: { header: x-zone, methods: [POST, PUT] }\n')
  copyEnvoyFiles('routes.yaml', /^/, '')
  const { code, lines } = await validate()
  assert.equal(code, 1)
  assert.deepEqual(
    faultsIn(lines).map((fault) => fault.replace(/:\d+:\d+: .*?: expected/, ' expected')),
    [
      'envoy/envoy.yaml expected { inline_header_name: x-zone, inline_header_type: REQUEST_HEADER }, the header with the id',
      'envoy/routes.yaml expected to let PUT through, which rules.methods has',
      'envoy/routes.yaml expected x-zone, the header of rules.header',
      'envoy/envoy.yaml expected %REQ(x-zone)% in it, the header of rules.header',
      'envoy/envoy.yaml expected { exact: x-zone }, the header of rules.header',
    ],
  )
})

/** An edit of one of Envoy's files, and what is to be said about it. */
const EDITS: [title: string, file: string, from: string | RegExp, to: string, said: RegExp][] = [
  [
    'a message_timeout that DNS may outlast',
    'envoy.yaml',
    /message_timeout: 2s/,
    'message_timeout: 1s',
    /^envoy\/envoy\.yaml:\d+:\d+: static_resources\..*\.message_timeout: expected more than dns\.budgetMs of zonegate\.yaml \(1500 ms\), got 1s$/,
  ],
  [
    'a stream_idle_timeout that the processor may outlast',
    'envoy.yaml',
    /stream_idle_timeout: 10s/,
    'stream_idle_timeout: 2s',
    /^envoy\/envoy\.yaml:\d+:\d+: .*\.stream_idle_timeout: expected 0s or more than message_timeout of ext_proc \(2s\), got 2s$/,
  ],
  [
    'no message_timeout at all',
    'envoy.yaml',
    /message_timeout: 2s.*/,
    '',
    /message_timeout: expected more than dns\.budgetMs .*got 0\.2s, Envoy's default$/,
  ],
  [
    'an id header that Envoy does not forward',
    'envoy.yaml',
    '{ exact: server }, ',
    '',
    /^envoy\/envoy\.yaml:\d+:\d+: .*allowed_headers\.patterns: expected \{ exact: server \}, the header of rules\.header$/,
  ],
  [
    'several ids that stay several headers',
    'envoy.yaml',
    '- { inline_header_name: server,',
    '- { inline_header_name: x-zone,',
    /^envoy\/envoy\.yaml:\d+:\d+: inline_headers: expected \{ inline_header_name: server, /,
  ],
  [
    'a retry that is no number',
    'routes.yaml',
    'num_retries: 1',
    'num_retries: many',
    /^envoy\/routes\.yaml:\d+:\d+: resources\[0\]\..*\.num_retries: expected a whole number/,
  ],
]
for (const [title, file, from, to, said] of EDITS) {
  test(`Envoy's files: ${title}`, async () => {
    writeFileSync('z.yaml', 'dns: { search: a.test }\n')
    copyEnvoyFiles(file, from, to)
    const { code, lines } = await validate()
    assert.equal(code, 1)
    const faults = faultsIn(lines)
    assert.ok(
      faults.some((fault) => said.test(fault)),
      faults.join('\n'),
    )
    const [, line, column] = /:(\d+):(\d+): /.exec(faults.find((fault) => said.test(fault)) ?? '') ?? []
    assert.ok(Number(line) > 1 && Number(column) > 0)
  })
}

test("a note where Envoy's own fence lacks what addresses.allow lets through", async () => {
  const notesWith = async (prefix: string): Promise<string[]> => {
    writeFileSync('z.yaml', 'dns: { search: a.test }\naddresses: { allow: [127.0.2.0/24] }\n')
    copyEnvoyFiles('envoy.yaml', '"192.0.2.0", prefix_len: 32', `${prefix}, prefix_len: 24`)
    const { code, lines } = await validate()
    assert.equal(code, 0)
    return lines.filter((line) => line.startsWith('note') && !line.includes('not checked'))
  }
  const [note = '', ...others] = await notesWith('10.1.2.0')
  assert.match(
    note,
    /^note {3}envoy\/envoy\.yaml:\d+:\d+: policies\.allowed: Envoy itself denies 127\.0\.2\.0\/24 of addresses\.allow; npm start writes it here, nothing else does$/,
  )
  assert.deepEqual(others, [])
  assert.deepEqual(await notesWith('127.0.2.0'), [])
})

test("a note where Envoy's own fence lets through what the processor denies", async () => {
  writeFileSync('z.yaml', 'dns: { search: a.test }\n')
  copyEnvoyFiles('envoy.yaml', /^ +- \{ matcher:.*"169\.254\.0\.0".*\n/m, '')
  const { code, lines } = await validate()
  assert.equal(code, 0)
  assert.match(
    lines.join('\n'),
    /^note {3}envoy\/envoy\.yaml:\d+:\d+: policies\.others: Envoy itself lets through 169\.254\.0\.0\/16, which the processor denies; /m,
  )
})

const ENVOY_SAYS: [title: string, file: string, from: string | RegExp, to: string, said: RegExp][] = [
  ["the files as they are are Envoy's", 'routes.yaml', /^/, '', /^$/],
  [
    'a duration without a unit',
    'envoy.yaml',
    'stream_idle_timeout: 10s',
    'stream_idle_timeout: 10',
    /^envoy\/envoy\.yaml:\d+:\d+: .*\.stream_idle_timeout: Envoy: google\.protobuf\.Duration: /,
  ],
  [
    'a field that Envoy does not know, in the routes',
    'routes.yaml',
    'domains: ["*"]',
    'domains: ["*"]\n    nonsense: 1',
    /^envoy\/routes\.yaml:\d+:\d+: resources\[0\]\.virtual_hosts\[0\].*: Envoy: .*nonsense/,
  ],
]
const envoy = findEnvoy(process.env['PATH'] ?? '')
for (const [title, file, from, to, said] of ENVOY_SAYS) {
  test(`Envoy's own --mode validate: ${title}`, {
    skip: envoy === undefined && 'no Envoy here',
  }, async () => {
    writeFileSync('z.yaml', 'dns: { search: a.test }\n')
    copyEnvoyFiles(file, from, to)
    const { lines } = await validate({ PATH: process.env['PATH'] ?? '' })
    const faults = faultsIn(lines)
    if (said.source === '^$') assert.deepEqual(faults, [])
    else
      assert.ok(
        faults.some((fault) => said.test(fault)),
        lines.join('\n'),
      )
  })
}

function copyEnvoyFiles(file: string, from: string | RegExp, to: string): void {
  mkdirSync('envoy', { recursive: true })
  cpSync(ENVOY_FILES, 'envoy', { recursive: true })
  const text = readFileSync(join('envoy', file), 'utf8')
  const changed = text.replace(from, to)
  if (to !== '' || from.toString() !== '/^/') assert.notEqual(changed, text, 'the edit changes something')
  writeFileSync(join('envoy', file), changed)
}
