import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { messageCodec } from './envoy-api.ts'
import { coldRoutesBefore, HOST_REWRITE, learnedFields, type RoutePolicy, saidOf } from './learned-routes.ts'
import type { Route, VirtualHost } from './messages.ts'
import { MESSAGE_NAMES } from './resource.ts'
import { hostKeyOf, partsOf, type RoutingRules, type RuleRoutes } from './routing-rules.ts'
import { VirtualHosts } from './virtual-host.ts'

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
    { header: { key: 'x-team', value: 'a' } },
  ],
  request_headers_to_remove: ['x-internal'],
  response_headers_to_remove: ['x-reason'],
  typed_per_filter_config: {
    any: {
      type_url: 'type.googleapis.com/envoy.config.route.v3.FilterConfig',
      value: Buffer.from([0x18, 1]),
    },
  },
  metadata: { filter_metadata: { zonegate: { fields: { team: { stringValue: 'a' } } } } },
  route: {
    cluster: 'zones',
    host_rewrite: HOST_REWRITE,
    timeout: { seconds: 0, nanos: 0 },
    idle_timeout: { seconds: 60 },
    retry_policy: { retry_on: 'connect-failure', num_retries: { value: 1 } },
  },
}
const ask: Route = { name: 'processor_refused', match: { prefix: '/' }, direct_response: { status: 502 } }

const policy: RoutePolicy = { routeConfiguration: 'zonegate', coldRoutes: [notPost, noId, forward, ask] }
const rule: RuleRoutes = {
  prefix: '',
  methods: ['POST'],
  domains: (id: string) => [`POST/${id}`],
  services: [
    { name: 'mail', paths: ['/mail', '/post'] },
    { name: 'default', paths: [] },
  ],
  unusual: [],
  knownHeaders: (id) => ({ id: { values: [id], anyCase: true } }),
}
const rules: RoutingRules = {
  routeHeader: 'x-mark',
  rules: [rule],
  zoneName: (service, id) => `zone${id}-${service}.test`,
}

/** The fields and routes of a virtual host before they are encoded. */
function built(of: RoutePolicy, by: RoutingRules, hostKey: string, services: ReadonlySet<string>) {
  const parts = partsOf(hostKey, by)
  assert.ok(parts)
  const before = coldRoutesBefore(of, by, parts.rule, parts.id)
  return learnedFields(of, by, { ...parts, services, before, said: saidOf(by, parts.rule, parts.id) })
}

const routes = (learned: string[], by: Partial<RuleRoutes> = {}, of: RoutePolicy = policy): Route[] => [
  ...built(of, { ...rules, rules: [{ ...rule, ...by }] }, '42', new Set(learned)).routes,
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
  const path = route.match?.path ?? route.match?.prefix
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
      assert.deepEqual(routes(learned, {}, plain).map(summary), ['method_not_allowed /', ...expected])
    })
  }

  const refusal: Route = { name: 'blocked', match: { prefix: '/admin' }, direct_response: { status: 403 } }
  test('begin with the cold routes before "forward" that a request with this method and id can match', () => {
    const of = { ...policy, coldRoutes: [notPost, noId, refusal, forward, ask] }
    assert.deepEqual(routes(['default', 'mail'], {}, of).map(summary).slice(0, 3), [
      'method_not_allowed /',
      'blocked /admin',
      'learned /mail -> mail/42',
    ])
  })

  test('keep the refusal of methods, as Envoy finds the virtual host by a method in any case', () => {
    for (const methods of [['POST'], ['POST', 'PUT']])
      assert.equal(routes(['mail'], { methods })[0]?.name, 'method_not_allowed')
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
    assert.equal(routes(['mail'], {}, of)[0]?.name, 'method_not_allowed')
    assert.equal(routes(['mail'], { knownHeaders: () => ({}) }, of)[0]?.name, 'server_header_invalid')
  })

  test('end with the route that asks the processor where "forward" has further conditions', () => {
    assert.deepEqual(routes(['default', 'mail']).map(summary).slice(-1), ['processor_refused /'])
    assert.deepEqual(routes(['default', 'mail'], {}, plain).map(summary).slice(-1), [
      'learned / -> default/42',
    ])
  })

  test('are the cold route without the condition that asks, and with the own cluster, host and retries elsewhere', () => {
    assert.deepEqual(routes(['mail'])[1], {
      name: 'learned',
      match: { path: '/mail', headers: [{ name: 'content-type', present_match: true }] },
      request_headers_to_add: [
        { header: { key: 'x-mark', value: '%REQ(:METHOD)%/%REQ(id)%' } },
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
                type_url:
                  'type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate',
              },
            },
          ],
        },
      },
    })
  })
})

