import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { codec } from '../grpc/protos.ts'
import type { Route, VirtualHost } from './messages.ts'
import { MESSAGE_NAMES } from './resource.ts'
import { type RoutePolicy, type RoutingRules, VirtualHosts } from './virtual-host.ts'

const notPost: Route = {
  name: 'method_not_allowed',
  match: {
    prefix: '/',
    headers: [{ name: ':method', string_match: { exact: 'POST' }, invert_match: true }],
  },
  direct_response: { status: 405 },
  response_headers_to_add: [{ header: { key: 'allow', value: 'POST' } }],
}
const noId: Route = {
  name: 'server_header_missing',
  match: { prefix: '/', headers: [{ name: 'X-Mark', string_match: { safe_regex: { regex: '[A-Z]+/-?' } } }] },
  direct_response: { status: 403 },
}
const forward: Route = {
  name: 'forward',
  match: {
    prefix: '/',
    headers: [
      { name: 'X-Mark', present_match: true },
      { name: 'content-type', present_match: true },
    ],
  },
  request_headers_to_add: [
    { header: { key: 'x-mark', value: '%REQ(:METHOD)%/%REQ(id)%' } },
    { header: { key: 'x-mark', value: 'always' } },
    { header: { key: 'x-team', value: 'a' } },
  ],
  request_headers_to_remove: ['x-internal'],
  response_headers_to_remove: ['x-reason'],
  typed_per_filter_config: {
    any: { '@type': 'type.googleapis.com/envoy.config.route.v3.FilterConfig', disabled: true },
  },
  metadata: { filter_metadata: { zonegate: { fields: { team: { stringValue: 'a' } } } } },
  route: {
    cluster: 'zones',
    timeout: { seconds: 0, nanos: 0 },
    idle_timeout: { seconds: 60 },
    retry_policy: { retry_on: 'connect-failure', num_retries: { value: 1 } },
  },
}
const ask: Route = { name: 'processor_refused', match: { prefix: '/' }, direct_response: { status: 502 } }

const policy: RoutePolicy = { routeConfiguration: 'zonegate', coldRoutes: [notPost, noId, forward, ask] }
const rules: RoutingRules = {
  routeHeader: 'x-mark',
  idHeader: 'id',
  methods: ['POST'],
  services: [
    { name: 'mail', paths: ['/mail', '/post'] },
    { name: 'default', paths: [] },
  ],
  zoneName: (service, id) => `zone${id}-${service}.test`,
}

const routes = (learned: string[], by: Partial<RoutingRules> = {}, of: RoutePolicy = policy): Route[] => [
  ...new VirtualHosts(of, { ...rules, ...by }).build('42', new Set(learned)).routes,
]
const plain: RoutePolicy = {
  ...policy,
  coldRoutes: [
    notPost,
    noId,
    { ...forward, match: { prefix: '/', headers: [{ name: 'X-Mark', present_match: true }] } },
    ask,
  ],
}
/** `learned /mail -> mail/42`, or name and path of a cold route. */
const summary = (route: Route): string => {
  const path = route.match.path ?? route.match.prefix
  return route.name === 'learned' ? `learned ${path} -> ${route.route?.cluster}` : `${route.name} ${path}`
}

