import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { describe, test } from 'node:test'
import { parse, stringify } from 'yaml'
import { parseConfig } from '../config/load.ts'
import { rulesOf } from '../config/rules.ts'
import { configSchema } from '../config/schema.ts'
import type { SourceFile } from '../xds/yaml-file.ts'
import { generateFallback } from './fallback.ts'
import { generate } from './generated.ts'
import {
  type Addresses,
  type EnvoyFiles,
  listenerNamesIn,
  render,
  renderBootstrap,
  renderListener,
  renderRoutes,
} from './render.ts'
import { zonesOfKeysIn } from './zone-of-key.ts'

// biome-ignore lint/suspicious/noExplicitAny: YAML as it comes
type Yaml = any
const file = (name: string) => ({
  path: `envoy/${name}`,
  text: readFileSync(new URL(`../../envoy/${name}`, import.meta.url), 'utf8'),
})
const FILES: EnvoyFiles = {
  bootstrap: file('envoy.yaml'),
  listener: file('listener.yaml'),
  routes: file('routes.yaml'),
  clusters: file('clusters.yaml'),
}
const GENERATED = generate(rulesOf(parseConfig('rules: { header: x-zone, methods: [POST, PUT] }', '')))
const SOCKET: Addresses = { processor: 'unix:run/p.sock' }
const managerOf = (listener: Yaml): Yaml => listener.resources[0].filter_chains[0].filters[0].typed_config
const edited = (of: keyof EnvoyFiles, from: string | RegExp, to: string) => {
  const { path, text } = FILES[of]
  const changed = text.replace(from, to)
  assert.notEqual(changed, text, `${from} is there`)
  return { path, text: changed }
}

test('routes that zones share find the cluster by a script, which no file has that does not need it', () => {
  const pluginsOf = (config: string): Yaml =>
    parse(renderRoutes(FILES.routes, generate(rulesOf(parseConfig(config, ''))))).resources[0]
      .cluster_specifier_plugins
  const [{ extension }] = pluginsOf('learned: { sharedRoutes: true }')
  assert.match(extension.name, /^zonegate\.zone_of_key\./)
  assert.match(extension.typed_config.source_code.inline_string, /return "default\/" \.\. /)
  assert.equal(pluginsOf(''), undefined)
})

