import assert from 'node:assert/strict'
import { test } from 'node:test'
import { rulesOf } from '../config/rules.ts'
import { configSchema } from '../config/schema.ts'
import { type RequestHead, servicesOf, zoneOf, zoneOfRef } from './rules.ts'

const rules = rulesOf(configSchema.parse({}))
const post = (ids: string[], path = '/'): RequestHead => ({ method: 'POST', path, ids })
const longSearch = `${'a'.repeat(60)}.${'b'.repeat(60)}.${'c'.repeat(60)}.${'d'.repeat(60)}`

const CASES: [title: string, head: RequestHead, expected: string, search?: string][] = [
  ['a POST with an id goes to the default service', post(['12']), 'zone12-default.game.test'],
  [
    'a method other than POST is refused before anything else',
    { method: 'GET', path: '/', ids: [] },
    'method_not_allowed',
  ],
  ['a method is compared in its case', { method: 'post', path: '/', ids: ['1'] }, 'method_not_allowed'],
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
    const zone = zoneOf(head, rules, search)
    assert.equal(typeof zone === 'string' ? zone : zone.name, expected)
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
    const zone = zoneOf(post([id]), rulesOf(configSchema.parse({ rules: given })), 's.test')
    assert.equal(typeof zone === 'string' ? zone : zone.name, expected)
  })
}

test('a service may have a port of its own', () => {
  const config = configSchema.parse({
    rules: { services: { mail: { paths: ['/mail'], port: 9000 }, game: {} } },
  })
  const mail = zoneOf(post(['1'], '/mail'), rulesOf(config), 's.test')
  const game = zoneOf(post(['1'], '/x'), rulesOf(config), 's.test')
  assert.deepEqual(typeof mail === 'object' && mail.service, { name: 'mail', port: 9000 })
  assert.deepEqual(typeof game === 'object' && game.service, { name: 'game', port: 8101 })
})

test('a name of 253 octets is the longest', () => {
  const zoneWithin = (length: number) => {
    const own = 'zone1-default.'.length
    const search = `${'a'.repeat(63)}.${'b'.repeat(63)}.${'c'.repeat(63)}.${'d'.repeat(length - own - 3 * 64)}`
    return zoneOf(post(['1']), rules, search)
  }
  const longest = zoneWithin(253)
  assert.equal(typeof longest === 'object' && longest.name.length, 253)
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
  assert.deepEqual(servicesOf(rulesOf(config)), [
    { name: 'mail', port: 9, paths: ['/mail', '/post'] },
    { name: 'game', port: 8101, paths: ['/game'] },
    { name: 'rest', port: 8101, paths: [] },
  ])
})
