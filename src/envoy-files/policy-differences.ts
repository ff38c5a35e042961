import { FORWARD, HOST_REWRITE, KEPT_KEY } from '../xds/learned-routes.ts'
import type { Any, Route, VirtualHost } from '../xds/messages.ts'
import type { Place, YamlFile } from '../xds/yaml-file.ts'

/**
 * Fields that would mean something else on a learned route, so that a caller or a zone could tell the paths apart. Nothing is learned
 * if they are set. All other fields are copied; policy-differences.test.ts lists them, so that a field new in Envoy's API gets noticed.
 *
 * On the cold path a request first matches the last route, which asks the processor, and only then `forward`. So what Envoy or
 * a filter takes from the first route of a request does not come from `forward`.
 */
export const DIFFERENT: Readonly<
  Record<
    'configuration' | 'virtualHost' | 'route' | 'ask' | 'action' | 'match' | 'cluster' | 'httpOptions',
    readonly string[]
  >
> = {
  configuration: [
    'request_mirror_policies', // the mirrored request has another Host on each path
    'route_specifiers',
    'ignore_path_parameters_in_path_matching', // services are chosen by the whole path
    // A proof can't cover these: Envoy checks them only when it reads its file, after learned zones have changed.
    'internal_only_headers',
    'cluster_specifier_plugins',
    'validate_clusters',
    'max_direct_response_body_size_bytes',
  ],
  virtualHost: ['matcher', 'route_specifiers', 'rate_limits', 'cors', 'request_mirror_policies'],
  route: ['decorator', 'tracing', 'route_specifiers'],
  ask: ['decorator', 'tracing', 'route_specifiers'],
  action: [
    'path_rewrite', // a format string
    'path_rewrite_policy',
    'host_rewrite_literal',
    'host_rewrite_header',
    'host_rewrite_path_regex',
    'append_x_forwarded_host',
    'request_mirror_policies',
    'rate_limits',
    'include_vh_rate_limits',
    'cors',
    'internal_redirect_policy',
    'internal_redirect_action',
    'max_internal_redirects',
  ],
  match: [
    'path',
    'safe_regex',
    'connect_matcher',
    'path_separated_prefix',
    'path_match_policy',
    'runtime_fraction',
    'cookies',
    'grpc',
    'tls_context',
    'dynamic_metadata',
    'filter_state',
  ],
  cluster: [
    'transport_socket', // the cold cluster checks certificates for each address
    'transport_socket_matches',
    'transport_socket_matcher',
    'load_balancing_policy',
    'lb_subset_config',
    'ring_hash_lb_config',
    'maglev_lb_config',
    'least_request_lb_config',
    'round_robin_lb_config',
    'lrs_server',
    'queuing_policies',
    'eds_cluster_config',
  ],
  httpOptions: ['outlier_detection', 'request_mirror_policies'],
}

/** Conditions whose result may change between the two times that the cold path looks for a route. */
const ASKED_TWICE = ['runtime_fraction', 'dynamic_metadata', 'filter_state']

/**
 * Filters with a counter for each route or virtual host. On the cold path all zones share one. Each learned zone would have its own,
 * and Envoy resets them all at each push of learned virtual hosts.
 */
const COUNTING =
  /\/envoy\.extensions\.filters\.http\.(?:local_ratelimit\.v3\.LocalRateLimit|bandwidth_limit\.v3\.BandwidthLimit)$/

const TEXT = "learned zones can't do this"
const COUNTS = `${TEXT}: Envoy would count for each of them, and start again whenever another is learned. Count in envoy/listener.yaml (docs/recipes/envoy.md)`

interface Names {
  readonly routeHeader: string
}

/** What in the routes stops learning. @returns each as `file:line:column: field: why` */
export function differencesOfRoutes(
  file: YamlFile,
  configuration: Place,
  host: Place,
  virtualHost: VirtualHost,
  names: Names & { readonly coldFilters: ReadonlySet<string> },
): string[] {
  const places = file.items(file.at(host, 'routes'))
  const routes = virtualHost.routes ?? []
  const at = routes.findIndex(({ name }) => name === FORWARD)
  const [forwardPlace, askPlace] = [places[at], places[at + 1]]
  const [forward, ask] = [routes[at], routes[at + 1]]
  if (forwardPlace === undefined || askPlace === undefined || forward === undefined || ask === undefined)
    return []
  const found: Place[] = [
    ...fieldsOf(file, configuration, DIFFERENT.configuration),
    ...fieldsOf(file, host, DIFFERENT.virtualHost),
    ...fieldsOf(file, forwardPlace, DIFFERENT.route),
    ...fieldsOf(file, fieldOf(file, forwardPlace, 'route'), DIFFERENT.action),
    ...fieldsOf(file, fieldOf(file, forwardPlace, 'match'), DIFFERENT.match),
    ...otherHosts(file, fieldOf(file, forwardPlace, 'route')),
    ...fieldsOf(file, askPlace, DIFFERENT.ask),
    ...places.slice(0, at).flatMap((place) => fieldsOf(file, fieldOf(file, place, 'match'), ASKED_TWICE)),
    ...[configuration, host].flatMap((place) => filterSettings(file, place, names.coldFilters)),
    ...formats(file, configuration, names, new Set(['virtual_hosts', 'virtualHosts', 'vhds'])),
    ...formats(file, host, names, new Set(['routes'])),
    ...formats(file, forwardPlace, names, new Set(['match', 'metadata', 'typed_per_filter_config'])).filter(
      (place) => !isTranslated(file, place),
    ),
  ]
  const lines = [
    ...found.map((place) => file.line(place, TEXT)),
    ...counting(file, configuration).map((place) => file.line(place, COUNTS)),
  ]
  if (!sameFilterSettings(forward, ask, names.coldFilters))
    lines.push(
      file.line(
        fieldOf(file, forwardPlace, 'typed_per_filter_config') ?? forwardPlace,
        `expected the same for all filters here and in the route after ${FORWARD}: ${TEXT}`,
      ),
    )
  return lines
}

