import type { Struct, Value } from '../grpc/protos.ts'
import type { RetryPolicy, Route, RouteMatch, TypedExtensionConfig } from './messages.ts'
import { typeUrl, zoneKey } from './resource.ts'

/** The cold route that forwards: every learned route is a copy of it. */
export const FORWARD = 'forward'
/** The name of a learned route: `%ROUTE_NAME%` in Envoy's access log. */
const LEARNED = 'learned'

/** Namespace of route metadata and of the processor's dynamic metadata. */
const METADATA = 'zonegate'

const PREVIOUS_HOSTS: TypedExtensionConfig = {
  name: 'envoy.retry_host_predicates.previous_hosts',
  typed_config: { '@type': typeUrl('envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate') },
}
/** How often a retry draws an address anew because it drew one that the request has tried. */
const HOST_SELECTION_ATTEMPTS = 5

/** What a learned route has of its own. */
export interface LearnedRoute {
  readonly service: string
  readonly id: string
  readonly path: Pick<RouteMatch, 'path' | 'prefix'>
  /** The zone's name in DNS, for Envoy's access log: `zone` in the route's metadata `zonegate`. */
  readonly zoneName: string
}

/**
 * The cold route with the processor's part taken out and the zone's own cluster put in.
 *
 * @param markHeader by which the processor lets a request pass to `forward`
 */
export function learnedRoute(forward: Route, markHeader: string, own: LearnedRoute): Route {
  const { prefix: _all, ...match } = forward.match
  // HTTP filters run as the route says on which a request comes in, which on the cold path is never `forward`.
  const { typed_per_filter_config: _unused, ...rest } = forward
  return {
    ...rest,
    name: LEARNED,
    match: { ...match, ...own.path, headers: conditionsOf(forward, markHeader) },
    request_headers_to_remove: (forward.request_headers_to_remove ?? []).filter(
      (header) => header.toLowerCase() !== markHeader,
    ),
    metadata: withZone(forward.metadata, own.zoneName),
    route: {
      ...forward.route,
      cluster: zoneKey(own.service, own.id),
      auto_host_rewrite: { value: true },
      ...(forward.route?.retry_policy && { retry_policy: toOtherHosts(forward.route.retry_policy) }),
    },
  }
}

/** The header conditions of `forward` beside the mark. */
export function conditionsOf(forward: Route, markHeader: string): NonNullable<RouteMatch['headers']> {
  return (forward.match.headers ?? []).filter(({ name }) => name.toLowerCase() !== markHeader)
}

function toOtherHosts(policy: RetryPolicy): RetryPolicy {
  const predicates = policy.retry_host_predicate ?? []
  if (predicates.some(({ name }) => name === PREVIOUS_HOSTS.name)) return policy
  return {
    host_selection_retry_max_attempts: HOST_SELECTION_ATTEMPTS,
    ...policy,
    retry_host_predicate: [...predicates, PREVIOUS_HOSTS],
  }
}

function withZone(metadata: Route['metadata'], zone: string): NonNullable<Route['metadata']> {
  const others = metadata?.filter_metadata ?? {}
  const fields: Record<string, Value> = {
    ...others[METADATA]?.fields,
    zone: { stringValue: zone },
    path: { stringValue: 'hot' },
  }
  const own: Struct = { fields }
  return { filter_metadata: { ...others, [METADATA]: own } }
}