describe("the operator's formats with the address of a zone", () => {
  const format = '%DYNAMIC_METADATA(zonegate:address)%'
  const dialled = '%DYNAMIC_METADATA(zonegate:dialled)%'
  const own = `[{ header: { key: x-dialled, value: "${format}" } }]`
  const routes = edited('routes', 'domains: ["*"]', `domains: ["*"]\n    response_headers_to_add: ${own}`)
  routes.text = routes.text.replace(
    '    - name: forward\n',
    `$&      response_headers_to_add: [&own { header: { key: x-dialled, value: "${format}" } }, *own]\n`,
  )
  const listener = edited('listener', /json_format:.*\n( +)/, `$&dialled: "${format}"\n$1`)
  const renderedBy = (config: string): { host: Yaml; forwards: Yaml[]; manager: Yaml } => {
    const generated = generate(rulesOf(parseConfig(config, '')))
    const [host] = parse(renderRoutes(routes, generated)).resources[0].virtual_hosts.slice(-1)
    const forwards = host.routes.filter(({ name }: Yaml) => name === 'forward')
    return { host, forwards, manager: managerOf(parse(renderListener(listener, generated))) }
  }
  const valuesIn = (part: Yaml): string[] =>
    [...JSON.stringify(part).matchAll(/%DYNAMIC_METADATA\(zonegate:(?:address|dialled)\)%/g)].map(String)

  test('have the address alone where a rule has an upstream, except for what routes are found by', () => {
    const { host, forwards, manager } = renderedBy('rules: { upstream: { tls: {} } }')
    const [copy, forward] = forwards
    assert.deepEqual(valuesIn(copy), [dialled, dialled, dialled])
    assert.deepEqual(valuesIn(forward), [format, format, format])
    assert.deepEqual(valuesIn(host.response_headers_to_add), [dialled])
    assert.deepEqual(valuesIn(manager.local_reply_config), [dialled])
    assert.deepEqual(valuesIn(manager.http_filters), [format, format])
    const ask = host.routes.at(-1)
    assert.deepEqual(valuesIn(ask.typed_per_filter_config), [format])
  })

  test('stay as they are in what routes are found by, also where that is an alias of a format elsewhere', () => {
    const aliased = FILES.listener.text.replaceAll(`"${format}"`, '*own')
    const text = aliased.replace(/( +)stat_prefix: callback.*\n/, `$&$1via: &own "${format}"\n`)
    const generated = generate(rulesOf(parseConfig('rules: { upstream: { tls: {} } }', '')))
    const rendered = managerOf(parse(renderListener({ path: '', text }, generated)))
    assert.equal(rendered.via, dialled)
    assert.deepEqual(valuesIn(rendered.http_filters), [format, format])
  })

  test('with aliases that have no end are an error that says where', () => {
    const generated = generate(rulesOf(parseConfig('rules: { upstream: { tls: {} } }', '')))
    const { path, text } = FILES.listener
    const own = Array(9).fill('*a0').join()
    const laughs = [1, 2, 3, 4, 5].map((at) => `x${at}: &a${at} [${own.replaceAll('0', `${at - 1}`)}]\n`)
    for (const [more, fault] of [
      ['x: &x { y: *x }\n', /^envoy\/listener\.yaml:\d+:12: expected no alias to a node around it: \*x$/],
      [`x0: &a0 [x]\n${laughs.join('')}`, /^envoy\/listener\.yaml:\d+:1: expected at most 50000 nodes/],
    ] as const)
      assert.throws(() => renderListener({ path, text: `${text}\n${more}` }, generated), { message: fault })
  })

  test('stay as they are where none has', () => {
    const { host, manager } = renderedBy('')
    assert.ok([...valuesIn(host), ...valuesIn(manager)].every((value) => value === format))
  })
})

test('the scripts of the routes before stay beside them', () => {
  const routes = (config: string, before = ''): string => {
    const generated = generate(rulesOf(parseConfig(config, '')))
    return renderRoutes(FILES.routes, generated, undefined, zonesOfKeysIn(before))
  }
  const first = routes("learned: { sharedRoutes: true }\nrules: { id: { path: '/cb/{id}/*' } }")
  const second = "learned: { sharedRoutes: true }\nrules: { id: { path: '/cbx/{id}/*' } }"
  const both = routes(second, first)
  assert.deepEqual(zonesOfKeysIn(both), [...zonesOfKeysIn(routes(second)), ...zonesOfKeysIn(first)])
  assert.equal(routes(second, both), both)
  assert.deepEqual(zonesOfKeysIn(routes('', first)), zonesOfKeysIn(first))
})

