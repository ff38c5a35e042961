import assert from 'node:assert/strict'
import { test } from 'node:test'
import { rulesOf } from '../config/rules.ts'
import { configSchema } from '../config/schema.ts'
import { isZone, type RequestHead, type Rules, servicesOf, zoneNameOf, zoneOf, zoneOfRef } from './rules.ts'

const rules = rulesOf(configSchema.parse({}))
const post = (ids: string[], path = '/'): RequestHead => ({
  method: 'POST',
  path,
  authority: 'cb.test',
  headers: ids.length === 0 ? {} : { server: ids },
})
/** The zone's name, or why there is none. */
const outcomeOf = (head: RequestHead, by: Rules = rules, search = 's.test'): string => {
  const outcome = zoneOf(head, by, search)
  return isZone(outcome) ? outcome.name : outcome.reason
}
const longSearch = `${'a'.repeat(60)}.${'b'.repeat(60)}.${'c'.repeat(60)}.${'d'.repeat(60)}`

const CASES: [title: string, head: RequestHead, expected: string, search?: string][] = [
  ['a POST with an id goes to the default service', post(['12']), 'zone12-default.game.test'],
  [
    'a method other than POST is refused before anything else',
    { ...post([]), method: 'GET' },
    'method_not_allowed',
  ],
  ['a method is compared in its case', { ...post(['1']), method: 'post' }, 'method_not_allowed'],
  ['no id is missing', post([]), 'server_header_missing'],
  ['an empty id is missing', post(['']), 'server_header_missing'],
  ["Envoy's stand-in for a missing header is missing", post(['-']), 'server_header_missing'],
  ['two headers are invalid', post(['12', '12']), 'server_header_invalid'],
  ['two headers are invalid though one is empty', post(['', '12']), 'server_header_invalid'],
  ['two values in one header are invalid', post(['12,13']), 'server_header_invalid'],
  ['/mail goes to mail', post(['12'], '/mail'), 'zone12-mail.game.test'],
  ['/mail with a query goes to mail', post(['12'], '/mail?x=1'), 'zone12-mail.game.test'],
  ['/mail/ is not /mail', post(['12'], '/mail/'), 'zone12-default.game.test'],
  ['/%6dail is not /mail: nothing is decoded', post(['12'], '/%6dail'), 'zone12-default.game.test'],
  ['//mail is not /mail: nothing is merged', post(['12'], '//mail'), 'zone12-default.game.test'],
  ['/MAIL is not /mail: paths have a case', post(['12'], '/MAIL'), 'zone12-default.game.test'],
  ['a name is lower case', post(['AbC']), 'zoneabc-default.game.test'],
  ['40 letters are an id', post(['a'.repeat(40)]), `zone${'a'.repeat(40)}-default.game.test`],
  ['41 letters are not', post(['a'.repeat(41)]), 'server_header_invalid'],
  ['a dot is not of the pattern', post(['1.evil']), 'server_header_invalid'],
  ['a slash is not', post(['1/2']), 'server_header_invalid'],
  ['a NUL is not', post(['1\0']), 'server_header_invalid'],
  ['a line break at the end is not', post(['1\n']), 'server_header_invalid'],
  ['a letter outside ASCII is not', post(['z\u00f6ne']), 'server_header_invalid'],
  ['a name over 253 octets is invalid', post(['12']), 'server_header_invalid', longSearch],
]

for (const [title, head, expected, search = 'game.test'] of CASES) {
  test(title, () => {
    assert.equal(outcomeOf(head, rules, search), expected)
  })
}

const PATTERNS: [title: string, rules: object, id: string, expected: string][] = [
  [
    'a label of 63 octets is the longest',
    { idPattern: '^.*$' },
    'a'.repeat(63 - 'zone-default'.length),
    `zone${'a'.repeat(51)}-default.s.test`,
  ],
  [
    'one more is invalid',
    { idPattern: '^.*$' },
    'a'.repeat(64 - 'zone-default'.length),
    'server_header_invalid',
  ],
  ['a label must not begin with a hyphen', { host: '{id}.{search}' }, '-1', 'server_header_invalid'],
  ['a label must not end with a hyphen', { host: '{id}.{search}' }, '1-', 'server_header_invalid'],
  [
    'a wide pattern lets nothing through that is no host name',
    { idPattern: '.' },
    'a_b',
    'server_header_invalid',
  ],
  ['nor a comma', { idPattern: '.' }, 'a,b', 'server_header_invalid'],
  [
    "a pattern's dollar sign in an id is not a replacement",
    { idPattern: '.', host: '{id}.{search}' },
    '$&',
    'server_header_invalid',
  ],
  [
    'a pattern may use a placeholder twice',
    { host: '{id}.{service}.{id}.{search}' },
    '7',
    '7.default.7.s.test',
  ],
]

for (const [title, given, id, expected] of PATTERNS) {
  test(title, () => {
    assert.equal(outcomeOf(post([id]), rulesOf(configSchema.parse({ rules: given }))), expected)
  })
}

