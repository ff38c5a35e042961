import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { describe, test } from 'node:test'
import { type PolicyReading, readPolicy } from './policy.ts'
import { PolicySource } from './policy-source.ts'

const ROUTES = `resources:
- "@type": type.googleapis.com/envoy.config.route.v3.RouteConfiguration
  name: zonegate
  vhost_header: X-Mark
  vhds: { config_source: { ads: {} } }
  virtual_hosts:
  - name: other
    domains: [other.test]
    routes: [{ match: { prefix: "/" }, redirect: {} }]
  - name: zonegate/cold
    domains: ["*"]
    routes:
    - name: method_not_allowed
      match: { prefix: "/", headers: [{ name: ":method", stringMatch: { exact: POST }, invert_match: true }] }
      direct_response: { status: 405 }
      metadata: { filter_metadata: { a: { text: b, number: 1.5, flag: true, list: [c], map: { d: e } } } }
    - name: forward
      match: { prefix: "/", headers: [{ name: x-mark, present_match: true }] }
      route:
        cluster: zones
        timeout: 0s
        idle_timeout: 1.5s
        retry_policy: { retry_on: connect-failure, num_retries: 2, retriable_status_codes: [503] }
    - name: processor_refused
      match: { prefix: "/" }
      direct_response: { status: 502 }
      typed_per_filter_config:
        ext_proc: { "@type": type.googleapis.com/envoy.config.route.v3.FilterConfig, config: {} }
`
const BOOTSTRAP = `node: { id: a, cluster: b }
limits: &limits { max_retries: 4096, max_connections: "4096", priority: HIGH }
static_resources:
  clusters:
  - name: processor
    type: STATIC
  - name: zones
    connect_timeout: 0.25s
    lb_policy: CLUSTER_PROVIDED
    cluster_type: { name: envoy.clusters.dynamic_forward_proxy }
    circuit_breakers: { thresholds: [*limits] }
    outlier_detection: { split_external_local_origin_errors: true, consecutive_5xx: 5 }
    common_lb_config: { healthy_panic_threshold: { value: 0.5 } }
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: { http_protocol_options: {} }
        common_http_protocol_options: { idle_timeout: 55s }
        upstream_http_protocol_options: { auto_sni: true, auto_san_validation: true }
inline_headers:
- { inline_header_name: x-other }
- { inline_header_name: Server, inline_header_type: REQUEST_HEADER }
`

const HEADERS = { routeHeader: 'x-mark', idHeader: 'server' }
const read = (routes = ROUTES, bootstrap = BOOTSTRAP): PolicyReading =>
  readPolicy({ path: 'routes.yaml', text: routes }, { path: 'envoy.yaml', text: bootstrap }, HEADERS)

const good = (reading: PolicyReading) => {
  assert.equal(reading.kind, 'policy', reading.kind === 'faults' ? reading.faults.join('\n') : '')
  return reading as Extract<PolicyReading, { kind: 'policy' }>
}
const faults = (routes: string, bootstrap = BOOTSTRAP): readonly string[] => {
  const reading = read(routes, bootstrap)
  return reading.kind === 'faults' ? reading.faults : []
}

describe("Envoy's files give learned zones", () => {
  const { policy, notCopied } = good(read())

  test('all routes of the virtual host for every domain', () => {
    assert.equal(policy.routes.routeConfiguration, 'zonegate')
    assert.deepEqual(
      policy.routes.coldRoutes.map(({ name }) => name),
      ['method_not_allowed', 'forward', 'processor_refused'],
    )
    assert.deepEqual(notCopied, [])
  })

  test('the route "forward", with durations and wrapped numbers as messages', () => {
    assert.deepEqual(policy.routes.coldRoutes[1]?.route, {
      cluster: 'zones',
      timeout: { seconds: 0, nanos: 0 },
      idle_timeout: { seconds: 1, nanos: 500_000_000 },
      retry_policy: {
        retry_on: 'connect-failure',
        num_retries: { value: 2 },
        retriable_status_codes: [503],
      },
    })
  })

  test('fields in either spelling, metadata, and settings of filters', () => {
    const [first, , last] = policy.routes.coldRoutes
    assert.deepEqual(first?.match.headers, [
      { name: ':method', string_match: { exact: 'POST' }, invert_match: true },
    ])
    assert.deepEqual(first?.metadata?.filter_metadata?.['a'], {
      fields: {
        text: { stringValue: 'b' },
        number: { numberValue: 1.5 },
        flag: { boolValue: true },
        list: { listValue: { values: [{ stringValue: 'c' }] } },
        map: { structValue: { fields: { d: { stringValue: 'e' } } } },
      },
    })
    assert.deepEqual(last?.typed_per_filter_config, {
      ext_proc: { '@type': 'type.googleapis.com/envoy.config.route.v3.FilterConfig', config: {} },
    })
  })

  test('the cluster of that route, without what finds its addresses and what is for TLS', () => {
    assert.deepEqual(policy.cluster, {
      connect_timeout: { seconds: 0, nanos: 250_000_000 },
      circuit_breakers: {
        thresholds: [{ max_retries: { value: 4096 }, max_connections: { value: 4096 }, priority: 'HIGH' }],
      },
      outlier_detection: { split_external_local_origin_errors: true, consecutive_5xx: { value: 5 } },
      common_lb_config: { healthy_panic_threshold: { value: 0.5 } },
      typed_extension_protocol_options: {
        'envoy.extensions.upstreams.http.v3.HttpProtocolOptions': {
          '@type': 'type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions',
          explicit_http_config: { http_protocol_options: {} },
          common_http_protocol_options: { idle_timeout: { seconds: 55, nanos: 0 } },
        },
      },
    })
  })
})

