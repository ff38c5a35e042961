import type { Node } from '../grpc/protos.ts'

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
