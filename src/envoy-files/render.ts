import { createHash } from 'node:crypto'
import { KEY_VERSION, ROUTE_HEADER, SENT_HEADERS } from '../ext-proc/messages.ts'
import type { SourceFile } from '../xds/yaml-file.ts'
import { EnvoyDocument } from './envoy-document.ts'
import type { FallbackRoute } from './fallback.ts'
import type { Generated } from './generated.ts'
import { type NamesCluster, namesCluster } from './names-cluster.ts'
import { nameDialled, type UpstreamRoute } from './upstreams.ts'
import { withEarlier, type ZoneOfKey } from './zone-of-key.ts'

/** The operator's files. */
export interface EnvoyFiles {
  readonly bootstrap: SourceFile
  readonly listener: SourceFile
  readonly routes: SourceFile
  readonly clusters: SourceFile
}

/** The texts of the files in `run/` that Envoy reads. The processor sends clusters by xDS instead. */
export interface Rendered extends Readonly<Record<Exclude<keyof EnvoyFiles, 'clusters'>, string>> {
  /** Texts of the files that tell clusters where certificates are, by their names in `run/`. Absent: there are none. */
  readonly secrets?: Readonly<Record<string, string>>
}

export interface HostPort {
  readonly host: string
  readonly port: number
}

/** Addresses that the operator's files lack, or that override theirs. */
export interface Addresses {
  /** `unix:PATH`, or the host and port of the processor. */
  readonly processor: string | HostPort
  /** The address of the listener `callback`; undefined: the file has it. */
  readonly listen?: HostPort | undefined
  /** The address of the listener `admin`, which protects Envoy's admin interface; undefined: the file has it. */
  readonly admin?: HostPort | undefined
}

const LISTENER = 'envoy.config.listener.v3.Listener'
const ROUTE_CONFIGURATION = 'envoy.config.route.v3.RouteConfiguration'
const CONNECTION_MANAGER = 'envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager'
const EXT_PROC = 'envoy.extensions.filters.http.ext_proc.v3.ExternalProcessor'
const EARLY_MUTATION = 'envoy.extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation'

/** Headers that the processor always reads. */
const FORWARDED = [':method', ':path', ':authority', 'x-request-id', 'traceparent']
/** The name of the first route, which refuses malformed requests. */
const BAD_REQUEST = 'bad_request'

/**
 * Renders the operator's files with the additions that follow from zonegate.yaml.
 * @param earlier cluster specifiers of the routes before: Envoy may still have virtual hosts that name them
 * @throws RenderError with the file, the place and what was expected there
 */
export function render(
  files: EnvoyFiles,
  generated: Generated,
  addresses: Addresses,
  earlier: readonly ZoneOfKey[] = [],
): Rendered {
  const names = namesClusterOf(files.clusters, generated)
  return {
    bootstrap: renderBootstrap(files.bootstrap, generated, addresses, names),
    listener: renderListener(files.listener, generated, addresses),
    routes: renderRoutes(files.routes, generated, names, earlier),
    ...(Object.keys(generated.secrets).length > 0 && { secrets: generated.secrets }),
  }
}

/** The cluster that resolves names in Envoy itself; undefined: there is no fallback. @throws RenderError */
export function namesClusterOf(
  clusters: SourceFile,
  { fallback }: Pick<Generated, 'fallback'>,
): NamesCluster | undefined {
  return fallback && namesCluster(clusters, fallback.dns)
}

