import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { describe, test } from 'node:test'
import { HTTP_OPTIONS } from '../xds/cold-cluster.ts'
import { messageCodec } from '../xds/envoy-api.ts'
import type { Cluster } from '../xds/messages.ts'
import { type ColdPath, type PolicyReading, readPolicy } from './policy.ts'
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
      match: { prefix: "/", headers: [{ name: x-mark, string_match: { contains: "." } }] }
      route:
        cluster: zones
        host_rewrite: "%DYNAMIC_METADATA(zonegate:address)%"
        timeout: 0s
        idle_timeout: 1.5s
        retry_policy: { retry_on: connect-failure, num_retries: 2, retriable_status_codes: [503] }
    - name: processor_refused
      match: { prefix: "/" }
      direct_response: { status: 502 }
      typed_per_filter_config:
        ext_proc: { "@type": type.googleapis.com/envoy.config.route.v3.FilterConfig, config: {} }
`
const CLUSTERS = `limits: &limits { max_retries: 4096, max_connections: "4096", priority: HIGH }
resources:
- "@type": type.googleapis.com/envoy.config.cluster.v3.Cluster
  name: zones
  connect_timeout: 0.25s
  lb_policy: CLUSTER_PROVIDED
  type: ORIGINAL_DST
  original_dst_lb_config: { metadata_key: { key: zonegate, path: [{ key: address }] } }
  circuit_breakers: { thresholds: [*limits] }
  outlier_detection: { split_external_local_origin_errors: true, consecutive_5xx: 5 }
  common_lb_config: { healthy_panic_threshold: { value: 0.5 } }
  typed_extension_protocol_options:
    envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
      "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
      explicit_http_config: { http_protocol_options: {} }
      common_http_protocol_options: { idle_timeout: 55s }
      upstream_http_protocol_options: { auto_sni: true, auto_san_validation: true }
`
const LISTENER = `resources:
- filter_chains:
  - filters:
    - typed_config:
        http_filters:
        - { name: ext_proc, typed_config: { "@type": type.googleapis.com/envoy.extensions.filters.http.ext_proc.v3.ExternalProcessor } }
        - { name: key, typed_config: { a: zonegate.key } }
