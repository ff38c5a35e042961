import assert from 'node:assert/strict'
import { test } from 'node:test'
import { rulesOf } from '../config/rules.ts'
import { configSchema } from '../config/schema.ts'
import { zoneOf } from '../routing/rules.ts'
import {
  BODY_OCTETS_MAX,
  type DescribedRequest,
  DescriptionFault,
  describedRequest,
  descriptionJson,
  descriptionOf,
  type RequestDescription,
  requestOf,
} from './request-description.ts'

const NOTHING: DescribedRequest = { method: 'POST', path: '/', authority: '', headers: {}, ids: [] }

const DESCRIBED: [title: string, description: RequestDescription, request: DescribedRequest][] = [
  ['nothing said is a POST of /', {}, NOTHING],
  [
    'names of headers are in lower case, and values of one name together, in order',
    { headers: ['Server: 1', 'x:', 'SERVER:2 '] },
    { ...NOTHING, headers: { server: ['1', '2'], x: [''] } },
  ],
  [
    'a Host header is the host',
    { headers: ['Host: a'] },
    { ...NOTHING, authority: 'a', headers: { host: ['a'] } },
  ],
  [
    'a host beside a Host header counts',
    { host: 'b', headers: ['Host: a'] },
    { ...NOTHING, authority: 'b', headers: { host: ['a'] } },
  ],
  [
    'a curl command',
    { curl: `curl -X PUT h/x -H 'a: 1' -d é`, ids: ['7'] },
    {
      method: 'PUT',
      path: '/x',
      authority: 'h',
      headers: { a: ['1'], 'content-type': ['application/x-www-form-urlencoded'] },
      body: Buffer.from('é'),
      ids: ['7'],
    },
  ],
  [
    'the body beside a curl command that names its file',
    { curl: 'curl --json @f h', body: Buffer.from('{}') },
    {
      ...NOTHING,
      authority: 'h',
      headers: { 'content-type': ['application/json'] },
      body: Buffer.from('{}'),
    },
  ],
]
for (const [title, description, request] of DESCRIBED) {
  test(title, () => assert.deepEqual(describedRequest(description), request))
  test(`${title}; sent as JSON and read again`, () => {
    const sent = JSON.stringify(descriptionJson(describedRequest(description)))
    const { host: _, ...headers } = request.headers
    assert.deepEqual(describedRequest(descriptionOf(sent)), { ...request, headers })
  })
}

const FAULTS: [description: RequestDescription, field: string, said: RegExp][] = [
  [{ method: 'A B' }, 'method', /expected a method/],
  [{ method: '' }, 'method', /expected a method/],
  [{ path: 'mail' }, 'path', /begins with "\/"/],
  [{ headers: ['server'] }, 'header', /expected "name: value", got "server"/],
  [{ headers: [':path: /'] }, 'header', /expected "name: value"/],
  [{ headers: ['a: b\r\nserver: 1'] }, 'header', /expected "name: value"/],
  [{ headers: ['Host: a', 'host: b'] }, 'header', /expected one Host/],
  [{ body: Buffer.alloc(BODY_OCTETS_MAX + 1) }, 'body', /1048576 octets or fewer/],
  [{ curl: 'wget h' }, 'curl', /begins with curl/],
  [{ curl: 'curl -d @f h' }, 'curl', /reads the file "f"/],
  [{ curl: 'curl h', method: 'POST' }, 'curl', /the command has them/],
  [{ curl: 'curl h', headers: ['a: b'] }, 'curl', /the command has them/],
]
for (const [description, field, said] of FAULTS) {
  test(`${field}: ${said.source}: ${JSON.stringify(description).slice(0, 60)}`, () =>
    assert.throws(
      () => describedRequest(description),
      (error) => error instanceof DescriptionFault && error.field === field && said.test(error.message),
    ))
}

for (const text of ['', '[]', 'null', '{"method":1}', '{"ids":"7"}', '{"headers":{}}', '{"unknown":""}']) {
  test(`no description: ${text}`, () => assert.throws(() => descriptionOf(text), DescriptionFault))
}

/** `--id`: where the rule that fits looks first, whatever the request has there. */
const IDS: [id: object, request: Partial<DescribedRequest>][] = [
  [{ header: 'server' }, {}],
  [{ query: 'id' }, {}],
  [{ query: 'id' }, { path: '/x?y=1' }],
  [{ cookie: 'id' }, { headers: { cookie: ['a=b'] } }],
  [{ path: '/cb/{id}/*' }, {}],
  [{ host: '{id}.cb.test' }, {}],
  [{ form: 'id' }, { body: Buffer.from('a=b') }],
  [{ json: '/a/b' }, {}],
]
for (const [id, request] of IDS) {
  test(`an id is put into ${JSON.stringify(id)}, beside ${Object.keys(request).join() || 'nothing'}`, () => {
    const rules = rulesOf(configSchema.parse({ rules: { id } }))
    const zone = zoneOf(requestOf({ ...NOTHING, ids: ['12'], ...request }, rules), rules, 's.test')
    assert.equal('id' in zone && zone.id, '12')
  })
}

test('an id in the path leaves the query as it is', () => {
  const rules = rulesOf(configSchema.parse({ rules: { id: { path: '/cb/{id}/*' } } }))
  assert.equal(requestOf({ ...NOTHING, ids: ['12'], path: '/?a=1' }, rules).path, '/cb/12/?a=1')
})

/** What the page asks about a zone that is listed. */
const rules = rulesOf(
  configSchema.parse({
    rules: [
      {
        name: 'pay',
        match: { paths: ['/pay/*'], hosts: ['pay.*'] },
        methods: ['PUT', 'POST'],
        id: { query: 'id' },
      },
      {
        name: 'rest',
        match: { paths: ['/r/*'] },
        id: [{ cookie: 'id' }],
        services: { mail: { paths: ['/mail', '/r/mail'] }, lost: { paths: ['/lost'] }, default: {} },
      },
      { name: 'all', id: { json: '/id' } },
    ],
  }),
)
const ZONES: [service: string, request: string][] = [
  ['pay', 'PUT pay./pay/'],
  ['rest.mail', 'POST /r/mail'],
  ['rest.default', 'POST /r/'],
  ['all', 'POST /'],
]
for (const [service, expected] of ZONES) {
  test(`a request to a zone of ${service}: ${expected}`, () => {
    const request = describedRequest({ zone: { service, id: '12' } }, rules)
    assert.equal(`${request.method} ${request.authority}${request.path}`, expected)
    assert.deepEqual(request.ids, ['12'])
    const zone = zoneOf(requestOf(request, rules), rules, 's.test')
    assert.deepEqual('service' in zone && [zone.service.name, zone.id], [service, '12'])
  })
}

for (const [service, id] of [
  ['rest.lost', '1'], // its only path is one that its rule doesn't fit
  ['nothing', '1'],
  ['pay', 'a_b'],
] as const) {
  test(`no request goes to ${service} ${id}`, () =>
    assert.throws(
      () => describedRequest({ zone: { service, id } }, rules),
      (error) => error instanceof DescriptionFault && error.field === 'zone',
    ))
}