export function renderBootstrap(
  source: SourceFile,
  { inlineHeaders }: Pick<Generated, 'inlineHeaders'>,
  { processor, admin }: Addresses,
  names?: NamesCluster,
): string {
  const file = new EnvoyDocument(source)
  requireListenerFile(file)
  const inline = file.list(file.root, 'inline_headers')
  const known = file
    .items(inline)
    .filter((item) => (file.text(item, 'inline_header_type') ?? REQUEST_HEADER) === REQUEST_HEADER)
    .map((item) => file.text(item, 'inline_header_name')?.toLowerCase() ?? '')
  const missing = inlineHeaders.filter((header) => !known.includes(header))
  file.insert(
    inline,
    inline.items.length,
    missing.map((header) => ({ inline_header_name: header, inline_header_type: REQUEST_HEADER })),
  )
  // Envoy sends its metadata to the processor. So the processor knows with which inline headers Envoy started.
  const metadata = file.mapping(file.mapping(file.mapping(file.root, 'node'), 'metadata'), 'zonegate')
  file.set(metadata, 'inline_headers', [...known, ...missing])
  const resources = file.at(file.root, 'static_resources')
  const cluster = named(file, file.items(resources, 'clusters'), 'processor')
  if (cluster === undefined)
    throw file.error(resources ?? file.root, 'clusters: expected one with the name processor')
  // Endpoints of the operator stay: the processor may be on another machine.
  const assignment = file.mapping(cluster, 'load_assignment')
  if (file.at(assignment, 'endpoints') === undefined) {
    file.set(assignment, 'cluster_name', 'processor')
    file.set(assignment, 'endpoints', [{ lb_endpoints: [{ endpoint: { address: addressOf(processor) } }] }])
  }
  // The processor sends this cluster, too. Envoy needs it here if it starts while the processor is away.
  if (names !== undefined)
    file.append(file.list(file.mapping(file.root, 'static_resources'), 'clusters'), [names.cluster])
  if (admin !== undefined) {
    const listener = named(file, file.items(resources, 'listeners'), 'admin')
    if (listener === undefined)
      throw file.error(resources ?? file.root, 'listeners: expected one with the name admin')
    file.set(listener, 'address', addressOf(admin))
  }
  return file.toString(heading('envoy.yaml', source))
}

/**
 * Refuses an envoy.yaml of an old version, which had the listener in it. Envoy would accept it, listen without the rules and never
 * read listener.yaml.
 */
function requireListenerFile(file: EnvoyDocument): void {
  const [own] = askingManagers(file, file.items(file.root, 'static_resources', 'listeners'))
  if (own !== undefined)
    throw file.error(
      own,
      `listeners: expected the one that asks the processor in envoy/listener.yaml: move your changes there, and take it out here (${UPGRADE})`,
    )
  if (file.at(file.root, 'dynamic_resources', 'lds_config') === undefined)
    throw file.error(
      file.at(file.root, 'dynamic_resources') ?? file.root,
      `dynamic_resources: expected lds_config, without which Envoy does not read its listener: take it from this version's envoy/envoy.yaml (${UPGRADE})`,
    )
}

/** The operator's listener gives this key to requests that have passed this Envoy before. */
const LOOP = 'loop'
const UPGRADE = 'CHANGELOG.md, "To upgrade"'

/** The inline request headers of an Envoy with this rendered bootstrap. */
export function inlineHeadersIn(rendered: string): ReadonlySet<string> {
  const file = new EnvoyDocument({ path: 'run/envoy.yaml', text: rendered })
  const names = file.items(file.root, 'node', 'metadata', 'zonegate', 'inline_headers')
  return new Set(names.flatMap((name) => file.text(name) ?? []))
}

/** Path of the socket where an Envoy with this rendered bootstrap reaches its processor; undefined: it uses no socket. */
export function processorSocketIn(rendered: string): string | undefined {
  const file = new EnvoyDocument({ path: 'run/envoy.yaml', text: rendered })
  const cluster = named(file, file.items(file.root, 'static_resources', 'clusters'), 'processor')
  const [endpoints] = file.items(cluster, 'load_assignment', 'endpoints')
  const [endpoint] = file.items(endpoints, 'lb_endpoints')
  return file.text(endpoint, 'endpoint', 'address', 'pipe', 'path')
}

/** The type of an inline request header, which is also Envoy's default. */
const REQUEST_HEADER = 'REQUEST_HEADER'

export function renderListener(
  source: SourceFile,
  generated: Generated,
  { listen }: Pick<Addresses, 'listen'> = {},
): string {
  const file = new EnvoyDocument(source)
  if (generated.upstreams !== undefined) nameDialled(file, file.root)
  const listeners = file.items(file.root, 'resources').filter((item) => isOf(file, item, LISTENER))
  if (listeners.length === 0) throw file.error(file.root, `resources: expected ${LISTENER}`)
  const asking = askingManagers(file, listeners)
  if (asking.length === 0)
    throw file.error(listeners[0], `http_filters: expected one of the type ${EXT_PROC}`)
  for (const manager of asking) {
    addRules(file, manager, generated)
    addTracing(file, manager, generated)
  }
  // Without the launcher's address, so that Envoys with different addresses have the same version.
  const version = createHash('sha256').update(file.toString([])).digest('hex').slice(0, VERSION_LENGTH)
  for (const [index, manager] of asking.entries()) {
    const filters = file.list(manager, 'http_filters')
    file.insert(filters, filters.items.length - 1, [announcing(`${LISTENER_NAME}${version}.${index}`)])
  }
  if (listen !== undefined) {
    const callback = named(file, listeners, 'callback')
    if (callback === undefined) throw file.error(listeners[0], 'name: expected a listener callback')
    file.set(callback, 'address', addressOf(listen))
  }
  return file.toString(heading('listener.yaml', source))
}

