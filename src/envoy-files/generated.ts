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

/** Additions to Envoy's files that follow from zonegate.yaml: messages of Envoy in proto3's JSON mapping. */
export interface Generated {
  /** Header mutations that make the key of a request, by which Envoy finds routes. They are the last mutations of the listener. */
  readonly keyMutations: readonly object[]
  /** Identifies the rules that the keys follow from. */
  readonly keyVersion: string
  /** True if keys may contain secrets, so that no log may have them. */
  readonly hasSecretKeys: boolean
  /** Headers that the processor reads for these rules, in addition to those that it always reads. */
  readonly forwardedHeaders: readonly string[]
  /** Request headers to be listed in the bootstrap's `inline_headers`. Envoy must restart to use a change. */
  readonly inlineHeaders: readonly string[]
  /** Routes of the virtual host for every domain. They refuse requests without asking the processor. */
  readonly routes: readonly object[]
  /** Copies of the route that asks the processor. They come before it and have other filter settings for some requests. */
  readonly asks: readonly Asking[]
  /** HTTP filters in front of ext_proc. */
  readonly filters: readonly object[]
  /** How Envoy finds zones while the processor does not answer; undefined: it does not. */
  readonly fallback?: GeneratedFallback | undefined
  /** How Envoy reaches zones with TLS or HTTP/2; undefined: there are no such zones. */
  readonly upstreams?: GeneratedUpstreams | undefined
  /** Further settings of each route that asks. */
  readonly askSettings: FilterSettings
  /** Texts of the files that clusters refer to, by their names in `run/`. */
  readonly secrets: Readonly<Record<string, string>>
  /** How Envoy traces requests; undefined: it does not. */
  readonly tracing?: GeneratedTracing | undefined
  /** Cluster specifiers of routes that many zones share. */
  readonly zonesOfKeys: readonly ZoneOfKey[]
}

export interface Asking {
  readonly match: { readonly prefix: string; readonly headers: readonly HeaderCondition[] }
  readonly settings: FilterSettings
}

/**
 * @param fallback undefined: Envoy never resolves names itself
 * @param tracing undefined: Envoy traces no request
 * @param inline the inline headers of the running Envoy; by default the ones that these rules need
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
 * Envoy joins the values of a repeated inline header by commas, and of cookies by semicolons. So formats see all values. The headers
 * with the parts of a key are inline, too, because Envoy finds inline headers faster.
 */
function inlineHeadersOf(rules: Rules): string[] {
  const withId = headersWithIds(rules)
  const onTheWay = keyMutations(rules, withId).flatMap((mutation) =>
    'remove' in mutation ? [mutation.remove] : [],
  )
  return [...withId, ...onTheWay]
}

/** Requests that Envoy refuses itself if there are several rules. */
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

/** Requests that Envoy refuses itself if one rule fits every request. The processor would refuse them, too. */
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
    // Several ids, in one header or in repeated headers.
    {
      name: 'server_header_invalid',
      match: { prefix: '/', headers: [{ name: header, string_match: { contains: ',' } }] },
      direct_response: { status: 403 },
    },
    // Envoy writes "-" for a missing header.
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
