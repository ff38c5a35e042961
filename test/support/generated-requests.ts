import fc from 'fast-check'

/** A request as a client writes it: texts are octets (latin1). */
export interface Sent {
  readonly method: string
  readonly target: string
  readonly version: '1.0' | '1.1'
  /** Name and value, in order; `host` is among them. */
  readonly headers: readonly (readonly [name: string, value: string])[]
  readonly body: string
}

/** Ids that have a virtual host of their own. */
export const IDS = ['7', '8', '12', '0', 'a', 'ab-3', '77'] as const

/** The places of all rules in these tests. */
const FIELD = 'zone_id'
const HEADERS = ['server', 'x-zone', 'x-id'] as const
const UTF8_SEVEN = '\xef\xbc\x97'
const ID = fc.oneof(
  { weight: 8, arbitrary: fc.constantFrom(...IDS) },
  {
    weight: 3,
    arbitrary: fc.constantFrom(
      ...['', '-', '--', '9', 'A', 'AB-3', '%37', '7%00', '7%0d%0a', '7%20', '+7', ' 7', '7 ', '\t7'],
      ...['7,8', '7, 8', ',7', '7,', '7;8', '"7"', "'7'", '7.8', '7.', 'a%2Fb', 'a/b', '7\\8', '[7]'],
      ...[UTF8_SEVEN, '\xff', '7\x80', '%EF%BC%97', '%u0037', '%%', '%', '7%', '!body', '!none', '7*', '*'],
      ...[
        '7'.repeat(63),
        '7'.repeat(64),
        '7'.repeat(3000),
        '7?',
        '7#',
        '7&',
        '7=',
        '=7',
        '7:80',
        '7@8',
        '{id}',
      ],
    ),
  },
)
const NAME = fc.oneof(
  { weight: 6, arbitrary: fc.constant(FIELD) },
  {
    weight: 3,
    arbitrary: fc.constantFrom(
      ...[
        'ZONE_ID',
        'Zone_id',
        'zone%5fid',
        'zone%5Fid',
        '%7aone_id',
        'zone.id',
        'zone id',
        'zone+id',
        'zone[id',
      ],
      ...[
        'zone_id[]',
        'zone_id[0]',
        'zone_id%5b%5d',
        '+zone_id',
        ' zone_id',
        '%20zone_id',
        '\tzone_id',
        'zone_id%00',
      ],
      ...[
        'zone_id%00x',
        'xzone_id',
        'zone_idx',
        'a.zone_id',
        '%u007aone_id',
        'zone_id ',
        'zone_id+',
        '%257aone_id',
      ],
      ...['zone-id', '\xffzone_id', '', 'a', 'b', 'a=zone_id', '"zone_id"', '$zone_id', 'zone_i\xc4\x91'],
    ),
  },
)
const pair = fc
  .tuple(NAME, fc.constantFrom('=', '=', '=', '=', '==', '', ' = ', '=+', '%3d'), ID)
  .map((parts) => parts.join(''))
const joined = (marks: readonly string[], max: number): fc.Arbitrary<string> =>
  fc
    .array(fc.tuple(pair, fc.constantFrom(...marks)), { minLength: 1, maxLength: max })
    .map((pairs) => pairs.map((parts) => parts.join('')).join(''))
    .chain((text) => fc.constantFrom(text, text.replace(/[;&, ]+$/, '')))