describe('routes of an id', () => {
  const table: [learned: string[], routes: string[]][] = [
    [
      ['default', 'mail'],
      ['learned /mail -> mail/42', 'learned /post -> mail/42', 'learned / -> default/42'],
    ],
    [['default'], ['processor_refused /mail', 'processor_refused /post', 'learned / -> default/42']],
    [['mail'], ['learned /mail -> mail/42', 'learned /post -> mail/42', 'processor_refused /']],
  ]

  for (const [learned, expected] of table) {
    test(`with ${learned.join(' and ')} learned lead to it, and for the rest to the processor`, () => {
      assert.deepEqual(routes(learned, {}, plain).map(summary), expected)
    })
  }

  const refusal: Route = { name: 'blocked', match: { prefix: '/admin' }, direct_response: { status: 403 } }
  test('begin with the cold routes before "forward" that a request with this method and id can match', () => {
    const of = { ...policy, coldRoutes: [notPost, noId, refusal, forward, ask] }
    assert.deepEqual(routes(['default', 'mail'], {}, of).map(summary).slice(0, 2), [
      'blocked /admin',
      'learned /mail -> mail/42',
    ])
  })

  test('keep a refusal of methods that is not the one by which learned zones are found', () => {
    const names = routes(['mail'], { methods: ['POST', 'PUT'] }).map(({ name }) => name)
    assert.equal(names[0], 'method_not_allowed')
  })

  test('keep a cold route about one id for that id alone, in whatever case a request has it', () => {
    const closed: Route = {
      name: 'closed',
      match: { prefix: '/', headers: [{ name: 'x-mark', string_match: { exact: 'POST/Z42' } }] },
      direct_response: { status: 503 },
    }
    const hosts = new VirtualHosts({ ...policy, coldRoutes: [closed, ...policy.coldRoutes] }, rules)
    const [one, two] = ['z42', 'z43'].map((id) => hosts.resource(id, new Set(['default'])))
    assert.notEqual(one?.version, two?.version)
    assert.equal(one?.encode(0).includes('closed'), true)
    assert.equal(two?.encode(0).includes('closed'), false)
  })

  const several: Route = {
    name: 'server_header_invalid',
    match: { prefix: '/', headers: [{ name: 'ID', string_match: { contains: ',' } }] },
    direct_response: { status: 403 },
  }
  test('lack the refusal of several ids, which come to no virtual host of one', () => {
    const of = { ...policy, coldRoutes: [several, ...policy.coldRoutes] }
    assert.equal(routes(['mail'], {}, of)[0]?.name, 'learned')
    assert.equal(routes(['mail'], { idHeader: 'x-id' }, of)[0]?.name, 'server_header_invalid')
  })

  test('end with the route that asks the processor where "forward" has further conditions', () => {
    assert.deepEqual(routes(['default', 'mail']).map(summary).slice(-1), ['processor_refused /'])
    assert.deepEqual(routes(['default', 'mail'], {}, plain).map(summary).slice(-1), [
      'learned / -> default/42',
    ])
  })

  test('are the cold route without the mark, and with the own cluster, host and retries elsewhere', () => {
    assert.deepEqual(routes(['mail'])[0], {
      name: 'learned',
      match: { path: '/mail', headers: [{ name: 'content-type', present_match: true }] },
      request_headers_to_add: [
        { header: { key: 'x-mark', value: 'always' } },
        { header: { key: 'x-team', value: 'a' } },
      ],
      request_headers_to_remove: ['x-internal'],
      response_headers_to_remove: ['x-reason'],
      metadata: {
        filter_metadata: {
          zonegate: {
            fields: {
              team: { stringValue: 'a' },
              zone: { stringValue: 'zone42-mail.test' },
              path: { stringValue: 'hot' },
            },
          },
        },
      },
      route: {
        cluster: 'mail/42',
        timeout: { seconds: 0, nanos: 0 },
        idle_timeout: { seconds: 60 },
        auto_host_rewrite: { value: true },
        retry_policy: {
          retry_on: 'connect-failure',
          num_retries: { value: 1 },
          host_selection_retry_max_attempts: 5,
          retry_host_predicate: [
            {
              name: 'envoy.retry_host_predicates.previous_hosts',
              typed_config: {
                '@type':
                  'type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate',
              },
            },
          ],
        },
      },
    })
  })
})

describe('a virtual host', () => {
  const { decode } = codec<VirtualHost>(MESSAGE_NAMES.virtualHost)
  const learned = new Set(['default'])
  const hosts = new VirtualHosts(policy, rules)
  const host = decode(hosts.resource('a-42', learned).encode(0))

  test('is found by each method with the id alone', () => {
    assert.equal(host.name, 'zonegate/a-42')
    assert.deepEqual(host.domains, ['POST/a-42'])
    const two = new VirtualHosts(policy, { ...rules, methods: ['POST', 'PUT'] })
    assert.deepEqual(two.build('7', learned).domains, ['POST/7', 'PUT/7'])
  })

  test('has its routes as they were built: no field is lost on the way', () => {
    const built = hosts.build('a-42', learned).routes
    assert.deepEqual(host.routes.map(summary), built.map(summary))
    // Empty lists, a zero and packed messages read back differently; the rest is compared.
    const [sent, asBuilt] = [host.routes, built].map((all) => all.find(({ name }) => name === 'learned'))
    assert.deepEqual(sent?.match, asBuilt?.match)
    assert.deepEqual(sent?.metadata, asBuilt?.metadata)
    assert.deepEqual(sent?.request_headers_to_remove, ['x-internal'])
    assert.equal(sent?.route?.cluster, 'default/a-42')
    assert.deepEqual(Object.keys(sent?.route ?? {}).sort(), Object.keys(asBuilt?.route ?? {}).sort())
  })

  test('has a name from which the id can be read back', () => {
    assert.equal(hosts.idOf(hosts.nameOf('42')), '42')
    assert.equal(hosts.idOf('other/42'), undefined)
  })
})