`

const RULES = { routeHeader: 'x-mark', routes: [], asks: [], placeOfRoutes: () => 0 }
const read = (routes = ROUTES, clusters = CLUSTERS, listener = LISTENER): PolicyReading =>
  readPolicy(
    {
      routes: { path: 'routes.yaml', text: routes },
      clusters: { path: 'clusters.yaml', text: clusters },
      listener: { path: 'listener.yaml', text: listener },
    },
    RULES,
  )

const good = (reading: PolicyReading) => {
  assert.equal(reading.kind, 'policy', JSON.stringify(reading))
  return reading as Extract<PolicyReading, { kind: 'policy' }>
}
const faults = (routes: string, clusters = CLUSTERS, listener = LISTENER): readonly string[] => {
  const reading = read(routes, clusters, listener)
  return reading.kind === 'faults' ? reading.faults : []
}
const reasons = (routes: string, clusters = CLUSTERS, listener = LISTENER): readonly string[] => {
  const reading = read(routes, clusters, listener)
  return reading.kind === 'cold only' ? reading.reasons : []
}

test('how long a request may take to arrive: as long as the listener with the longest limit says', () => {
  const type =
    'type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager'
  const listenerWith = (...limits: readonly string[]): string =>
    [
      LISTENER,
      ...limits.map(
        (limit) => `- filter_chains: [{ filters: [{ typed_config: { "@type": ${type}, ${limit} } }] }]\n`,
      ),
    ].join('')
  const limitOf = (listener: string, routes = ROUTES): number | undefined =>
    (read(routes, CLUSTERS, listener) as { cold: ColdPath }).cold.requestTimeoutMs
  assert.equal(limitOf(listenerWith('request_timeout: 20s', 'request_timeout: 1.5s')), 20_000)
  for (const none of [
    'stat_prefix: a',
    'request_timeout: 0s',
    'request_timeout: "-1s"',
    'request_timeout: 5',
  ])
    assert.equal(limitOf(listenerWith('request_timeout: 20s', none)), undefined, none)
  assert.equal(
    good(read(ROUTES, CLUSTERS, listenerWith('request_timeout: 20s'))).policy.requestTimeoutMs,
    20_000,
  )
  const coldOnly = ROUTES.replace('timeout: 0s', 'cluster_not_found_response_code: NOT_FOUND')
  assert.equal(limitOf(listenerWith('request_timeout: 20s'), coldOnly), 20_000)
})

describe("Envoy's files give learned zones", () => {
  const { policy } = good(read())

  test('all routes of the virtual host for every domain', () => {
    assert.equal(policy.routes.routeConfiguration, 'zonegate')
    assert.deepEqual(
      policy.routes.coldRoutes.map(({ name }) => name),
      ['method_not_allowed', 'forward', 'processor_refused'],
    )
  })

  test('the route "forward", with durations and wrapped numbers as messages', () => {
    assert.deepEqual(policy.routes.coldRoutes[1]?.route, {
      cluster: 'zones',
      host_rewrite: '%DYNAMIC_METADATA(zonegate:address)%',
      timeout: { seconds: '0', nanos: 0 },
      idle_timeout: { seconds: '1', nanos: 500_000_000 },
      retry_policy: {
        retry_on: 'connect-failure',
        num_retries: { value: 2 },
        retriable_status_codes: [503],
      },
    })
  })

  test('fields in either spelling, metadata, and settings of filters', () => {
    const [first, , last] = policy.routes.coldRoutes
    assert.deepEqual(first?.match?.headers, [
      { name: ':method', string_match: { exact: 'POST' }, invert_match: true },
    ])
    assert.deepEqual(first?.metadata?.filter_metadata?.['a'], {
      fields: {
        text: { stringValue: 'b' },
        number: { stringValue: '1.5' },
        flag: { boolValue: true },
        list: { listValue: { values: [{ stringValue: 'c' }] } },
        map: { structValue: { fields: { d: { stringValue: 'e' } } } },
      },
    })
    assert.deepEqual(last?.typed_per_filter_config, {
      ext_proc: {
        type_url: 'type.googleapis.com/envoy.config.route.v3.FilterConfig',
        value: Buffer.from([0x0a, 0x00]),
      },
    })
  })

  test('the cluster of that route, without what finds its addresses and what is for TLS', () => {
    const { typed_extension_protocol_options, ...cluster } = policy.cluster
    const options = typed_extension_protocol_options as Cluster['typed_extension_protocol_options']
    assert.deepEqual(cluster, {
      connect_timeout: { seconds: '0', nanos: 250_000_000 },
      circuit_breakers: {
        thresholds: [{ max_retries: { value: 4096 }, max_connections: { value: 4096 }, priority: 'HIGH' }],
      },
      outlier_detection: { split_external_local_origin_errors: true, consecutive_5xx: { value: 5 } },
      common_lb_config: { healthy_panic_threshold: { value: 0.5 } },
    })
    const value = options?.[HTTP_OPTIONS]?.value
    assert.deepEqual(messageCodec(HTTP_OPTIONS).decode(value as Uint8Array), {
      explicit_http_config: { http_protocol_options: {} },
      common_http_protocol_options: { idle_timeout: { seconds: '55', nanos: 0 } },
    })
  })
})

describe('what a learned zone could not do stops learning, and is named with its place:', () => {
  const table: [from: string, to: string, reason: string][] = [
    ['prefix_rewrite', 'prefix_rewrite: /api/', ''],
    ['priority', 'priority: HIGH', ''],
    ['hash policy', 'hash_policy: [{ header: { header_name: a } }]', ''],
    ['mirrors', 'request_mirror_policies: [{ cluster: processor }]', 'request_mirror_policies'],
    ['camel case', 'requestMirrorPolicies: [{ cluster: processor }]', 'requestMirrorPolicies'],
    ['a field of another Envoy', 'timeout_of_the_future: 1s', 'timeout_of_the_future'],
    ['null, which is nothing', 'internal_redirect_policy: ~', ''],
  ]
  for (const [title, field, reason] of table)
    test(`of the route's action: ${title}`, () => {
      const routes = ROUTES.replace('timeout: 0s', `timeout: 0s\n        ${field}`)
      if (reason === '') good(read(routes))
      else
        assert.match(
          String(reasons(routes)),
          new RegExp(`^routes\\.yaml:23:\\d+: .*routes\\[1\\]\\.route\\.${reason}: `),
        )
    })

  const replaced: [title: string, from: string, to: string, reason: RegExp][] = [
    [
      'the virtual host',
      'domains: ["*"]',
      'domains: ["*"]\n    rate_limits: [{ actions: [{ remote_address: {} }] }]',
      /^routes\.yaml:12:18: .*virtual_hosts\[1\]\.rate_limits: learned zones can't do this$/,
    ],
    [
      'the route configuration',
      'vhost_header: X-Mark',
      'vhost_header: X-Mark\n  ignore_path_parameters_in_path_matching: true',
      /^routes\.yaml:5:44: resources\[0\]\.ignore_path_parameters_in_path_matching: /,
    ],
    [
      'a condition of "forward"',
      '{ contains: "." } }] }',
      '{ contains: "." } }], grpc: {} }',
      /^routes\.yaml:18:97: .*routes\[1\]\.match\.grpc: learned zones can't do this$/,
    ],
    ...['host_rewrite: a', 'host_rewrite_literal: a'].map((field): [string, string, string, RegExp] => [
      field,
      'host_rewrite: "%DYNAMIC_METADATA(zonegate:address)%"',
      field,
      /^routes\.yaml:21:\d+: .*routes\[1\]\.route\.host_rewrite.*: learned zones can't do this$/,
    ]),
    [
      'a format that tells the paths apart',
      'domains: ["*"]',
      'domains: ["*"]\n    request_headers_to_add: [{ header: { key: a, value: "%ROUTE_NAME%" } }]',
      /virtual_hosts\[1\]\.request_headers_to_add\[0\]\.header\.value: /,
    ],
    ...['%DYNAMIC_METADATA(zonegate:address)%', '%FILTER_STATE(zonegate.key:PLAIN)%'].map(
      (format): [string, string, string, RegExp] => [
        `${format}, which only the cold path has, for all routes`,
        'domains: ["*"]',
        `domains: ["*"]\n    request_headers_to_add: [{ header: { key: a, value: "${format}" } }]`,
        /virtual_hosts\[1\]\.request_headers_to_add\[0\]\.header\.value: /,
      ],
    ),
    [
      'the address in a header of "forward"',
      '- name: forward',
      '- name: forward\n      request_headers_to_add: [{ header: { key: a, value: "%DYNAMIC_METADATA(zonegate:address)%" } }]',
      /routes\[1\]\.request_headers_to_add\[0\]\.header\.value: /,
    ],
    [
      'a format with the Host, which is the address on the cold path',
      'domains: ["*"]',
      'domains: ["*"]\n    request_headers_to_add: [{ header: { key: a, value: "%REQ(x?:authority)%" } }]',
      /header\.value: /,
    ],
    [
      'a filter that the route which asks has otherwise',
      'route:\n        cluster: zones',
      'typed_per_filter_config:\n        cors: { "@type": type.googleapis.com/envoy.config.route.v3.FilterConfig, disabled: true }\n      route:\n        cluster: zones',
      /typed_per_filter_config: expected the same for all filters here and in the route after forward/,
    ],
    [
      'a filter of an unknown type',
      'FilterConfig, config: {}',
      'FilterConfig, config: { "@type": type.googleapis.com/a.B }',
      /ext_proc\.config: unknown type: a\.B$/,
    ],
    [
      'a condition that is asked twice',
      'match: { prefix: "/", headers: [{ name: ":method"',
      'match: { runtime_fraction: { default_value: { numerator: 1 } }, prefix: "/", headers: [{ name: ":method"',
      /routes\[0\]\.match\.runtime_fraction: /,
    ],
  ]
  for (const [title, from, to, reason] of replaced)
    test(title, () => assert.match(String(reasons(ROUTES.replace(from, to))), reason))

  test('of the cluster', () => {
    for (const field of ['transport_socket: {}', 'lb_subset_config: {}']) {
      const [first = ''] = reasons(ROUTES, CLUSTERS.replace('lb_policy:', `${field}\n  lb_policy:`))
      assert.match(first, new RegExp(`^clusters\\.yaml:6:\\d+: resources\\[0\\]\\.${field.split(':')[0]}: `))
    }
  })

  test('a cluster that the processor could not send as it is written is a fault', () => {
    const table: [from: string | RegExp, to: string, fault: RegExp][] = [
      [
        'lb_policy:',
        'future: 1\n  lb_policy:',
        /^clusters\.yaml:6:11: resources\[0\]\.future: no field of Envoy's API$/,
      ],
      [
        'name: zones',
        'name: z',
        /^clusters\.yaml:3:3: resources\[0\]: name: expected zones, to which forward leads$/,
      ],
      ['type: ORIGINAL_DST\n', 'type: STATIC\n', /^clusters\.yaml:8:\d+: .*expected type: ORIGINAL_DST, and/],
      ['path: [{ key: address }]', 'path: [{ key: zone }]', /expected type: ORIGINAL_DST, and/],
      ['{ metadata_key', '{ use_http_header: true, metadata_key', /expected type: ORIGINAL_DST, and/],
      [/ {2}original_dst_lb_config.*\n/, '', /expected type: ORIGINAL_DST, and/],
      ['HIGH', 'LOW', /priority: expected one of DEFAULT, HIGH/],
      ['0.25s', '1', /connect_timeout: expected a duration/],
      ['.Cluster\n', '.Other\n', /resources\[0\]: resources: expected one envoy/],
      [
        'resources:',
        'resource:',
        /^clusters\.yaml:1:1: resources: expected one envoy\.config\.cluster\.v3\.Cluster$/,
      ],
    ]
    for (const [from, to, fault] of table)
      assert.match(String(faults(ROUTES, CLUSTERS.replace(from, to))), fault)
  })

  test('but not what is for the cold path alone', () => {
    const perRoute = `typed_per_filter_config:
        key: { "@type": type.googleapis.com/envoy.config.route.v3.FilterConfig, config: {} }
      route:
        cluster: zones`
    const routes = ROUTES.replace('route:\n        cluster: zones', perRoute)
    assert.equal(good(read(routes)).policy.routes.filterSettings, undefined)
  })
})

