import { fieldOf } from '../envoy-files/policy-differences.ts'
import { ROUTE_HEADER } from '../ext-proc/messages.ts'
import { FORWARD } from '../xds/learned-routes.ts'
import type { Place, YamlFile } from '../xds/yaml-file.ts'
import { isTypo } from './faults.ts'
import type { Config } from './schema.ts'

/** Finds settings that Envoy accepts, but that do something else than the operator probably means (docs/recipes/envoy.md). */

/** With these conditions Envoy retries a request only if certainly no zone has received it. */
const NEVER_SENT = ['connect-failure', 'refused-stream', 'reset-before-request', 'http3-post-connect-failure']
/** The conditions of `retry_on` after which a zone may get a request again: Envoy's docs of x-envoy-retry-on and x-envoy-retry-grpc-on. */
const SENT_AGAIN = [
  ...['5xx', 'gateway-error', 'reset', 'envoy-ratelimited', 'retriable-4xx', 'retriable-status-codes'],
  ...['retriable-headers', 'cancelled', 'deadline-exceeded', 'internal', 'resource-exhausted', 'unavailable'],
]
const LOCAL_RATE_LIMIT = /\/envoy\.extensions\.filters\.http\.local_ratelimit\.v3\.LocalRateLimit$/
/** Envoy's defaults. */
const RETRIES_DEFAULT = 1
const DYNAMIC_DESCRIPTORS_DEFAULT = 20

export interface PolicyFilesRead {
  readonly routes: YamlFile
  readonly clusters: YamlFile
  readonly listener: YamlFile
}

/** @returns the notes, each `file:line:column: field: what` */
export function notesOfPolicies(files: PolicyFilesRead, config: Config): string[] {
  if ([files.routes, files.clusters, files.listener].some(({ faults }) => faults.length > 0)) return []
  return [
    ...notesOfRetries(files.routes),
    ...notesOfChecks(files.clusters),
    ...notesOfRateLimits(files, config),
  ]
}

/** The virtual host for every domain, and its route `forward`. */
function coldPlaces(file: YamlFile): {
  readonly host?: Place | undefined
  readonly forward?: Place | undefined
} {
  const hosts = resources(file).flatMap((each) => file.items(fieldOf(file, each, 'virtual_hosts')))
  const host = hosts.find((each) =>
    file.items(fieldOf(file, each, 'domains')).some((name) => file.text(name) === '*'),
  )
  const forward = file
    .items(fieldOf(file, host, 'routes'))
    .find((route) => file.text(route, 'name') === FORWARD)
  return { host, forward }
}

function notesOfRetries(file: YamlFile): string[] {
  const { host, forward } = coldPlaces(file)
  const action = fieldOf(file, forward, 'route')
  const policy = fieldOf(file, action, 'retry_policy') ?? fieldOf(file, host, 'retry_policy')
  if (policy === undefined) return []
  const notes: string[] = []
  const retryOn = fieldOf(file, policy, 'retry_on')
  const names = (file.text(retryOn) ?? '').split(',').map((name) => name.trim())
  const sent = names.filter((name) => SENT_AGAIN.includes(name))
  if (retryOn !== undefined && sent.length > 0)
    notes.push(
      file.line(
        retryOn,
        `with ${sent.join(', ')} Envoy sends a request again that a zone has already received`,
      ),
    )
  const known = [...NEVER_SENT, ...SENT_AGAIN]
  const unknown = names.filter((name) => name !== '' && !known.includes(name))
  if (retryOn !== undefined)
    notes.push(...unknown.map((name) => file.line(retryOn, noSuchCondition(name, known))))
  const backOff = fieldOf(file, policy, 'retry_back_off')
  const retries = Number(file.scalar(fieldOf(file, policy, 'num_retries')) ?? RETRIES_DEFAULT)
  if (backOff !== undefined && retries <= RETRIES_DEFAULT)
    notes.push(
      file.line(
        backOff,
        `num_retries is ${retries}: expected more, so that Envoy still retries when a restarting zone is back`,
      ),
    )
  const timeout = secondsOf(file, fieldOf(file, action, 'timeout'))
  const perTry = fieldOf(file, policy, 'per_try_timeout')
  if (
    perTry !== undefined &&
    timeout !== undefined &&
    timeout > 0 &&
    (secondsOf(file, perTry) ?? 0) >= timeout
  )
    notes.push(
      file.line(perTry, `expected less than the route's timeout (${timeout}s), which ends all tries`),
    )
  return notes
}

/** Envoy ignores a condition that it does not know. */
function noSuchCondition(name: string, known: readonly string[]): string {
  const meant = known.find((each) => isTypo(name, each))
  const hint = meant === undefined ? `expected one of ${known.join(', ')}` : `did you mean ${meant}?`
  return `${name} is not a retry condition of Envoy, which ignores it: ${hint}`
}