const query = joined(['&', '&', '&', ';', '&&', '?', '&amp;', '#', ',', '%26'], 3)
const SEGMENTS = [
  ...[
    'cb',
    'cb',
    'cb',
    'CB',
    '%63b',
    'Cb',
    'cb;x',
    'pay',
    'chat',
    '7',
    '8',
    '7',
    '12',
    '0',
    'ab-3',
    '77',
    '%37',
    'A',
  ],
  ...[
    '..',
    '.',
    '%2e%2e',
    '%2E',
    '.%2e',
    '..;',
    '..;x',
    '...',
    '',
    '',
    'a%2Fb',
    '%2f',
    '%5c',
    '\\',
    '..\\8',
    'a;b=1',
    'x',
  ],
  ...[
    'a.b',
    '7,8',
    '\xff',
    '%00',
    '7%00',
    '%252e%252e',
    '7 ',
    UTF8_SEVEN,
    '*',
    ':8',
    '@',
    '7.',
    '.7',
    '-',
    '7&8',
    '7=8',
  ],
]
const path = fc.oneof(
  {
    weight: 5,
    arbitrary: fc
      .tuple(
        fc.constantFrom('/cb/', '/pay/', '/chat/', '/'),
        fc.constantFrom(...IDS),
        fc.constantFrom('', '/', '/x', '/x/y', '/cb/8', '/..'),
      )
      .map((parts) => parts.join('')),
  },
  {
    weight: 6,
    arbitrary: fc
      .tuple(
        fc.constantFrom('/', '/', '/', '//', '/x/../', '/./'),
        fc.array(fc.constantFrom(...SEGMENTS), { maxLength: 5 }),
      )
      .map(([start, segments]) => `${start}${segments.join('/')}`),
  },
  {
    weight: 1,
    arbitrary: fc.constantFrom(
      ...[
        'http://7.cb.test/cb/7/x',
        'http://8.cb.test/cb/8/',
        'HTTP://8.CB.test:80/cb/8/x',
        'http://u@8.cb.test/',
        'http://7.cb.test',
      ],
      ...[
        '*',
        'cb/7/x',
        '?zone_id=7',
        '/?zone_id=7',
        'https://8.cb.test/cb/8/x?zone_id=8',
        '/cb/zone7-x',
        '/cb/zone7-x/',
        '/cb/zone-x',
      ],
    ),
  },
)
const HOSTS = [
  ...[
    '7.cb.test',
    '8.cb.test',
    '12.cb.test',
    'ab-3.cb.test',
    '7.CB.test',
    '7.cb.test:80',
    'AB-3.cb.TEST:8080',
    'cb.test',
    'pay.test',
    'chat.test',
  ],
  ...[
    '7.cb.test.',
    '7.cb.test.:80',
    '8.7.cb.test',
    '7.cb.test@8.cb.test',
    '7@8.cb.test',
    '%38.cb.test',
    '.cb.test',
    '',
    '7.cb.test:',
    '7.cb.test:x',
  ],
  ...[
    '7.cb.test,8.cb.test',
    '7.cb.test, 7.cb.test',
    '[::1]',
    '[::1]:80',
    '7_.cb.test',
    '7..cb.test',
    '-.cb.test',
    `${UTF8_SEVEN}.cb.test`,
  ],
  ...[
    '7.cb.test:80:80',
    '7.cb.test/8.cb.test',
    '7.cb.test?',
    '7.cb.test#',
    'xn--7.cb.test',
    `${'7'.repeat(64)}.cb.test`,
    `${'a.'.repeat(800)}cb.test`,
  ],
]
const host = fc.oneof(
  { weight: 2, arbitrary: fc.constant('x.test') },
  { weight: 3, arbitrary: fc.constantFrom(...HOSTS) },
)
const hosts = fc.oneof(
  { weight: 30, arbitrary: host.map((one) => [one]) },
  { weight: 1, arbitrary: fc.tuple(host, host) },
  { weight: 1, arbitrary: fc.constant<string[]>([]) },
)
const cookie = joined(['; ', '; ', ';', ' ; ', ',', ', ', ';;', '\t;', '&'], 3)
const headers = fc.array(
  fc.oneof(
    { weight: 3, arbitrary: fc.tuple(fc.constantFrom(...HEADERS, 'Server', 'X-Zone', 'X-ID'), ID) },
    { weight: 2, arbitrary: fc.tuple(fc.constantFrom('cookie', 'cookie', 'Cookie'), cookie) },
    {
      weight: 1,
      arbitrary: fc.constantFrom<[string, string]>(
        ['x-zonegate-key-0', '/8'],
        ['x-zonegate-key-1', '/cb/8'],
        ['x-zonegate-route', 'POST/8'],
        ['x_zone', '8'],
        ['x-zone_', '8'],
        ['x-envoy-original-path', '/cb/8/x'],
        ['x-forwarded-host', '8.cb.test'],
        ['x-original-url', '/cb/8/x'],
        ['set-cookie', 'zone_id=8'],
        ['cookie2', 'zone_id=8'],
      ),
    },
  ),
  { maxLength: 3 },
)
const TYPES = [
  ...[
    'application/json',
    'application/json',
    'application/x-www-form-urlencoded',
    'application/x-www-form-urlencoded',
  ],
  ...[
    'application/json; charset=utf-8',
    'application/vnd.a+json',
    'text/json',
    'Application/JSON',
    'application/json;charset=utf-16',
  ],
  ...[
    'application/x-www-form-urlencoded; charset=UTF-8',
    'Application/X-WWW-Form-Urlencoded',
    'multipart/form-data; boundary=a',
    '',
  ],
  ...[
    'application/json, text/plain',
    'application/jsonx',
    'text/plain',
    'application/json x',
    ' application/json ;',
    'application/json;charset=utf-8;charset=utf-16',
  ],
]
const JSON_ID = fc.oneof(
  { weight: 4, arbitrary: fc.constantFrom('"7"', '8', '"ab-3"', '12', '"A"', '0') },
  {
    weight: 3,
    arbitrary: fc.constantFrom(
      ...[
        '7.0',
        '7e0',
        '-7',
        '07',
        '00',
        '""',
        'null',
        'true',
        '["7"]',
        '{"zone":"8"}',
        '"\\u0037"',
        '"7\\u0000"',
        '"7 "',
        '" 7"',
        '"7\\n"',
      ],
      ...[
        '"%37"',
        '12345678901234567890',
        '1e400',
        '"-"',
        '"7,8"',
        `"${UTF8_SEVEN}"`,
        '"\xff"',
        "'7'",
        '7 8',
        '"7" "8"',
        '"a.b"',
        '0x7',
      ],
    ),
  },
)
const JSON_NAME = fc.oneof(
  { weight: 6, arbitrary: fc.constant('"zone"') },
  {
    weight: 2,
    arbitrary: fc.constantFrom(
      '"Zone"',
      '"\\u007aone"',
      '"zone\\u0000"',
      '"zone "',
      'zone',
      "'zone'",
      '"x"',
      '"a"',
      '"zon\\u0065"',
      '"zo\\/ne"',
    ),
  },
)
const member = fc
  .tuple(JSON_NAME, fc.constantFrom(':', ':', ' : ', ':\n', '::', ''), JSON_ID)
  .map((parts) => parts.join(''))
