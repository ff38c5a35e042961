import type { Resource } from './resource.ts'

/** A delta discovery response before it is encoded. */
export interface DeltaResponse<R extends Resource = Resource> {
  readonly typeUrl: string
  readonly nonce: string
  readonly updated: readonly R[]
  readonly removed: readonly string[]
}

/** Field numbers of DeltaDiscoveryResponse, of Resource in it, and of google.protobuf.Any in that. */
const RESPONSE = { resources: 2, typeUrl: 4, nonce: 5, removedResources: 6 } as const
const RESOURCE = { version: 1, resource: 2, name: 3 } as const
const ANY = { typeUrl: 1, value: 2 } as const

/**
 * Encodes a DeltaDiscoveryResponse from encoded resources. The general serializer takes three times as long for 2,000 of them,
 * and blocks the event loop meanwhile.
 * @param nowMs the time of sending
 */
export function encodeDeltaResponse(response: DeltaResponse, nowMs: number): Buffer {
  const { typeUrl, nonce, updated, removed } = response
  const values = updated.map((resource) => resource.encode(nowMs))
  let length = fieldLength(typeUrl.length) + fieldLength(nonce.length)
  for (const name of removed) length += fieldLength(Buffer.byteLength(name))
  for (const [index, resource] of updated.entries())
    length += fieldLength(resourceLength(resource, typeUrl, values[index] as Buffer))

  const writer = new WireWriter(length)
  for (const [index, resource] of updated.entries()) {
    const value = values[index] as Buffer
    writer.open(RESPONSE.resources, resourceLength(resource, typeUrl, value))
    writer.text(RESOURCE.version, resource.version)
    writer.open(RESOURCE.resource, anyLength(typeUrl, value))
    writer.text(ANY.typeUrl, typeUrl)
    writer.bytes(ANY.value, value)
    writer.text(RESOURCE.name, resource.name)
  }
  writer.text(RESPONSE.typeUrl, typeUrl)
  writer.text(RESPONSE.nonce, nonce)
  for (const name of removed) writer.text(RESPONSE.removedResources, name)
  return writer.buffer
}

function resourceLength({ name, version }: Resource, typeUrl: string, value: Buffer): number {
  return (
    fieldLength(Buffer.byteLength(name)) +
    fieldLength(Buffer.byteLength(version)) +
    fieldLength(anyLength(typeUrl, value))
  )
}

function anyLength(typeUrl: string, value: Buffer): number {
  return fieldLength(typeUrl.length) + fieldLength(value.length)
}

/** Wire type of texts, bytes and messages: a length, then as many octets (protobuf encoding, "Message Structure"). */
const LENGTH_DELIMITED = 2

/** Octets of a length-delimited field with a field number below 16. */
function fieldLength(length: number): number {
  let octets = 2
  for (let rest = length >>> 7; rest > 0; rest >>>= 7) octets += 1
  return octets + length
}

class WireWriter {
  readonly buffer: Buffer
  #length = 0

  constructor(length: number) {
    this.buffer = Buffer.allocUnsafe(length)
  }

  /** Begins a field; the caller writes its content next. */
  open(field: number, length: number): void {
    this.buffer[this.#length++] = (field << 3) | LENGTH_DELIMITED
    let rest = length
    for (; rest > 0x7f; rest >>>= 7) this.buffer[this.#length++] = (rest & 0x7f) | 0x80
    this.buffer[this.#length++] = rest
  }

  text(field: number, value: string): void {
    this.open(field, Buffer.byteLength(value))
    this.#length += this.buffer.write(value, this.#length)
  }

  bytes(field: number, value: Buffer): void {
    this.open(field, value.length)
    this.buffer.set(value, this.#length)
    this.#length += value.length
  }
}
