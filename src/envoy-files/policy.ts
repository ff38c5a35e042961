import type { ZonePolicy } from '../xds/catalog.ts'
import type { ClusterPolicy } from '../xds/cluster.ts'
import { HTTP_OPTIONS, httpOptions } from '../xds/cold-cluster.ts'
import { FORWARD, type RoutePolicy } from '../xds/learned-routes.ts'
import { durationMs, messageOf, readMessage } from '../xds/message-yaml.ts'
import type { Any, Cluster, HeaderMatcher, Route, RouteConfiguration, VirtualHost } from '../xds/messages.ts'
import { pinsOf } from '../xds/pins.ts'
import { MESSAGE_NAMES } from '../xds/resource.ts'
import { mayMatch } from '../xds/route-match.ts'
import { type Place, type SourceFile, YamlFile } from '../xds/yaml-file.ts'
import { smallBuffersOfRoute } from './body-buffer.ts'
import { differencesOfCluster, differencesOfRoutes } from './policy-differences.ts'

/** What Envoy's files mean for learned zones. Each text is `file:line:column: field: what`. */
export type PolicyReading =
  | { readonly kind: 'policy'; readonly policy: ZonePolicy; readonly cold: ColdPath }
  /** Learned zones would not behave as the cold path does, so nothing is learned. The files may well be as intended. */
  | {
      readonly kind: 'cold only'
      readonly reasons: readonly string[]
      /** The reasons that are mistakes: until they are fixed, no zone can be learned whatever else the files say. */
      readonly mistakes: readonly string[]
      readonly cold: ColdPath
    }
  /** A file can't be read. */
  | { readonly kind: 'faults'; readonly faults: readonly string[] }

/** The cold path, as far as it can be read. A part with fields that only another Envoy may know is absent. */
export interface ColdPath {
  readonly configuration?: RouteConfiguration
  readonly cluster?: Cluster
  /** `request_timeout` of the listeners, the longest. Absent: there is none. */
  readonly requestTimeoutMs?: number
}

export interface PolicyFiles {
  readonly routes: SourceFile
  readonly clusters: SourceFile
  readonly listener: SourceFile
}

/** What the processor's rules add to the operator's files. Headers are in lower case. */
export interface PolicyRules {
  /** The header by which Envoy finds virtual hosts. */
  readonly routeHeader: string
  /** Routes that are added to the virtual host for every domain, in proto3's JSON mapping. */
  readonly routes: readonly object[]
  /** Copies of its last route, which asks the processor, with another match and further settings. They stand before it. */
  readonly asks: readonly { readonly match: object; readonly settings: Readonly<Record<string, object>> }[]
  /** Filter settings that replace those of the last route. */
  readonly askSettings?: Readonly<Record<string, object>> | undefined
  /** Where to insert `routes`. @param names of its own routes */
  readonly placeOfRoutes: (names: readonly (string | undefined)[]) => number
}

/** Fields of the cold cluster that are not copied: its name, and how it finds addresses. */
const DISCOVERY = new Set([
  'name',
  'alt_stat_name',
  'type',
  'cluster_type',
  'lb_policy',
  'load_assignment',
  'cleanup_interval',
  'original_dst_lb_config',
  'dns_lookup_family',
  'dns_refresh_rate',
  'dns_jitter',
  'dns_failure_refresh_rate',
  'respect_dns_ttl',
  'dns_resolvers',
  'use_tcp_for_dns_lookups',
  'dns_resolution_config',
  'typed_dns_resolver_config',
  'wait_for_warm_on_init',
])

const ROUTE_CONFIGURATION = 'envoy.config.route.v3.RouteConfiguration'
const ROUTE = 'envoy.config.route.v3.Route'
const CLUSTER = MESSAGE_NAMES.cluster

/**
 * Reads what learned zones copy from the operator's files: the virtual host for every domain, and the cluster that its route
 * `forward` leads to.
 */