describe('a field that cannot be taken over', () => {
  test('is named where it only shapes what is copied', () => {
    const routes = ROUTES.replace('timeout: 0s', 'timeout: 0s\n        priority: HIGH').replace(
      'domains: ["*"]',
      'domains: ["*"]\n    include_request_attempt_count: true',
    )
    const bootstrap = BOOTSTRAP.replace('lb_policy:', 'alt_stat_name: z\n    lb_policy:')
    assert.deepEqual(good(read(routes, bootstrap)).notCopied, [
      'routes.yaml:12:36: resources[0].virtual_hosts[1].include_request_attempt_count',
      'routes.yaml:23:19: resources[0].virtual_hosts[1].routes[1].route.priority',
      'envoy.yaml:9:20: static_resources.clusters[1].alt_stat_name',
    ])
  })

  test('is not even named where it belongs to the cold path alone', () => {
    const perRoute = `route:
        cluster: zones
      typed_per_filter_config:
        dfp: { "@type": type.googleapis.com/envoy.extensions.filters.http.dynamic_forward_proxy.v3.PerRouteConfig }
      decorator:`
    const routes = ROUTES.replace('route:\n        cluster: zones', perRoute)
    assert.deepEqual(good(read(routes)).notCopied, [
      'routes.yaml:24:9: resources[0].virtual_hosts[1].routes[1].decorator',
    ])
  })

  const refused: [what: string, from: string, to: string, fault: string][] = [
    [
      'in a condition of "forward"',
      'present_match: true }] }',
      'present_match: true }], grpc: {} }',
      'routes.yaml:18:85: resources[0].virtual_hosts[1].routes[1].match.grpc: not supported where zones are learned',
    ],
    [
      'in any other route',
      'direct_response: { status: 405 }',
      'direct_response: { status: 405, body: { filename: a } }',
      'routes.yaml:15:57: resources[0].virtual_hosts[1].routes[0].direct_response.body.filename: not supported where zones are learned',
    ],
    [
      'as another action',
      'direct_response: { status: 405 }',
      'redirect: {}',
      'routes.yaml:15:17: resources[0].virtual_hosts[1].routes[0].redirect: not supported where zones are learned',
    ],
  ]
  for (const [what, from, to, fault] of refused) {
    test(`is a fault ${what}`, () => assert.equal(faults(ROUTES.replace(from, to))[0], fault))
  }

  test('is a fault where the zone would be spoken to in another way', () => {
    assert.deepEqual(
      faults(ROUTES, BOOTSTRAP.replace('lb_policy:', 'transport_socket: {}\n    lb_policy:')),
      [
        'envoy.yaml:9:23: static_resources.clusters[1].transport_socket: not supported where zones are learned',
      ],
    )
  })
})

