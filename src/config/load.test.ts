import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ConfigError, loadConfig, parseConfig } from './load.ts'

const faultsOf = (text: string): readonly string[] => {
  try {
    parseConfig(text, 'z.yaml')
  } catch (error) {
    assert.ok(error instanceof ConfigError)
    return error.faults
  }
  return []
}

test('an empty file is the defaults', () =>
  assert.deepEqual(parseConfig('', 'z.yaml'), parseConfig('{}', 'z.yaml')))

test('the defaults are the documented ones', () => {
  const { listen, rules, dns, addresses, log } = parseConfig('', 'z.yaml')
  assert.deepEqual(listen, {
    grpc: 'unix:run/processor.sock',
    tls: null,
    insecure: false,
    http: '127.0.0.1:9003',
    httpToken: null,
    httpTokenFile: null,
  })
  assert.deepEqual(rules, {
    methods: ['POST'],
    header: 'server',
    idPattern: '^[A-Za-z0-9-]{1,40}$',
    host: 'zone{id}-{service}.{search}',
    services: { mail: { paths: ['/mail'] }, default: {} },
    port: 8101,
  })
  assert.deepEqual(
    [dns.resolvConf, dns.nameservers, dns.search, dns.budgetMs],
    ['/etc/resolv.conf', null, null, 1500],
  )
  assert.deepEqual(dns.ttlSeconds, { min: 5, max: 60 })
  assert.deepEqual(addresses, { allow: [] })
  assert.deepEqual(log, { level: 'info' })
})

const FAULTS: [title: string, text: string, ...expected: RegExp[]][] = [
  [
    'an unknown key is named where it stands',
    'dns:\n  budget: 5\n',
    /^z\.yaml:2:3: dns\.budget: no such key, did you mean budgetMs\?$/,
  ],
  [
    'a wrong type says what was expected and what was there',
    'dns:\n  budgetMs: soon\n',
    /^z\.yaml:2:3: dns\.budgetMs: expected a number, got "soon"$/,
  ],
  ['a value out of range', 'rules:\n  port: 70000\n', /^z\.yaml:2:3: rules\.port: .*65535.*70000/],
  [
    'a nameserver without a port',
    'dns:\n  nameservers:\n  - 10.0.0.1\n',
    /^z\.yaml:3:5: dns\.nameservers\.0: expected address:port/,
  ],
  ['a nameserver by name', 'dns: { nameservers: ["ns.example:53"] }', /expected address:port/],
  [
    'a pattern that is no regular expression',
    'rules: { idPattern: "(" }',
    /rules\.idPattern: expected a regular expression/,
  ],
  [
    'a host without an id',
    'rules: { host: "x.{search}" }',
    /rules\.host: expected a pattern that contains \{id\}/,
  ],
  [
    'a placeholder that is none',
    'rules: { host: "{id}.{zone}" }',
    /rules\.host: expected no placeholder but/,
  ],
  [
    'no service for other paths',
    'rules: { services: { mail: { paths: ["/mail"] } } }',
    /exactly one service without paths/,
  ],
  [
    'two services for one path',
    'rules: { services: { a: { paths: ["/m"] }, b: { paths: ["/m"] }, c: {} } }',
    /services\.b\.paths\.0: .*"a" has it too/,
  ],
  ['a CIDR without a prefix', 'addresses: { allow: ["10.0.0.1"] }', /addresses\.allow\.0: expected a CIDR/],
  ['min over max', 'dns: { ttlSeconds: { min: 61 } }', /dns\.ttlSeconds: expected min to be at most max/],
  ['YAML that is none', 'dns: [\n', /^z\.yaml:\d+:\d+: /],
  ['a key twice', 'log: { level: info }\nlog: { level: warn }\n', /^z\.yaml:2:1: .*unique/i],
  [
    'all faults at once',
    'rules: { port: 0 }\nlog: { level: loud }\nfoo: 1\n',
    /^z\.yaml:1:10: rules\.port/,
    /^z\.yaml:2:8: log\.level/,
    /^z\.yaml:3:1: foo: no such key, expected one of listen, rules/,
  ],
  ['a list where keys are expected', '- 1\n', /^z\.yaml:1:1: .*expected/],
]
for (const [title, text, ...expected] of FAULTS) {
  test(title, () => {
    const faults = faultsOf(text)
    for (const pattern of expected)
      assert.ok(
        faults.some((fault) => pattern.test(fault)),
        `${pattern} in\n${faults.join('\n')}`,
      )
    assert.equal(faults.length, expected.length, faults.join('\n'))
  })
}

test('a named file that is not there is a fault that says what to do', () => {
  assert.throws(
    () => loadConfig('/nonexistent/z.yaml'),
    /no such file; name another with --config or ZONEGATE_CONFIG/,
  )
})

test('a mistake that makes a thousand faults is told by the first twenty', () => {
  const faults = faultsOf('a: b: c\n'.repeat(5000))
  assert.equal(faults.length, 20)
  assert.match(faults[0] ?? '', /^z\.yaml:1:\d+: Nested mappings/)
})