function notesOfChecks(file: YamlFile): string[] {
  const notes: string[] = []
  for (const cluster of resources(file)) {
    const checks = fieldOf(file, cluster, 'health_checks')
    if (checks === undefined) continue
    notes.push(
      file.line(
        checks,
        'health checks apply only to learned zones with several addresses: requests that ask the processor use an address even if it is unhealthy',
      ),
    )
    for (const check of file.items(checks)) {
      if (fieldOf(file, check, 'no_traffic_interval') === undefined)
        notes.push(
          file.line(
            check,
            "no_traffic_interval: expected a value: with Envoy's default, the second check of a zone comes after 60 s",
          ),
        )
      const http = fieldOf(file, check, 'http_health_check')
      if (http !== undefined && fieldOf(file, http, 'host') === undefined)
        notes.push(
          file.line(
            http,
            "host: expected a value: without it, Envoy sends the cluster's name as Host, such as default/12",
          ),
        )
    }
  }
  return notes
}

function notesOfRateLimits({ listener: file, routes }: PolicyFilesRead, config: Config): string[] {
  const notes: string[] = []
  for (const filters of httpFilters(file)) {
    const asking = filters.findIndex((filter) =>
      /\.ext_proc\.v3\.ExternalProcessor$/.test(typeOf(file, filter)),
    )
    for (const [index, filter] of filters.entries()) {
      if (!LOCAL_RATE_LIMIT.test(typeOf(file, filter))) continue
      const limit = fieldOf(file, filter, 'typed_config') as Place
      notes.push(...notesOfBuckets(file, limit, config))
      if (asking >= 0 && index > asking && textsIn(file, limit).includes(ROUTE_HEADER))
        notes.push(
          file.line(
            filter,
            `expected before ext_proc: behind it, ${ROUTE_HEADER} of a request that asked is an address, not a key`,
          ),
        )
      const name = file.text(filter, 'name') ?? ''
      const { forward } = coldPlaces(routes)
      const settings = routes.entries(fieldOf(routes, forward, 'typed_per_filter_config'))
      const isOff = file.scalar(fieldOf(file, filter, 'disabled')) === true
      if (isOff && !settings.some(([key]) => key === name))
        notes.push(
          file.line(
            filter,
            `the filter is disabled, and no route enables it: expected ${name} under typed_per_filter_config of forward and of the route after it`,
          ),
        )
    }
  }
  return notes
}

function notesOfBuckets(file: YamlFile, limit: Place, { learned }: Config): string[] {
  const notes: string[] = []
  const missing = ['filter_enabled', 'filter_enforced'].filter(
    (name) => fieldOf(file, limit, name) === undefined,
  )
  if (fieldOf(file, limit, 'token_bucket') !== undefined && missing.length > 0)
    notes.push(
      file.line(
        limit,
        `${missing.join(', ')}: expected 100 %: with Envoy's default of 0 %, the filter refuses nothing`,
      ),
    )
  const descriptors = fieldOf(file, limit, 'descriptors')
  if (descriptors === undefined) return notes
  if (fieldOf(file, limit, 'rate_limits') === undefined)
    notes.push(
      file.line(descriptors, 'expected rate_limits beside it, which give requests their descriptors'),
    )
  const isDynamic = file
    .items(descriptors)
    .flatMap((each) => file.items(fieldOf(file, each, 'entries')))
    .some((entry) => (file.text(entry, 'value') ?? '') === '')
  const maxPlace = fieldOf(file, limit, 'max_dynamic_descriptors')
  const max = Number(file.scalar(maxPlace) ?? DYNAMIC_DESCRIPTORS_DEFAULT)
  if (isDynamic && learned.enabled && max < learned.zonesMax)
    notes.push(
      file.line(
        maxPlace ?? descriptors,
        `max_dynamic_descriptors: expected learned.zonesMax (${learned.zonesMax}) or more, got ${max}: with more zones than that, Envoy forgets counts`,
      ),
    )
  return notes
}

function resources(file: YamlFile): Place[] {
  return file.items(file.at(file.root, 'resources'))
}

/** The HTTP filters of each connection manager. */
function httpFilters(file: YamlFile): Place[][] {
  return resources(file)
    .flatMap((listener) => file.items(fieldOf(file, listener, 'filter_chains')))
    .flatMap((chain) => file.items(fieldOf(file, chain, 'filters')))
    .map((filter) => file.items(fieldOf(file, fieldOf(file, filter, 'typed_config'), 'http_filters')))
}

function typeOf(file: YamlFile, filter: Place): string {
  return file.text(fieldOf(file, filter, 'typed_config'), '@type') ?? ''
}

function textsIn(file: YamlFile, place: Place): string {
  const inner = [...file.items(place), ...file.entries(place).map(([, value]) => value)]
  return [file.text(place) ?? '', ...inner.map((each) => textsIn(file, each))].join('\n')
}

function secondsOf(file: YamlFile, place: Place | undefined): number | undefined {
  const [, seconds] = /^([\d.]+)s$/.exec(file.text(place) ?? '') ?? []
  return seconds === undefined ? undefined : Number(seconds)
}