export function readPolicy(files: PolicyFiles, rules: PolicyRules): PolicyReading {
  const reading = new Reading(files, rules)
  const routes = reading.routes()
  const cluster = reading.cluster(routes)
  const { faults, mistakes, cold } = reading
  const reasons = [...mistakes, ...reading.reasons]
  if (faults.length > 0) return { kind: 'faults', faults }
  if (routes === undefined || cluster === undefined || reasons.length > 0)
    return { kind: 'cold only', reasons, mistakes, cold }
  const { requestTimeoutMs } = cold
  return {
    kind: 'policy',
    policy: { routes, cluster, ...(requestTimeoutMs !== undefined && { requestTimeoutMs }) },
    cold,
  }
}

class Reading {
  readonly reasons: string[] = []
  readonly mistakes: string[] = []
  cold: ColdPath = {}
  readonly #routes: YamlFile
  readonly #clusters: YamlFile
  readonly #listener: YamlFile
  readonly #rules: PolicyRules
  readonly #faults: string[] = []

  constructor({ routes, clusters, listener }: PolicyFiles, rules: PolicyRules) {
    this.#routes = new YamlFile(routes)
    this.#clusters = new YamlFile(clusters)
    this.#listener = new YamlFile(listener)
    this.#rules = rules
  }

  get faults(): readonly string[] {
    return [...this.#routes.faults, ...this.#clusters.faults, ...this.#listener.faults, ...this.#faults]
  }

  routes(): RoutePolicy | undefined {
    const file = this.#routes
    const place = file
      .items(file.at(file.root, 'resources'))
      .find((resource) => file.text(resource, '@type')?.endsWith(`/${ROUTE_CONFIGURATION}`))
    if (file.faults.length > 0) return undefined
    if (place === undefined) return file.fault(file.root, `resources: expected ${ROUTE_CONFIGURATION}`)
    const configuration = this.#read<RouteConfiguration>(file, ROUTE_CONFIGURATION, place)
    if (configuration === undefined) return undefined

    const requestTimeoutMs = longestRequestMs(this.#listener)
    if (requestTimeoutMs !== undefined) this.cold = { requestTimeoutMs }

    const { name, vhost_header, virtual_hosts = [] } = configuration
    if (name === undefined) return this.#broken(place, 'name: expected a text')
    if (vhost_header?.toLowerCase() !== this.#rules.routeHeader)
      this.#mistake(
        file,
        place,
        `vhost_header: expected ${this.#rules.routeHeader}, by which learned zones are found`,
      )
    if (configuration['vhds'] === undefined)
      this.#mistake(file, place, 'vhds: expected a config_source, by which learned zones arrive')
    this.#requireUnique(file, place, virtual_hosts)
    const index = virtual_hosts.findIndex(({ domains = [] }) => domains.includes('*'))
    const virtualHost = virtual_hosts[index]
    const spliced = virtual_hosts.map((each) => (each === virtualHost ? this.#withGenerated(each) : each))
    const asking = spliced.map((each, at) => (at === index ? this.#withAsks(each) : each))
    this.cold = { ...this.cold, configuration: { ...configuration, virtual_hosts: asking } }
    if (virtualHost === undefined)
      return this.#broken(place, 'virtual_hosts: expected one for the domain "*"')
    const host = file.items(file.at(place, 'virtual_hosts'))[index] as Place
    const filters = coldFilters(this.#listener)
    this.#requireColdPath(host, virtualHost, filters)
    this.#requireRoutes(host, virtualHost)
    for (const at of [place, host, ...file.items(file.at(host, 'routes'))])
      for (const { place: buffer, what } of smallBuffersOfRoute(file, at, this.#listener))
        this.#broken(buffer, what)
    const coldFilterNames = new Set(filters.map(({ name }) => name))
    this.reasons.push(
      ...differencesOfRoutes(file, place, host, virtualHost, {
        ...this.#rules,
        coldFilters: coldFilterNames,
      }),
    )
    const { name: _name, domains: _all, routes = [], ...fields } = spliced[index] as VirtualHost
    const forward = routes.find((route) => route.name === FORWARD)
    const settings = Object.entries(forward?.typed_per_filter_config ?? {}).filter(
      ([key]) => !coldFilterNames.has(key),
    )
    return {
      routeConfiguration: name,
      coldRoutes: routes,
      fields,
      pins: pinsOf(configuration),
      ...(settings.length > 0 && { filterSettings: Object.fromEntries(settings) }),
    }
  }

  /**
   * Checks what the cold path needs. Envoy may accept a file without it, such as one that was cut off while it was saved, and would
   * then answer 502 or 503 to every request that asks.
   */
  #requireColdPath(host: Place, { routes = [] }: VirtualHost, filters: readonly ColdFilter[]): undefined {
    const file = this.#routes
    const at = routes.findIndex(({ name }) => name === FORWARD)
    if (at < 0) return this.#broken(host, `routes: expected one with the name ${FORWARD}`)
    const places = file.items(file.at(host, 'routes'))
    const ask = routes.at(-1)
    if (at === routes.length - 1 || ask === undefined)
      this.#broken(host, `routes: expected one after ${FORWARD}: the one that asks the processor`)
    else {
      const settings = ask.typed_per_filter_config ?? {}
      const missing = filters.filter(({ name, disabled }) => disabled && settings[name] === undefined)
      for (const { name } of missing)
        this.#broken(
          places.at(-1) ?? host,
          `typed_per_filter_config: expected ${name}: without it the processor isn't asked, or its answer isn't used`,
        )
    }
    const settings = Object.values(routes[at]?.typed_per_filter_config ?? {})
    if (settings.some(({ type_url = '' }) => FORWARD_PROXY.test(type_url)))
      this.#broken(
        file.at(places[at], 'typed_per_filter_config') ?? host,
        `expected host_rewrite in route instead of the forward proxy: without it zones get the client's Host (${UPGRADE})`,
      )
    const { routeHeader } = this.#rules
    // Before the processor is asked, the header has the method and the id, afterwards the address.
    const asked = { [routeHeader]: { values: ['POST/0'] } }
    const surelyHolds = (condition: HeaderMatcher): boolean => {
      const inverted = { ...condition, invert_match: condition.invert_match !== true }
      return !mayMatch({ match: { headers: [inverted] } }, asked)
    }
    const conditions = (routes[at]?.match?.headers ?? []).filter(
      ({ name }) => name?.toLowerCase() === routeHeader,
    )
    if (conditions.every(surelyHolds))
      this.#broken(
        file.at(places[at], 'match') ?? host,
        `headers: expected a condition on ${routeHeader} that only an address fulfils, which is what the processor answers`,
      )
    return undefined
  }

  #requireRoutes(host: Place, { routes = [] }: VirtualHost): undefined {
    const file = this.#routes
    const expected = (what: string): undefined => this.#mistake(file, host, `routes: expected ${what}`)
    if (routes.filter(({ name }) => name === FORWARD).length > 1)
      return expected(`one with the name ${FORWARD}`)
    const places = file.items(file.at(host, 'routes'))
    const generated = new Set(this.#rules.routes.map((route) => (route as { readonly name?: string }).name))
    for (const [index, { name }] of routes.entries())
      if (name !== undefined && generated.has(name))
        this.#mistake(
          file,
          places[index] ?? host,
          `name: expected no route ${name}: zonegate adds it, so remove this one`,
        )
    const at = routes.findIndex(({ name }) => name === FORWARD)
    const [ask, ...more] = routes.slice(at + 1)
    if (ask?.match?.prefix !== '/' || more.length > 0)
      expected(`exactly one after ${FORWARD}, for the prefix "/": the one that asks the processor`)
    const forward = routes[at]
    if (forward === undefined) return undefined
    const place = file.items(file.at(host, 'routes'))[at] as Place
    if (forward.match?.prefix !== '/' || forward.route?.cluster === undefined)
      return this.#mistake(file, place, 'expected the match prefix "/" and a route to a cluster')
    return undefined
  }

  /** Reads the cold cluster. The processor sends it to Envoy, so everything that it can't read is a fault. */
  cluster(routes: RoutePolicy | undefined): ClusterPolicy | undefined {
    const file = this.#clusters
    if (file.faults.length > 0) return undefined
    const resources = file.items(file.at(file.root, 'resources'))
    const [place] = resources
    if (place === undefined || resources.length > 1 || !file.text(place, '@type')?.endsWith(`/${CLUSTER}`))
      return file.fault(place ?? file.root, `resources: expected one ${CLUSTER}`)
    const cluster = this.#readCluster(place)
    if (cluster === undefined || routes === undefined) return undefined
    if (cluster.type !== 'ORIGINAL_DST' || JSON.stringify(cluster.original_dst_lb_config) !== DIALS_ADDRESS)
      return file.fault(
        file.at(place, 'original_dst_lb_config') ?? place,
        `expected type: ORIGINAL_DST, and as original_dst_lb_config ${DIALS_ADDRESS} (${UPGRADE})`,
      )
    this.cold = { ...this.cold, cluster }
    const name = routes.coldRoutes.find((route) => route.name === FORWARD)?.route?.cluster
    if (name !== undefined && cluster.name !== name)
      return file.fault(place, `name: expected ${name}, to which ${FORWARD} leads`)
    this.reasons.push(...differencesOfCluster(file, place, DISCOVERY, this.#rules))
    const rest = Object.entries(cluster).filter(([field]) => !DISCOVERY.has(field) && field !== TLS_OPTIONS)
    const { typed_extension_protocol_options: options } = cluster
    return {
      ...Object.fromEntries(rest),
      ...(options && { typed_extension_protocol_options: withoutTls(options) }),
    }
  }

  #readCluster(place: Place): Cluster | undefined {
    const file = this.#clusters
    const { message, faults, unknown } = readMessage(file, CLUSTER, place)
    for (const { place: at, what } of [...faults, ...unknown]) file.fault(at, what)
    return message as Cluster | undefined
  }

  #read<Kind>(file: YamlFile, name: string, place: Place): Kind | undefined {
    const { message, faults, unknown } = readMessage(file, name, place)
    for (const fault of faults) this.#faults.push(file.line(fault.place, fault.what))
    for (const { place: at, what } of unknown) this.reasons.push(file.line(at, what))
    return message as Kind | undefined
  }

  #withGenerated(host: VirtualHost): VirtualHost {
    const own = host.routes ?? []
    const at = this.#rules.placeOfRoutes(own.map(({ name }) => name))
    const { routes, askSettings = {} } = this.#rules
    const all = own.map((route, index) =>
      index === own.length - 1 ? withSettings(route, askSettings) : route,
    )
    return { ...host, routes: all.toSpliced(at, 0, ...routes.map(generatedRoute)) }
  }

  #withAsks(host: VirtualHost): VirtualHost {
    const routes = host.routes ?? []
    const ask = routes.at(-1)
    if (ask === undefined) return host
    const asks = this.#rules.asks.map(({ match, settings }): Route => {
      return { ...withSettings(ask, settings), ...generatedRoute({ match }) }
    })
    return { ...host, routes: routes.toSpliced(-1, 0, ...asks) }
  }