const VERSION_LENGTH = 12
/** The beginning of the names by which Envoy tells the processor which listeners it uses. */
const LISTENER_NAME = 'zonegate.listener.'
const DOES_NOTHING = 'type.googleapis.com/envoy.extensions.filters.http.set_filter_state.v3.Config'

/**
 * A filter that no request passes. An Envoy that has accepted the listener subscribes to it (src/xds/listener-subscriptions.ts). It
 * doesn't wait for an answer, and works without a processor.
 */
function announcing(name: string): object {
  return {
    name,
    disabled: true,
    config_discovery: {
      config_source: { ads: {}, resource_api_version: 'V3', initial_fetch_timeout: '0s' },
      default_config: { '@type': DOES_NOTHING },
      apply_default_config_without_warming: true,
      type_urls: [DOES_NOTHING],
    },
  }
}

/** The names by which an Envoy subscribes that uses this rendered listener. They change with its content. */
export function listenerNamesIn(rendered: string): string[] {
  return rendered.match(/\bzonegate\.listener\.[0-9a-f]+\.\d+/g) ?? []
}

/** Finds the key in a format of a log. */
const LOGGED_KEY = /%REQ\(x-zonegate-route[):?]/i

function addRules(file: EnvoyDocument, manager: unknown, generated: Generated): void {
  const early = file
    .items(manager, 'early_header_mutation_extensions')
    .map((extension) => file.at(extension, 'typed_config'))
    .findLast((config) => isOf(file, config, EARLY_MUTATION))
  if (early === undefined)
    throw file.error(manager, `early_header_mutation_extensions: expected one of the type ${EARLY_MUTATION}`)
  const mutations = file.list(early, 'mutations')
  // A key of the operator would win, because the generated key is added only if the request has none.
  const byHand = file
    .items(mutations)
    .find(
      (mutation) =>
        file.text(mutation, 'append', 'header', 'key')?.toLowerCase() === ROUTE_HEADER &&
        file.text(mutation, 'append', 'header', 'value') !== LOOP,
    )
  if (byHand !== undefined)
    throw file.error(
      byHand,
      `mutations: expected no ${ROUTE_HEADER} but "${LOOP}": the key follows from zonegate.yaml, take this one out (${UPGRADE})`,
    )
  file.insert(mutations, mutations.items.length, generated.keyMutations)
  if (generated.hasSecretKeys)
    for (const log of file.items(manager, 'access_log'))
      file.removeTexts(file.at(log, 'typed_config', 'log_format', 'json_format'), LOGGED_KEY)
  const at = extProcOf(file, manager)
  const extProc = file.at(file.items(manager, 'http_filters')[at], 'typed_config')
  const allowed = file.mapping(file.mapping(extProc, 'forward_rules'), 'allowed_headers')
  const patterns = file.list(allowed, 'patterns')
  const known = file.items(patterns).map((pattern) => file.text(pattern, 'exact'))
  const headers = [...FORWARDED, ...generated.forwardedHeaders].filter((name) => !known.includes(name))
  file.insert(
    patterns,
    patterns.items.length,
    [...new Set(headers)].map((exact) => ({ exact })),
  )
  const metadata = file.list(file.mapping(extProc, 'grpc_service'), 'initial_metadata')
  const value = generated.forwardedHeaders.join() || 'none'
  file.insert(metadata, metadata.items.length, [
    { key: SENT_HEADERS, value },
    { key: KEY_VERSION, value: generated.keyVersion },
  ])
  const filters = file.list(manager, 'http_filters')
  if (generated.fallback !== undefined) {
    file.insert(filters, filters.items.length - 1, generated.fallback.filters)
    const key = file
      .items(filters)
      .findIndex((filter) =>
        file
          .items(filter, 'typed_config', 'on_request_headers')
          .some((value) => file.text(value, 'object_key') === 'zonegate.key'),
      )
    file.insert(filters, (key < 0 ? at : key) + 1, generated.fallback.filtersBehindKey)
  }
  file.insert(filters, at, generated.filters)
}

