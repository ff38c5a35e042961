import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { portPolicy } from '../routing/denied-addresses.ts'
import { ConfigError, loadConfig, parseConfig } from './load.ts'
import { rulesOf } from './rules.ts'
import { portsOf } from './schema.ts'

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
  assert.deepEqual(rules, [
    {
      methods: ['POST'],
      idPattern: '^[A-Za-z0-9-]{1,40}$',
      host: 'zone{id}-{service}.{search}',
      port: 8101,
      bodyMaxBytes: 65_536,
    },
  ])
  const written = parseConfig(
    'rules: { header: server, services: { mail: { paths: [/mail] }, default: {} } }',
    'z',
  )
  assert.deepEqual(rulesOf({ ...written, rules }), rulesOf(written))
  assert.deepEqual(
    [dns.resolvConf, dns.nameservers, dns.search, dns.budgetMs],
    ['/etc/resolv.conf', null, null, 1500],
  )
  assert.deepEqual(dns.ttlSeconds, { min: 5, max: 60 })
  assert.deepEqual(addresses, { allow: [], ports: null })
  assert.deepEqual(log, { level: 'info' })
})

test('the ports of SRV are from 1024 up, or those that are named; with addresses let through they are to be named', () => {
  const admits = (text: string): ((port: number) => boolean) =>
    portPolicy(portsOf(parseConfig(text, 'z.yaml')))
  const byDefault = admits('rules: { port: srv }')
  assert.deepEqual([0, 1, 22, 1023, 1024, 65_535].map(byDefault), [false, false, false, false, true, true])
  const named = admits('addresses: { ports: [80, 9000-9001, "8000-8000"] }')
  assert.deepEqual([79, 80, 8000, 8001, 8999, 9000, 9001, 9002].map(named), [
    ...[false, true, true, false],
    ...[false, true, true, false],
  ])
  for (const rules of ['{ port: srv }', '{ services: { a: { port: { srv: "_a._tcp.{name}" } } } }']) {
    const allow = `rules: ${rules}\naddresses: { allow: ["127.0.0.0/8"]`
    assert.match(
      faultsOf(`${allow} }`).join(),
      /^z\.yaml:2:14: addresses\.allow: expected addresses\.ports, too, because a rule has port: srv/,
    )
    assert.deepEqual(faultsOf(`${allow}, ports: [9000] }`), [])
  }
  assert.deepEqual(faultsOf('addresses: { allow: ["127.0.0.0/8"] }'), [])
})

test('docs/recipes/upstream.md has files that can be used', () => {
  const page = readFileSync(new URL('../../docs/recipes/upstream.md', import.meta.url), 'utf8')
  const files = [...page.matchAll(/^```yaml\n([\s\S]*?)^```/gm)].map(([, text = '']) => text)
  assert.equal(files.length, 4)
  for (const text of files) assert.deepEqual(faultsOf(text), [], text)
})