describe('routes of an id are for the zone what the cold ones are:', () => {
  const action = (field: object): RoutePolicy => ({
    ...plain,
    coldRoutes: plain.coldRoutes.map((route) =>
      route.name === 'forward' ? { ...route, route: { ...route.route, ...field } } : route,
    ),
  })
  test('a prefix that is written anew stands before the whole path, also of a service with paths', () => {
    const rewritten = routes(['default', 'mail'], {}, action({ prefix_rewrite: '/api/' }))
    assert.deepEqual(
      rewritten.filter(({ route }) => route).map(({ route }) => route?.prefix_rewrite),
      ['/api/mail', '/api/post', '/api/'],
    )
  })

  test('but a retry goes to the next priority, of a service that has several, unless "forward" says where to', () => {
    const withPriorities = {
      ...rules,
      rules: rules.rules.map((rule) => ({
        ...rule,
        services: rule.services.map((service) => ({ ...service, hasPriorities: service.name === 'mail' })),
      })),
    }
    const retriesOf = (policy: RoutePolicy): Record<string, unknown> =>
      Object.fromEntries(
        (built(policy, withPriorities, '42', new Set(['default', 'mail'])).routes ?? []).flatMap(
          ({ route }) => (route ? [[route.cluster, route.retry_policy?.retry_priority?.name]] : []),
        ),
      )
    assert.deepEqual(retriesOf(plain), {
      'default/42': undefined,
      'mail/42': 'envoy.retry_priorities.previous_priorities',
    })
    const retry_policy = { retry_on: '5xx', retry_priority: { name: 'own' } }
    assert.deepEqual(retriesOf(action({ retry_policy })), { 'default/42': 'own', 'mail/42': 'own' })
  })

  test('what the virtual host says of all routes', () => {
    const fields = { request_headers_to_remove: ['x-secret'], retry_policy: { retry_on: '5xx' } }
    const host = built({ ...plain, fields }, rules, '42', new Set(['default']))
    assert.deepEqual(host.request_headers_to_remove, ['x-secret'])
    assert.equal(host.retry_policy?.['retry_on'], '5xx')
    assert.equal(host.retry_policy?.retry_host_predicate?.length, 1)
  })

  test('the client\'s Host, where "forward" leaves that', () => {
    const rewrites = (of: RoutePolicy) => routes(['default'], {}, of).at(-1)?.route?.['auto_host_rewrite']
    assert.deepEqual(rewrites(plain), { value: true })
    assert.equal(rewrites(action({ host_rewrite: undefined })), undefined)
  })

  test('what puts the mark back, though it is still there: so headers stand in one order on both paths', () => {
    assert.deepEqual(
      routes(['default'], {}, plain).at(-1)?.request_headers_to_add,
      plain.coldRoutes.find(({ name }) => name === 'forward')?.request_headers_to_add,
    )
  })

  test('settings of filters that both paths have', () => {
    const settings = { cors: { type_url: 'a' } }
    assert.deepEqual(
      routes(['default'], {}, { ...plain, filterSettings: settings }).at(-1)?.typed_per_filter_config,
      settings,
    )
  })
})

