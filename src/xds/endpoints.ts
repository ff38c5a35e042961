import { codec } from '../grpc/protos.ts'
import { durationOf } from './duration.ts'
import type { ClusterLoadAssignment, LbEndpoint } from './messages.ts'
import { MESSAGE_NAMES, type Resource, type ZoneKey } from './resource.ts'

/** A zone's addresses, and how long they may be used. */
export interface ZoneAddresses {
  /** Canonical IP addresses, at least one. The order says nothing. */
  readonly addresses: readonly string[]
  readonly port: number
  /** The moment, ms on the control plane's clock, after which no Envoy may use them any more. */
  readonly staleAtMs: number
}

const { encode } = codec<ClusterLoadAssignment>(MESSAGE_NAMES.endpoints)

/** @param version another one for other addresses and for another moment: Envoy counts from when it is sent a version */
export function endpointsResource(key: ZoneKey, zone: ZoneAddresses, version: string): Resource {
  const encoded = encode({
    cluster_name: key,
    endpoints: [{ lb_endpoints: zone.addresses.map((address) => lbEndpoint(address, zone.port)) }],
  })
  // A copy, as the encoder's buffer is a part of a larger one, which would be kept with it.
  const assignment = Buffer.allocUnsafeSlow(encoded.length)
  assignment.set(encoded)
  return {
    name: key,
    version,
    encode(nowMs) {
      const remainingMs = zone.staleAtMs - nowMs
      if (remainingMs <= 0) return encode({ cluster_name: key }) // Envoy takes 0 for "for ever"
      // Messages that follow each other are one message (protobuf encoding, "Last One Wins"): the addresses are
      // encoded once, the remaining time at each sending.
      return Buffer.concat([assignment, staleAfter(remainingMs)])
    },
  }
}

/** Above this, whole seconds are exact enough: rounded down, never longer than allowed. */
const EXACT_BELOW_MS = 10_000
let last: { readonly milliseconds: number; readonly bytes: Buffer } | undefined

/** Most endpoints of a response have the same time left, so the last encoding is kept. */
function staleAfter(remainingMs: number): Buffer {
  const milliseconds = remainingMs < EXACT_BELOW_MS ? remainingMs : remainingMs - (remainingMs % 1000)
  if (last?.milliseconds !== milliseconds) {
    const bytes = encode({ policy: { endpoint_stale_after: durationOf(milliseconds) } })
    last = { milliseconds, bytes }
  }
  return last.bytes
}

function lbEndpoint(address: string, port: number): LbEndpoint {
  const host = address.includes(':') ? `[${address}]` : address
  return {
    endpoint: {
      address: { socket_address: { address, port_value: port } },
      // `auto_host_rewrite` makes this the request's `:authority`: the same that the cold path gives it.
      hostname: `${host}:${port}`,
    },
  }
}

/** True where an Envoy would do the same with both: addresses in any order, and the port. */
export function sameAddresses(a: ZoneAddresses, b: ZoneAddresses): boolean {
  if (a.port !== b.port || a.addresses.length !== b.addresses.length) return false
  const known = new Set(a.addresses)
  return b.addresses.every((address) => known.has(address))
}
