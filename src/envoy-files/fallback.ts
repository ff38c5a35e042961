import { ROUTE_HEADER } from '../ext-proc/messages.ts'
import { nameOf, type Rule, type Rules, servicesOf } from '../routing/rules.ts'
import type { FilterSettings } from './body-filters.ts'
import type { HeaderCondition } from './expressions.ts'
import { plainPattern } from './id-pattern.ts'
import { type KeyPattern, keyPatterns } from './key.ts'
import type { FallbackDns } from './names-cluster.ts'

/**
 * The fallback: if the processor is not reachable or does not answer, Envoy makes the zone's name from the request's key and resolves
 * it itself. If the processor answered, its answer always counts.
 *
 * In the first case ext_proc lets the request continue. A filter behind it stores the status of the call and the key as filter state.
 * Envoy then looks up the route again, and the routes below match this state only. So no header of a client can choose the zone.
 */

const TYPE = 'type.googleapis.com/envoy.extensions'
const HTTP = `${TYPE}.filters.http`
const ON = { '@type': 'type.googleapis.com/envoy.config.route.v3.FilterConfig', config: {} }

/** Filter state of a request that asked: the gRPC status for its head, the status for its body, and its key. */
const ASKED = 'zonegate.asked'
const ASKED_FORMAT = `%FILTER_STATE(ext_proc:FIELD:request_header_call_status)% %FILTER_STATE(ext_proc:FIELD:request_body_last_call_status)% %REQ(${ROUTE_HEADER})%`
/** Envoy writes this if there is no status. */
const NONE = '-'
/** gRPC's UNAVAILABLE (14): the processor is not reachable. DEADLINE_EXCEEDED (4): it does not answer. Every other status is an answer. */
const UNANSWERED = `(?:(?:14|4) ${NONE}|0 (?:14|4)) `
/** All other statuses except 0, OK. */
const WRONG = '(?:[1-35-9]|1[0-35-6])'

/** A key that finds no virtual host. */
const NO_KEY = 'asked'

const NAMES = {
  asked: 'asked',
  noKey: 'no_key',
  key: 'fallback_key',
  zone: 'fallback_zone',
  address: 'fallback_address',
} as const

/** Names of the routes. */
const FALLBACK = 'fallback'
const UNAVAILABLE = 'processor_unavailable'

/** The fallback's additions to Envoy's files: messages of Envoy in proto3's JSON mapping. */
export interface GeneratedFallback {
  /** How Envoy asks nameservers. */
  readonly dns: FallbackDns
  /** Further settings of each route that asks. */
  readonly askSettings: FilterSettings
  /** They come right behind the filter that stores the key. */
  readonly filtersBehindKey: readonly object[]
  /** They come in front of the router. */
  readonly filters: readonly object[]
  /** Copies of the route `forward` with these changes. */
  readonly routes: readonly FallbackRoute[]
  /** A route in front of `forward`. It refuses requests whose call failed, even if an address came before the failure. */
  readonly wrongAnswer: object
  /** Routes that refuse requests for which Envoy can't find the zone. */
  readonly refusals: readonly object[]
}

export interface FallbackRoute {
  readonly name: string
  /** Conditions in addition to those of `forward`. */
  readonly match: {
    readonly path?: string
    readonly prefix?: string
    readonly filter_state: readonly object[]
    readonly headers: readonly HeaderCondition[]
  }
  readonly settings: FilterSettings
}

export function generateFallback(rules: Rules, dns: FallbackDns): GeneratedFallback {
  return {
    dns,
    askSettings: {
      ext_proc: { '@type': `${HTTP}.ext_proc.v3.ExtProcPerRoute`, overrides: { failure_mode_allow: true } },
      ...Object.fromEntries(Object.values(NAMES).map((name) => [name, ON])),
    },
    filtersBehindKey: [
      off(NAMES.asked, stateOf([ASKED, ASKED_FORMAT])),
      // If the processor names no address, the key would stay in place and find the first route again.
      off(NAMES.noKey, {
        '@type': `${HTTP}.header_mutation.v3.HeaderMutation`,
        mutations: routeHeader(NO_KEY),
      }),
    ],
    filters: [
      off(NAMES.key, { '@type': `${HTTP}.header_mutation.v3.HeaderMutation` }),
      off(NAMES.zone, { '@type': `${HTTP}.header_to_metadata.v3.Config` }),
      off(NAMES.address, { '@type': `${HTTP}.set_filter_state.v3.Config` }),
    ],
    routes: rules.flatMap((rule) => routesOf(rule, dns.search)),
    wrongAnswer: refusal(502, `(?:${WRONG} \\S+|\\S+ ${WRONG}) .*`),
    refusals: [
      refusal(504, `(?:4 ${NONE}|0 4) .*`),
      // No status: Envoy did not start the call, because too many requests wait for the processor.
      refusal(502, `(?:[1-9][0-9]* \\S+|\\S+ [1-9][0-9]*|${NONE} ${NONE}) .*`),
    ],
  }
}

/**
 * True if Envoy can find the zones of the rule itself. Envoy must read ids exactly as the processor does, ports must not come from SRV
 * records, and all zones must speak HTTP/1.1 in plain text, like the cluster `zones`. This is decided for the whole rule: requests of
 * a service without a route would go to the service for all other paths.
 */
export function hasFallback(rule: Rule): boolean {
  return fallbackHindrances(rule).length === 0
}

