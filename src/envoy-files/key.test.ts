import assert from 'node:assert/strict'
import { test } from 'node:test'
import { rulesOf } from '../config/rules.ts'
import { configSchema } from '../config/schema.ts'
import {
  headersOf,
  isZone,
  pathOf,
  type RequestHead,
  type Rule,
  type Rules,
  zoneOf,
} from '../routing/rules.ts'
import type { HeaderCondition } from './expressions.ts'
import { domainsOf, keyMutations, ROUTE_HEADER, unusualOf } from './key.ts'

const INLINE: ReadonlySet<string> = new Set(['server'])
const rulesFor = (rules: unknown): Rules => rulesOf(configSchema.parse({ rules }))

/** The key's format string. */
function formatOf(rules: Rules): string {
  const made = keyMutations(rules, INLINE).flatMap((mutation) =>
    'append' in mutation && mutation.append.header.key === ROUTE_HEADER ? [mutation.append.header.value] : [],
  )
  assert.equal(made.length, 1)
  return String(made[0])
}

const CONFIGS: [title: string, rules: unknown][] = [
  ['a header', {}],
  ['another header', { id: { header: 'x-zone' } }],
  ['a query', { id: { query: 'zone_id' } }],
  ['a path', { id: { path: '/cb/{id}/*' } }],
  ['a path to its end', { id: { path: '/cb/zone{id}-x' } }],
  ['a host', { id: { host: '{id}.cb.test' } }],
  ['a cookie', { id: { cookie: 'zone_id' } }],
  ['a query or a header', { id: [{ query: 'zone_id' }, { header: 'server' }] }],
  ['a path or a header', { id: [{ path: '/cb/{id}/*' }, { header: 'server' }] }],
  ['a host or a header', { id: [{ host: '{id}.cb.test' }, { header: 'server' }] }],
  ['a cookie or a header', { id: [{ cookie: 'zone_id' }, { header: 'server' }] }],
  ['a header or a query', { id: [{ header: 'server' }, { query: 'zone_id' }] }],
  [
    'several rules',
    [
      { name: 'pay', match: { paths: ['/cb/*'] }, id: [{ path: '/cb/{id}/*' }, { query: 'zone_id' }] },
      {
        name: 'shop',
        match: { hosts: ['7.CB.test', 'cb*'] },
        methods: ['POST', 'GET'],
        id: { query: 'zone_id' },
      },
      { name: 'chat', match: { paths: ['/chat'], hosts: ['chat.test'] }, id: { json: '/a' } },
      { name: 'rest', id: { cookie: 'zone_id' } },
    ],
  ],
  [
    'several rules, not for everything',
    [{ name: 'pay', match: { paths: ['/cb/*'] }, id: { query: 'zone_id' } }],
  ],
]

test('the keys of rules with one place', () => {
  const keys: [id: unknown, format: string][] = [
    [{ header: 'Server' }, '%REQ(:METHOD)%/%REQ(server)%'],
    [{ query: 'zone' }, '%REQ(:METHOD)%/%QUERY_PARAM(zone)%'],
    [{ path: '/cb/{id}' }, '%REQ(:METHOD)%:%PATH(NQ:PATH)%'],
    [{ host: '{id}.test' }, '%REQ(:METHOD)%@%REQ(:AUTHORITY)%'],
    [{ json: '/a' }, '%REQ(:METHOD)%!body'],
    [{ form: 'a' }, '%REQ(:METHOD)%!body'],
  ]
  for (const [id, format] of keys) assert.equal(formatOf(rulesFor({ id })), format)
})

for (const [title, config] of CONFIGS)
  test(`every format has its percent signs around its commands alone: ${title}`, () => {
    for (const mutation of keyMutations(rulesFor(config), INLINE)) {
      if (!('append' in mutation)) continue
      const rest = mutation.append.header.value.replaceAll(/%(?:REQ|PATH|QUERY_PARAM)\([a-z:_-]+\)%/gi, '')
      assert.match(rest, /^(?:[^%]*|%CEL\([^%]*\)%)$/)
    }
  })

