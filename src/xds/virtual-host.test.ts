import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { codec } from '../grpc/protos.ts'
import type { Route, VirtualHost } from './messages.ts'
import { MESSAGE_NAMES } from './resource.ts'
import {
  type RoutePolicy,
  type RoutingRules,
  routesOf,
  virtualHostId,
  virtualHostName,
  virtualHostTemplate,
} from './virtual-host.ts'

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
  request_headers_to_remove: ['x-mark', 'x-internal'],
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
  methods: ['POST'],
  services: [
    { name: 'mail', paths: ['/mail', '/post'] },
    { name: 'default', paths: [] },
  ],
  zoneName: (service, id) => `zone${id}-${service}.test`,
}

const routes = (learned: string[], by: Partial<RoutingRules> = {}, of: RoutePolicy = policy): Route[] =>
  routesOf('42', new Set(learned), of, { ...rules, ...by })
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
      assert.deepEqual(routes(learned).map(summary), expected)
    })
  }

  const refusal: Route = { name: 'blocked', match: { prefix: '/admin' }, direct_response: { status: 403 } }
  test('begin with the cold routes before "forward" that look at more than method and id', () => {
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

  test('are the cold route without the mark, and with the own cluster, host and retries elsewhere', () => {
    assert.deepEqual(routes(['mail'])[0], {
      name: 'learned',
      match: { path: '/mail', headers: [{ name: 'content-type', present_match: true }] },
      request_headers_to_remove: ['x-mark', 'x-internal'],
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
  const host = decode(virtualHostTemplate(policy, rules, learned).stamp('a-42'))

  test('is found by each method with the id alone', () => {
    assert.equal(host.name, 'zonegate/a-42')
    assert.deepEqual(host.domains, ['POST/a-42'])
    const two = decode(
      virtualHostTemplate(policy, { ...rules, methods: ['POST', 'PUT'] }, learned).stamp('7'),
    )
    assert.deepEqual(two.domains, ['POST/7', 'PUT/7'])
  })

  test('has its routes as they were built: no field is lost on the way', () => {
    const built = routesOf('a-42', learned, policy, rules)
    assert.deepEqual(host.routes.map(summary), built.map(summary))
    // Empty lists, a zero and packed messages read back differently; the rest is compared.
    const [sent, asBuilt] = [host.routes, built].map((all) => all.find(({ name }) => name === 'learned'))
    assert.deepEqual(sent?.match, asBuilt?.match)
    assert.deepEqual(sent?.metadata, asBuilt?.metadata)
    assert.deepEqual(sent?.request_headers_to_remove, ['x-mark', 'x-internal'])
    assert.equal(sent?.route?.cluster, 'default/a-42')
    assert.deepEqual(Object.keys(sent?.route ?? {}).sort(), Object.keys(asBuilt?.route ?? {}).sort())
  })

  test('has a name from which the id can be read back', () => {
    assert.equal(virtualHostId(policy, virtualHostName(policy, '42')), '42')
    assert.equal(virtualHostId(policy, 'other/42'), undefined)
  })
})