const FAULTS: [title: string, text: string, ...expected: RegExp[]][] = [
  [
    'a certificate for zones without its key, or with one in another folder',
    'rules:\n- { name: a, match: { paths: [/a] }, upstream: { tls: { cert: a.pem } } }\n- { name: b, upstream: { tls: { cert: a/a.pem, key: b/a.key } } }\n',
    /^z\.yaml:2:\d+: rules\.0\.upstream\.tls\.cert: .*expected its key beside it/,
    /^z\.yaml:3:\d+: rules\.1\.upstream\.tls\.key: .*expected a file in the same folder as cert/,
  ],
  [
    'a name for certificates that is none',
    'rules: { upstream: { tls: { serverName: "{id}..{name}" } } }\n',
    /serverName: expected no placeholder but \{id\}, \{service\} and \{search\}/,
  ],
  [
    'bodies that are streamed and looked into',
    'rules: { id: { json: /id }, services: { a: { upstream: { http: 2 } } } }\n',
    /rules\.id: expected a place outside the body, because "http: 2"/,
  ],
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
    'a pattern that an id of 63 letters keeps busy for ever',
    'rules: { idPattern: "^(a+)+$" }',
    /^z\.yaml:1:10: rules\.idPattern: expected a faster regular expression: .*, got "\^\(a\+\)\+\$"$/,
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
    'an id in a label of the search domain',
    'rules: { host: "{id}{search}" }',
    /^z\.yaml:1:10: rules\.host: expected a domain after the label with \{id\}/,
  ],
  [
    'an id behind the search domain',
    'rules: { host: "{search}.{id}" }',
    /rules\.host: expected a domain after the label with \{id\}/,
  ],
  [
    'no service for other paths',
    'rules: { services: { mail: { paths: ["/mail"] } } }',
    /exactly one service without paths/,
  ],
  [
    'two services for one path',
    'rules: { services: { a: { paths: ["/m"] }, b: { paths: ["/m"] }, c: {} } }',
    /services\.b\.paths\.0: .*"a" already has this one/,
  ],
  ['a CIDR without a prefix', 'addresses: { allow: ["10.0.0.1"] }', /addresses\.allow\.0: expected a CIDR/],
  [
    'a port that is none',
    'rules: { port: dns }',
    /^z\.yaml:1:10: rules\.port: expected a port from 1 to 65535, srv, or \{ srv: PATTERN \}, got "dns"$/,
  ],
  [
    'a SRV name without an underscore',
    'rules: { port: { srv: "{service}._tcp.{name}" } }',
    /^z\.yaml:1:18: rules\.port\.srv: expected a name that begins with an underscore/,
  ],
  [
    'one SRV name for all zones',
    'rules: { port: { srv: "_{service}._tcp.{search}" } }',
    /rules\.port\.srv: expected a pattern that contains \{name\} or \{id\}/,
  ],
  [
    'a placeholder of a SRV name that is none',
    'rules: { services: { pay: { port: { srv: "_{zone}._tcp.{name}" } } } }',
    /rules\.services\.pay\.port\.srv: expected no placeholder but \{name\}, \{id\}/,
  ],
  [
    'an id behind the search domain of a SRV name',
    'rules: { port: { srv: "_a._tcp.{search}.{id}" } }',
    /rules\.port\.srv: expected \{name\}, \{search\} or a domain at the end/,
  ],
  [
    'a domain behind the name in a SRV name',
    'rules: { port: { srv: "_a._tcp.{name}.{id}" } }',
    /rules\.port\.srv: expected \{name\}, \{search\} or a domain at the end/,
  ],
  [
    'a SRV name of labels that are none',
    'rules: { port: { srv: "_{service}..{name}" } }',
    /^z\.yaml:1:18: rules\.port\.srv: expected a pattern for names of SRV records: this one makes "_mail\.\.zone1-mail\.a", got/,
  ],
  [
    'a misspelt key beside a port',
    'rules: { port: { srw: "_a._tcp.{name}" } }',
    /rules\.port.*: expected a port from 1 to 65535, srv, or/,
  ],
  [
    'a range of ports that is none',
    'addresses: { ports: ["9000-8000"] }',
    /^z\.yaml:1:22: addresses\.ports\.0: expected a port, or a range of ports like "8000-8999", got "9000-8000"$/,
  ],
  ['no ports at all', 'addresses: { ports: [] }', /addresses\.ports: expected 1 or more entries/],
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