/** The reasons why a rule has no fallback, each in a few words; empty: it has one. */
export function fallbackHindrances(rule: Rule): string[] {
  const services = servicesOf(rule)
  const namesOf = (some: typeof services): string => some.map(({ name }) => name).join(', ')
  const bySrv = services.filter(({ srv }) => srv !== undefined)
  const byUpstream = services.filter(({ upstream }) => upstream !== undefined)
  return [
    ...(plainPattern(rule.idPattern) === null
      ? ['Envoy may read its idPattern in another way than the processor']
      : []),
    ...(bySrv.length > 0
      ? [`Envoy does not ask for SRV records, but port: srv is set for ${namesOf(bySrv)}`]
      : []),
    ...(byUpstream.length > 0
      ? [`the fallback speaks only HTTP/1.1 in plain text, but upstream is set for ${namesOf(byUpstream)}`]
      : []),
  ]
}

function routesOf(rule: Rule, search: string): FallbackRoute[] {
  const idPattern = plainPattern(rule.idPattern)
  const services = servicesOf(rule)
  const hasNames = services.every(({ label }) => nameOf(rule.host, '1', { label }, search) !== null)
  if (idPattern === null || !hasFallback(rule) || !hasNames) return []
  const nameOfService = (label: string): string =>
    rule.host.replaceAll('{service}', label).replaceAll('{search}', search).toLowerCase()
  // The id must fit all services. Otherwise a request to one of them would go to the service for all other paths.
  const fits = idThatFits(services.map(({ label }) => nameOfService(label)))
  return services.flatMap(({ label, port, paths }) => {
    const name = nameOfService(label)
    return keyPatterns(rule).flatMap((key) =>
      (paths.length === 0 ? [{ prefix: '/' }] : paths.map((path) => ({ path }))).map((place) => ({
        name: FALLBACK,
        match: {
          ...place,
          filter_state: [idPattern, fits].map((id) => isAsked(`${UNANSWERED}${key.with(id)}`)),
          headers: key.conditions,
        },
        settings: settingsOf(key, fits, name, port),
      })),
    )
  })
}

function settingsOf(key: KeyPattern, fits: string, name: string, port: number): FilterSettings {
  return {
    // `header_to_metadata` can only read headers.
    [NAMES.key]: {
      '@type': `${HTTP}.header_mutation.v3.HeaderMutationPerRoute`,
      mutations: routeHeader('%FILTER_STATE(zonegate.key:PLAIN)%'),
    },
    [NAMES.zone]: {
      '@type': `${HTTP}.header_to_metadata.v3.Config`,
      request_rules: [
        {
          header: ROUTE_HEADER,
          on_header_present: {
            metadata_namespace: 'zonegate',
            key: 'zone',
            regex_value_rewrite: {
              pattern: { regex: `^${key.with(`(${fits})`)}$` },
              substitution: name.replaceAll('{id}', '\\1'),
            },
          },
        },
      ],
    },
    // Envoy prefers these to the Host (Envoy doc: "Well Known Filter State Objects").
    [NAMES.address]: stateOf(
      ['envoy.upstream.dynamic_host', '%DYNAMIC_METADATA(zonegate:zone)%'],
      ['envoy.upstream.dynamic_port', String(port)],
    ),
  }
}

/** The longest label and the longest name (RFC 1035 section 2.3.4). */
const LABEL_LENGTH_MAX = 63
const NAME_LENGTH_MAX = 253

/** A regular expression for ids that make valid host names of all these patterns, as `nameOf` in src/routing/rules.ts checks. */
function idThatFits(names: readonly string[]): string {
  const labels = names.flatMap((name) => name.split('.'))
  const lengths = [
    ...labels.map((label) => [label, LABEL_LENGTH_MAX] as const),
    ...names.map((name) => [name, NAME_LENGTH_MAX] as const),
  ]
  const longest = lengths.map(([text, max]) => {
    const [rest, count] = [text.replaceAll('{id}', '').length, text.split('{id}').length - 1]
    return count === 0 ? max : Math.floor((max - rest) / count)
  })
  const max = Math.min(LABEL_LENGTH_MAX, ...longest)
  const first = labels.some((label) => label.startsWith('{id}')) ? LETTER : LETTER_OR_HYPHEN
  const last = labels.some((label) => label.endsWith('{id}')) ? LETTER : LETTER_OR_HYPHEN
  // A lone hyphen is no id: Envoy writes it for a missing value.
  const longer = max < 2 ? [] : [`${first}${LETTER_OR_HYPHEN}{0,${max - 2}}${last}`]
  return `(?:${[LETTER, ...longer].join('|')})`
}

const LETTER = '[A-Za-z0-9]'
const LETTER_OR_HYPHEN = '[A-Za-z0-9-]'

function refusal(status: number, regex: string): object {
  return {
    name: UNAVAILABLE,
    match: { prefix: '/', filter_state: [isAsked(regex)] },
    direct_response: { status },
  }
}

function isAsked(regex: string): object {
  return { key: ASKED, string_match: { safe_regex: { regex } } }
}

function routeHeader(value: string): object {
  const header = { key: ROUTE_HEADER, value }
  return { request_mutations: [{ append: { header, append_action: 'OVERWRITE_IF_EXISTS_OR_ADD' } }] }
}

function off(name: string, typed_config: object): object {
  return { name, disabled: true, typed_config }
}

function stateOf(...values: readonly (readonly [key: string, format: string])[]): object {
  return {
    '@type': `${HTTP}.set_filter_state.v3.Config`,
    on_request_headers: values.map(([object_key, format]) => ({
      object_key,
      // Envoy's own keys have a factory already.
      ...(object_key === ASKED && { factory_key: 'envoy.string' }),
      format_string: { text_format_source: { inline_string: format } },
    })),
  }
}
