import type { Node } from '../grpc/protos.ts'

/** Longer than any name that people give; it stands in each log line and is kept with each zone. */
const LENGTH_MAX = 256

/** What an Envoy is called: `node.id` of its bootstrap. */
export function nodeName(node: Node | undefined): string {
  return node?.id?.slice(0, LENGTH_MAX) || 'unnamed'
}