  /** Envoy refuses two virtual hosts with the same name, or with the same domain in any case. */
  #requireUnique(file: YamlFile, configuration: Place, hosts: readonly VirtualHost[]): void {
    const places = file.items(file.at(configuration, 'virtual_hosts'))
    const seen = new Set<string>()
    for (const [index, { name = '', domains = [] }] of hosts.entries()) {
      // The proof (proof.ts) gives virtual hosts other names, so Envoy would not notice this.
      if (name === '') this.#faults.push(file.line(places[index] ?? configuration, 'name: expected a text'))
      const keys = [`name ${name}`, ...domains.map((domain) => `domain ${domain.toLowerCase()}`)]
      for (const key of keys) {
        if (seen.has(key))
          this.#faults.push(
            file.line(places[index] ?? configuration, `expected one virtual host with the ${key}`),
          )
        seen.add(key)
      }
    }
  }

  /** Adds a fault: Envoy would accept the file, but the cold path would not work. */
  #broken(place: Place, what: string): undefined {
    this.#faults.push(this.#routes.line(place, what))
    return undefined
  }

  #mistake(file: YamlFile, place: Place, what: string): undefined {
    if (file.faults.length === 0) this.mistakes.push(file.line(place, what))
    return undefined
  }
}

/** The route configuration of a rendered file; undefined if it can't be read. */
export function routeConfigurationIn(text: string): RouteConfiguration | undefined {
  const file = new YamlFile({ path: 'run/routes.yaml', text })
  const [place] = file.items(file.at(file.root, 'resources'))
  return place && (readMessage(file, ROUTE_CONFIGURATION, place).message as RouteConfiguration | undefined)
}