const object = fc
  .tuple(fc.array(member, { maxLength: 3 }), fc.constantFrom(',', ',', ', ', ',,', ' '))
  .map(([members, mark]) => `{${members.join(mark)}}`)
const json = fc.oneof(
  { weight: 4, arbitrary: object.map((inner) => `{"att":${inner}}`) },
  {
    weight: 4,
    arbitrary: fc
      .tuple(
        fc.constantFrom(
          '{',
          '{',
          ' {',
          '\xef\xbb\xbf{',
          '[{',
          '',
          '{"x":"\\"att\\":{\\"zone\\":\\"8\\"}",',
          '{"x":["zone"],',
          '{"x":{"att":{"zone":"8"}},',
        ),
        fc.array(
          fc.tuple(
            fc.constantFrom('"att"', '"att"', '"Att"', '"\\u0061tt"', '"b"', '"zone"'),
            fc.constantFrom(':', ' :'),
            fc.oneof(object, JSON_ID),
          ),
          { maxLength: 3 },
        ),
        fc.constantFrom('}', '}', '}', '}]', '', '} ', '},', '}{"att":{"zone":"8"}}', '}\0', '} //'),
      )
      .map(([start, members, end]) => `${start}${members.map((parts) => parts.join('')).join(',')}${end}`),
  },
)
const body = fc.oneof(
  { weight: 1, arbitrary: fc.constant('') },
  { weight: 4, arbitrary: json },
  { weight: 3, arbitrary: joined(['&', '&', '&', ';', '&&', '\r\n', '%26'], 3) },
  { weight: 1, arbitrary: json.map((text) => text.replace(/\}\s*$/, `,"long":"${'x'.repeat(20_000)}"}`)) },
)
const content: fc.Arbitrary<Pick<Sent, 'headers' | 'body'>> = fc.oneof(
  { weight: 3, arbitrary: fc.constant({ headers: [], body: '' }) },
  {
    weight: 2,
    arbitrary: fc
      .tuple(
        fc
          .array(fc.tuple(fc.constant('content-type'), fc.constantFrom(...TYPES)), {
            minLength: 0,
            maxLength: 2,
          })
          .chain((types) => fc.constantFrom(types, types.slice(0, 1), types.slice(0, 1))),
        body,
        fc.constantFrom<[string, string][]>(
          [],
          [],
          [],
          [],
          [['content-encoding', 'identity']],
          [['content-encoding', 'gzip']],
        ),
      )
      .map(([types, text, encodings]) => ({ headers: [...types, ...encodings], body: text })),
  },
)