/** Envoy as far as keys go. Like Envoy, it compiles its configuration once. */
class SimulatedEnvoy {
  readonly #mutations: ReturnType<typeof keyMutations>
  readonly #zones: readonly {
    readonly route: string
    readonly domains: readonly string[]
    readonly unusual: ReturnType<typeof unusualOf>
  }[]

  /** @param ids each is the id of a learned zone */
  constructor(rules: Rules, ids: readonly string[]) {
    this.#mutations = keyMutations(rules, INLINE)
    this.#zones = rules.flatMap((rule) =>
      ids.map((id) => ({
        route: `${rule.name} ${id}`,
        domains: domainsOf(rule, id).map((domain) => domain.toLowerCase()),
        unusual: unusualOf(rule),
      })),
    )
  }

  /** The rule and the id of the virtual host that routes a request; undefined if Envoy asks the processor. */
  routeOf(head: RequestHead): string | undefined {
    const headers = this.#headers(head)
    const key = String(headers[ROUTE_HEADER]).toLowerCase()
    const found = this.#zones.find(({ domains }) => domains.some((domain) => domainFits(domain, key)))
    const asks = found?.unusual.some((conditions) => conditions.every((one) => holds(one, headers)))
    return asks ? undefined : found?.route
  }

  #headers(head: RequestHead): Record<string, string> {
    const headers: Record<string, string> = { ':path': head.path, ':authority': head.authority }
    for (const [name, values = []] of Object.entries(head.headers)) headers[name] = values.join(',')
    const oneOf = (name: string): string => {
      const [first] = head.headers[name] ?? []
      return (INLINE.has(name) ? undefined : first) ?? headers[name] ?? '-'
    }
    const query = head.path.slice(pathOf(head.path).length + 1)
    const request = { headers, query, url_path: pathOf(head.path), host: head.authority }
    const commands: Record<string, (argument: string) => string> = {
      REQ: (name) => (name === ':METHOD' ? head.method : oneOf(name.toLowerCase())),
      PATH: () => pathOf(head.path),
      QUERY_PARAM: (name) => new URLSearchParams(query).get(name) ?? '',
      CEL: (expression) => compiled(expression)(request, matches),
    }
    const filled = (format: string): string =>
      format.replaceAll(/%([A-Z_]+)\(([^%]*)\)%/g, (_, command: string, argument: string) =>
        String(commands[command]?.(argument)),
      )
    for (const mutation of this.#mutations)
      if ('append' in mutation) headers[mutation.append.header.key] = filled(mutation.append.header.value)
    return headers
  }
}

/** Remembers each result. */
function once<T>(make: (text: string) => T): (text: string) => T {
  const made = new Map<string, T>()
  return (text) => {
    const known = made.get(text)
    if (known !== undefined) return known
    const value = make(text)
    made.set(text, value)
    return value
  }
}

type Expression = (request: object, matcher: typeof matches) => string