const NO_PLACE = 'expected one of header, query, path, host, cookie, json, form'
const PLACES: [title: string, text: string, ...faults: string[]][] = [
  ['one rule', 'rules:\n  header: "a b"\n', '2:3: rules.header: expected a header name, got "a b"'],
  [
    'a rule in a list',
    'rules:\n- name: a\n  header: "a b"\n',
    '3:3: rules.0.header: in rule "a": expected a header name, got "a b"',
  ],
  ['a misspelt key', 'rules:\n  metods: [POST]\n', '2:3: rules.metods: no such key, did you mean methods?'],
  [
    'a misspelt key in a list',
    'rules:\n- metods: [POST]\n',
    '2:3: rules.0.metods: no such key, did you mean methods?',
  ],
  [
    'one place of an id',
    'rules:\n  id: { path: x }\n',
    '2:9: rules.id.path: expected a path with {id} once, like "/cb/{id}/*", got "x"',
  ],
  [
    'one place of an id of a rule in a list',
    'rules:\n- id: { path: x }\n',
    '2:9: rules.0.id.path: expected a path with {id} once, like "/cb/{id}/*", got "x"',
  ],
  [
    'each of several places',
    'rules:\n- id:\n  - { path: x }\n  - { json: a }\n',
    '3:7: rules.0.id.0.path: expected a path with {id} once, like "/cb/{id}/*", got "x"',
    '4:7: rules.0.id.1.json: expected a JSON pointer (RFC 6901), like "/attach/server", got "a"',
  ],
  [
    'a misspelt place',
    'rules:\n  id: { qeury: a }\n',
    '2:9: rules.id.qeury: no such key, did you mean query?',
  ],
  [
    'a misspelt place among several',
    'rules:\n- id: [{ query: a }, { qeury: b }]\n',
    '2:24: rules.0.id.1.qeury: no such key, did you mean query?',
  ],
  ['a place that is none', 'rules: { id: 5 }', '1:10: rules.id: expected keys with values, got 5'],
  ['a place without a key', 'rules: { id: {} }', `1:10: rules.id: ${NO_PLACE}`],
  ['two keys in a place', 'rules: { id: { query: a, cookie: b } }', `1:10: rules.id: ${NO_PLACE}`],
  ['no place', 'rules: { id: [] }', '1:10: rules.id: expected 1 or more entries'],
  [
    'an id in the body of a GET',
    'rules: { id: { json: /a }, methods: [POST, GET] }',
    '1:28: rules.methods: expected only methods with a body, because the id is in the body; got GET',
  ],
  [
    'header beside id',
    'rules: { id: { query: a }, header: b }',
    '1:28: rules.header: expected header or id, not both, got "b"',
  ],
  [
    'what a rule is for',
    'rules:\n- match: { path: [/x], hosts: ["a:1"] }\n',
    '2:12: rules.0.match.path: no such key, did you mean paths?',
    '2:32: rules.0.match.hosts.0: expected a host without its port, and `*` at the end only, got "a:1"',
  ],
  [
    'a rule without a name among others',
    'rules:\n- { name: a, match: { paths: [/a] } }\n- {}\n',
    '3:3: rules.1.name: expected a name, because there are several rules',
  ],
  [
    'a name that is there twice',
    'rules:\n- { name: a, match: { paths: [/a] } }\n- { name: a }\n',
    '3:5: rules.1.name: expected another name: an earlier rule is "a", got "a"',
  ],
  [
    'a rule that none comes to',
    'rules:\n- { name: a, match: { paths: ["/a*"] } }\n- { name: b, match: { paths: [/ab] } }\n',
    '3:14: rules.1.match: in rule "b": expected a rule that can match: the earlier rule "a" takes all its requests',
  ],
  [
    'a rule without match that none comes to',
    'rules:\n- { name: a }\n- { name: b }\n',
    '3:3: rules.1: in rule "b": expected a rule that can match: the earlier rule "a" takes all its requests',
  ],
  [
    'a misspelt key of a rule with a name',
    'rules:\n- { name: pay, id: { qeury: a } }\n',
    '2:22: rules.0.id.qeury: in rule "pay": no such key, did you mean query?',
  ],
  ['a text', 'rules: text', '1:1: rules: expected keys with values, got "text"'],
  ['no rule', 'rules: []', '1:1: rules: expected 1 or more entries'],
  ['an entry that is none', 'rules: [5]', '1:9: rules.0: expected keys with values, got 5'],
]
for (const [title, text, ...faults] of PLACES) {
  test(`a fault of rules is named where it is written: ${title}`, () => {
    assert.deepEqual(
      faultsOf(text),
      faults.map((fault) => `z.yaml:${fault}`),
    )
  })
}

test('rules that Envoy would not take are faults: too many, or too long together', () => {
  const rule = (at: number): string => {
    const paths = Array.from({ length: 64 }, (_, path) => `/p${at}-${path}`)
    return `- { name: r${at}, match: { paths: [${paths}] } }`
  }
  const rules = (count: number): string =>
    ['rules:', ...Array.from({ length: count }, (_, at) => rule(at))].join('\n')
  assert.deepEqual(faultsOf(rules(7)), [])
  assert.match(
    String(faultsOf(rules(9))),
    /^z\.yaml:1:1: rules: expected less: .* 19540 characters, and the maximum is 16384;/,
  )
  assert.deepEqual(faultsOf(rules(17)), ['z.yaml:1:1: rules: expected 16 entries or fewer'])
})

test('a named file that is not there is a fault that says what to do', () => {
  assert.throws(
    () => loadConfig('/nonexistent/z.yaml'),
    /no such file; check the path on the command line or in ZONEGATE_CONFIG/,
  )
})

test('a mistake that makes a thousand faults is told by the first twenty', () => {
  const faults = faultsOf('a: b: c\n'.repeat(5000))
  assert.equal(faults.length, 20)
  assert.match(faults[0] ?? '', /^z\.yaml:1:\d+: Nested mappings/)
})

test('as many files of upstream.tls as Envoy can watch, each counted once', () => {
  const services = (count: number, tls: (at: number) => string): string =>
    Array.from(
      { length: count },
      (_, at) => `s${at}: { paths: [/${at}], upstream: { tls: ${tls(at)} } }`,
    ).join()
  const withServices = (text: string): string => `rules: { services: { ${text}, default: {} } }`
  const pairs = (at: number): string => `{ cert: c${at}.pem, key: c${at}.key }`
  assert.deepEqual(faultsOf(withServices(services(15, pairs))), [])
  assert.deepEqual(faultsOf(withServices(services(40, () => '{ ca: ca.pem }'))), [])
  const [fault, ...others] = faultsOf(withServices(services(16, pairs)))
  assert.match(fault ?? '', /rules: expected less: upstream\.tls has 17 different files.* the maximum is 16/)
  assert.deepEqual(others, [])
})
