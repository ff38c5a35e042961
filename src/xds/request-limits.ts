import type { DeltaDiscoveryRequest } from '../grpc/protos.ts'

/** Envoys at once, each with a stream of each kind. Beyond: RESOURCE_EXHAUSTED, and it works on the cold path alone. */
export const ENVOYS_MAX = 256
/** Its first request comes as it opens a stream. */
export const FIRST_REQUEST_WITHIN_MS = 10_000
/** Names that one Envoy may ask for of one kind: twice the most zones that can be learned. */
export const NAMES_MAX = 200_000
/** Of one name: `<route configuration>/<id>` or `<service>/<id>`, an id being a part of a DNS name. */
export const NAME_LENGTH_MAX = 512
/** Of all names that one Envoy has named, and of those that it says it has: 28 for each of 100,000 zones and of each kind. */
export const NAMES_OCTETS_MAX = 8 * 1024 * 1024

/** What is kept because an Envoy has named it. */
export interface Named {
  /** Names of the kind that it asks about. */
  readonly names: number
  /** What it holds of that kind. */
  readonly held: number
  /** Octets of its names of all kinds. */
  readonly octets: number
}

/** Why a request, or a part of one, can't be an Envoy's; null: it may be. */
export function faultOfRequest(request: DeltaDiscoveryRequest, named: Named): string | null {
  const subscribe = request.resource_names_subscribe ?? []
  const versions = request.initial_resource_versions ?? {}
  const held = Object.keys(versions)
  if (named.names + subscribe.length > NAMES_MAX || named.held + held.length > NAMES_MAX)
    return `expected ${NAMES_MAX} names or fewer`
  let { octets } = named
  for (const name of [...subscribe, ...held]) {
    octets += name.length + (versions[name]?.length ?? 0)
    if (name.length > NAME_LENGTH_MAX) return `expected names of ${NAME_LENGTH_MAX} characters or fewer`
  }
  return octets > NAMES_OCTETS_MAX ? `expected names of ${NAMES_OCTETS_MAX} characters or fewer in all` : null
}
