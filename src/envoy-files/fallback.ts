import { ROUTE_HEADER } from '../ext-proc/messages.ts'
import { nameOf, type Rule, type Rules, servicesOf } from '../routing/rules.ts'
import type { FilterSettings } from './body-filters.ts'
import type { HeaderCondition } from './expressions.ts'
import { plainPattern } from './id-pattern.ts'
import { type KeyPattern, keyPatterns } from './key.ts'
import type { FallbackDns } from './names-cluster.ts'

/**
 * What Envoy does with a request that asked a processor which is not there, or does not answer: it makes the zone's name of the
 * request's key, and resolves it itself. A processor that answered, whatever it was, is never passed over.
 *
 * ext_proc lets such a request go on. A filter behind it writes down how the call ended, and with which key. The routes are then
 * looked up again, and those below match by that alone. So no header says where a request goes.
 */

const TYPE = 'type.googleapis.com/envoy.extensions'
const HTTP = `${TYPE}.filters.http`
const ON = { '@type': 'type.googleapis.com/envoy.config.route.v3.FilterConfig', config: {} }

/** The state of a request that has asked: the gRPC status for its head, that for its body, its key. */
const ASKED = 'zonegate.asked'
const ASKED_FORMAT = `%FILTER_STATE(ext_proc:FIELD:request_header_call_status)% %FILTER_STATE(ext_proc:FIELD:request_body_last_call_status)% %REQ(${ROUTE_HEADER})%`
/** A status that Envoy has not got. */
const NONE = '-'
/** gRPC's UNAVAILABLE, 14: it can't be reached. DEADLINE_EXCEEDED, 4: it is silent. Every other status is an answer. */
const UNANSWERED = `(?:(?:14|4) ${NONE}|0 (?:14|4)) `
/** Those others, but 0, which is that of a call that did not fail. */
const WRONG = '(?:[1-35-9]|1[0-35-6])'

/** No virtual host is found by it. */
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

/** What there is to add to Envoy's files. Messages are Envoy's, in proto3's JSON mapping. */
export interface GeneratedFallback {
  /** Which nameservers Envoy asks. */
  readonly dns: FallbackDns
  /** Further settings of each route that asks. */
  readonly askSettings: FilterSettings
  /** Right behind the one that keeps the key. */
  readonly filtersBehindKey: readonly object[]
  /** In front of the router. */
  readonly filters: readonly object[]
  /** Copies of the route `forward`, with these settings in place of its own. */
  readonly routes: readonly FallbackRoute[]
  /** In front of `forward`: a call that ended with an error is no answer, even where an address came with it. */
  readonly wrongAnswer: object
  /** What is refused, because nobody can decide it. */
  readonly refusals: readonly object[]
}

export interface FallbackRoute {
  readonly name: string
  /** What requests must meet beside what `forward` demands of them. */
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
      // Where the processor names no address, the key would stay, and lead back to where the request was.
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
      // Without a status the call was never begun: as many wait for the processor as may.
      refusal(502, `(?:[1-9][0-9]* \\S+|\\S+ [1-9][0-9]*|${NONE} ${NONE}) .*`),
    ],
  }
}

/**
 * True for a rule whose ids Envoy can tell as exactly as the processor does, whose ports are known, as Envoy asks for no SRV
 * records, and whose zones are reached as the cluster `zones` reaches them: by HTTP/1.1 in plain text. Of the whole rule, as a path without a route would come to the service of the others.
 */
export function hasFallback(rule: Rule): boolean {
  return fallbackHindrances(rule).length === 0
}

/** Why a rule has no fallback, each reason in a few words; none where it has. */
export function fallbackHindrances(rule: Rule): string[] {
  const services = servicesOf(rule)
  const namesOf = (some: typeof services): string => some.map(({ name }) => name).join(', ')
  const bySrv = services.filter(({ srv }) => srv !== undefined)
  const byUpstream = services.filter(({ upstream }) => upstream !== undefined)
  return [
    ...(plainPattern(rule.idPattern) === null
      ? ['Envoy may read its idPattern otherwise than the processor']
      : []),
    ...(bySrv.length > 0 ? [`Envoy asks for no SRV records, as port: srv of ${namesOf(bySrv)} wants`] : []),
    ...(byUpstream.length > 0
      ? [`Envoy speaks HTTP/1.1 in plain text then, and not by upstream of ${namesOf(byUpstream)}`]
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
  // Of all services: a path whose service has no such name would come to the service of the others.
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
    // As `header_to_metadata` reads headers alone.
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
    // Above the Host, whatever that is (Envoy doc: "Well Known Filter State Objects").
    [NAMES.address]: stateOf(
      ['envoy.upstream.dynamic_host', '%DYNAMIC_METADATA(zonegate:zone)%'],
      ['envoy.upstream.dynamic_port', String(port)],
    ),
  }
}

/** The longest label and the longest name (RFC 1035 section 2.3.4). */
const LABEL_LENGTH_MAX = 63
const NAME_LENGTH_MAX = 253

/** Ids that make host names of all these with `{id}`, as `nameOf` in src/routing/rules.ts has it. */
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
  // A lone hyphen is what Envoy writes where there is nothing.
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
      // Envoy's own keys have their own.
      ...(object_key === ASKED && { factory_key: 'envoy.string' }),
      format_string: { text_format_source: { inline_string: format } },
    })),
  }
}
