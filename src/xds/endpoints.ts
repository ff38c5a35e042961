import { codec } from '../grpc/protos.ts'
import { durationOf } from './duration.ts'
import type { ClusterLoadAssignment, LbEndpoint } from './messages.ts'
import { MESSAGE_NAMES, type Resource, type ZoneKey } from './resource.ts'

/** A zone's addresses, and how long they may be used. */
export interface ZoneAddresses {
  /** Canonical IP addresses, at least one, in any order. */
  readonly addresses: readonly string[] | readonly EndpointAddress[]
  /** The port of addresses that have none of their own. */
  readonly port: number
  /** From when no Envoy may use them any more, ms on the control plane's clock. Infinity: never. */
  readonly staleAtMs: number
}

/** An address with its own port, priority from 0 up without gaps, and weight from 1 up. */
export interface EndpointAddress {
  readonly address: string
  readonly port: number
  readonly priority: number
  readonly weight: number
}

/**
 * Percent. RFC 2782 wants all requests at the lowest priority that can be reached. With this value a priority gets all of them
 * while 1 % of its addresses are healthy; with the default, the next priority gets some once 29 % are unhealthy (Envoy doc:
 * Priority levels).
 */
const OVERPROVISIONING_FACTOR = 10_000

const { encode } = codec<ClusterLoadAssignment>(MESSAGE_NAMES.endpoints)

/** @param version a new one for new addresses and for a new `staleAtMs`, because Envoy counts the time from when it receives a version */
export function endpointsResource(key: ZoneKey, zone: ZoneAddresses, version: string): Resource {
  const endpoints = endpointsOf(zone)
  const encoded = encode({ cluster_name: key, endpoints })
  // A copy, because the encoder's buffer is a slice of a larger one, which would stay in memory.
  const assignment = Buffer.allocUnsafeSlow(encoded.length)
  assignment.set(encoded)
  return {
    name: key,
    version,
    encode(nowMs) {
      const remainingMs = zone.staleAtMs - nowMs
      if (remainingMs <= 0) return encode({ cluster_name: key }) // a time of 0 means "for ever" to Envoy
      // Two encoded parts make one message (protobuf encoding, "Last One Wins"): the addresses are encoded once, the remaining
      // time each time it is sent.
      return Buffer.concat([assignment, policyFor(remainingMs, endpoints.length > 1)])
    },
  }
}

/** Longer times are rounded down to whole seconds. */
const EXACT_BELOW_MS = 10_000
let last:
  | { readonly milliseconds: number; readonly hasPriorities: boolean; readonly bytes: Buffer }
  | undefined

/** Most endpoints of a response have the same time left, so the last encoding is cached. */
function policyFor(remainingMs: number, hasPriorities: boolean): Buffer {
  const isBounded = Number.isFinite(remainingMs)
  const milliseconds =
    !isBounded || remainingMs < EXACT_BELOW_MS ? remainingMs : remainingMs - (remainingMs % 1000)
  if (last?.milliseconds !== milliseconds || last.hasPriorities !== hasPriorities) {
    const overprovisioning_factor = { value: OVERPROVISIONING_FACTOR }
    const bytes = encode({
      policy: {
        ...(isBounded && { endpoint_stale_after: durationOf(milliseconds) }),
        ...(hasPriorities && { overprovisioning_factor }),
      },
    })
    last = { milliseconds, hasPriorities, bytes }
  }
  return last.bytes
}

function endpointsOf({ addresses, port }: ZoneAddresses): NonNullable<ClusterLoadAssignment['endpoints']> {
  if (!areEndpoints(addresses))
    return [{ lb_endpoints: addresses.map((address) => lbEndpoint(address, port)) }]
  const priorities = [...new Set(addresses.map(({ priority }) => priority))].sort((a, b) => a - b)
  return priorities.map((priority) => ({
    priority,
    lb_endpoints: addresses
      .filter((each) => each.priority === priority)
      .map(({ address, port, weight }) => ({
        ...lbEndpoint(address, port),
        load_balancing_weight: { value: weight },
      })),
  }))
}

function areEndpoints(addresses: ZoneAddresses['addresses']): addresses is readonly EndpointAddress[] {
  return typeof addresses[0] === 'object'
}

function lbEndpoint(address: string, port: number): LbEndpoint {
  const host = address.includes(':') ? `[${address}]` : address
  return {
    endpoint: {
      address: { socket_address: { address, port_value: port } },
      // `auto_host_rewrite` makes this the request's `:authority`, as on the cold path.
      hostname: `${host}:${port}`,
    },
  }
}

/** True if both have the same addresses, in any order, and the same port. */
export function sameAddresses(a: ZoneAddresses, b: ZoneAddresses): boolean {
  if (a.port !== b.port || a.addresses.length !== b.addresses.length) return false
  const known = new Set(textsOf(a.addresses))
  return textsOf(b.addresses).every((text) => known.has(text))
}

function textsOf(addresses: ZoneAddresses['addresses']): readonly string[] {
  if (!areEndpoints(addresses)) return addresses
  return addresses.map(({ address, port, priority, weight }) => `${address} ${port} ${priority} ${weight}`)
}