/** Requests with nearly the same id, in one place or another. */
export const nearMisses: fc.Arbitrary<Sent> = fc
  .record({
    method: fc.oneof(
      { weight: 10, arbitrary: fc.constant('POST') },
      { weight: 3, arbitrary: fc.constantFrom('GET', 'PUT', 'PATCH', 'DELETE') },
      { weight: 1, arbitrary: fc.constantFrom('post', 'POSTS') },
    ),
    path,
    query: fc.oneof({ weight: 3, arbitrary: fc.constant(undefined) }, { weight: 3, arbitrary: query }),
    version: fc.constantFrom<Sent['version'][]>('1.1', '1.1', '1.1', '1.1', '1.1', '1.1', '1.1', '1.0'),
    hosts,
    headers,
    content,
    isHostLast: fc.boolean(),
    isRaw: fc.constantFrom(false, false, false, false, false, false, false, false, false, true),
  })
  .map(
    ({
      method,
      path: start,
      query: rest,
      version,
      hosts: named,
      headers: own,
      content: { headers: more, body: text },
      isHostLast,
      isRaw,
    }) => {
      const written = rest === undefined ? start : `${start}?${rest}`
      const host = named.map((one): [string, string] => ['host', one])
      return {
        method,
        // Envoy answers 400 to characters that may not be in a target.
        target: isRaw ? written : written.replace(/[\0-\x20#\x7f-\xff]/g, percentEncoded),
        version,
        headers: isHostLast ? [...own, ...more, ...host] : [...host, ...own, ...more],
        body: text,
      }
    },
  )

/** This request, with something of another in it. */
export function nearMissesOf(plainly: Sent): fc.Arbitrary<Sent> {
  const parts = fc.record({
    other: nearMisses,
    target: fc.constantFrom('own', 'own', 'own', 'query', 'path', 'other'),
    headers: fc.constantFrom('own', 'before', 'behind', 'behind', 'other'),
    content: fc.constantFrom('own', 'own', 'own', 'other'),
    method: fc.constantFrom('own', 'own', 'own', 'own', 'own', 'other'),
  })
  return parts.map(({ other, target, headers: which, content: body, method }) => {
    const own = plainly.headers
    const more = other.headers.filter(([name]) => name !== 'host')
    const [path = '', query = ''] = other.target.split(/\?(.*)/s)
    const mark = plainly.target.includes('?') ? '&' : '?'
    const targets: Readonly<Record<string, string>> = {
      own: plainly.target,
      other: other.target,
      query: `${plainly.target}${mark}${query}`,
      path: plainly.target.replace(/(?:\?|$)/, (end) => `${path}${end}`),
    }
    const lists = { own, other: other.headers, before: [...more, ...own], behind: [...own, ...more] }
    return {
      method: method === 'own' ? plainly.method : other.method,
      version: other.version,
      target: targets[target] ?? plainly.target,
      headers: lists[which as keyof typeof lists],
      body: body === 'own' ? plainly.body : other.body,
    }
  })
}

function percentEncoded(octet: string): string {
  return `%${octet.charCodeAt(0).toString(16).padStart(2, '0')}`
}

/** A request made from octets of which nothing else is known. */
export function plain({
  method = 'POST',
  target = '/x',
  headers: own = [],
  body: text = '',
}: Partial<Sent>): Sent {
  const host: (readonly [string, string])[] = own.some(([name]) => name === 'host')
    ? []
    : [['host', 'x.test']]
  return { method, target, version: '1.1', headers: [...host, ...own], body: text }
}
