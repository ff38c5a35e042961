import assert from 'node:assert/strict'
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import type { Arguments, Terminal } from '../../src/cli/command.ts'
import { findEnvoy, validateWithEnvoy } from '../../src/cli/envoy-validate.ts'
import { validateCommand } from '../../src/cli/validate.ts'
import { parseConfig } from '../../src/config/load.ts'
import { rulesOf } from '../../src/config/rules.ts'
import { generate } from '../../src/envoy-files/generated.ts'

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
  'note   not checked: envoy/routes.yaml, envoy/clusters.yaml, envoy/listener.yaml and envoy/envoy.yaml: not in the working directory'

const NO_HOST_NAME =
  'makes no host name (labels of up to 63 letters, digits and hyphens, 253 characters in all)'
const LONG_DOMAIN = `${'abcdefghi.'.repeat(24)}test`

/** All that is printed of each. */
const BROKEN: [yaml: string, ...faults: string[]][] = [
  ['dns:\n  budget: 5\n', '2:3: dns.budget: no such key, did you mean budgetMs?'],
  ['dsn: {}\n', '1:1: dsn: no such key, did you mean dns?'],
  [
    'timeouts: 3\n',
    '1:1: timeouts: no such key, expected one of listen, rules, zones, dns, addresses, learned, fallback, tracing, metrics, history, log',
  ],
  [
    'zones:\n  12: { adresses: [10.0.0.5] }\n',
    '2:9: zones.12.adresses: no such key, did you mean addresses?',
  ],
  [
    'zones:\n  12: { addresses: [10.0.0.5, 10.0.0.256] }\n',
    '2:31: zones.12.addresses.1: expected an address, or one with its port: 10.0.0.5, 10.0.0.6:9000, [2001:db8::1]:9000, got "10.0.0.256"',
  ],
  ...['10.0.0.5:0', '10.0.0.5:70000', '[10.0.0.5]:80', '::1%lo', 'host:80', ''].map(
    (text): [string, string] => [
      `zones: { 12: { addresses: ["${text}"] } }\n`,
      `1:28: zones.12.addresses.0: expected an address, or one with its port: 10.0.0.5, 10.0.0.6:9000, [2001:db8::1]:9000, got "${text}"`,
    ],
  ),
  [
    'zones:\n  12: { addresses: ["169.254.169.254:80"] }\n',
    '2:21: zones.12.addresses.0: expected an address that zones may have: addresses.allow doesn\'t let 169.254.169.254 through, got "169.254.169.254:80"',
  ],
  [
    'rules: { port: srv }\nzones:\n  12: { addresses: ["10.0.0.5:80", 10.0.0.5] }\n',
    '3:36: zones.12.addresses.1: expected a port, too: mail has its ports from SRV records; SERVICE/ID in place of the id is for one service, got "10.0.0.5"',
  ],
  [
    'zones:\n  "1001-1020": { as: "1" }\n  "7, 1005": { maintenance: x }\n',
    '3:3: zones.7, 1005: expected ids that no other entry has: "1001-1020" has 1005, too',
  ],
  [
    'zones:\n  ab: { as: "1" }\n  AB: { as: "2" }\n',
    '3:3: zones.AB: expected ids that no other entry has: "ab" has ab, too',
  ],
  [
    'zones: { 20-10: { as: "1" } }\n',
    '1:10: zones.20-10: expected a range from the smaller number to the larger one, got "20-10"',
  ],
  [
    'zones: { 0-10000: { as: "1" } }\n',
    '1:10: zones.0-10000: expected 10000 ids or fewer in a range, got "0-10000"',
  ],
  [
    'zones: { 1-6000: { as: "1" }, 7000-13000: { as: "1" } }\n',
    '1:31: zones.7000-13000: expected 10000 ids or fewer in all entries together',
  ],
  ...['1_2', 'a.b', '12, ', '1/2/3'].map((key): [string, string] => [
    `zones: { "${key}": { as: "1" } }\n`,
    `1:10: zones.${key}: expected ids, like "12", "1001-1020" or "7, 8", or "mail/12" for one service`,
  ]),
  [
    'zones: { "pay/12": { as: "1" } }\n',
    '1:10: zones.pay/12: expected a service or a rule in front of "/", one of mail, default',
  ],
  [
    'rules: { idPattern: "^[0-9]{1,4}$" }\nzones: { ab: { as: "1" } }\n',
    '2:10: zones.ab: expected ids that idPattern lets through, "ab" is none',
  ],
  [
    'rules: { idPattern: "^[0-9]{1,4}$" }\nzones: { 12: { as: "12345" } }\n',
    '2:16: zones.12.as: expected an id that idPattern of the rule default lets through, got "12345"',
  ],
  ['zones: { 12: { as: "a.b" } }\n', '1:16: zones.12.as: expected an id, like "1020", got "a.b"'],
  ['zones: { 12: { as: "12" } }\n', '1:16: zones.12.as: expected another id than its own, got "12"'],
  [
    'zones: { 1: { as: "2" }, 2: { as: "1" } }\n',
    '1:15: zones.1.as: expected a zone that is not merged itself, zones.2 merges "2" into "1", got "2"',
    '1:31: zones.2.as: expected a zone that is not merged itself, zones.1 merges "1" into "2", got "1"',
  ],
  [
    'zones: { 1: { as: "2" }, "*": { fallback: "1" } }\n',
    '1:33: zones.*.fallback: expected a zone that is not merged itself, zones.1 merges "1" into "2", got "1"',
  ],
  [
    'zones: { "*": { as: "1" } }\n',
    '1:10: zones.*: expected fallback, because "*" is for ids that DNS does not know',
  ],
  ['zones: { 1: { fallback: "0" } }\n', '1:10: zones.1: expected no fallback, which is only for "*"'],
  ...[
    ['007', '7'],
    ['0x10', '16'],
    ['1e3', '1000'],
  ].map(([text, read]): [string, string] => [
    `zones:\n  ${text}: { as: "1" }\n`,
    `2:3: zones.${read}: expected quotes around ${text}, which is ${read} without them`,
  ]),
  ['zones: { 1: {} }\n', '1:10: zones.1: expected exactly one of addresses, as, maintenance, fallback'],
  [
    'zones: { 1: { as: "2", maintenance: x } }\n',
    '1:24: zones.1.maintenance: expected exactly one of addresses, as, maintenance, fallback, got "x"',
  ],
  ['zones: { 1: { maintenance: x, status: 600 } }\n', '1:31: zones.1.status: expected 599 or less, got 600'],
  ['zones: { 1: { maintenance: x, status: 302 } }\n', '1:31: zones.1.status: expected 400 or more, got 302'],
  ['zones: { 1: { as: "2", status: 503 } }\n', '1:24: zones.1.status: expected maintenance with it, got 503'],
  [
    'zones: { 1: { maintenance: "a\\nb" } }\n',
    '1:15: zones.1.maintenance: expected a text without control characters, got "a\\nb"',
  ],
  [
    'zones: { 1: { maintenance: "" } }\n',
    '1:15: zones.1.maintenance: expected a text that is not empty, got ""',
  ],
  [
    'zones: { 1: { as: "2" } }\nfallback: { enabled: true }\n',
    '2:13: fallback.enabled: expected false, because there are zones: while Envoy resolves names itself, it does not know them, got true',
  ],
  ['dns:\n  budgetMs: soon\n', '2:3: dns.budgetMs: expected a number, got "soon"'],
  ['dns: { budgetMs: 0.5 }\n', '1:8: dns.budgetMs: expected a whole number, got 0.5'],
  ['dns: { budgetMs: 0 }\n', '1:8: dns.budgetMs: expected 1 or more, got 0'],
  ['rules:\n  port: 70000\n', '2:3: rules.port: expected 65535 or less, got 70000'],
  [
    'dns:\n  nameservers:\n  - 10.0.0.1\n',
    '3:5: dns.nameservers.0: expected address:port, like 127.0.0.1:53 or [::1]:53, got "10.0.0.1"',
  ],
  [
    'dns:\r\n  nameservers: [10.0.0.1:53, "1.2.3.4%x:53", "[fe80::1%eth0]:53"]\r\n',
    '2:30: dns.nameservers.1: expected address:port, like 127.0.0.1:53 or [::1]:53, got "1.2.3.4%x:53"',
  ],
  [
    'dns: { family: both, queriesInFlightMax: 1 }\n',
    '1:22: dns.queriesInFlightMax: expected 2 or more, because "family: both" sends two queries at once, got 1',
  ],
  [
    '\uFEFFdns: { nameservers: [ns.example:53] }\n',
    '1:22: dns.nameservers.0: expected address:port, like 127.0.0.1:53 or [::1]:53, got "ns.example:53"',
  ],
  [
    'addresses: { allow: ["fe80::1%eth0/64", "fe80::/64"] }\n',
    '1:22: addresses.allow.0: expected a CIDR, like 127.0.0.0/8, got "fe80::1%eth0/64"',
  ],
  ...['localhost:9004', '127.1:9004', '1.2.3.4%x:9004', '[::1%lo]:9004', '[127.0.0.1]:9004'].map(
    (text): [string, string] => [
      `listen: { grpc: "${text}" }\n`,
      `1:11: listen.grpc: expected unix:PATH or address:port, like 127.0.0.1:9004; Envoy accepts no host name here, got "${text}"`,
    ],
  ),
  ...['127.1:9003', '1.2.3.4%x:9003', 'a_b:9003', '999.0.0.1:9003'].map((text): [string, string] => [
    `listen: { http: "${text}" }\n`,
    `1:11: listen.http: expected host:port, like 127.0.0.1:9003, got "${text}"`,
  ]),
  [
    'rules: { host: "zone_{id}.{search}" }\n',
    `1:10: rules.host: expected a pattern for host names: this one ${NO_HOST_NAME}, as in "zone_1.a", got "zone_{id}.{search}"`,
  ],
  [
    `dns: { search: "${LONG_DOMAIN}" }\n`,
    `1:8: dns.search: expected a domain that fits rules.host: this one ${NO_HOST_NAME}, as in "zone1-mail.${LONG_DOMAIN}", got "${LONG_DOMAIN.slice(0, 100)}..."`,
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
  [
    'rules: { header: x-request-id }\n',
    '1:10: rules.header: expected a header that reaches the processor: Envoy uses, sets or drops this one, got "x-request-id"',
  ],
  ['rules: { methods: [post] }\n', '1:20: rules.methods.0: expected a method in upper case, got "post"'],
  [
    'rules: { services: { mail: { paths: [/mail] } } }\n',
    '1:10: rules.services: expected exactly one service without paths, which gets all other paths',
  ],
  [
    'rules: { services: { a: { paths: [mail] }, b: {} } }\n',
    '1:35: rules.services.a.paths.0: expected a path that begins with "/", got "mail"',
  ],
  [
    'rules:\n  services: { a: { paths: [/m] }, b: { paths: [/m] }, c: {} }\n',
    '2:48: rules.services.b.paths.0: expected another path: service "a" already has this one, got "/m"',
  ],
  [
    'addresses: { allow: ["10.0.0.1"] }\n',
    '1:22: addresses.allow.0: expected a CIDR, like 127.0.0.0/8, got "10.0.0.1"',
  ],
  [
    'listen: { grpc: /run/p.sock }\n',
    '1:11: listen.grpc: expected unix:PATH or address:port, like 127.0.0.1:9004; Envoy accepts no host name here, got "/run/p.sock"',
  ],
  [
    'listen: { grpc: "0.0.0.0:9004" }\n',
    '1:11: listen.grpc: expected listen.tls (or listen.insecure: true) with an address that is not loopback, got "0.0.0.0:9004"',
  ],
  [
    'listen: { tls: { cert: c, key: k, clientCa: ca } }\n',
    '1:11: listen.tls: expected listen.grpc to be address:port: a Unix socket needs no TLS',
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
    '1:11: listen.http: expected listen.httpToken or listen.httpTokenFile with an address that is not loopback, got "0.0.0.0:9003"',
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
    '3:1: foo: no such key, expected one of listen, rules, zones, dns, addresses, learned, fallback, tracing, metrics, history, log',
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

test('an empty file: a note that a running Zonegate does not take it', async () => {
  writeFileSync('z.yaml', '\n')
  const { code, lines } = await validate(WITH_SEARCH)
  assert.equal(code, 0)
  assert.match(lines[0] ?? '', /^note {3}z\.yaml: is empty: a running Zonegate keeps its configuration/)
  writeFileSync('z.yaml', '{}\n')
  assert.deepEqual((await validate(WITH_SEARCH)).lines, [NOT_CHECKED, 'ok     z.yaml'])
})

test("Envoy's files name no method and no header of the rules: they go with any", async () => {
  writeFileSync('z.yaml', 'dns: { search: a.test }\nrules: { header: x-zone, methods: [POST, PUT] }\n')
  copyEnvoyFiles('routes.yaml', /^/, '')
  assert.deepEqual(faultsIn((await validate()).lines), [])
  for (const name of ['envoy.yaml', 'listener.yaml', 'routes.yaml', 'clusters.yaml']) {
    const left = readFileSync(join('envoy', name), 'utf8')
      .split('\n')
      .filter((line) => /\bserver\b(?!_header)|POST/i.test(line.replace(/ *#.*| inline_string: .*/g, '')))
    assert.deepEqual(
      left.filter((line) => !/@type|expression|server_header_transformation/.test(line)),
      [],
    )
  }
})

test("one of Envoy's files that is not beside the others is a fault", async () => {
  writeFileSync('z.yaml', 'dns: { search: a.test }\n')
  copyEnvoyFiles('routes.yaml', /^/, '')
  rmSync(join('envoy', 'listener.yaml'))
  const { code, lines } = await validate()
  assert.equal(code, 1)
  assert.deepEqual(faultsIn(lines), [
    'envoy/listener.yaml: no such file; take it from envoy/ of this version (CHANGELOG.md, "To upgrade")',
  ])
})

/** An edit of one of Envoy's files, and what is to be said about it. */
const EDITS: [title: string, file: string, from: string | RegExp, to: string, said: RegExp][] = [
  [
    'a buffer in which a request that waits for the processor would hang',
    'listener.yaml',
    /max_request_bytes: 1048576/,
    'max_request_bytes: 65536',
    /^envoy\/listener\.yaml:\d+:\d+: resources\[0\]\..*\.max_request_bytes: expected 327680 or more, 5 times per_connection_buffer_limit_bytes/,
  ],
  [
    'a message_timeout that DNS may outlast',
    'listener.yaml',
    /message_timeout: 2s/,
    'message_timeout: 1s',
    /^envoy\/listener\.yaml:\d+:\d+: resources\[0\]\..*\.message_timeout: expected more than dns\.budgetMs of zonegate\.yaml \(1500 ms\), got 1s$/,
  ],
  [
    'a stream_idle_timeout that the processor may outlast',
    'listener.yaml',
    /stream_idle_timeout: 10s/,
    'stream_idle_timeout: 2s',
    /^envoy\/listener\.yaml:\d+:\d+: .*\.stream_idle_timeout: expected 0s or more than message_timeout of ext_proc \(2s\), got 2s$/,
  ],
  [
    'no message_timeout at all',
    'listener.yaml',
    /message_timeout: 2s.*/,
    '',
    /message_timeout: expected more than dns\.budgetMs .*got 0\.2s, Envoy's default$/,
  ],
  [
    'no filter that takes over the address of the processor',
    'listener.yaml',
    'x-zonegate-route, value: "%DYNAMIC_METADATA(zonegate:address)%"',
    'x-zonegate-route, value: "%DYNAMIC_METADATA(zonegate:zone)%"',
    /http_filters: expected a filter that puts %DYNAMIC_METADATA\(zonegate:address\)% into x-zonegate-route$/,
  ],
  [
    'a listener that never asks the processor',
    'listener.yaml',
    'filters.http.ext_proc.v3.ExternalProcessor',
    'filters.http.other.v3.Other',
    /^envoy\/listener\.yaml:\d+:\d+: http_filters: expected one of the type envoy\.extensions\.filters\.http\.ext_proc/,
  ],
  [
    'a bootstrap without a cluster for the processor',
    'envoy.yaml',
    '- name: processor',
    '- name: other',
    /^envoy\/envoy\.yaml:\d+:\d+: clusters: expected one with the name processor/,
  ],
  [
    'the route of the time of the forward proxy',
    'routes.yaml',
    / +# Only a forwarded request waits for its body\./,
    '        dynamic_forward_proxy: { "@type": type.googleapis.com/envoy.extensions.filters.http.dynamic_forward_proxy.v3.PerRouteConfig, host_rewrite_header: x-zonegate-route }',
    /^envoy\/routes\.yaml:\d+:\d+: .*typed_per_filter_config: expected host_rewrite in route instead of the forward proxy/,
  ],
  [
    'the cluster of the time of the forward proxy',
    'clusters.yaml',
    /type: ORIGINAL_DST\n.*\n.*/,
    'lb_policy: CLUSTER_PROVIDED\n  cluster_type: { name: envoy.clusters.dynamic_forward_proxy }',
    /^envoy\/clusters\.yaml:\d+:\d+: .*expected type: ORIGINAL_DST, and as original_dst_lb_config .* \(CHANGELOG\.md, "To upgrade"\)$/,
  ],
  [
    'a route of the time when files said what the rules say',
    'routes.yaml',
    '    - name: loop_detected',
    '    - { name: method_not_allowed, match: { prefix: "/" }, direct_response: { status: 405 } }\n    - name: loop_detected',
    /^envoy\/routes\.yaml:\d+:\d+: .*name: expected no route method_not_allowed: zonegate adds it, so remove this one/,
  ],
  [
    'a bootstrap of the time when the listener stood in it',
    'envoy.yaml',
    /^ {2}lds_config:.*\n/m,
    '',
    /^envoy\/envoy\.yaml:\d+:\d+: dynamic_resources: expected lds_config, without which Envoy does not read its listener/,
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

test('a listener from before upstream.tls, and files that are not there', async () => {
  copyEnvoyFiles('listener.yaml', /upstream\.transport_failure_reason/g, 'upstream.other')
  writeFileSync('z.yaml', 'rules: { upstream: { http: 2 } }\n')
  assert.deepEqual(faultsIn((await validate()).lines), [])
  mkdirSync('certs', { recursive: true }) // without the folder, it is one that only Envoy sees
  writeFileSync('z.yaml', 'rules: { upstream: { tls: { ca: certs/none.pem } } }\n')
  const { code, lines } = await validate()
  assert.equal(code, 1)
  const faults = faultsIn(lines)
  for (const said of [
    /mappers: expected one for the reason upstream_tls_failed/,
    /certs\/none\.pem: upstream\.tls\.ca: no such file/,
  ])
    assert.ok(
      faults.some((fault) => said.test(fault)),
      faults.join('\n'),
    )
})

for (const [title, from, to, said] of [
  [
    'no mapper',
    "response.code_details == 'maintenance'",
    "response.code_details == 'other'",
    /local_reply_config: mappers: expected one for the reason maintenance/,
  ],
  [
    'no retry-after',
    'allow|retry-after',
    'allow',
    /allow_expression: regex: expected allow\|retry-after, as zones of zonegate\.yaml has retryAfterSeconds$/,
  ],
] as const)
  test(`a listener from before zones: ${title}`, async () => {
    copyEnvoyFiles('listener.yaml', from, to)
    // One that is asked for nothing of the kind may stay as it is.
    writeFileSync('z.yaml', 'zones: { 7: { as: "8" } }\n')
    assert.deepEqual(faultsIn((await validate()).lines), [])
    writeFileSync('z.yaml', 'zones: { 7: { maintenance: x, retryAfterSeconds: 60 } }\n')
    const { code, lines } = await validate()
    assert.equal(code, 1)
    assert.ok(
      faultsIn(lines).some((fault) => said.test(fault)),
      lines.join('\n'),
    )
  })

test('what no learned zone could do is a note, as every request may ask the processor', async () => {
  writeFileSync('z.yaml', 'dns: { search: a.test }\n')
  copyEnvoyFiles('routes.yaml', 'cluster: zones', 'cluster: zones\n        append_x_forwarded_host: true')
  const { code, lines } = await validate()
  assert.equal(code, 0)
  assert.match(
    lines.join('\n'),
    /^note {3}envoy\/routes\.yaml:\d+:34: resources\[0\]\.virtual_hosts\[0\]\.routes\[\d\]\.route\.append_x_forwarded_host: learned zones can't do this; no zone is learned$/m,
  )
})

const ENVOY_SAYS: [title: string, file: string, from: string | RegExp, to: string, said: RegExp][] = [
  ["the files as they are are Envoy's", 'routes.yaml', /^/, '', /^$/],
  [
    'a duration without a unit',
    'listener.yaml',
    'stream_idle_timeout: 10s',
    'stream_idle_timeout: 10',
    /^envoy\/listener\.yaml:\d+:\d+: .*\.stream_idle_timeout: Envoy: google\.protobuf\.Duration: /,
  ],
  [
    'a field that Envoy does not know, in the bootstrap',
    'envoy.yaml',
    'deferred_stat_options:',
    'nonsense: 1\ndeferred_stat_options:',
    /^envoy\/envoy\.yaml:.*Envoy: .*nonsense/,
  ],
  [
    'a field that Envoy does not know, in the routes',
    'routes.yaml',
    'domains: ["*"]',
    'domains: ["*"]\n    nonsense: 1',
    /^envoy\/routes\.yaml:\d+:\d+: resources\[0\]\.virtual_hosts\[0\].*: Envoy: \S+: no such field: 'nonsense'$/,
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

test("Envoy's own --mode validate: what is made of the rules, too", {
  skip: envoy === undefined && 'no Envoy here',
}, async () => {
  const file = (name: string) => ({ path: name, text: readFileSync(join(ENVOY_FILES, name), 'utf8') })
  const files = {
    routes: file('routes.yaml'),
    clusters: file('clusters.yaml'),
    listener: file('listener.yaml'),
    bootstrap: file('envoy.yaml'),
  }
  const generated = generate(rulesOf(parseConfig('', '')))
  const refused = { match: { prefix: '/' }, direct_response: { status: 9999 } }
  const faults = await validateWithEnvoy(envoy ?? '', files, { ...generated, routes: [refused] })
  assert.deepEqual(
    faults.map(({ key, message }) => [key, /status/i.test(message)]),
    [['rules', true]],
    JSON.stringify(faults),
  )
})

function copyEnvoyFiles(file: string, from: string | RegExp, to: string): void {
  mkdirSync('envoy', { recursive: true })
  cpSync(ENVOY_FILES, 'envoy', { recursive: true })
  const text = readFileSync(join('envoy', file), 'utf8')
  const changed = text.replace(from, to)
  if (to !== '' || from.toString() !== '/^/') assert.notEqual(changed, text, 'the edit changes something')
  writeFileSync(join('envoy', file), changed)
}
