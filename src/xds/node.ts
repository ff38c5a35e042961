import type { Node, Value } from '../grpc/protos.ts'

/** Longer than any name that people give; it stands in each log line and is kept with each zone. */
const NAME_LENGTH_MAX = 256
/** Of a build of one's own: Envoy's are `1.40.0`. */
const VERSION_LENGTH_MAX = 64

/** What an Envoy is called: `node.id` of its bootstrap. */
export function nodeName(node: Node | undefined): string {
  return node?.id?.slice(0, NAME_LENGTH_MAX) || 'unnamed'
}

/** The version that a client says of itself, `1.40.0`; null where it says none. Every Envoy does. */
export function nodeVersion(node: Node | undefined): string | null {
  const version = node?.user_agent_build_version?.version
  if (version === undefined) return node?.user_agent_version?.slice(0, VERSION_LENGTH_MAX) || null
  const { major_number = 0, minor_number = 0, patch = 0 } = version
  return `${major_number}.${minor_number}.${patch}`
}

/**
 * Request headers that an Envoy keeps apart from all others (Envoy doc: Bootstrap.inline_headers), as `zonegate render` has
 * written into its bootstrap: it learns of them when it starts. None where nothing says so.
 */
export function inlineHeaders(node: Node | undefined): ReadonlySet<string> {
  const zonegate = node?.metadata?.fields['zonegate']
  const inline = fieldsOf(zonegate)['inline_headers']
  const names = inline !== undefined && 'listValue' in inline ? inline.listValue.values : []
  return new Set(
    names.slice(0, HEADERS_MAX).flatMap((name) => ('stringValue' in name ? [name.stringValue] : [])),
  )
}

/** More than any rules have. */
const HEADERS_MAX = 1000

function fieldsOf(value: Value | undefined): Readonly<Record<string, Value>> {
  return value !== undefined && 'structValue' in value ? value.structValue.fields : {}
}
