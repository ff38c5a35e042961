import { createHash } from 'node:crypto'

/** The kinds of resource that a learned zone consists of, in the order in which Envoy needs them. */
export const KINDS = ['cluster', 'endpoints', 'virtualHost'] as const

export type Kind = (typeof KINDS)[number]

export const MESSAGE_NAMES = {
  cluster: 'envoy.config.cluster.v3.Cluster',
  endpoints: 'envoy.config.endpoint.v3.ClusterLoadAssignment',
  virtualHost: 'envoy.config.route.v3.VirtualHost',
} as const satisfies Record<Kind, string>

/** xDS protocol, "Resource Types". */
export const typeUrl = (messageName: string): string => `type.googleapis.com/${messageName}`

export const TYPE_URLS = {
  cluster: typeUrl(MESSAGE_NAMES.cluster),
  endpoints: typeUrl(MESSAGE_NAMES.endpoints),
  virtualHost: typeUrl(MESSAGE_NAMES.virtualHost),
} as const satisfies Record<Kind, string>

export function kindOf(url: string | undefined): Kind | undefined {
  return KINDS.find((kind) => TYPE_URLS[kind] === url)
}

/** One named resource at one version. The same name and version always mean the same content. */
export interface Resource {
  readonly name: string
  readonly version: string
  /** How much work it is to make, in ordinary resources; absent: 1. */
  readonly size?: number
  /** The encoded message. @param nowMs the time of sending, from which remaining times are calculated */
  encode(nowMs: number): Buffer
}

/**
 * Adds the protocol to a cluster's version, because the version is all that is known of a cluster from an earlier processor.
 * @param reach the cold path's cluster for the protocol, without spaces; undefined: HTTP/1.1 in plain text
 */
export function reachingVersion(version: string, reach: string | undefined): string {
  return reach === undefined ? version : `${version} ${reach}`
}

/** True if two clusters use the same protocol to their receivers. */
export function isReachedAlike(a: Pick<Resource, 'version'>, b: Pick<Resource, 'version'>): boolean {
  return a.version.split(' ')[1] === b.version.split(' ')[1]
}

/** A zone's name in Envoy, `<service>/<id>`: the name of its cluster and of its endpoints. */
export type ZoneKey = `${string}/${string}`

/** @param id in lower case, because DNS names ignore case (RFC 4343) */
export const zoneKey = (service: string, id: string): ZoneKey => `${service}/${id}`

/** Identifies a zone. */
export interface ZoneRef {
  readonly service: string
  /** In lower case. */
  readonly id: string
}

/** The inverse of `zoneKey`. Undefined if the name is not a zone's. */
export function parseZoneKey(name: string): (ZoneRef & { readonly key: ZoneKey }) | undefined {
  const [service, id, more] = name.split('/')
  if (!service || !id || more !== undefined) return undefined
  return { key: zoneKey(service, id), service, id }
}

const VERSION_LENGTH = 12

/** A version derived from the content, so that a restarted processor recognises what an Envoy already has. */
export function contentVersion(...content: readonly (Buffer | string)[]): string {
  const hash = createHash('sha256')
  for (const part of content) hash.update(part)
  return hash.digest('base64url').slice(0, VERSION_LENGTH)
}
