import { createHash } from 'node:crypto'

/** The kinds of resource that a learned zone is made of, in the order in which an Envoy may be told of them. */
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
  /** How many usual ones it is as long in the making as; absent: it is one. */
  readonly size?: number
  /** The encoded message. @param nowMs the moment of sending, for what is said in remaining time */
  encode(nowMs: number): Buffer
}

/**
 * The version of a cluster that reaches receivers in this way. What Envoy has of an earlier processor is known by its version alone.
 * @param reach without blanks; undefined: by HTTP/1.1 in plain text
 */
export function reachingVersion(version: string, reach: string | undefined): string {
  return reach === undefined ? version : `${version} ${reach}`
}

/** False for versions of clusters that reach receivers in different ways. */
export function isReachedAlike(a: Pick<Resource, 'version'>, b: Pick<Resource, 'version'>): boolean {
  return a.version.split(' ')[1] === b.version.split(' ')[1]
}

/** A zone's name in Envoy: `<service>/<id>`, which is the name of its cluster and of its endpoints. */
export type ZoneKey = `${string}/${string}`

/** @param id in lower case, as the names of zones are compared without case (RFC 4343) */
export const zoneKey = (service: string, id: string): ZoneKey => `${service}/${id}`

/** Reads back a cluster's name; undefined where it is no zone's. */
export function parseZoneKey(
  name: string,
): { readonly key: ZoneKey; readonly service: string; readonly id: string } | undefined {
  const [service, id, more] = name.split('/')
  if (!service || !id || more !== undefined) return undefined
  return { key: zoneKey(service, id), service, id }
}

const VERSION_LENGTH = 12

/** A version that says what the content is, so that a restarted processor recognises what an Envoy already has. */
export function contentVersion(...content: readonly (Buffer | string)[]): string {
  const hash = createHash('sha256')
  for (const part of content) hash.update(part)
  return hash.digest('base64url').slice(0, VERSION_LENGTH)
}
