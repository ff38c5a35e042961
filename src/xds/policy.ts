import { definitions } from '../grpc/protos.ts'
import type { ZonePolicy } from './catalog.ts'
import type { ClusterPolicy } from './cluster.ts'
import { messageSchemas } from './message-schema.ts'
import type { Place } from './message-yaml.ts'
import type { Route } from './messages.ts'
import { MESSAGE_NAMES } from './resource.ts'
import { FORWARD, type RoutePolicy } from './virtual-host.ts'
import { type SourceFile, YamlFile } from './yaml-file.ts'

export type PolicyReading =
  | {
      readonly kind: 'policy'
      readonly policy: ZonePolicy
      /** Fields of the cold route and the cold cluster that learned zones don't have: `file:line:column: field`. */
      readonly notCopied: readonly string[]
    }
  /** Each `file:line:column: field: what was expected`. */
  | { readonly kind: 'faults'; readonly faults: readonly string[] }

/** How the cold cluster finds addresses. A learned one is told them. */
const DISCOVERY = new Set([
  'name',
  'type',
  'cluster_type',
  'lb_policy',
  'load_assignment',
  'dns_lookup_family',
])
/** Without these a learned zone would be spoken to in another way. */
const INDISPENSABLE = new Set(['transport_socket', 'transport_socket_matches', 'filters', 'upstream_config'])

/** The type of an inline header, and Envoy's default. */
const REQUEST_HEADER = 'REQUEST_HEADER'

const ROUTE_CONFIGURATION = 'type.googleapis.com/envoy.config.route.v3.RouteConfiguration'

const schemas = messageSchemas(definitions)

/**
 * Reads from Envoy's own files what learned zones take over: the routes of the cold virtual host (the one for every
 * domain), and the cluster that its route `forward` leads to. What can be taken over is what `proto/` has.
 *
 * @param headers in lower case: the one by which Envoy finds virtual hosts, and the one with the id
 */
export function readPolicy(
  routes: SourceFile,
  bootstrap: SourceFile,
  headers: { readonly routeHeader: string; readonly idHeader: string },
): PolicyReading {
  const routesFile = new YamlFile(routes)
  const bootstrapFile = new YamlFile(bootstrap)
  const notCopied: string[] = []
  const cold = readRoutes(routesFile, headers.routeHeader, notCopied)
  requireInline(bootstrapFile, headers.idHeader)
  const cluster = cold && readCluster(bootstrapFile, cold.coldRoutes, notCopied)
  const faults = [...routesFile.faults, ...bootstrapFile.faults]
  if (cold === undefined || cluster === undefined || faults.length > 0) return { kind: 'faults', faults }
  return { kind: 'policy', policy: { routes: cold, cluster }, notCopied }
}

/**
 * Of a repeated inline header Envoy makes one, the values joined by commas and empty ones left out (Envoy doc:
 * Bootstrap.inline_headers). Of any other it looks at the first, and would find a learned zone by the first of several ids.
 */
function requireInline(bootstrap: YamlFile, header: string): void {
  const place = bootstrap.at(bootstrap.root, 'inline_headers')
  const names = bootstrap
    .items(place)
    .filter((item) => (bootstrap.text(item, 'inline_header_type') ?? REQUEST_HEADER) === REQUEST_HEADER)
    .map((item) => bootstrap.text(item, 'inline_header_name')?.toLowerCase())
  if (names.includes(header)) return
  const what = `expected { inline_header_name: ${header}, inline_header_type: ${REQUEST_HEADER} }, the header with the id`
  bootstrap.fault(place ?? bootstrap.root, place === undefined ? `inline_headers: ${what}` : what)
}

