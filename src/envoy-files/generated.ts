import { headersOf, looksIntoBody, type Rule, type Rules, upstreamsOf } from '../routing/rules.ts'
import { askingSettings, bodyFilters, type FilterSettings } from './body-filters.ts'
import { MARK } from './envoy-source.ts'
import type { HeaderCondition } from './expressions.ts'
import { type GeneratedFallback, generateFallback } from './fallback.ts'
import {
  hasSecretKeys,
  headersWithIds,
  isOfRule,
  keyMutations,
  keyVersionOf,
  noRule,
  ROUTE_HEADER,
} from './key.ts'
import type { FallbackDns } from './names-cluster.ts'
import { type GeneratedTracing, generateTracing, type TracingSettings } from './tracing.ts'
import { type GeneratedUpstreams, generateUpstreams, joinSettings, secretFiles } from './upstreams.ts'
import { type ZoneOfKey, zonesOfKeys } from './zone-of-key.ts'

/** What Envoy needs of zonegate.yaml's rules. Messages are Envoy's, in proto3's JSON mapping. */
export interface Generated {
  /** Header mutations that make the key of a request, for routes to be found by: the last ones on the listener. */
  readonly keyMutations: readonly object[]
  /** Which rules the keys are made by. */
  readonly keyVersion: string
  /** Keys may hold what no log may. */
  readonly hasSecretKeys: boolean
  /** Headers that the processor reads, beside those that it reads whatever the rules are. */
  readonly forwardedHeaders: readonly string[]
  /** Request headers that Envoy keeps apart from all others; it learns of them when it starts. */
  readonly inlineHeaders: readonly string[]
  /** Routes of the virtual host for every domain: what Envoy refuses by itself. */
  readonly routes: readonly object[]
  /** In front of the route that asks the processor: that route again, for some requests, with other settings of filters. */
  readonly asks: readonly Asking[]
  /** HTTP filters in front of ext_proc. */
  readonly filters: readonly object[]
  /** What Envoy does where the processor does not answer; undefined: nothing. */
  readonly fallback?: GeneratedFallback | undefined
  /** How zones are reached that are not by HTTP/1.1 in plain text; undefined: all are. */
  readonly upstreams?: GeneratedUpstreams | undefined
  /** Further settings of each route that asks. */
  readonly askSettings: FilterSettings
  /** Files that clusters name, by their names in the folder of what Envoy reads. */
  readonly secrets: Readonly<Record<string, string>>
  /** How Envoy traces requests; undefined: not at all. */
  readonly tracing?: GeneratedTracing | undefined
  /** How routes of many zones choose their cluster. */
  readonly zonesOfKeys: readonly ZoneOfKey[]
}

export interface Asking {
  readonly match: { readonly prefix: string; readonly headers: readonly HeaderCondition[] }
  readonly settings: FilterSettings
}

/**
 * @param fallback undefined: Envoy never resolves a name itself
 * @param tracing undefined: no request is traced
 * @param inline request headers that the Envoy in question keeps apart: as a rule those that it is told to, at its start
 */
export function generate(
  rules: Rules,
  fallback?: FallbackDns,
  tracing?: TracingSettings,
  inline: ReadonlySet<string> = new Set(inlineHeadersOf(rules)),
): Generated {
  const [rule] = rules
  const generated = fallback && generateFallback(rules, fallback)
  const upstreams = generateUpstreams(rules)
  return {
    keyMutations: keyMutations(rules, inline),
    keyVersion: keyVersionOf(rules),
    hasSecretKeys: hasSecretKeys(rules),
    forwardedHeaders: headersOf(rules),
    inlineHeaders: inlineHeadersOf(rules),
    routes: rule?.prefix === '' ? refusals(rule) : refusalsByRule(rules),
    asks: rules.filter(looksIntoBody).map((looking) => ({
      match: { prefix: '/', headers: [isOfRule(looking)] },
      settings: joinSettings(askingSettings(looking, fallback !== undefined), upstreams?.askSettings ?? {}),
    })),
    filters: bodyFilters(rules),
    ...(generated && { fallback: generated }),
    ...(upstreams && { upstreams }),
    askSettings: joinSettings(generated?.askSettings ?? {}, upstreams?.askSettings ?? {}),
    secrets: secretFiles(upstreamsOf(rules)),
    ...(tracing && { tracing: generateTracing(rules, tracing) }),
    zonesOfKeys: zonesOfKeys(rules),
  }
}

/**
 * Of a repeated one Envoy makes one, its values joined by commas, or cookies by semicolons: formats see all of them. Those that a key
 * is chosen from are inline for speed.
 */
function inlineHeadersOf(rules: Rules): string[] {
  const withId = headersWithIds(rules)
  const onTheWay = keyMutations(rules, withId).flatMap((mutation) =>
    'remove' in mutation ? [mutation.remove] : [],
  )
  return [...withId, ...onTheWay]
}

/** What Envoy refuses by itself, where there are several rules. */
function refusalsByRule(rules: Rules): object[] {
  return [
    { name: 'no_rule', match: { prefix: '/', headers: [noRule] }, direct_response: { status: 404 } },
    ...rules.map((rule) => otherMethods(rule, [isOfRule(rule)])),
  ]
}

function otherMethods({ methods }: Rule, conditions: readonly HeaderCondition[]): object {
  const allowed = [...methods]
  const [only = ''] = allowed
  const method = allowed.length === 1 ? { exact: only } : { safe_regex: { regex: allowed.join('|') } }
  return {
    name: 'method_not_allowed',
    match: {
      prefix: '/',
      headers: [...conditions, { name: ':method', string_match: method, invert_match: true }],
    },
    direct_response: { status: 405 },
    response_headers_to_add: [{ header: { key: 'allow', value: allowed.join(', ') } }],
  }
}

/** What Envoy refuses by itself, where one rule is for everything; the processor refuses the same, and more. */
function refusals(rule: Rule): object[] {
  const { sources } = rule
  const [source] = sources
  return [
    otherMethods(rule, []),
    ...(sources.length === 1 && source?.kind === 'header' ? headerRefusals(source.name) : []),
  ]
}

function headerRefusals(header: string): object[] {
  return [
    // Several ids, in one header or in many.
    {
      name: 'server_header_invalid',
      match: { prefix: '/', headers: [{ name: header, string_match: { contains: ',' } }] },
      direct_response: { status: 403 },
    },
    // A missing header reads as "-".
    {
      name: 'server_header_missing',
      match: {
        prefix: '/',
        headers: [{ name: ROUTE_HEADER, string_match: { safe_regex: { regex: `[A-Z]+${MARK.header}-?` } } }],
      },
      direct_response: { status: 403 },
    },
  ]
}