function withSettings(route: Route, settings: Readonly<Record<string, object>>): Route {
  const { typed_per_filter_config: further } = generatedRoute({ typed_per_filter_config: settings })
  if (further === undefined) return route
  return { ...route, typed_per_filter_config: { ...route.typed_per_filter_config, ...further } }
}

/** `forward` had this setting in earlier releases. */
const FORWARD_PROXY = /\.dynamic_forward_proxy\.v3\.PerRouteConfig$/
const UPGRADE = 'CHANGELOG.md, "To upgrade"'

/** `original_dst_lb_config` that takes the address from the processor's metadata and from nowhere else. */
const DIALS_ADDRESS = JSON.stringify({ metadata_key: { key: 'zonegate', path: [{ key: 'address' }] } })

/** A generated route as a message. @param route in proto3's JSON mapping */
export function generatedRoute(route: object): Route {
  return messageOf<Route>(ROUTE, route)
}

/** The cold path's filters: the one that asks the processor, and those that use its answer. */
const COLD_FILTER = /\/envoy\.extensions\.filters\.http\.ext_proc\.v3\.ExternalProcessor$/
const ANSWER = /DYNAMIC_METADATA\(zonegate:address\)|^zonegate\.key$/m

interface ColdFilter {
  readonly name: string
  /** True: it runs only for routes that turn it on. */
  readonly disabled: boolean
}