describe('all else is taken over:', () => {
  test('fields of the virtual host', () => {
    const routes = ROUTES.replace(
      'domains: ["*"]',
      'domains: ["*"]\n    request_headers_to_remove: [x-secret]\n    retry_policy: { retry_on: 5xx }',
    )
    assert.deepEqual(good(read(routes)).policy.routes.fields, {
      request_headers_to_remove: ['x-secret'],
      retry_policy: { retry_on: '5xx' },
    })
  })

  test('redirects, files as bodies and octets in base64', () => {
    const change = (to: string) => ROUTES.replace('direct_response: { status: 405 }', to)
    good(read(change('redirect: {}')))
    good(read(change('direct_response: { status: 405, body: { filename: a } }')))
    const octets =
      'direct_response: { status: 405 }\n      request_headers_to_add: [{ header: { key: allow, raw_value: UE9TVA== } }]'
    const { coldRoutes } = good(read(change(octets))).policy.routes
    assert.deepEqual(coldRoutes[0]?.request_headers_to_add, [
      { header: { key: 'allow', raw_value: Buffer.from('POST') } },
    ])
  })

  test('a regular expression that only RE2 knows', () => {
    good(read(ROUTES.replace('exact: POST', "safe_regex: { regex: '(?i)post|put' }")))
  })
})