/** The same for the cluster. @param omit fields that are not copied */
export function differencesOfCluster(
  file: YamlFile,
  cluster: Place,
  omit: ReadonlySet<string>,
  names: Names,
): string[] {
  const options = file
    .entries(fieldOf(file, cluster, 'typed_extension_protocol_options'))
    .flatMap(([, place]) => fieldsOf(file, place, DIFFERENT.httpOptions))
  return [
    ...fieldsOf(file, cluster, DIFFERENT.cluster),
    ...options,
    ...formats(file, cluster, names, omit),
  ].map((place) => file.line(place, TEXT))
}

/** Those of the named fields that a message has. */
function fieldsOf(file: YamlFile, place: Place | undefined, names: readonly string[]): Place[] {
  return names.map((name) => fieldOf(file, place, name)).filter((field) => field !== undefined)
}

/** A field of a message, in snake case or camel case; undefined if it is absent or null. */
export function fieldOf(file: YamlFile, place: Place | undefined, name: string): Place | undefined {
  const other = name.replace(/_(.)/g, (_, next: string) => next.toUpperCase())
  const found = file.at(place, name) ?? file.at(place, other)
  return found === undefined || file.scalar(found) === null ? undefined : found
}

/** A `host_rewrite` to anything but the address. */
function otherHosts(file: YamlFile, action: Place | undefined): Place[] {
  return fieldsOf(file, action, ['host_rewrite']).filter((place) => file.text(place) !== HOST_REWRITE)
}

/** True for the two formats of `forward` that a learned route replaces by its own. */
function isTranslated(file: YamlFile, place: Place): boolean {
  const text = file.text(place)
  return (
    (text === HOST_REWRITE && /\.route\.(?:host_rewrite|hostRewrite)$/.test(place.path)) ||
    (text === KEPT_KEY && /\.(?:request_headers_to_add|requestHeadersToAdd)\[\d+\]\./.test(place.path))
  )
}

/** Settings of filters that count, anywhere in the file. */
function counting(file: YamlFile, place: Place): Place[] {
  if (COUNTING.test(file.text(place, '@type') ?? '')) return [place]
  const inner = [...file.items(place), ...file.entries(place).map(([, value]) => value)]
  return inner.flatMap((each) => counting(file, each))
}

/** Settings for all routes of filters that only the cold path has. */
function filterSettings(file: YamlFile, place: Place, names: ReadonlySet<string>): Place[] {
  return file
    .entries(fieldOf(file, place, 'typed_per_filter_config'))
    .filter(([name]) => names.has(name))
    .map(([, setting]) => setting)
}

/** Some filters take their settings from a request's first route, some from its last, so both must have the same. */
function sameFilterSettings(forward: Route, ask: Route, coldFilters: ReadonlySet<string>): boolean {
  const others = ({ typed_per_filter_config: all = {} }: Route): readonly (readonly [string, Any])[] =>
    Object.entries(all).filter(([name]) => !coldFilters.has(name))
  const [a, b] = [others(forward), new Map(others(ask))]
  return a.length === b.size && a.every(([name, any]) => isSame(any, b.get(name)))
}

function isSame(a: Any, b: Any | undefined): boolean {
  return (
    b !== undefined &&
    a.type_url === b.type_url &&
    Buffer.from(a.value ?? []).equals(Buffer.from(b.value ?? []))
  )
}

/** Commands of format strings with the same result on both paths. */
const ALIKE = new Set([
  'REQ',
  'RESP',
  'TRAILER',
  'PROTOCOL',
  'START_TIME',
  'HOSTNAME',
  'ENVIRONMENT',
  'RESPONSE_CODE',
  'STREAM_ID',
])

/** Texts with a command whose result may differ between the paths. */
function formats(file: YamlFile, place: Place, names: Names, omit: ReadonlySet<string>): Place[] {
  const found: Place[] = []
  const walk = (at: Place, skip: ReadonlySet<string>): void => {
    const text = file.text(at)
    if (text?.includes('%') && !isAlike(text, names)) found.push(at)
    for (const item of file.items(at)) walk(item, NOTHING)
    for (const [key, value] of file.entries(at)) if (!skip.has(key)) walk(value, NOTHING)
  }
  walk(place, omit)
  return found
}

const NOTHING: ReadonlySet<string> = new Set()

function isAlike(text: string, { routeHeader }: Names): boolean {
  const commands = text.replaceAll('%%', '').matchAll(/%([A-Z][A-Z0-9_]*)(?:\(([^()]*)\))?/g)
  return [...commands].every(([, command = '', argument = '']) => {
    const headers = argument.toLowerCase().split('?')
    if (command === 'REQ') return !headers.some((name) => [routeHeader, ':authority', 'host'].includes(name))
    return ALIKE.has(command) || command.startsWith('DOWNSTREAM_')
  })
}