function addTracing(file: EnvoyDocument, manager: unknown, { tracing }: Generated): void {
  if (tracing === undefined) return
  const own = file.at(manager, 'tracing')
  if (own !== undefined)
    throw file.error(own, 'tracing: expected none beside tracing.otlp of zonegate.yaml: keep one of the two')
  file.set(manager, 'tracing', tracing.tracing)
  if (file.at(manager, 'request_id_extension') === undefined)
    file.set(manager, 'request_id_extension', tracing.request_id_extension)
}

/** The connection managers with an ext_proc filter: they ask the processor. */
function askingManagers(file: EnvoyDocument, listeners: readonly unknown[]): unknown[] {
  return listeners
    .flatMap((listener) => file.items(listener, 'filter_chains'))
    .flatMap((chain) => file.items(chain, 'filters'))
    .map((filter) => file.at(filter, 'typed_config'))
    .filter((manager) => isOf(file, manager, CONNECTION_MANAGER) && extProcOf(file, manager) >= 0)
}

function extProcOf(file: EnvoyDocument, manager: unknown): number {
  return file
    .items(manager, 'http_filters')
    .findIndex((filter) => isOf(file, file.at(filter, 'typed_config'), EXT_PROC))
}

/** @param earlier cluster specifiers of the routes before: Envoy may still have virtual hosts that name them */
export function renderRoutes(
  source: SourceFile,
  generated: Generated,
  names?: NamesCluster,
  earlier: readonly ZoneOfKey[] = [],
): string {
  const file = new EnvoyDocument(source)
  const configurations = file
    .items(file.root, 'resources')
    .filter((item) => isOf(file, item, ROUTE_CONFIGURATION))
  const hosts = configurations.flatMap((configuration) => file.items(configuration, 'virtual_hosts'))
  const everyDomain = hosts.find((host) => file.items(host, 'domains').some((one) => file.text(one) === '*'))
  if (everyDomain === undefined)
    throw file.error(file.root, `${ROUTE_CONFIGURATION}: expected a virtual host for the domain "*"`)
  const own = file.items(everyDomain, 'routes')
  const routes = file.list(everyDomain, 'routes')
  const { fallback, upstreams } = generated
  const forward = own.find((route) => file.text(route, 'name') === FORWARD)
  // `forward` matches addresses without a cluster's name, so its formats need no change.
  if (upstreams !== undefined) nameDialled(file, file.root, (mapping) => mapping === forward)
  if (own.length > 0) setSettings(file, own.at(-1), generated.askSettings)
  const asking = generated.asks.map(({ match, settings }) => {
    const ask = file.copyOf(own.at(-1))
    file.set(ask, 'match', match)
    setSettings(file, ask, settings)
    return ask
  })
  const fallbacks =
    fallback === undefined || names === undefined || forward === undefined || !takesAllPaths(file, forward)
      ? []
      : [...fallback.routes.map((route) => fallbackRoute(file, forward, route, names)), ...fallback.refusals]
  file.insert(routes, own.length - 1, fallbacks)
  file.insert(routes, own.length - 1, asking)
  if (forward !== undefined)
    file.insert(routes, own.indexOf(forward), [
      ...(fallback === undefined ? [] : [fallback.wrongAnswer]),
      ...(upstreams?.routes ?? []).map((route) => upstreamRoute(file, forward, route)),
    ])
  file.insert(routes, placeOfRoutes(own.map((route) => file.text(route, 'name'))), generated.routes)
  const zonesOfKeys = withEarlier(generated.zonesOfKeys, earlier)
  if (zonesOfKeys.length > 0)
    for (const configuration of configurations) {
      const plugins = file.list(configuration, 'cluster_specifier_plugins')
      file.insert(plugins, plugins.items.length, zonesOfKeys)
    }
  return file.toString(heading('routes.yaml', source))
}