describe('a virtual host', () => {
  const { decode } = messageCodec<VirtualHost>(MESSAGE_NAMES.virtualHost)
  const learned = new Set(['default'])
  const hosts = new VirtualHosts(policy, rules)
  const host = decode(hosts.resource('a-42', learned).encode(0))

  test('is found by each method with the id alone', () => {
    assert.equal(host.name, 'zonegate/a-42')
    assert.deepEqual(host.domains, ['POST/a-42'])
    const two = new VirtualHosts(policy, {
      ...rules,
      rules: [{ ...rule, domains: (id) => [`POST/${id}`, `PUT/${id}`] }],
    })
    assert.deepEqual(decode(two.resource('7', learned).encode(0)).domains, ['POST/7', 'PUT/7'])
  })

  test('has its routes as they were built: no field is lost on the way', () => {
    const before = built(policy, rules, 'a-42', learned).routes
    const sentRoutes = host.routes ?? []
    assert.deepEqual(sentRoutes.map(summary), before.map(summary))
    // Empty lists, a zero and packed messages read back differently; the rest is compared.
    const [sent, asBuilt] = [sentRoutes, before].map((all) => all.find(({ name }) => name === 'learned'))
    assert.deepEqual(sent?.match, asBuilt?.match)
    assert.deepEqual(sent?.metadata, asBuilt?.metadata)
    assert.deepEqual(sent?.request_headers_to_remove, ['x-internal'])
    assert.equal(sent?.route?.cluster, 'default/a-42')
    assert.deepEqual(Object.keys(sent?.route ?? {}).sort(), Object.keys(asBuilt?.route ?? {}).sort())
  })

  test('of a rule among several has its name in the domains, and in its own', () => {
    const domains = (id: string) => [`POST/pay/${id}`]
    const pay: RuleRoutes = { ...rule, prefix: 'pay.', domains, services: [{ name: 'pay', paths: [] }] }
    const both = { ...rules, rules: [pay, { ...rule, prefix: 'rest.' }] }
    const own = decode(new VirtualHosts(policy, both).resource('pay.7', new Set(['pay'])).encode(0))
    assert.deepEqual([own.name, own.domains], ['zonegate/pay.7', ['POST/pay/7']])
    assert.equal(own.routes?.find(({ name }) => name === 'learned')?.route?.cluster, 'pay/7')
    assert.equal(hostKeyOf('pay', '7', both), 'pay.7')
    assert.equal(hostKeyOf('mail', '7', both), 'rest.7')
    assert.deepEqual(partsOf('pay.7', both), { rule: pay, id: '7' })
    assert.equal(partsOf('7', both), undefined)
  })

  test('has what Envoy can not read as strictly as the processor decided by that one, after the refusals', () => {
    const unusual = [{ prefix: '/', headers: [{ name: ':path', string_match: { contains: '&' } }] }]
    const [first, second, third] = routes(['default', 'mail'], { unusual }, plain)
    assert.deepEqual(
      [first?.name, second?.name, third?.name],
      ['method_not_allowed', 'processor_refused', 'learned'],
    )
    assert.deepEqual(second?.match, unusual[0])
  })

  test('has a name from which the key can be read back', () => {
    assert.equal(hosts.keyOf(hosts.nameOf('42')), '42')
    assert.equal(hosts.keyOf('other/42'), undefined)
  })
})

test('of a service in maintenance Envoy answers by itself, and a merged zone has the name of the other, each for its ids alone', () => {
  const answer = { status: 503, text: 'back at 06:00', retryAfterSeconds: 600 }
  const said = (service: string, id: string) => {
    if (id === '42' && service === 'mail') return { answer }
    return id === '43' && service === 'default' ? { zoneName: 'zone1-default.test' } : undefined
  }
  const hosts = new VirtualHosts(plain, { ...rules, said })
  const both = new Set(['default', 'mail'])
  const routesOf42 = built(plain, { ...rules, said }, '42', both).routes
  assert.deepEqual(routesOf42.map(summary), [
    'method_not_allowed /',
    'maintenance /mail',
    'maintenance /post',
    'learned / -> default/42',
  ])
  assert.deepEqual(routesOf42[1]?.direct_response, { status: 503, body: { inline_string: 'back at 06:00' } })
  assert.deepEqual(
    routesOf42[1]?.response_headers_to_add?.map(({ header }) => header),
    [{ key: 'retry-after', value: '600' }],
  )
  const stamped = (id: string): string => hosts.resource(id, both).encode(0).toString('latin1')
  assert.match(stamped('43'), /zone1-default\.test/)
  assert.doesNotMatch(stamped('43'), /zone43-default\.test|back at/)
  assert.match(stamped('44'), /zone44-default\.test/)
  assert.doesNotMatch(stamped('44'), /zone1-default|back at/)
  assert.match(stamped('42'), /back at 06:00/)
  assert.notEqual(hosts.resource('42', both).version, hosts.resource('44', both).version)
})
