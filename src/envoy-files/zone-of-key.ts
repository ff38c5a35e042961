import { createHash } from 'node:crypto'
import { parse } from 'yaml'
import type { IdSource } from '../routing/id-sources.ts'
import type { Rule, Rules } from '../routing/rules.ts'
import { ZONE_OF_KEY } from '../xds/learned-routes.ts'
import { MARK } from './key.ts'

/**
 * A virtual host of many ids has the same route for all of them, so the route can't name the zone's cluster: a script reads it from
 * the key of the request. It runs for each hot request, but for nothing else (Envoy doc: Lua cluster specifier).
 */

/**
 * True where the id stands in every key of a rule at a place that is known beforehand, and ends with the first character that no id
 * has.
 */
export function canShareRoutes({ sources }: Rule): boolean {
  const places = new Map<string, number>()
  return sources.every((source) => {
    const [mark, before] = [MARK[source.kind], octetsBefore(source)]
    const known = places.get(mark)
    places.set(mark, before)
    return (known === undefined || known === before) && !/^[A-Za-z0-9-]/.test(textBehind(source))
  })
}

/** Envoy's ClusterSpecifierPlugin, in proto3 JSON. */
export interface ZoneOfKey {
  readonly extension: { readonly name: string; readonly typed_config: object }
}

/** One for each rule that shares virtual hosts. */
export function zonesOfKeys(rules: Rules): ZoneOfKey[] {
  return rules.flatMap((rule) => zoneOfKey(rule) ?? [])
}

/**
 * Undefined for a rule that shares no virtual hosts. Its name is of its content: virtual hosts by earlier rules go on with the script
 * that they were made for, which by others would read another zone from their keys.
 */
export function zoneOfKey(rule: Rule): ZoneOfKey | undefined {
  if (!rule.sharesRoutes || !canShareRoutes(rule)) return undefined
  const script = scriptOf(rule)
  const hash = createHash('sha256').update(script).digest('hex').slice(0, HASH_LENGTH)
  return {
    extension: {
      name: `${ZONE_OF_KEY}.${hash}`,
      typed_config: {
        '@type': 'type.googleapis.com/envoy.extensions.router.cluster_specifiers.lua.v3.LuaConfig',
        source_code: { inline_string: script },
        // Of a script that fails: Envoy has no such cluster, and answers 503.
        default_cluster: 'none',
      },
    },
  }
}

const HASH_LENGTH = 12
/** Each is made anew at every push of virtual hosts. */
const EARLIER_MAX = 8

/** Those in rendered routes, of these rules or earlier ones, the latest first. */
export function zonesOfKeysIn(rendered: string): ZoneOfKey[] {
  if (!rendered.includes(ZONE_OF_KEY)) return []
  const plugins: readonly ZoneOfKey[] = parse(rendered).resources?.[0]?.cluster_specifier_plugins ?? []
  return plugins.filter(({ extension }) => extension?.name?.startsWith(ZONE_OF_KEY))
}

/** Those of the rules, and behind them earlier ones, which virtual hosts may still name until Envoy has given them back. */
export function withEarlier(current: readonly ZoneOfKey[], earlier: readonly ZoneOfKey[]): ZoneOfKey[] {
  const names = new Set(current.map(({ extension }) => extension.name))
  const others = earlier.filter(({ extension }) => !names.has(extension.name))
  return [...current, ...others.slice(0, EARLIER_MAX)]
}

/** Only keys with the domain of a virtual host come here, so what stands in front of the id has a length that is known. */
function scriptOf({ prefix, fallback, sources }: Rule): string {
  const skips = sources.map((source) => `["${MARK[source.kind]}"] = ${octetsBefore(source) + 1}`)
  const head = prefix === '' ? '[^/:@;]+' : '[^/]+/[^/:@;]+'
  return [
    `local SKIP = { ${[...new Set(skips)].join(', ')} }`,
    'function envoy_on_route(handle)',
    '  local key = handle:headers():get("x-zonegate-route")',
    `  local mark, rest = key:match("^${head}([/:@;])(.*)$")`,
    `  return "${fallback.name}/" .. rest:match("^[%w-]+", SKIP[mark]):lower()`,
    'end',
    '',
  ].join('\n')
}

function octetsBefore(source: IdSource): number {
  if (source.kind === 'path' || source.kind === 'host') return source.template.before.length
  return source.kind === 'cookie' ? source.name.length + 1 : 0
}

function textBehind(source: IdSource): string {
  return source.kind === 'path' || source.kind === 'host' ? source.template.after : ''
}