describe('text that Envoy itself can hardly have meant is refused:', () => {
  const table: [title: string, text: string, fault: RegExp][] = [
    [
      'an alias inside of what it stands for',
      ROUTES.replace('a: { text: b,', 'a: &a { self: *a, text: b,'),
      /expected no alias to a node around it: \*a/,
    ],
    [
      'aliases that multiply',
      `${billionLaughs()}${ROUTES.replace('a: { text: b,', 'a: { b: *l9, text: b,').replace('resources:', 'resources:')}`,
      /at most 50000 nodes/,
    ],
    ['the same where no field is', `what: &a [*a]\n${ROUTES}`, /expected no alias to a node around it/],
    ['an alias of nothing', ROUTES.replace('0s', '*nothing'), /expected an anchor &nothing before it/],
    [
      'a key that is there twice',
      ROUTES.replace('timeout: 0s', 'timeout: 0s\n        timeout: 1s'),
      /keys must be unique/,
    ],
    [
      'a field in both spellings',
      ROUTES.replace('timeout: 0s', 'idle_timeout: 0s\n        idleTimeout: 1s').replace(
        'idle_timeout: 1.5s',
        'priority: HIGH',
      ),
      /idle_timeout only once/,
    ],
    [
      'two of one choice',
      ROUTES.replace('cluster: zones', 'cluster: zones\n        cluster_header: a'),
      /only one of cluster and cluster_header/,
    ],
    [
      'two virtual hosts for one domain',
      ROUTES.replace('[other.test]', '[Post/7, "*"]'),
      /one virtual host with the domain \*/,
    ],
    [
      'two virtual hosts of one name',
      ROUTES.replace('name: other', 'name: zonegate/cold'),
      /one virtual host with the name zonegate/,
    ],
    ['a tag', ROUTES.replace('0s', '!!str 0s'), /expected no tag/],
    ['ten megabytes', `# ${'a'.repeat(10_000_000)}\n${ROUTES}`, /at most 262144 characters/],
    ['a hundred thousand brackets', '['.repeat(100_000), /stack/],
    [
      'octets that are no base64',
      ROUTES.replace('exact: POST', 'safe_regex: {}').replace(
        'direct_response: { status: 405 }',
        'direct_response: { status: 405, body: { inline_bytes: "a!b" } }',
      ),
      /octets as base64/,
    ],
  ]
  for (const [title, text, fault] of table) test(title, () => assert.match(String(faults(text)), fault))
})

