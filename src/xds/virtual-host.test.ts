import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { codec } from '../grpc/protos.ts'
import type { Predicate, Route, VirtualHost } from './messages.ts'
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
  match: { prefix: '/', headers: [{ name: 'server', string_match: { safe_regex: { regex: '-?' } } }] },
  direct_response: { status: 403 },
}
const forward: Route = {
  name: 'forward',
  match: {
    prefix: '/',
    headers: [{ name: 'X-Mark', present_match: true }],
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

/** `learned /mail -> mail/42`, or the name of a cold route. */
const summary = (route: Route): string => {
  if (route.name !== 'learned') return String(route.name)
  return `learned ${route.match.path ?? route.match.prefix} -> ${route.route?.cluster}`
}

const lists = codec<{ routes?: Route[] }>('envoy.config.route.v3.RouteList')
const { decode } = codec<VirtualHost>(MESSAGE_NAMES.virtualHost)

/** What Envoy gets for the id 42: its routes where the predicate holds, and where it doesn't. */
function hostOf(learned: string[], by: Partial<RoutingRules> = {}, of: RoutePolicy = policy) {
  const { matcher } = decode(
    new VirtualHosts(of, { ...rules, ...by }).resource('42', new Set(learned)).encode(0),
  )
  const [only] = matcher.matcher_list.matchers
  assert.ok(only)
  const listOf = ({ action }: { action: { typed_config: unknown } }): Route[] =>
    lists.decode((action.typed_config as { value: Buffer }).value).routes ?? []
  return { predicate: only.predicate, hot: listOf(only.on_match), cold: listOf(matcher.on_no_match) }
}

/** `server~42 :method=POST !(:path=/mail|:path^/mail?)` */
function text(predicate: Predicate): string {
  const { single_predicate: single, and_matcher: and, or_matcher: or, not_matcher: not } = predicate
  if (and) return and.predicate.map(text).join(' ')
  if (or) return `(${or.predicate.map(text).join('|')})`
  if (not) return `!${text(not)}`
  const { exact, prefix, ignore_case } = single?.value_match ?? {}
  const sign = ignore_case ? '~' : exact === undefined ? '^' : '='
  return `${single?.input.name}${sign}${exact ?? prefix}`
}

describe('a virtual host', () => {
  const table: [learned: string[], predicate: string, hot: string[], cold: string[]][] = [
    [
      ['default', 'mail'],
      'server~42 :method=POST',
      ['learned /mail -> mail/42', 'learned /post -> mail/42', 'learned / -> default/42'],
      ['method_not_allowed', 'processor_refused'],
    ],
    [
      ['default'],
      'server~42 :method=POST !(:path=/mail|:path^/mail?|:path=/post|:path^/post?)',
      ['learned / -> default/42'],
      ['method_not_allowed', 'forward', 'processor_refused'],
    ],
    [
      ['mail'],
      'server~42 :method=POST (:path=/mail|:path^/mail?|:path=/post|:path^/post?)',
      ['learned /mail -> mail/42', 'learned /post -> mail/42'],
      ['method_not_allowed', 'forward', 'processor_refused'],
    ],
  ]
  for (const [learned, predicate, hot, cold] of table) {
    test(`lets in requests for ${learned.join(' and ')}, and leaves the others to the cold routes that they may need`, () => {
      const host = hostOf(learned)
      assert.equal(text(host.predicate), predicate)
      assert.deepEqual(host.hot.map(summary), hot)
      assert.deepEqual(host.cold.map(summary), cold)
    })
  }

  test('lets in every method that is forwarded', () => {
    const host = hostOf(['default', 'mail'], { methods: ['POST', 'PUT'] })
    assert.equal(text(host.predicate), 'server~42 (:method=POST|:method=PUT)')
    assert.equal(host.hot[0]?.name, 'method_not_allowed', 'which refuses PUT')
  })

  test('keeps what cold routes answer by themselves in front of the learned ones', () => {
    const health: Route = { name: 'health', match: { path: '/health' }, direct_response: { status: 200 } }
    const host = hostOf(['default', 'mail'], {}, { ...policy, coldRoutes: [health, ...policy.coldRoutes] })
    assert.deepEqual(host.hot.map(summary).slice(0, 2), ['health', 'learned /mail -> mail/42'])
    assert.deepEqual(host.cold.map(summary), ['health', 'method_not_allowed', 'processor_refused'])
  })

  test('keeps a route about one id for that id alone', () => {
    const closed: Route = {
      name: 'closed',
      match: { prefix: '/', headers: [{ name: 'server', string_match: { exact: '42' } }] },
      direct_response: { status: 503 },
    }
    const hosts = new VirtualHosts({ ...policy, coldRoutes: [closed, ...policy.coldRoutes] }, rules)
    const [one, two] = ['42', '43'].map((id) => hosts.resource(id, new Set(['default'])))
    assert.notEqual(one?.version, two?.version)
    assert.equal(one?.encode(0).includes('closed'), true)
    assert.equal(two?.encode(0).includes('closed'), false)
  })

  test('leaves requests that fail a further condition of "forward" to what follows it', () => {
    const conditional = {
      ...forward,
      match: {
        ...forward.match,
        headers: [...(forward.match.headers ?? []), { name: 'x', present_match: true }],
      },
    }
    const host = hostOf(['default', 'mail'], {}, { ...policy, coldRoutes: [notPost, noId, conditional, ask] })
    assert.deepEqual(host.hot.map(summary).slice(-2), ['learned / -> default/42', 'processor_refused'])
    assert.deepEqual(host.hot[0]?.match.headers, [{ name: 'x', present_match: true }])
  })

  test('has learned routes that are the cold one without the mark, with the own cluster and host, and retries elsewhere', () => {
    const built = new VirtualHosts(policy, rules).build('42', new Set(['default', 'mail']))
    const [only] = built.matcher.matcher_list.matchers
    assert.ok(only)
    const { routes } = only.on_match.action.typed_config as unknown as { routes: Route[] }
    assert.deepEqual(routes[0], {
      name: 'learned',
      match: { path: '/mail', headers: [] },
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
    // No field is lost on the way: a name that proto/ doesn't have would be left out without a word.
    const [sent] = hostOf(['default', 'mail']).hot
    assert.deepEqual(sent?.metadata, routes[0]?.metadata)
    assert.deepEqual(Object.keys(sent?.route ?? {}).sort(), Object.keys(routes[0]?.route ?? {}).sort())
    assert.deepEqual(
      Object.keys(sent?.route?.retry_policy ?? {}).sort(),
      Object.keys(routes[0]?.route?.retry_policy ?? {}).sort(),
    )
  })

  test('has a name from which the id can be read back', () => {
    const hosts = new VirtualHosts(policy, rules)
    assert.equal(hosts.resource('42', new Set(['mail'])).name, 'zonegate/42')
    assert.equal(hosts.idOf('zonegate/42'), '42')
    assert.equal(hosts.idOf('other/42'), undefined)
  })
})