function setSettings(file: EnvoyDocument, route: unknown, settings: Readonly<Record<string, object>>): void {
  if (Object.keys(settings).length === 0) return
  const filters = file.mapping(route, 'typed_per_filter_config')
  for (const [name, setting] of Object.entries(settings)) file.set(filters, name, setting)
}

const FORWARD = 'forward'
/** Fields of a route's action that change the Host. */
const HOST_REWRITES = [
  'host_rewrite',
  'host_rewrite_literal',
  'host_rewrite_header',
  'host_rewrite_path_regex',
]

/** A copy of the operator's route `forward` for the fallback: it uses the zone's name instead of an address. */
function fallbackRoute(
  file: EnvoyDocument,
  forward: unknown,
  { name, match, settings }: FallbackRoute,
  { name: cluster }: NamesCluster,
): object {
  const route = file.copyOf(forward)
  file.set(route, 'name', name)
  file.set(route, 'match', matchOf(file, forward, match))
  setSettings(file, route, settings)
  const metadata = file.mapping(file.mapping(route, 'metadata'), 'filter_metadata')
  file.set(file.mapping(metadata, 'zonegate'), 'path', name)
  const action = file.mapping(route, 'route')
  const leavesHost = HOST_REWRITES.every((rewrite) => file.at(action, rewrite) === undefined)
  for (const rewrite of HOST_REWRITES) file.delete(action, rewrite)
  file.set(action, 'cluster', cluster)
  // The operator's rewrite would use the address, which Envoy does not know yet.
  if (!leavesHost) file.set(action, 'auto_host_rewrite', true)
  return route
}

/** A copy of the operator's route `forward` for addresses of another cluster. */
function upstreamRoute(
  file: EnvoyDocument,
  forward: unknown,
  { cluster, header, settings }: UpstreamRoute,
): object {
  const route = file.copyOf(forward)
  nameDialled(file, route)
  const match = file.mapping(route, 'match')
  const own = file
    .items(match, 'headers')
    .filter((condition) => file.text(condition, 'name')?.toLowerCase() !== ROUTE_HEADER)
  file.set(match, 'headers', [...own, header])
  setSettings(file, route, settings)
  const action = file.mapping(route, 'route')
  file.set(action, 'cluster', cluster)
  return route
}

/** A route for only some paths must not be copied for other paths. */
function takesAllPaths(file: EnvoyDocument, forward: unknown): boolean {
  return file.text(forward, 'match', 'prefix') === '/'
}

/** The operator's conditions in `forward` and the generated ones. The condition on the processor's address is left out. */
function matchOf(
  file: EnvoyDocument,
  forward: unknown,
  { headers, filter_state, ...path }: FallbackRoute['match'],
): object {
  const match = file.copyOf(file.at(forward, 'match'))
  for (const field of ['prefix', 'case_sensitive']) file.delete(match, field)
  for (const [field, value] of Object.entries(path)) file.set(match, field, value)
  const own = file
    .items(match, 'headers')
    .filter((condition) => file.text(condition, 'name')?.toLowerCase() !== ROUTE_HEADER)
  const conditions = {
    headers: [...own, ...headers],
    filter_state: [...file.items(match, 'filter_state'), ...filter_state],
  }
  for (const [field, all] of Object.entries(conditions)) {
    file.delete(match, field)
    if (all.length > 0) file.set(match, field, all)
  }
  return match
}

/**
 * The index of the generated routes in the virtual host for every domain.
 * @param names names of that host's routes
 */
export function placeOfRoutes(names: readonly (string | undefined)[]): number {
  return names.indexOf(BAD_REQUEST) + 1
}

function named(file: EnvoyDocument, items: readonly unknown[], name: string): unknown {
  return items.find((item) => file.text(item, 'name') === name)
}

function isOf(file: EnvoyDocument, message: unknown, type: string): boolean {
  return file.text(message, '@type')?.endsWith(`/${type}`) === true
}

function addressOf(address: string | HostPort): object {
  return typeof address === 'string'
    ? { pipe: { path: address.replace(/^unix:/, '') } }
    : { socket_address: { address: address.host, port_value: address.port } }
}

function heading(name: string, { path }: SourceFile): string[] {
  return [
    `run/${name}: made by "zonegate render" from ${path} and zonegate.yaml.`,
    'What is changed here is lost: change those.',
  ]
}