test('a service may have a port of its own', () => {
  const config = configSchema.parse({
    rules: { services: { mail: { paths: ['/mail'], port: 9000 }, game: {} } },
  })
  const mail = zoneOf(post(['1'], '/mail'), rulesOf(config), 's.test')
  const game = zoneOf(post(['1'], '/x'), rulesOf(config), 's.test')
  const of = { rule: 'default' }
  assert.deepEqual(isZone(mail) && mail.service, { ...of, name: 'mail', label: 'mail', port: 9000 })
  assert.deepEqual(isZone(game) && game.service, { ...of, name: 'game', label: 'game', port: 8101 })
})

test('a name of 253 octets is the longest', () => {
  const zoneWithin = (length: number) => {
    const own = 'zone1-default.'.length
    const search = `${'a'.repeat(63)}.${'b'.repeat(63)}.${'c'.repeat(63)}.${'d'.repeat(length - own - 3 * 64)}`
    return outcomeOf(post(['1']), rules, search)
  }
  assert.equal(zoneWithin(253).length, 253)
  assert.equal(zoneWithin(254), 'server_header_invalid')
})

const REFS: [title: string, service: string, id: string, name: string | null][] = [
  ['a service of a path', 'mail', 'Ab', 'zoneab-mail.s.test'],
  ['the service of every other path', 'default', '7', 'zone7-default.s.test'],
  ['no service of these rules', 'gone', '7', null],
  ['an id that the pattern does not allow', 'mail', 'a'.repeat(41), null],
  ['several ids', 'mail', '1,2', null],
]
for (const [title, service, id, name] of REFS) {
  test(`a zone by service and id: ${title}`, () => {
    const zone = zoneOfRef(service, id, rules, 's.test')
    assert.deepEqual(
      zone && [zone.id, zone.service.name, zone.service.port, zone.name],
      name && [id.toLowerCase(), service, 8101, name],
    )
  })
}

test('a zone by service and id takes any id that the pattern allows, but several', () => {
  const wide = rulesOf(configSchema.parse({ rules: { idPattern: '.', host: '{id}.{search}' } }))
  assert.equal(zoneOfRef('mail', 'a-b', wide, 's.test')?.name, 'a-b.s.test')
  assert.equal(zoneOfRef('mail', '-a', wide, 's.test'), null)
  assert.equal(zoneOfRef('mail', '1,2', wide, 's.test'), null)
})

test('each service is there once, with all its paths; the one for all others comes last, without', () => {
  const config = configSchema.parse({
    rules: {
      services: { rest: {}, mail: { paths: ['/mail', '/post'], port: 9 }, game: { paths: ['/game'] } },
    },
  })
  const [rule] = rulesOf(config)
  assert.ok(rule)
  assert.deepEqual(
    servicesOf(rule).map(({ name, port, paths }) => ({ name, port, paths })),
    [
      { name: 'mail', port: 9, paths: ['/mail', '/post'] },
      { name: 'game', port: 8101, paths: ['/game'] },
      { name: 'rest', port: 8101, paths: [] },
    ],
  )
  assert.equal(servicesOf(rule), servicesOf(rule), 'read once')
})

/** An outcome in a few words: `pay zone7-pay.s.test`, or the rule and the reason. */
function told(rules: unknown, sent: Partial<RequestHead>): string {
  const head: RequestHead = { method: 'POST', path: '/', authority: 'cb.test', headers: {}, ...sent }
  const outcome = zoneOf(head, rulesOf(configSchema.parse({ rules })), 's.test')
  return isZone(outcome)
    ? `${outcome.service.name} ${outcome.name}`
    : `${outcome.rule === undefined ? '' : `${outcome.rule.name} `}${outcome.reason}`
}

