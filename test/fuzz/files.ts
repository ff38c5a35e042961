/** Fuzzes the operators' files: zonegate.yaml and Envoy's files. */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import * as fc from 'fast-check'
import { hostPortOf } from '../../src/config/host-port.ts'
import { ConfigError, parseConfig } from '../../src/config/load.ts'
import { rulesOf } from '../../src/config/rules.ts'
import { type Config, configSchema } from '../../src/config/schema.ts'
import { generate } from '../../src/envoy-files/generated.ts'
import { domainsOf, keyMutations, unusualOf } from '../../src/envoy-files/key.ts'
import { readPolicy } from '../../src/envoy-files/policy.ts'
import { placeOfRoutes } from '../../src/envoy-files/render.ts'
import { addressPolicy } from '../../src/routing/denied-addresses.ts'
import { headersOf, isZone, servicesOf, zoneOf } from '../../src/routing/rules.ts'
import { Catalog } from '../../src/xds/catalog.ts'
import { messageCodec } from '../../src/xds/envoy-api.ts'
import { MESSAGE_NAMES, zoneKey } from '../../src/xds/resource.ts'
import { DEFAULT_SERVICE, MAIL_SERVICE, routingRules } from '../support/zone-policy.ts'
import { type Target, target } from './target.ts'
import { mutated } from './text.ts'

const read = (path: string): string => readFileSync(new URL(`../../${path}`, import.meta.url), 'utf8')

const CONFIGS = [
  JSON.stringify(configSchema.parse({}), null, 1),
  `# yaml
listen: { grpc: "unix:run/p.sock", http: "127.0.0.1:9003" }
rules:
  methods: [POST, PUT]
  header: Server
  idPattern: "^[a-z]+$"
  services: { mail: { paths: ["/mail"], port: 9000 }, default: {} }
dns: { nameservers: ["10.0.0.1:53", "[::1]:53"], search: game.test, ttlSeconds: { min: 1, max: 2 } }
addresses: { allow: [127.0.0.0/8, "fe80::/10"] }
learned: { enabled: false }
`,
  `rules:
- name: pay
  match: { paths: ["/pay/*"], hosts: ["pay.example"] }
  methods: [POST, GET]
  id: { query: server_id }
- name: chat
  match: { paths: ["/chat/*"] }
  id: { json: /attach/server }
  bodyMaxBytes: 1000
- name: rest
  id: [{ header: server }, { path: "/cb/{id}/*" }, { host: "{id}.cb.example" }, { cookie: zone }, { form: zone }]
  services: { mail: { paths: ["/mail"] }, default: {} }
`,
]
const configTexts = fc.oneof(
  { weight: 6, arbitrary: mutated(CONFIGS) },
  { weight: 1, arbitrary: fc.jsonValue({ maxDepth: 4 }).map((value) => JSON.stringify(value)) },
  { weight: 1, arbitrary: fc.string({ maxLength: 200 }) },
)

const ROUTES = read('envoy/routes.yaml')
const CLUSTERS = read('envoy/clusters.yaml')
/** The part of the listener that the processor reads. It takes a tenth of the time of the whole file. */
const LISTENER = `resources:
- filter_chains:
  - filters:
    - typed_config:
        http_filters:
        - { name: ext_proc, typed_config: { "@type": type.googleapis.com/envoy.extensions.filters.http.ext_proc.v3.ExternalProcessor } }
        - { name: key, typed_config: { a: zonegate.key } }
        - { name: address, typed_config: { a: "%DYNAMIC_METADATA(zonegate:address)%" } }
        - { name: route_again, typed_config: { a: "%DYNAMIC_METADATA(zonegate:address)%" } }
`
const ROUTE_HEADER = 'x-zonegate-route'
const GENERATED = generate(rulesOf(parseConfig('', ''))).routes
const { decode: decodeHost } = messageCodec<{ name?: string; routes?: unknown[] }>(MESSAGE_NAMES.virtualHost)
const { decode: decodeCluster } = messageCodec<{ name?: string }>(MESSAGE_NAMES.cluster)
const FAULT = /^(?:routes|clusters|listener)\.yaml:\d+:\d+: ./s

