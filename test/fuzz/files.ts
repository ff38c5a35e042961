/** What operators write: zonegate.yaml and Envoy's files. */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import * as fc from 'fast-check'
import { ConfigError, parseConfig } from '../../src/config/load.ts'
import { rulesOf } from '../../src/config/rules.ts'
import { type Config, configSchema, hostPortOf } from '../../src/config/schema.ts'
import { codec } from '../../src/grpc/protos.ts'
import { addressPolicy } from '../../src/routing/denied-addresses.ts'
import { servicesOf, zoneOf } from '../../src/routing/rules.ts'
import { Catalog } from '../../src/xds/catalog.ts'
import { readPolicy } from '../../src/xds/policy.ts'
import { MESSAGE_NAMES, zoneKey } from '../../src/xds/resource.ts'
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
]
const configTexts = fc.oneof(
  { weight: 6, arbitrary: mutated(CONFIGS) },
  { weight: 1, arbitrary: fc.jsonValue({ maxDepth: 4 }).map((value) => JSON.stringify(value)) },
  { weight: 1, arbitrary: fc.string({ maxLength: 200 }) },
)

const ROUTES = read('envoy/routes.yaml')
const BOOTSTRAP = read('envoy/envoy.yaml')
/** What is read of the bootstrap, in a tenth of the time. */
const CLUSTER_ONLY = `inline_headers: [{ inline_header_name: server }]
static_resources:
  clusters:
  - name: zones
    connect_timeout: 0.25s
    lb_policy: CLUSTER_PROVIDED
    cluster_type: { name: envoy.clusters.dynamic_forward_proxy }
    circuit_breakers: { thresholds: [&limits { max_retries: 4096, max_connections: "4096" }] }
    outlier_detection: { split_external_local_origin_errors: true, consecutive_5xx: 5 }
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config: { http_protocol_options: {} }
`
const ROUTE_HEADER = 'x-zonegate-route'
const { decode: decodeHost } = codec<{ name?: string; routes?: unknown[] }>(MESSAGE_NAMES.virtualHost)
const { decode: decodeCluster } = codec<{ name?: string }>(MESSAGE_NAMES.cluster)
const FAULT = /^(?:routes|envoy)\.yaml:\d+:\d+: ./s

/** What everything behind the schema takes for granted. */
function holdsTogether(config: Config): void {
  const rules = rulesOf(config)
  assert.ok(rules.methods.size > 0)
  assert.equal(servicesOf(rules).filter(({ paths }) => paths.length === 0).length >= 1, true)
  for (const { port } of servicesOf(rules)) assert.ok(port >= 1 && port <= 65_535)
  assert.equal(rules.header, rules.header.toLowerCase())
  assert.equal(typeof addressPolicy(config.addresses.allow)('10.0.0.1'), 'boolean')
  for (const text of config.dns.nameservers ?? []) hostPortOf(text)
  hostPortOf(config.listen.http)
  const [method = ''] = rules.methods
  const zone = zoneOf({ method, path: '/', ids: ['1'] }, rules, 'game.test')
  if (typeof zone === 'object') assert.match(zone.name, /^[a-z0-9.-]{1,253}$/)
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
      fc.oneof(
        { weight: 4, arbitrary: fc.constant(CLUSTER_ONLY) },
        { weight: 4, arbitrary: mutated([CLUSTER_ONLY]) },
        { weight: 1, arbitrary: mutated([BOOTSTRAP]) },
      ),
    ],
    (routes, bootstrap) => {
      const reading = readPolicy(
        { path: 'routes.yaml', text: routes },
        { path: 'envoy.yaml', text: bootstrap },
        { routeHeader: ROUTE_HEADER, idHeader: 'server' },
      )
      if (reading.kind === 'faults') {
        assert.ok(reading.faults.length > 0)
        for (const fault of reading.faults) assert.match(fault, FAULT)
        return
      }
      const rules = {
        routeHeader: ROUTE_HEADER,
        idHeader: 'server',
        methods: ['POST'],
        services: [
          { name: 'mail', paths: ['/mail'] },
          { name: 'default', paths: [] },
        ],
        zoneName: (service: string, id: string) => `zone${id}-${service}.test`,
      }
      const catalog = new Catalog(reading.policy, rules, 'e')
      catalog.publish({ service: 'default', id: '7', addresses: ['10.0.0.1'], port: 1, staleAtMs: 9e9 }, 0)
      const host = catalog.virtualHost('7', new Set(['default']))
      assert.equal(decodeHost(host.encode(0)).name, host.name)
      const zone = catalog.zone(zoneKey('default', '7'))
      assert.equal(decodeCluster(zone?.cluster.encode(0) as Buffer).name, 'default/7')
    },
  ),
]