const LIST = [
  { name: 'shop', match: { hosts: ['Shop.test', 'shop-*'] }, id: { header: 'server' } },
  {
    name: 'pay',
    match: { paths: ['/pay/*', '/paid'], hosts: ['pay.test'] },
    methods: ['GET', 'PUT'],
    id: [{ query: 'zone' }, { path: '/pay/{id}' }],
    host: 'p{id}.{search}',
    services: { bills: { paths: ['/paid'] }, rest: {} },
  },
  { name: 'chat', match: { paths: ['/pay/*'] }, id: { form: 'zone' }, port: 9000 },
]
const pay = { method: 'GET', authority: 'pay.test' }
const LISTED: [what: string, sent: Partial<RequestHead>, expected: string][] = [
  [
    'a host, in any case and with a port',
    { authority: 'SHOP.test:80', headers: { server: ['7'] } },
    'shop zone7-shop.s.test',
  ],
  [
    'a host by its prefix',
    { authority: 'shop-2.test', headers: { server: ['7'] } },
    'shop zone7-shop.s.test',
  ],
  ['a host that only begins so', { authority: 'shop.test.evil', headers: { server: ['7'] } }, 'no_rule'],
  ['no host', { authority: '', headers: { server: ['7'] } }, 'no_rule'],
  ['path and host', { ...pay, path: '/pay/x?zone=7' }, 'pay.rest p7.s.test'],
  ['another path of the same rule', { ...pay, path: '/paid?zone=7' }, 'pay.bills p7.s.test'],
  ['a path that is not decoded', { ...pay, path: '/%70ay/x?zone=7' }, 'no_rule'],
  ['the second source, where the first is not there', { ...pay, path: '/pay/7' }, 'pay.rest p7.s.test'],
  ['the first source, where both are there', { ...pay, path: '/pay/8?zone=7' }, 'pay.rest p7.s.test'],
  ['no second source, where the first is twice', { ...pay, path: '/pay/8?zone=7&zone=7' }, 'pay id_invalid'],
  ['no second source, where the first is no id', { ...pay, path: '/pay/8?zone=a.b' }, 'pay id_invalid'],
  ['no source', { ...pay, path: '/pay/' }, 'pay id_missing'],
  ['methods of the rule that fits', { ...pay, method: 'POST', path: '/pay/7' }, 'pay method_not_allowed'],
  ['methods before ids', { ...pay, method: 'POST', path: '/pay/' }, 'pay method_not_allowed'],
  ['the next rule, where the host is another', { path: '/pay/7' }, 'chat id_missing'],
  ['reasons of a header', { authority: 'shop.test' }, 'shop server_header_missing'],
  [
    'reasons of a header, twice',
    { authority: 'shop.test', headers: { server: ['7', '7'] } },
    'shop server_header_invalid',
  ],
  ['nothing that a rule fits', { path: '/mail' }, 'no_rule'],
]
for (const [what, sent, expected] of LISTED)
  test(`of several rules the first that fits decides: ${what}: ${expected}`, () =>
    assert.equal(told(LIST, sent), expected))

const LEAVING = [
  'a.b',
  'evil.example',
  '..',
  '.',
  '1\u0661',
  '\uff11',
  'a/b',
  'a:b',
  '[::1]',
  '$&',
  '{search}',
  'a_b',
  ' ',
  '1\n',
  '\0',
  '-',
  'a'.repeat(64),
  'x\u00ad',
  '\u212a',
  '\u017f',
]
test('whatever idPattern and host say, an id never leaves its label', () => {
  for (const host of ['{id}.{search}', 'a{id}.{search}', 'a.{id}.b.{search}', '{id}.fixed.test'])
    for (const id of LEAVING)
      assert.equal(
        told({ idPattern: '[^]', host }, { headers: { server: [id] } }),
        id === '-' ? 'default server_header_missing' : 'default server_header_invalid',
        `${host} ${JSON.stringify(id)}`,
      )
})
test('the letters of the sign of Kelvin and the long s are no letters of an id, in any pattern', () => {
  for (const idPattern of ['(?i:^[k]$)', '^\\w$', '.'])
    for (const id of ['\u212a', '\u017f'])
      assert.equal(told({ idPattern }, { headers: { server: [id] } }), 'default server_header_invalid')
})

test('a zone whose port is in DNS has the name of its SRV records, of a service or of the whole rule', () => {
  const nameBy = (text: object, path = '/', id = 'A-1'): string =>
    outcomeOf(post([id], path), rulesOf(configSchema.parse({ rules: text })))
  assert.equal(nameBy({ port: 'srv' }), '_default._tcp.zonea-1-default.s.test')
  assert.equal(
    nameBy({ port: { srv: '_zone{id}._{service}.service.consul' } }),
    '_zonea-1._default.service.consul',
  )
  const services = { mail: { paths: ['/mail'], port: { srv: '_smtp._tcp.{name}' } }, default: {} }
  assert.equal(nameBy({ services }, '/mail'), '_smtp._tcp.zonea-1-mail.s.test')
  assert.equal(nameBy({ services }), 'zonea-1-default.s.test')
  assert.equal(nameBy({ port: 'srv', services: { default: { port: 9 } } }), 'zonea-1-default.s.test')
})

test('an id that makes no name of SRV records is invalid', () => {
  const long = rulesOf(
    configSchema.parse({ rules: { port: { srv: '_very-long-beginning-{id}._tcp.{search}' } } }),
  )
  assert.equal(outcomeOf(post(['a'.repeat(40)]), long), `_very-long-beginning-${'a'.repeat(40)}._tcp.s.test`)
  const longer = rulesOf(
    configSchema.parse({ rules: { port: { srv: '_a-very-long-beginning-x{id}._tcp.{search}' } } }),
  )
  assert.equal(outcomeOf(post(['a'.repeat(40)]), longer), 'server_header_invalid')
})

test('a learned zone is found again by the same name', () => {
  const srv = rulesOf(configSchema.parse({ rules: { port: 'srv' } }))
  assert.equal(zoneOfRef('mail', '12', srv, 's.test')?.name, '_mail._tcp.zone12-mail.s.test')
  assert.equal(zoneNameOf('mail', '12', srv, 's.test'), '_mail._tcp.zone12-mail.s.test')
})
