import type { DeltaDiscoveryRequest, Node, Value } from '../grpc/protos.ts'

/** Longer than any name that people give. The name is in each log line and is stored with each zone. */
const ID_LENGTH_MAX = 256
/** More inline headers than any rules need. */
const HEADERS_MAX = 1000
/** Envoy's own versions are short (`1.40.0`); those of private builds may not be. */
const VERSION_LENGTH_MAX = 64

/** The name of an Envoy: `node.id` of its bootstrap. */
export function nodeName(node: Node | undefined): string {
  return node?.id?.slice(0, ID_LENGTH_MAX) || 'unnamed'
}

/** The version that a client reports, such as `1.40.0`; null if it reports none, which no Envoy does. */
export function nodeVersion(node: Node | undefined): string | null {
  const version = node?.user_agent_build_version?.version
  if (version === undefined) return node?.user_agent_version?.slice(0, VERSION_LENGTH_MAX) || null
  const { major_number = 0, minor_number = 0, patch = 0 } = version
  return `${major_number}.${minor_number}.${patch}`
}

/**
 * The request headers that this Envoy registered as inline headers when it started (Envoy doc: Bootstrap.inline_headers).
 * `zonegate render` repeats them in the bootstrap's `node.metadata`; without that the set is empty.
 */
export function inlineHeaders(node: Node | undefined): ReadonlySet<string> {
  const zonegate = node?.metadata?.fields['zonegate']
  const inline = fieldsOf(zonegate)['inline_headers']
  const names = inline !== undefined && 'listValue' in inline ? inline.listValue.values : []
  return new Set(
    names.slice(0, HEADERS_MAX).flatMap((name) => ('stringValue' in name ? [name.stringValue] : [])),
  )
}

function fieldsOf(value: Value | undefined): Readonly<Record<string, Value>> {
  return value !== undefined && 'structValue' in value ? value.structValue.fields : {}
}

/**
 * Envoys that may be connected at once, each with one ADS and one load report stream. A further one gets
 * RESOURCE_EXHAUSTED and works by the cold path alone.
 */
export const ENVOYS_MAX = 256
/** How long a new stream may take to send its first request. Envoy sends it when it opens the stream. */
export const FIRST_REQUEST_WITHIN_MS = 10_000
/** Names that one Envoy may subscribe to, for each kind of resource: twice the maximum of `learned.zonesMax`. */
export const NAMES_MAX = 200_000
/** Characters of one name: `<route configuration>/<id>` or `<service>/<id>`, where the id is part of a DNS name. */
export const NAME_LENGTH_MAX = 512
/** Characters of all names and versions that one Envoy has sent: 28 for each of 100,000 zones and each of three kinds. */
export const NAMES_OCTETS_MAX = 8 * 1024 * 1024

/** What the processor already stores for the names that an Envoy has sent. */
export interface StoredNames {
  /** Names of the request's kind that the Envoy has subscribed to. */
  readonly names: number
  /** Resources of the request's kind that it says it has. */
  readonly held: number
  /** Characters of its names of all kinds. */
  readonly octets: number
}

/** Checks a request, or a part of one, against the limits. @returns which limit it exceeds; null: none */
export function faultOfRequest(request: DeltaDiscoveryRequest, stored: StoredNames): string | null {
  const subscribe = request.resource_names_subscribe ?? []
  const versions = request.initial_resource_versions ?? {}
  const held = Object.keys(versions)
  if (stored.names + subscribe.length > NAMES_MAX || stored.held + held.length > NAMES_MAX)
    return `expected ${NAMES_MAX} names or fewer`
  let { octets } = stored
  for (const name of [...subscribe, ...held]) {
    octets += name.length + (versions[name]?.length ?? 0)
    if (name.length > NAME_LENGTH_MAX) return `expected names of ${NAME_LENGTH_MAX} characters or fewer`
  }
  return octets > NAMES_OCTETS_MAX ? `expected names of ${NAMES_OCTETS_MAX} characters or fewer in all` : null
}
