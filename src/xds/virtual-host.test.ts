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
  match: { prefix: '/', headers: [{ name: 'server', string_match: { safe_regex: { regex: '-?' } } }] },
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
  idHeader: 'server',
  markHeader: 'x-mark',
  methods: ['POST'],
  services: [
    { name: 'mail', paths: ['/mail', '/post'] },
    { name: 'default', paths: [] },
  ],
  zoneName: (service, id) => `zone${id}-${service}.test`,
}

const routes = (learned: string[], by: Partial<RoutingRules> = {}, of: RoutePolicy = policy): Route[] =>
  routesOf('42', new Set(learned), of, { ...rules, ...by })
/** `learned /mail -> mail/42`, or the name of a cold route. */
const summary = (route: Route): string => {
  if (route.name !== 'learned') return String(route.name)
  return `learned ${route.match.path ?? route.match.prefix} -> ${route.route?.cluster}`
}

describe('routes of an id', () => {
  const table: [learned: string[], routes: string[]][] = [
    [
      ['default', 'mail'],
      [
        'method_not_allowed',
        'server_header_missing',
        'learned /mail -> mail/42',
        'learned /post -> mail/42',
        'learned / -> default/42',
      ],
    ],
    [
      ['default'],
      [
        'method_not_allowed',
        'server_header_missing',
        'learned / -> default/42',
        'forward',
        'processor_refused',
      ],
    ],
    [
      ['mail'],
      [
        'method_not_allowed',
        'server_header_missing',
        'learned /mail -> mail/42',
        'learned /post -> mail/42',
        'forward',
        'processor_refused',
      ],
    ],
  ]
  for (const [learned, expected] of table) {
    test(`with ${learned.join(' and ')} learned stand before "forward", and replace it if nothing is left for it`, () => {
      assert.deepEqual(routes(learned).map(summary), expected)
    })
  }

  test('leave the paths of services that are not learned to the cold routes', () => {
    const other = routes(['default']).find(({ name }) => name === 'learned')
    assert.deepEqual(
      other?.match.headers?.filter(({ name }) => name === ':path').map(({ string_match }) => string_match),
      [{ exact: '/mail' }, { prefix: '/mail?' }, { exact: '/post' }, { prefix: '/post?' }],
    )
  })

  test('look at the method themselves where no cold route has refused the others', () => {
    const unguarded = { ...policy, coldRoutes: [noId, forward, ask] }
    const one = routes(['default', 'mail'], {}, unguarded)
    assert.deepEqual(one.map(summary).slice(-2), ['forward', 'processor_refused'])
    assert.deepEqual(one[1]?.match.headers?.at(-1), { name: ':method', string_match: { exact: 'POST' } })
    const two = routes(['mail'], { methods: ['POST', 'PUT'] }, unguarded)
    assert.deepEqual(two[1]?.match.headers?.at(-1)?.string_match, { safe_regex: { regex: 'POST|PUT' } })
  })

  test('are the cold route without the mark, and with the own cluster, host and retries elsewhere', () => {
    assert.deepEqual(routes(['mail'])[2], {
      name: 'learned',
      match: { path: '/mail', headers: [{ name: 'content-type', present_match: true }] },
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
  const lists = codec<{ routes: Route[] }>('envoy.config.route.v3.RouteList')
  const bytes = virtualHostTemplate(policy, rules, new Set(['default'])).stamp('a-42')
  const host = decode(bytes)
  const [matcher] = host.matcher.matcher_list.matchers
  assert.ok(matcher)
  const listOf = ({ action }: { action: { typed_config: unknown } }): Route[] =>
    lists.decode((action.typed_config as { value: Buffer }).value).routes

  test('is found by its id, and takes only requests of which this is the whole header, in any case', () => {
    assert.equal(host.name, 'zonegate/a-42')
    assert.deepEqual(host.domains, ['a-42'])
    assert.deepEqual(matcher.predicate.single_predicate.value_match, { exact: 'a-42', ignore_case: true })
  })

  test('has its routes as they were built: no field is lost on the way', () => {
    const sent = listOf(matcher.on_match)
    const built = routesOf('a-42', new Set(['default']), policy, rules)
    assert.deepEqual(sent.map(summary), built.map(summary))
    // Empty lists, a zero and packed messages read back differently; the rest is compared.
    const [learned, asBuilt] = [sent, built].map((all) => all.find(({ name }) => name === 'learned'))
    assert.deepEqual(learned?.match, asBuilt?.match)
    assert.deepEqual(learned?.metadata, asBuilt?.metadata)
    assert.deepEqual(learned?.request_headers_to_remove, ['x-internal'])
    assert.equal(learned?.route?.cluster, 'default/a-42')
    assert.deepEqual(Object.keys(learned?.route ?? {}).sort(), Object.keys(asBuilt?.route ?? {}).sort())
  })

  test('leaves a repeated header to the cold routes, all but "forward"', () => {
    assert.deepEqual(listOf(host.matcher.on_no_match).map(summary), [
      'method_not_allowed',
      'server_header_missing',
      'processor_refused',
    ])
  })

  test('has a name from which the id can be read back', () => {
    assert.equal(virtualHostId(policy, virtualHostName(policy, '42')), '42')
    assert.equal(virtualHostId(policy, 'other/42'), undefined)
  })
})
