import type { DeltaDiscoveryRequest } from '../grpc/protos.ts'

/** Envoys at once, each with a stream of each kind. Beyond: RESOURCE_EXHAUSTED, and it works on the cold path alone. */
export const ENVOYS_MAX = 256
/** Names that one Envoy may ask for of one kind: twice the most zones that can be learned. */
export const NAMES_MAX = 200_000
/** Of one name: `<route configuration>/<id>` or `<service>/<id>`, an id being a part of a DNS name. */
export const NAME_LENGTH_MAX = 512

/**
 * Why a request can't be one of an Envoy's; null: it may be.
 * @param named how many names of this kind it has asked for already
 */
export function faultOfRequest(request: DeltaDiscoveryRequest, named: number): string | null {
  const subscribe = request.resource_names_subscribe ?? []
  const held = Object.keys(request.initial_resource_versions ?? {})
  if (named + subscribe.length > NAMES_MAX || held.length > NAMES_MAX)
    return `expected ${NAMES_MAX} names or fewer`
  const isLong = (name: string): boolean => name.length > NAME_LENGTH_MAX
  return subscribe.some(isLong) || held.some(isLong)
    ? `expected names of ${NAME_LENGTH_MAX} characters or fewer`
    : null
}