function billionLaughs(): string {
  const lines = Array.from({ length: 10 }, (_, at) =>
    at === 0
      ? 'l0: &l0 [a]'
      : `l${at}: &l${at} [${Array.from({ length: 10 }, () => `*l${at - 1}`).join(', ')}]`,
  )
  return `${lines.join('\n')}\n`
}

describe('a fault is named with its place and what was expected:', () => {
  const table: [from: string | RegExp, to: string, fault: RegExp][] = [
    ['timeout: 0s', 'timeout: 5', /^routes\.yaml:22:18: .*\.route\.timeout: expected a duration in seconds/],
    ['timeout: 0s', 'timeout: 5 s', /expected a duration/],
    ['num_retries: 2', 'num_retries: many', /:24:65: .*num_retries: expected a whole number, 0 or more/],
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
    ['RouteConfiguration', 'Other', /resources: expected envoy\.config\.route/],
    ['name: zonegate\n', 'name: [\n', /^routes\.yaml:\d+:\d+: /],
    [/^.*$/s, '', /^routes\.yaml:1:1: resources: expected/],
  ]
  for (const [from, to, fault] of table) {
    test(`${from} as ${to}`, () => {
      const text = ROUTES.replace(from, to)
      const [first = 'no fault'] = [...faults(text), ...reasons(text)]
      assert.match(first, fault)
    })
  }

  test('the file as shipped, cut off at any line but the last, which is a setting of a filter', () => {
    const shipped = (name: string): string => readFileSync(`envoy/${name}.yaml`, 'utf8')
    const lines = shipped('routes').trimEnd().split('\n')
    const readShipped = (routes: string): PolicyReading =>
      readPolicy(
        {
          routes: { path: 'routes.yaml', text: routes },
          clusters: { path: 'clusters.yaml', text: shipped('clusters') },
          listener: { path: 'listener.yaml', text: shipped('listener') },
        },
        { ...RULES, routeHeader: 'x-zonegate-route' },
      )
    assert.equal(readShipped(lines.join('\n')).kind, 'policy')
    assert.equal(readShipped(lines.slice(0, -1).join('\n')).kind, 'cold only')
    const taken = lines
      .slice(0, -1)
      .filter((_, at) => readShipped(lines.slice(0, at).join('\n')).kind !== 'faults')
    assert.deepEqual(taken, [])
  })

  test('"forward" for each request, as its condition is missing or always holds', () => {
    for (const condition of [
      '',
      '{ name: x-mark, present_match: true }',
      '{ name: x-mark, string_match: { exact: GET/0 }, invert_match: true }',
      '{ name: x-other, string_match: { contains: "." } }',
    ]) {
      const [fault = ''] = faults(
        ROUTES.replace('{ name: x-mark, string_match: { contains: "." } }', condition),
      )
      assert.match(fault, /^routes\.yaml:18:14: .*match: headers: expected a condition on x-mark/, condition)
    }
  })

  test('a buffer in which Envoy would let a request hang that waits for the processor', () => {
    const limited = LISTENER.replace(
      '- filter_chains',
      '- per_connection_buffer_limit_bytes: 1000\n  filter_chains',
    )
    const buffered = (octets: number, wrap = (any: string) => any): string =>
      ROUTES.replaceAll(
        / {6}(?=route:\n|direct_response: \{ status: 502)/g,
        `      typed_per_filter_config: { b: ${wrap(`{ "@type": type.googleapis.com/envoy.extensions.filters.http.buffer.v3.BufferPerRoute, buffer: { max_request_bytes: ${octets} } }`)} }\n      `,
      ).replace(/ {6}typed_per_filter_config:\n.*\n/, '')
    const inFilterConfig = (any: string): string =>
      `{ "@type": type.googleapis.com/envoy.config.route.v3.FilterConfig, config: ${any} }`
    good(read(buffered(5000), CLUSTERS, limited))
    for (const text of [buffered(4999), buffered(4999, inFilterConfig)])
      assert.match(
        String(faults(text, CLUSTERS, limited)),
        /^routes\.yaml:19:\d+: .*routes\[1\]\..*max_request_bytes: expected 5000 or more, 5 times per_conn.*routes\[2\]/,
      )
    assert.match(
      String(faults(buffered(1_048_576))),
      /expected 5242880 or more/,
      "Envoy's default of the listener",
    )
  })

  test('a route that asks with one of the filters off that get a request to its zone', () => {
    const off = LISTENER.replaceAll('- { name:', '- { disabled: true, name:')
    assert.match(
      String(faults(ROUTES, CLUSTERS, off)),
      /^routes\.yaml:25:7: .*routes\[2\]: typed_per_filter_config: expected key: without it the processor/,
    )
  })

  test('all at once', () => {
    const routes = ROUTES.replace('timeout: 0s', 'timeout: 5').replace('num_retries: 2', 'num_retries: x')
    assert.equal(faults(routes).length, 2)
  })
})

test("the project's own files are read without a fault, and nothing is left out", () => {
  const file = (name: string) => ({
    path: name,
    text: readFileSync(new URL(`../../envoy/${name}`, import.meta.url), 'utf8'),
  })
  const files = {
    routes: file('routes.yaml'),
    clusters: file('clusters.yaml'),
    listener: file('listener.yaml'),
  }
  const reading = readPolicy(files, { ...RULES, routeHeader: 'x-zonegate-route' })
  good(reading)
})

describe('a policy source', () => {
  const lines: string[] = []
  const log = {
    warn: (_: object, text: string) => void lines.push(`warn ${text}`),
    error: (fields: object, text: string) => void lines.push(`error ${text} ${JSON.stringify(fields)}`),
  }
  const files = new Map<string, string>()
  const source = new PolicySource({
    read() {
      const file = (path: string) => {
        const text = files.get(path)
        if (text === undefined) throw new Error('no such file')
        return { path, text }
      }
      return { routes: file('routes.yaml'), clusters: file('clusters.yaml'), listener: file('listener.yaml') }
    },
    log,
  })

  test('keeps the last good policy, and says what is wrong', () => {
    assert.equal(source.reload(RULES), undefined)
    assert.match(lines.splice(0).join(), /no such file/)
    files.set('routes.yaml', ROUTES).set('clusters.yaml', CLUSTERS).set('listener.yaml', LISTENER)
    const policy = source.reload(RULES)
    assert.equal(policy, source.current)
    assert.equal(policy?.kind, 'policy')
    files.set('routes.yaml', ROUTES.replace('0s', '5'))
    assert.equal(source.reload(RULES), undefined)
    assert.equal(source.current, policy)
    assert.match(lines.splice(0).join(), /error .*learned zones keep .*routes\.yaml:22:18/)
    assert.equal(source.reload(RULES), undefined)
    assert.deepEqual(lines, [], 'said once')
    assert.equal(source.faults.length, 1)
  })

  test('gives a policy only when it is another one', () => {
    files.set('routes.yaml', `# a comment\n${ROUTES}`)
    assert.equal(source.reload(RULES), undefined)
    assert.deepEqual(source.faults, [])
    files.set('routes.yaml', ROUTES.replace('0s', '5s'))
    const policy = source.reload(RULES)
    assert.deepEqual(policy?.kind === 'policy' && policy.policy.routes.coldRoutes[1]?.route?.timeout, {
      seconds: '5',
      nanos: 0,
    })
    assert.deepEqual(lines, [])
  })

  test('says once why nothing can be learned', () => {
    files.set(
      'routes.yaml',
      ROUTES.replace('timeout: 0s', 'timeout: 7s\n        request_mirror_policies: [{ cluster: a }]'),
    )
    assert.equal(source.reload(RULES)?.kind, 'cold only')
    assert.equal(source.reload(RULES), undefined)
    assert.equal(lines.splice(0).length, 1)
  })

  test('tells a mistake that makes a thousand faults by the first few', () => {
    files.set('routes.yaml', 'a: b: c\n'.repeat(5000))
    assert.equal(source.reload(RULES), undefined)
    assert.ok(lines.length > 1 && lines.length < 30, `${lines.length} lines`)
  })
})