/** Configurations of the listeners' network filters. */
function networkFilters(file: YamlFile): (Place | undefined)[] {
  return file
    .items(file.at(file.root, 'resources'))
    .flatMap((listener) => file.items(file.at(listener, 'filter_chains')))
    .flatMap((chain) => file.items(file.at(chain, 'filters')))
    .map((filter) => file.at(filter, 'typed_config'))
}

const CONNECTION_MANAGER =
  /\/envoy\.extensions\.filters\.network\.http_connection_manager\.v3\.HttpConnectionManager$/

/** Undefined if a listener lets a request take as long as it likes. */
function longestRequestMs(file: YamlFile): number | undefined {
  const all = networkFilters(file)
    .filter((config) => CONNECTION_MANAGER.test(file.text(config, '@type') ?? ''))
    .map((config) => durationMs(file.text(config, 'request_timeout') ?? '') ?? 0)
  return all.length === 0 || all.includes(0) ? undefined : Math.max(...all)
}

function coldFilters(file: YamlFile): ColdFilter[] {
  return networkFilters(file)
    .flatMap((config) => file.items(file.at(config, 'http_filters')))
    .filter((filter) => {
      const config = file.at(filter, 'typed_config')
      return COLD_FILTER.test(file.text(config, '@type') ?? '') || ANSWER.test(textsIn(file, config))
    })
    .map((filter) => ({
      name: file.text(filter, 'name') ?? '',
      disabled: file.scalar(file.at(filter, 'disabled')) === true,
    }))
}

function textsIn(file: YamlFile, place: Place | undefined): string {
  const inner = [...file.items(place), ...file.entries(place).map(([, value]) => value)]
  return [file.text(place) ?? '', ...inner.map((each) => textsIn(file, each))].join('\n')
}

/** Only TLS uses this field. Without TLS it is only a cost: Envoy parses each request's Host for it. */
const TLS_OPTIONS = 'upstream_http_protocol_options'

function withoutTls(all: Readonly<Record<string, Any>>): Readonly<Record<string, Any>> {
  const packed = all[HTTP_OPTIONS]
  if (packed?.value === undefined) return all
  const { [TLS_OPTIONS]: _, ...options } = httpOptions.decode(packed.value)
  return { ...all, [HTTP_OPTIONS]: { ...packed, value: httpOptions.encode(options) } }
}
