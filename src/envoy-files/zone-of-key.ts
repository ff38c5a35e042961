import { createHash } from 'node:crypto'
import { parse } from 'yaml'
import type { Rule, Rules } from '../routing/rules.ts'
import { ZONE_OF_KEY } from '../xds/learned-routes.ts'
import { envoySource, MARK, MARKS } from './envoy-source.ts'

/**
 * A virtual host of many ids has one route for all of them, so this route can't name the zone's cluster. Instead a Lua script reads
 * the zone from the request's key (Envoy doc: Lua cluster specifier). Envoy runs it for each hot request.
 */

/**
 * True if the script can find the id in every key of the rule. The id must begin at a fixed position, and a character that no id
 * contains must follow it.
 */
export function canShareRoutes({ sources }: Rule): boolean {
  const places = new Map<string, number>()
  return sources.every((source) => {
    const mark = MARK[source.kind]
    const { before, after } = envoySource(source).inKey
    const known = places.get(mark) ?? before.length
    places.set(mark, before.length)
    return known === before.length && !/^[A-Za-z0-9-]/.test(after)
  })
}

/** Envoy's ClusterSpecifierPlugin, in proto3 JSON. */
export interface ZoneOfKey {
  readonly extension: { readonly name: string; readonly typed_config: object }
}

/** One plugin for each rule that shares virtual hosts. */
export function zonesOfKeys(rules: Rules): ZoneOfKey[] {
  return rules.flatMap((rule) => zoneOfKey(rule) ?? [])
}

/**
 * The plugin of a rule; undefined: the rule shares no virtual hosts. The name has a hash of the script, so that virtual hosts of
 * earlier rules keep their own script. Another script could read another zone from their keys.
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
        // For a script that fails. Envoy has no such cluster, so it answers 503.
        default_cluster: 'none',
      },
    },
  }
}

const HASH_LENGTH = 12
/** Envoy builds each plugin again at every push of virtual hosts. */
const EARLIER_MAX = 8

/** The plugins in rendered routes, the latest first. They may be from the current rules or earlier ones. */
export function zonesOfKeysIn(rendered: string): ZoneOfKey[] {
  if (!rendered.includes(ZONE_OF_KEY)) return []
  const plugins: readonly ZoneOfKey[] = parse(rendered).resources?.[0]?.cluster_specifier_plugins ?? []
  return plugins.filter(({ extension }) => extension?.name?.startsWith(ZONE_OF_KEY))
}

/** The current plugins, followed by earlier ones: Envoy may still have virtual hosts that name them. */
export function withEarlier(current: readonly ZoneOfKey[], earlier: readonly ZoneOfKey[]): ZoneOfKey[] {
  const names = new Set(current.map(({ extension }) => extension.name))
  const others = earlier.filter(({ extension }) => !names.has(extension.name))
  return [...current, ...others.slice(0, EARLIER_MAX)]
}

/** The script sees only keys that fit a domain of a virtual host. So the text in front of the id always has the same length. */
function scriptOf({ prefix, fallback, sources }: Rule): string {
  const skips = sources.map(
    (source) => `["${MARK[source.kind]}"] = ${envoySource(source).inKey.before.length + 1}`,
  )
  const head = prefix === '' ? `[^${MARKS}]+` : `[^/]+/[^${MARKS}]+`
  return [
    `local SKIP = { ${[...new Set(skips)].join(', ')} }`,
    'function envoy_on_route(handle)',
    '  local key = handle:headers():get("x-zonegate-route")',
    `  local mark, rest = key:match("^${head}([${MARKS}])(.*)$")`,
    `  return "${fallback.name}/" .. rest:match("^[%w-]+", SKIP[mark]):lower()`,
    'end',
    '',
  ].join('\n')
}