function readRoutes(file: YamlFile, routeHeader: string, notCopied: string[]): RoutePolicy | undefined {
  const resources = file.items(file.at(file.root, 'resources'))
  const configuration = resources.find((place) => file.text(place, '@type') === ROUTE_CONFIGURATION)
  if (configuration === undefined)
    return file.fault(file.root, `resources: expected a ${ROUTE_CONFIGURATION}`)

  const name = file.text(configuration, 'name')
  if (name === undefined) return file.fault(configuration, 'name: expected a text')
  if (file.text(configuration, 'vhost_header')?.toLowerCase() !== routeHeader)
    file.fault(configuration, `vhost_header: expected ${routeHeader}, by which learned zones are found`)
  if (file.at(configuration, 'vhds') === undefined)
    file.fault(configuration, 'vhds: expected a config_source, by which learned zones arrive')

  const hosts = file.items(file.at(configuration, 'virtual_hosts'))
  const cold = hosts.find((host) =>
    file.items(file.at(host, 'domains')).some((domain) => file.text(domain) === '*'),
  )
  if (cold === undefined) return file.fault(configuration, 'virtual_hosts: expected one for the domain "*"')
  for (const [key, place] of file.entries(cold))
    if (!['name', 'domains', 'routes'].includes(key)) notCopied.push(`${file.position(place)}: ${place.path}`)

  const places = file.items(file.at(cold, 'routes'))
  const coldRoutes = places.map((place) => readRoute(file, place, notCopied))
  if (coldRoutes.filter((route) => route.name === FORWARD).length !== 1)
    file.fault(cold, `routes: expected one with the name ${FORWARD}`)
  const [ask, ...more] = coldRoutes.slice(coldRoutes.findIndex((route) => route.name === FORWARD) + 1)
  if (ask?.match?.prefix !== '/' || more.length > 0)
    file.fault(
      cold,
      `routes: expected exactly one after ${FORWARD}, for the prefix "/": the one that asks the processor`,
    )
  return { routeConfiguration: name, coldRoutes }
}

/** Per-route settings of the filters by which a request gets to a zone on the cold path: a learned route needs neither. */
const COLD_FILTERS = /\/envoy\.extensions\.filters\.http\.(?:dynamic_forward_proxy|ext_proc)\.v3\./

/** The cold cluster's fence: a learned zone's addresses have passed the processor's own, and come from nowhere else. */
const COLD_CLUSTER_FILTERS = /\/envoy\.extensions\.filters\.http\.(?:rbac|upstream_codec)\.v3\./

/**
 * What only TLS reads, which learned zones don't speak, and what the kind of the cold cluster demands. Envoy would parse each
 * request's Host for it.
 */
const FOR_TLS = /\.upstream_http_protocol_options$/

/** The route `forward` is a pattern for learned ones; the others are taken over as they are, and so completely. */
function readRoute(file: YamlFile, place: Place, notCopied: string[]): Route {
  const { value, unknown } = file.message(schemas, 'envoy.config.route.v3.Route', place)
  const route = value as unknown as Route
  const isForward = route.name === FORWARD
  const match = `${place.path}.match.`
  for (const at of unknown) {
    if (isForward && COLD_FILTERS.test(file.text(at, '@type') ?? '')) continue
    if (isForward && !at.path.startsWith(match)) notCopied.push(`${file.position(at)}: ${at.path}`)
    else file.fault(at, 'not supported where zones are learned')
  }
  if (isForward && (route.match?.prefix !== '/' || route.route?.cluster === undefined))
    file.fault(place, 'expected the match prefix "/" and a route to a cluster')
  else if (route.match === undefined) file.fault(place, 'match: expected a mapping')
  else if (route.route === undefined && route.direct_response === undefined)
    file.fault(place, 'expected a route or a direct_response')
  return route
}

function isFence(file: YamlFile, place: Place): boolean {
  const filters = place.path.endsWith('.http_filters') ? file.items(place) : []
  const types = filters.map((filter) => file.text(file.at(filter, 'typed_config'), '@type') ?? '')
  return types.length > 0 && types.every((type) => COLD_CLUSTER_FILTERS.test(type))
}

function readCluster(
  file: YamlFile,
  coldRoutes: readonly Route[],
  notCopied: string[],
): ClusterPolicy | undefined {
  const name = coldRoutes.find((route) => route.name === FORWARD)?.route?.cluster
  const clusters = file.items(file.at(file.at(file.root, 'static_resources'), 'clusters'))
  const cold = clusters.find((place) => file.text(place, 'name') === name)
  if (cold === undefined)
    return file.fault(file.root, `static_resources.clusters: expected one with the name ${name}`)
  const { value, unknown } = file.message(schemas, MESSAGE_NAMES.cluster, cold, DISCOVERY)
  for (const at of unknown) {
    const field = at.path.slice(cold.path.length + 1)
    if (isFence(file, at) || FOR_TLS.test(at.path)) continue
    if (INDISPENSABLE.has(field)) file.fault(at, 'not supported where zones are learned')
    else notCopied.push(`${file.position(at)}: ${at.path}`)
  }
  return value as ClusterPolicy
}