describe('a fault is named with its place and what was expected:', () => {
  const table: [from: string | RegExp, to: string, fault: RegExp][] = [
    ['timeout: 0s', 'timeout: 5', /^routes\.yaml:21:18: .*\.route\.timeout: expected a duration in seconds/],
    ['timeout: 0s', 'timeout: -5s', /expected a duration/],
    ['num_retries: 2', 'num_retries: many', /:23:65: .*num_retries: expected a whole number, 0 or more/],
    ['num_retries: 2', 'num_retries: -1', /num_retries: expected a whole number, 0 or more/],
    ['num_retries: 2', 'num_retries: 1.5', /num_retries: expected a whole number/],
    ['[503]', '503', /retriable_status_codes: expected a list/],
    ['[503]', '[x]', /retriable_status_codes\[0\]: expected a whole number/],
    ['exact: POST', 'exact: 1', /exact: expected a text/],
    ['invert_match: true', 'invert_match: "yes"', /invert_match: expected true or false/],
    [
      '{ retry_on: connect-failure, num_retries: 2, retriable_status_codes: [503] }',
      'none',
      /retry_policy: expected a mapping/,
    ],
    [
      '"@type": type.googleapis.com/envoy.config.route.v3.FilterConfig, ',
      '',
      /ext_proc: expected a message with its "@type"/,
    ],
    ['name: forward', 'name: backward', /routes: expected one with the name forward/],
    [
      'match: { prefix: "/", headers: [{ name: x-mark',
      'match: { prefix: "/a", headers: [{ name: x-mark',
      /expected the match prefix "\/"/,
    ],
    ['vhost_header: X-Mark', 'vhost_header: id', /^routes\.yaml:2:3: .*vhost_header: expected x-mark/],
    [
      '- name: processor_refused',
      '- { match: { prefix: "/" }, direct_response: { status: 503 } }\n    - name: processor_refused',
      /routes: expected exactly one after forward/,
    ],
    [/ {2}vhds: .*\n/, '', /vhds: expected a config_source/],
    ['domains: ["*"]', 'domains: [a.test]', /virtual_hosts: expected one for the domain "\*"/],
    ['RouteConfiguration', 'Other', /resources: expected a type\.googleapis\.com/],
    ['name: zonegate\n', 'name: [\n', /^routes\.yaml:\d+:\d+: /],
    [/^.*$/s, '', /^routes\.yaml:1:1: resources: expected/],
  ]
  for (const [from, to, fault] of table) {
    test(`${from} as ${to}`, () => {
      const [first = 'no fault'] = faults(ROUTES.replace(from, to))
      assert.match(first, fault)
    })
  }

  test('a cluster that is not there', () => {
    assert.match(
      String(faults(ROUTES, BOOTSTRAP.replace('name: zones', 'name: z'))),
      /^envoy\.yaml:1:1: static_resources\.clusters: expected one with the name zones/,
    )
  })

  test('an id header of which Envoy would look at the first of several', () => {
    const said =
      /inline_headers: expected \{ inline_header_name: server, inline_header_type: REQUEST_HEADER \}, the header with the id/
    const withType = (type: string) => BOOTSTRAP.replace('REQUEST_HEADER', type)
    assert.match(String(faults(ROUTES, withType('RESPONSE_HEADER'))), said)
    assert.match(String(faults(ROUTES, BOOTSTRAP.replace('Server', 'Server2'))), said)
    assert.match(String(faults(ROUTES, BOOTSTRAP.replace(/inline_headers:.*/s, ''))), said)
    assert.deepEqual(faults(ROUTES, BOOTSTRAP.replace(', inline_header_type: REQUEST_HEADER', '')), [])
  })

  test('an enum value that is not in the list', () => {
    assert.match(
      String(faults(ROUTES, BOOTSTRAP.replace('HIGH', 'LOW'))),
      /priority: expected one of DEFAULT, HIGH/,
    )
  })

  test('all at once', () => {
    const routes = ROUTES.replace('timeout: 0s', 'timeout: 5').replace('num_retries: 2', 'num_retries: x')
    assert.equal(faults(routes, BOOTSTRAP.replace('0.25s', '1')).length, 3)
  })
})

test("the project's own files are read without a fault, and nothing is left out", () => {
  const file = (name: string) => ({
    path: name,
    text: readFileSync(new URL(`../../envoy/${name}`, import.meta.url), 'utf8'),
  })
  const reading = readPolicy(file('routes.yaml'), file('envoy.yaml'), {
    routeHeader: 'x-zonegate-route',
    idHeader: 'server',
  })
  assert.deepEqual(good(reading).notCopied, [])
})

describe('a policy source', () => {
  const lines: string[] = []
  const log = {
    warn: (_: object, text: string) => void lines.push(`warn ${text}`),
    error: (fields: object, text: string) => void lines.push(`error ${text} ${JSON.stringify(fields)}`),
  }
  const files = new Map<string, string>()
  const source = new PolicySource({
    routesPath: 'routes.yaml',
    bootstrapPath: 'envoy.yaml',
    routeHeader: 'x-mark',
    readFile(path) {
      const text = files.get(path)
      if (text === undefined) throw new Error('no such file')
      return text
    },
    log,
  })

  test('keeps the last good policy, and says what is wrong', () => {
    assert.equal(source.reload('server'), undefined)
    assert.match(lines.splice(0).join(), /no such file/)
    files.set('routes.yaml', ROUTES).set('envoy.yaml', BOOTSTRAP)
    const policy = source.reload('server')
    assert.equal(policy, source.policy)
    assert.ok(policy)
    files.set('routes.yaml', ROUTES.replace('0s', '5'))
    assert.equal(source.reload('server'), undefined)
    assert.equal(source.policy, policy)
    assert.match(lines.splice(0).join(), /error .*learned zones keep .*routes\.yaml:21:18/)
  })

  test('gives a policy only when it is another one', () => {
    files.set('routes.yaml', `# a comment\n${ROUTES}`)
    assert.equal(source.reload('server'), undefined)
    files.set('routes.yaml', ROUTES.replace('0s', '5s'))
    assert.deepEqual(source.reload('server')?.routes.coldRoutes[1]?.route?.timeout, { seconds: 5, nanos: 0 })
    assert.deepEqual(lines, [])
  })

  test('names fields that are not copied once', () => {
    files.set('routes.yaml', ROUTES.replace('timeout: 0s', 'timeout: 7s\n        priority: HIGH'))
    assert.ok(source.reload('server'))
    assert.equal(source.reload('server'), undefined)
    assert.equal(lines.length, 1)
  })

  test('tells a mistake that makes a thousand faults by the first few', () => {
    files.set('routes.yaml', 'a: b: c\n'.repeat(5000))
    assert.equal(source.reload('server'), undefined)
    assert.ok(lines.length > 1 && lines.length < 30, `${lines.length} lines`)
  })
})