describe('what Envoy reads', () => {
  const { bootstrap, listener, routes } = render(FILES, GENERATED, SOCKET)

  test("is the operator's files and nothing else, but for what follows from zonegate.yaml", () => {
    const own = parse(FILES.bootstrap.text)
    const [rendered] = [parse(bootstrap)]
    assert.deepEqual(rendered.inline_headers.pop(), {
      inline_header_name: 'x-zone',
      inline_header_type: 'REQUEST_HEADER',
    })
    assert.deepEqual(rendered.node.metadata.zonegate.inline_headers.at(-1), 'x-zone')
    delete rendered.node.metadata
    const processor = ({ static_resources }: Yaml) =>
      static_resources.clusters.find(({ name }: Yaml) => name === 'processor').load_assignment
    assert.deepEqual(processor(rendered).endpoints, [
      { lb_endpoints: [{ endpoint: { address: { pipe: { path: 'run/p.sock' } } } }] },
    ])
    delete processor(rendered).endpoints
    assert.deepEqual(rendered, own)

    const [manager, ownListener] = [parse(listener), parse(FILES.listener.text)]
    const { mutations } = managerOf(manager).early_header_mutation_extensions[0].typed_config
    assert.deepEqual(mutations.pop(), {
      append: {
        header: { key: 'x-zonegate-route', value: '%REQ(:METHOD)%/%REQ(x-zone)%' },
        append_action: 'ADD_IF_ABSENT',
      },
    })
    const [extProc] = managerOf(manager).http_filters
    assert.deepEqual(
      extProc.typed_config.forward_rules.allowed_headers.patterns.map(({ exact }: Yaml) => exact),
      [':method', ':path', ':authority', 'x-request-id', 'traceparent', 'x-zone'],
    )
    delete extProc.typed_config.forward_rules
    assert.deepEqual(extProc.typed_config.grpc_service.initial_metadata, [
      { key: 'x-zonegate-headers', value: 'x-zone' },
      { key: 'x-zonegate-key', value: GENERATED.keyVersion },
    ])
    delete extProc.typed_config.grpc_service.initial_metadata
    const [announcing] = managerOf(manager).http_filters.splice(-2, 1)
    assert.deepEqual([announcing.name, announcing.disabled], [listenerNamesIn(listener)[0], true])
    assert.deepEqual(manager, ownListener)

    const [withGenerated, ownRoutes] = [parse(routes), parse(FILES.routes.text)]
    const [host] = withGenerated.resources[0].virtual_hosts
    assert.deepEqual(host.routes.splice(1, GENERATED.routes.length), GENERATED.routes)
    assert.deepEqual(withGenerated, ownRoutes)
  })

  test('begins by saying what it was made from, and keeps the comments', () => {
    for (const [name, text] of Object.entries({ envoy: bootstrap, listener, routes }))
      assert.match(
        text,
        new RegExp(`^# run/${name}\\.yaml: made by "zonegate render" from envoy/${name}\\.yaml`),
      )
    const comments = FILES.listener.text.match(/# .*$/gm) ?? []
    for (const comment of comments) assert.ok(listener.includes(comment), comment)
  })

  test('another listener has another name, and the same one at another address has not', () => {
    const names = (file: SourceFile, port: number): string[] =>
      listenerNamesIn(renderListener(file, GENERATED, { listen: { host: '127.0.0.1', port } }))
    assert.match(names(FILES.listener, 1).join(), /^zonegate\.listener\.\w{12}\.0$/)
    assert.deepEqual(names(FILES.listener, 1), names(FILES.listener, 2))
    assert.notDeepEqual(
      names(edited('listener', 'idle_timeout: 75s', 'idle_timeout: 76s'), 1),
      names(FILES.listener, 1),
    )
  })

  test('each of two listeners has its own name: Envoy may refuse one of them', () => {
    const twice = parse(FILES.listener.text)
    twice.resources.push({ ...twice.resources[0], name: 'second' })
    const both = listenerNamesIn(renderListener({ path: 'a.yaml', text: JSON.stringify(twice) }, GENERATED))
    assert.equal(new Set(both).size, 2)
  })

  test('is the same made of the same', () => {
    assert.deepEqual(render(FILES, GENERATED, SOCKET), { bootstrap, listener, routes })
  })
})

test("as shipped Envoy's admin page is on loopback: compose and Kubernetes take the file as it is", () => {
  const { admin, static_resources } = parse(renderBootstrap(FILES.bootstrap, GENERATED, SOCKET))
  assert.equal(static_resources.listeners[0].address.socket_address.address, '127.0.0.1')
  assert.deepEqual(admin.address, { pipe: { path: 'run/envoy-admin.sock', mode: 384 } })
})

test('addresses of a launcher stand above those of the files', () => {
  const addresses = {
    processor: { host: '10.0.0.9', port: 9004 },
    listen: { host: '127.0.0.1', port: 1 },
    admin: { host: '::1', port: 2 },
  }
  const { bootstrap, listener } = render(FILES, GENERATED, addresses)
  assert.deepEqual(parse(listener).resources[0].address, {
    socket_address: { address: '127.0.0.1', port_value: 1 },
  })
  const { listeners, clusters } = parse(bootstrap).static_resources
  assert.deepEqual(listeners[0].address, { socket_address: { address: '::1', port_value: 2 } })
  assert.deepEqual(clusters[0].load_assignment.endpoints[0].lb_endpoints[0].endpoint.address, {
    socket_address: { address: '10.0.0.9', port_value: 9004 },
  })
})

test('a cluster of the processor that leads somewhere leads there: an Envoy on another machine', () => {
  const elsewhere = '{ cluster_name: processor, endpoints: [{ lb_endpoints: [] }] }'
  const source = edited('bootstrap', /(?<=load_assignment: )\{ cluster_name: processor \}/, elsewhere)
  const { clusters } = parse(renderBootstrap(source, GENERATED, SOCKET)).static_resources
  assert.deepEqual(clusters[0].load_assignment.endpoints, [{ lb_endpoints: [] }])
})

test('texts that YAML readers may take for numbers or truth stay as they are written', () => {
  const { path } = FILES.routes
  const text = FILES.routes.text.replace(
    'num_retries: 1',
    'num_retries: 0x1F # a\n          odd: [yes, 012, "1", 1e3, ~]',
  )
  assert.match(
    renderRoutes({ path, text }, GENERATED),
    /num_retries: 0x1F # a\n +odd: \[ yes, 012, "1", 1e3, ~ \]/,
  )
})

describe('what can not be rendered is told with its file and place', () => {
  const cases: readonly [string, () => unknown, RegExp][] = [
    [
      'no ext_proc',
      () =>
        renderListener(edited('listener', /ext_proc\.v3\.ExternalProcessor/, 'other.v3.Other'), GENERATED),
      /^envoy\/listener\.yaml:\d+:\d+: http_filters: expected one of the type envoy\.extensions\.filters\.http\.ext_proc/,
    ],
    [
      'no early mutation',
      () => renderListener(edited('listener', /early_header_mutation\.header_mutation/, 'other'), GENERATED),
      /^envoy\/listener\.yaml:\d+:\d+: early_header_mutation_extensions: expected one of the type/,
    ],
    [
      'no listener',
      () => renderListener(edited('listener', /config\.listener\.v3\.Listener/, 'other'), GENERATED),
      /^envoy\/listener\.yaml:\d+:\d+: resources: expected envoy\.config\.listener\.v3\.Listener/,
    ],
    [
      'no virtual host for all',
      () => renderRoutes(edited('routes', 'domains: ["*"]', 'domains: ["a"]'), GENERATED),
      /^envoy\/routes\.yaml:\d+:\d+: .*expected a virtual host for the domain "\*"/,
    ],
    [
      'no cluster processor',
      () => renderBootstrap(edited('bootstrap', '- name: processor', '- name: other'), GENERATED, SOCKET),
      /^envoy\/envoy\.yaml:\d+:\d+: clusters: expected one with the name processor/,
    ],
    [
      'two documents in one file',
      () => renderRoutes(edited('routes', /$/, '\n---\nresources: []\n'), GENERATED),
      /^envoy\/routes\.yaml:\d+:\d+: .*multiple documents/,
    ],
    [
      'a key that is written by hand',
      () =>
        renderListener(
          edited(
            'listener',
            / {8}http_filters:\n/,
            `            - append: { header: { key: x-zonegate-route, value: "%REQ(:METHOD)%/%REQ(server)%" }, append_action: ADD_IF_ABSENT }
        http_filters:
`,
          ),
          GENERATED,
        ),
      /^envoy\/listener\.yaml:\d+:\d+: mutations: expected no x-zonegate-route but "loop": the key follows from zonegate\.yaml, take this one out/,
    ],
    [
      'a bootstrap that has the listener itself',
      () => {
        const { resources } = parse(FILES.listener.text)
        const static_resources = { ...parse(FILES.bootstrap.text).static_resources, listeners: resources }
        const text = stringify({ ...parse(FILES.bootstrap.text), static_resources })
        return renderBootstrap({ ...FILES.bootstrap, text }, GENERATED, SOCKET)
      },
      /^envoy\/envoy\.yaml:\d+:\d+: listeners: expected the one that asks the processor in envoy\/listener\.yaml: move your changes there/,
    ],
    [
      'a bootstrap that leads to no listener',
      () => renderBootstrap(edited('bootstrap', /^ {2}lds_config:.*\n/m, ''), GENERATED, SOCKET),
      /^envoy\/envoy\.yaml:\d+:\d+: dynamic_resources: expected lds_config, .*: take it from this version's envoy\/envoy\.yaml/,
    ],
    [
      'no YAML',
      () => renderRoutes({ path: 'envoy/routes.yaml', text: 'a: b: c' }, GENERATED),
      /^envoy\/routes\.yaml:1:\d+: /,
    ],
    [
      'nothing',
      () => renderRoutes({ path: 'envoy/routes.yaml', text: '' }, GENERATED),
      /^envoy\/routes\.yaml:1:1: expected a mapping/,
    ],
  ]
  for (const [title, rendering, fault] of cases)
    test(title, () => {
      assert.throws(rendering, ({ name, message }: Error) => {
        assert.equal(name, 'RenderError')
        assert.match(message, fault)
        return true
      })
    })
})

test('a rule with a port from SRV, or by TLS or HTTP/2, has no fallback, and none of its paths comes to another service', () => {
  const dns = {
    search: 'game.test',
    nameservers: ['127.0.0.1:53'],
    family: 'ipv4',
    budgetMs: 1500,
    queriesInFlightMax: 8,
    namesMax: 16,
    fence: { denied: [], allowed: [] },
  } as const
  const routesBy = (mail: object): number =>
    generateFallback(
      rulesOf(
        configSchema.parse({ rules: { services: { mail: { paths: ['/mail'], ...mail }, default: {} } } }),
      ),
      dns,
    ).routes.length
  assert.equal(routesBy({ port: 9000 }), 2)
  assert.equal(routesBy({ port: 'srv' }), 0)
  assert.equal(routesBy({ upstream: { tls: {} } }), 0)
  assert.equal(routesBy({ upstream: { http: 2 } }), 0)
})

describe('tracing', () => {
  const traced = (config: string, listener = FILES.listener): Yaml =>
    managerOf(
      parse(
        renderListener(
          listener,
          generate(rulesOf(parseConfig(config, '')), undefined, {
            collector: { host: '::1', port: 4317 },
            samplePercent: 5,
          }),
        ),
      ),
    )

  test('is in no listener while it is off', () => {
    const manager = managerOf(parse(renderListener(FILES.listener, GENERATED)))
    assert.equal(manager.tracing, undefined)
    assert.equal(manager.request_id_extension, undefined)
  })

  test('goes to the collector, of as many requests as are wanted', () => {
    const { tracing } = traced('')
    assert.deepEqual(tracing.random_sampling, { value: 5 })
    assert.equal(tracing.provider.typed_config.grpc_service.google_grpc.target_uri, '[::1]:4317')
  })

  test('names the rule by the key', () => {
    const ruleIn = (config: string): string =>
      traced(config).tracing.custom_tags.find(({ tag }: Yaml) => tag === 'zonegate.rule').value
    assert.equal(ruleIn(''), '%CEL("default")%')
    assert.match(
      ruleIn('rules: [{ name: pay, match: { paths: [/pay] } }, { name: rest }]'),
      /matches\("\^.*\/pay.*"\) \? "pay" : .*\/rest.*\? "rest" : ""/,
    )
  })

  test("stands in one place: the operator's own is a fault, with its place", () => {
    const own = edited('listener', '        http_filters:\n', '        tracing: {}\n        http_filters:\n')
    assert.throws(
      () => traced('', own),
      /listener\.yaml:\d+:\d+: tracing: expected none beside tracing\.otlp/,
    )
  })
})