/** The part of CEL that is in use is JavaScript, except for two methods. */
const compiled = once((expression): Expression => {
  const script = expression
    .replaceAll(/(request\.\w+(?:\["[^"]*"\])?)\.matches\(/g, 'matches($1, ')
    .replaceAll('.contains(', '.includes(')
  return new Function('request', 'matches', `return ${script}`) as Expression
})

const FLAG_AND_PATTERN = /^(\(\?i\))?(.*)$/s
const searching = once((regex) => {
  const [, flag, pattern = ''] = FLAG_AND_PATTERN.exec(regex) ?? []
  return new RegExp(pattern, flag === undefined ? '' : 'i')
})
/** For a regex of the whole value. */
const whole = once((regex) => {
  const [, flag = '', pattern = ''] = FLAG_AND_PATTERN.exec(regex) ?? []
  return searching(`${flag}^(?:${pattern})$`)
})

function matches(value: string, regex: string): boolean {
  return searching(regex).test(value)
}

function holds(
  { name, string_match, invert_match = false }: HeaderCondition,
  headers: Record<string, string>,
): boolean {
  const value = headers[name]
  if (value === undefined) return false
  return whole(string_match.safe_regex.regex).test(value) !== invert_match
}

function domainFits(domain: string, key: string): boolean {
  const start = domain.slice(0, -1)
  return domain.endsWith('*') ? key.startsWith(start) && key.length > start.length : domain === key
}

/** Every row of up to two parts, joined. */
function rows(parts: readonly string[], separators: readonly string[]): string[] {
  return [
    '',
    ...parts,
    ...parts.flatMap((a) => separators.flatMap((mark) => parts.map((b) => `${a}${mark}${b}`))),
  ]
}

function rowsOfThree(parts: readonly string[], separator: string): string[] {
  return parts.flatMap((a) => parts.flatMap((b) => parts.map((c) => [a, b, c].join(separator))))
}

const FIELDS = [
  ...[
    'zone_id=7',
    'zone_id=8',
    'zone_id',
    'zone_id=',
    'Zone_Id=8',
    'zone%5fid=8',
    '%7aone_id=8',
    'zone.id=8',
    'zone_id[]=8',
  ],
  ...[
    '+zone_id=8',
    ' zone_id=8',
    'zone_id%00=8',
    'xzone_id=8',
    'zone_id=7%00',
    'zone_id=%37',
    'a=1',
    'a=zone_id=8',
    'zone[id=8',
  ],
  '%u007aone_id=8',
]
const PATHS = [
  ...[
    '/',
    '/cb/7/x',
    '/cb/8/x',
    '/cb/7/',
    '/cb/7',
    '/cb/7/../8/x',
    '/CB/8/x',
    '/cb//8/x',
    '//cb/8/x',
    '/cb/%38/x',
    '/%63b/8/x',
  ],
  ...[
    '/cb/7/.',
    '/cb/7/..',
    '/cb/7/%2e%2e/8/x',
    '/cb/7/..;/8/x',
    '/cb;a/8/x',
    '/x/../cb/8/y',
    '/cb/7\\..\\8\\',
    '/cb/7//x',
    '/chat',
  ],
  ...[
    '/cb/zone7-x',
    '/cb/zone8-x',
    '/cb/zone7-x/',
    '/cb/zone7-x?a',
    '/cb/7/x?zone_id=8',
    '/cb/7?zone_id=8',
    '/cb/?zone_id=8',
  ],
]
const HOSTS = [
  'cb.test',
  '7.cb.test',
  '8.CB.test:80',
  '7.cb.test.',
  '8.7.cb.test',
  '7.cb.test@8.cb.test',
  '%38.cb.test',
  'chat.test',
  '',
]
type Sent = Partial<RequestHead>
const withQuery = (query: string): Sent => ({ path: `/pay?${query}` })
const withCookie = (cookie: string): Sent => ({ headers: { cookie: [cookie] } })
const SHORT: readonly Sent[] = [
  ...rows(FIELDS, ['&', ';']).map(withQuery),
  ...rows(FIELDS, ['; ', ';', ',']).map(withCookie),
  ...PATHS.flatMap((path) => HOSTS.map((authority) => ({ path, authority }))),
]
const LONG: readonly Sent[] = [
  ...rowsOfThree(FIELDS, '&').map(withQuery),
  ...rowsOfThree(FIELDS, '; ').map(withCookie),
]
const SERVERS: readonly (readonly string[])[] = [[], ['7'], ['8'], ['7,8'], ['7', '8']]
/** There are 25 times as many long ones: a header is beside them or not, which is what another place of the id sees of it. */
const SENT: readonly [sent: Sent, server: readonly string[]][] = [
  ...SHORT.flatMap((sent) => SERVERS.map((server): [Sent, readonly string[]] => [sent, server])),
  ...LONG.flatMap((sent) => [[], ['7']].map((server): [Sent, readonly string[]] => [sent, server])),
]

for (const [title, config] of CONFIGS)
  test(`whatever Envoy routes by itself, the processor reads the same id of the same rule: ${title}`, () => {
    const rules = rulesFor(config)
    const envoy = new SimulatedEnvoy(rules, ['7', '8'])
    const seen = new Set(headersOf(rules))
    let hot = 0
    for (const [sent, server] of SENT) {
      const own = { ...(server.length > 0 && { server, 'x-zone': server }), ...sent.headers }
      const all = { method: 'POST', path: '/', authority: 'cb.test', ...sent, headers: own }
      const route = envoy.routeOf(all)
      if (route === undefined) continue
      hot += 1
      const read = Object.fromEntries(Object.entries(own).filter(([name]) => seen.has(name)))
      const outcome = zoneOf({ ...all, headers: read }, rules, 'game.test')
      const found = isZone(outcome) ? `${outcome.service.rule} ${outcome.id}` : outcome.reason
      assert.equal(found, route, JSON.stringify(all))
    }
    assert.ok(hot > 0)
  })

test('a zone of a rule has a virtual host for each of its methods', () => {
  const rule = rulesFor({ methods: ['POST', 'PUT'], id: { query: 'zone' } })[0] as Rule
  assert.deepEqual(domainsOf(rule, '7'), ['POST/7', 'PUT/7'])
})
