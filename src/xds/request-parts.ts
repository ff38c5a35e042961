import { codec, type DeltaDiscoveryRequest } from '../grpc/protos.ts'
import { NAME_LENGTH_MAX, NAMES_MAX } from './envoy-client.ts'
import { MalformedMessage, WireReader } from './wire.ts'

/** Field numbers of DeltaDiscoveryRequest, and of an entry of its map. */
const FIELD = { node: 1, typeUrl: 2, subscribe: 3, unsubscribe: 4, versions: 5, nonce: 6, error: 7 } as const
const SINGLE: ReadonlySet<number> = new Set([FIELD.node, FIELD.typeUrl, FIELD.nonce, FIELD.error])
const ENTRY = { key: 1, value: 2 } as const
/** Octets of all fields that are not lists. An Envoy's `node`, with the names of its extensions, has about 50 KB. */
const SINGLE_OCTETS_MAX = 256 * 1024
/** Fields to read before other tasks get their turn. */
const FIELDS_PER_STEP = 5_000
/** Names in one part. Handling them (adopting zones, resolving names) is part of the same turn of the event loop. */
export const NAMES_PER_PART = 500

const { decode } = codec<DeltaDiscoveryRequest>('envoy.service.discovery.v3.DeltaDiscoveryRequest')

/** A request is over its limits. Thrown before its names are read. */
export class RequestFault extends Error {}

/**
 * Reads a large request in parts, because decoding 100,000 names at once would block the event loop for a quarter of a second.
 * The first part has all fields that are not lists; the lists are spread over all parts.
 * @returns parts, or null after some work that completed no part
 * @throws RequestFault, MalformedMessage
 */
export function* requestParts(bytes: Buffer): Generator<DeltaDiscoveryRequest | null, void> {
  const wire = new WireReader(bytes)
  const single: Buffer[] = []
  let singleOctets = 0
  let names = 0
  for (let fields = 1; !wire.atEnd; fields++) {
    if (fields % FIELDS_PER_STEP === 0) yield null
    const start = wire.offset
    const field = wire.field()
    if (field !== FIELD.subscribe && field !== FIELD.unsubscribe && field !== FIELD.versions) {
      wire.skip()
      if (!SINGLE.has(field)) continue
      singleOctets += wire.offset - start
      if (singleOctets > SINGLE_OCTETS_MAX)
        throw new RequestFault(`expected ${SINGLE_OCTETS_MAX} octets or fewer beside names`)
      single.push(bytes.subarray(start, wire.offset))
      continue
    }
    const length = wire.open().length
    if (field === FIELD.versions ? length > 2 * NAME_LENGTH_MAX : length > NAME_LENGTH_MAX)
      throw new RequestFault(`expected names of ${NAME_LENGTH_MAX} characters or fewer`)
    names += 1
    if (names > 2 * NAMES_MAX) throw new RequestFault(`expected ${NAMES_MAX} names or fewer`)
  }
  yield* listParts(bytes, headOf(Buffer.concat(single)))
}

function headOf(bytes: Buffer): DeltaDiscoveryRequest {
  try {
    return decode(bytes)
  } catch (error) {
    throw new MalformedMessage((error as Error).message)
  }
}

function* listParts(
  bytes: Buffer,
  head: DeltaDiscoveryRequest,
): Generator<DeltaDiscoveryRequest | null, void> {
  const wire = new WireReader(bytes)
  let lists = emptyLists()
  let names = 0
  let rest = head
  for (let fields = 1; !wire.atEnd; fields++) {
    if (fields % FIELDS_PER_STEP === 0) yield null
    const field = wire.field()
    if (field === FIELD.subscribe) lists.resource_names_subscribe.push(wire.text())
    else if (field === FIELD.unsubscribe) lists.resource_names_unsubscribe.push(wire.text())
    else if (field === FIELD.versions) {
      const [name, version] = entryOf(wire.open())
      lists.initial_resource_versions[name] = version
    } else {
      wire.skip()
      continue
    }
    names += 1
    if (names % NAMES_PER_PART > 0) continue
    yield { ...rest, ...lists }
    lists = emptyLists()
    rest = head.type_url === undefined ? {} : { type_url: head.type_url }
  }
  yield { ...rest, ...lists }
}

function emptyLists() {
  return {
    resource_names_subscribe: [] as string[],
    resource_names_unsubscribe: [] as string[],
    // Without a prototype, because a client may send names such as `__proto__`.
    initial_resource_versions: Object.create(null) as Record<string, string>,
  }
}

function entryOf(bytes: Buffer): [name: string, version: string] {
  const wire = new WireReader(bytes)
  let [name, version] = ['', '']
  while (!wire.atEnd) {
    const field = wire.field()
    if (field === ENTRY.key) name = wire.text()
    else if (field === ENTRY.value) version = wire.text()
    else wire.skip()
  }
  return [name, version]
}
