import type { Any, Route, VirtualHost } from './messages.ts'
import { FORWARD, HOST_REWRITE, KEPT_KEY } from './virtual-host.ts'
import type { Place, YamlFile } from './yaml-file.ts'

/**
 * What of the cold path's policy would mean something else on a learned route: copied as it is, a caller or a zone could
 * tell. Everything else is copied. What Envoy's API gets anew stands in a list in policy-differences.test.ts, and so is
 * looked at.
 *
 * On the cold path a request first comes to the last route, which answers by itself and asks the processor, and only then
 * to `forward`: what Envoy or a filter takes from the first route of a request is not that of `forward`.
 */
export const DIFFERENT: Readonly<
  Record<
    'configuration' | 'virtualHost' | 'route' | 'ask' | 'action' | 'match' | 'cluster' | 'httpOptions',
    readonly string[]
  >
> = {
  configuration: [
    'request_mirror_policies', // the copy's Host is the zone's address there, the client's here
    'route_specifiers',
    'ignore_path_parameters_in_path_matching', // services are told apart by the whole path
    // Envoy says what it thinks of these only when it reads its file; hot zones would have changed by then.
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

/** Conditions that a request can meet once and then not again: on the cold path such a route is asked twice. */
const ASKED_TWICE = ['runtime_fraction', 'dynamic_metadata', 'filter_state']

/**
 * Counts of a route, a virtual host or all routes: on the cold path there is one for all zones, each learned zone would have its own, and
 * whatever virtual host it is of, Envoy begins it anew at each push of learned virtual hosts.
 */
const COUNTING =
  /\/envoy\.extensions\.filters\.http\.(?:local_ratelimit\.v3\.LocalRateLimit|bandwidth_limit\.v3\.BandwidthLimit)$/

const TEXT = "learned zones can't take this over"
const COUNTS = `${TEXT}: Envoy counts for each of them by itself, and anew whenever another is learned. Count in envoy/listener.yaml (docs/recipes/envoy.md)`

interface Names {
  readonly routeHeader: string
}

/** @returns `file:line:column: field: why`, one for each */
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
    ...formats(file, forwardPlace, names, new Set(['match', 'metadata', 'typed_per_filter_config'])),
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

/** @param omit fields that are not copied */
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

/** The fields of a message that are among these, in either spelling. */
function fieldsOf(file: YamlFile, place: Place | undefined, names: readonly string[]): Place[] {
  return names.map((name) => fieldOf(file, place, name)).filter((field) => field !== undefined)
}

/** A field of a message, in either spelling; null is none. */
export function fieldOf(file: YamlFile, place: Place | undefined, name: string): Place | undefined {
  const other = name.replace(/_(.)/g, (_, next: string) => next.toUpperCase())
  const found = file.at(place, name) ?? file.at(place, other)
  return found === undefined || file.scalar(found) === null ? undefined : found
}

/** A Host that is neither the client's nor the address. */
function otherHosts(file: YamlFile, action: Place | undefined): Place[] {
  return fieldsOf(file, action, ['host_rewrite']).filter((place) => file.text(place) !== HOST_REWRITE)
}

/** Settings of filters that count, wherever they stand. */
function counting(file: YamlFile, place: Place): Place[] {
  if (COUNTING.test(file.text(place, '@type') ?? '')) return [place]
  const inner = [...file.items(place), ...file.entries(place).map(([, value]) => value)]
  return inner.flatMap((each) => counting(file, each))
}

/** Settings, for all routes at once, of filters that learned zones do without. */
function filterSettings(file: YamlFile, place: Place, names: ReadonlySet<string>): Place[] {
  return file
    .entries(fieldOf(file, place, 'typed_per_filter_config'))
    .filter(([name]) => names.has(name))
    .map(([, setting]) => setting)
}

/** Filters run as the route says to which a request comes first, or as the one says to which it comes in the end. */
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

/** Commands of format strings that say the same of a request on both paths. */
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

/** Texts with a command that may say something else. */
function formats(file: YamlFile, place: Place, names: Names, omit: ReadonlySet<string>): Place[] {
  const found: Place[] = []
  const walk = (at: Place, skip: ReadonlySet<string>): void => {
    const text = file.text(at)
    if (text?.includes('%') && text !== KEPT_KEY && text !== HOST_REWRITE && !isAlike(text, names))
      found.push(at)
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