/** What all code behind the schema relies on. */
function holdsTogether(config: Config): void {
  const rules = rulesOf(config)
  assert.ok(rules.length > 0)
  const names = new Set<string>()
  for (const rule of rules) {
    assert.ok(rule.methods.size > 0)
    assert.ok(rule.sources.length > 0)
    const services = servicesOf(rule)
    assert.ok(services.some(({ paths }) => paths.length === 0))
    for (const { name, port } of services) {
      assert.ok(port >= 1 && port <= 65_535)
      assert.ok(!names.has(name), `two services ${name}`)
      names.add(name)
    }
  }
  for (const name of headersOf(rules)) assert.equal(name, name.toLowerCase())
  const arguments_ = keyMutations(rules, new Set(['server'])).flatMap((mutation) =>
    'append' in mutation ? [...mutation.append.header.value.matchAll(/%[A-Z_]+\((.*?)\)%/g)] : [],
  )
  for (const [, argument] of arguments_) assert.doesNotMatch(argument ?? '', /%/)
  const domains = rules.flatMap((rule) => domainsOf(rule, 'id'))
  assert.equal(new Set(domains).size, domains.length, 'two rules have the same domain')
  for (const rule of rules) assert.ok(Array.isArray(unusualOf(rule)))
  assert.equal(typeof addressPolicy(config.addresses.allow)('10.0.0.1'), 'boolean')
  for (const text of config.dns.nameservers ?? []) hostPortOf(text)
  hostPortOf(config.listen.http)
  for (const { methods } of rules) {
    const [method = ''] = methods
    const headers = Object.fromEntries(headersOf(rules).map((name) => [name, ['1']]))
    const zone = zoneOf({ method, path: '/', authority: '', headers }, rules, 'game.test')
    if (isZone(zone)) assert.match(zone.name, /^[a-z0-9.-]{1,253}$/)
  }
}

export const fileTargets: readonly Target[] = [
  target('files: any zonegate.yaml is taken, or each fault has its place', [configTexts], (text) => {
    try {
      holdsTogether(parseConfig(text, 'zonegate.yaml'))
    } catch (error) {
      if (!(error instanceof ConfigError)) throw error
      assert.ok(error.details.length > 0)
      const lines = text.split(/\r\n|\r|\n/).length
      for (const { file, line, message } of error.details) {
        assert.equal(file, 'zonegate.yaml')
        assert.ok(message.length > 0 && message.length < 2000, message)
        if (line !== undefined) assert.ok(line >= 1 && line <= lines + 1, `line ${line} of ${lines}`)
      }
    }
  }),
  target(
    "files: any of Envoy's files makes a policy that learned zones can be built by, or faults with their places",
    [
      fc.oneof({ weight: 2, arbitrary: mutated([ROUTES]) }, fc.constant(ROUTES)),
      fc.oneof({ weight: 2, arbitrary: mutated([CLUSTERS]) }, fc.constant(CLUSTERS)),
      fc.oneof(
        { weight: 1, arbitrary: mutated([LISTENER]) },
        { weight: 4, arbitrary: fc.constant(LISTENER) },
      ),
    ],
    (routes, clusters, listener) => {
      const reading = readPolicy(
        {
          routes: { path: 'routes.yaml', text: routes },
          clusters: { path: 'clusters.yaml', text: clusters },
          listener: { path: 'listener.yaml', text: listener },
        },
        { routeHeader: ROUTE_HEADER, routes: GENERATED, asks: [], placeOfRoutes },
      )
      if (reading.kind !== 'policy') {
        const lines = reading.kind === 'faults' ? reading.faults : reading.reasons
        assert.ok(lines.length > 0)
        for (const line of lines) assert.match(line, FAULT)
        return
      }
      const rules = { ...routingRules([MAIL_SERVICE, DEFAULT_SERVICE]), routeHeader: ROUTE_HEADER }
      const catalog = new Catalog(reading.policy, rules, 'e')
      catalog.publish({ service: 'default', id: '7', addresses: ['10.0.0.1'], port: 1, staleAtMs: 9e9 }, 0)
      const host = catalog.virtualHosts.resource('7', new Set(['default']))
      assert.equal(decodeHost(host.encode(0)).name, host.name)
      const zone = catalog.zone(zoneKey('default', '7'))
      assert.ok(zone)
      assert.equal(decodeCluster(catalog.cluster(zone).encode(0)).name, 'default/7')
    },
  ),
]
