import { type Alias, isAlias, isMap, isScalar, isSeq, type Node, type Pair } from 'yaml'
import type { Struct, Value } from '../grpc/protos.ts'
import type { FieldSchema, MessageSchemas } from './message-schema.ts'

/** A message in the loader's spelling: absent fields are left out, a duration or a wrapper is a message of its own. */
export type Message = Record<string, unknown>

/** Somewhere in a document. */
export interface Place {
  readonly node: Node
  /** As in `routes[2].route.timeout`. */
  readonly path: string
}

export interface MessageReading {
  readonly value: Message
  /** Values of the wrong kind, with what was expected. */
  readonly faults: readonly (Place & { readonly expected: string })[]
  /** Fields that `proto/` doesn't have: left out of the value. */
  readonly unknown: readonly Place[]
}

/**
 * Reads YAML as a protobuf message, as Envoy reads its files (proto3's JSON mapping), but closed over the fields of
 * `proto/`. Everything is read in one go: the faults are complete, and the value is worth something only without them.
 *
 * @param omit fields of the message itself that are not looked at
 */
export function readMessage(
  schemas: MessageSchemas,
  messageName: string,
  place: Place,
  resolveAlias: (alias: Alias) => Node | undefined,
  omit: ReadonlySet<string> = new Set(),
): MessageReading {
  const faults: (Place & { expected: string })[] = []
  const unknown: Place[] = []
  const reader = new Reader(schemas, resolveAlias, faults, unknown)
  return { value: reader.message(messageName, place, omit), faults, unknown }
}

const WRAPPED: Readonly<Record<string, string>> = {
  'google.protobuf.BoolValue': 'bool',
  'google.protobuf.UInt32Value': 'uint32',
  'google.protobuf.UInt64Value': 'uint64',
  'google.protobuf.DoubleValue': 'double',
  'google.protobuf.StringValue': 'string',
}

const INTEGERS: Readonly<Record<string, readonly [min: number, max: number]>> = {
  uint32: [0, 0xffff_ffff],
  int32: [-0x8000_0000, 0x7fff_ffff],
  uint64: [0, Number.MAX_SAFE_INTEGER],
  int64: [Number.MIN_SAFE_INTEGER, Number.MAX_SAFE_INTEGER],
}

/** Seconds with up to nine decimals (proto3's JSON mapping of Duration). Envoy has no use for negative ones. */
const DURATION = /^(\d{1,12})(?:\.(\d{1,9}))?s$/

class Reader {
  readonly #schemas: MessageSchemas
  readonly #resolveAlias: (alias: Alias) => Node | undefined
  readonly #faults: (Place & { expected: string })[]
  readonly #unknown: Place[]

  constructor(
    schemas: MessageSchemas,
    resolveAlias: (alias: Alias) => Node | undefined,
    faults: (Place & { expected: string })[],
    unknown: Place[],
  ) {
    this.#schemas = schemas
    this.#resolveAlias = resolveAlias
    this.#faults = faults
    this.#unknown = unknown
  }

  message(name: string, place: Place, omit?: ReadonlySet<string>): Message {
    const schema = this.#schemas.messages.get(name)
    if (schema === undefined) throw new Error(`no message ${name} in proto/`)
    const value: Message = {}
    for (const { key, place: at } of this.#entries(place)) {
      if (key === '@type' || omit?.has(key)) continue
      const field = schema.fields.get(snakeCase(key))
      if (field === undefined) this.#unknown.push(at)
      else if (!isNull(at.node)) value[field.name] = this.#field(field, at)
    }
    return value
  }

  #field(field: FieldSchema, place: Place): unknown {
    if (field.label === 'singular') return this.#single(field, place)
    if (field.label === 'map') {
      const entries = this.#entries(place).map(({ key, place: at }) => [key, this.#single(field, at)])
      return Object.fromEntries(entries.filter(([, value]) => value !== undefined))
    }
    const node = this.#resolved(place.node)
    if (!isSeq(node)) return this.#fault(place, 'a list')
    return node.items
      .map((item, index) => this.#single(field, { node: item as Node, path: `${place.path}[${index}]` }))
      .filter((value) => value !== undefined)
  }

  #single({ type, typeName }: FieldSchema, place: Place): unknown {
    if (type === 'enum') return this.#enumeration(typeName, place)
    if (type !== 'message') return this.#scalar(type, place)
    if (typeName === 'google.protobuf.Duration') return this.#duration(place)
    if (typeName === 'google.protobuf.Struct') return this.#struct(place)
    if (typeName === 'google.protobuf.Any') return this.#any(place)
    const wrapped = WRAPPED[typeName]
    return wrapped === undefined ? this.message(typeName, place) : { value: this.#scalar(wrapped, place) }
  }

  #scalar(type: string, place: Place): unknown {
    const value = this.#plain(place.node)
    if (type === 'string') return typeof value === 'string' ? value : this.#fault(place, 'a text (in quotes)')
    if (type === 'bool') return typeof value === 'boolean' ? value : this.#fault(place, 'true or false')
    const number = typeof value === 'string' && value !== '' ? Number(value) : value
    if (type === 'double') return Number.isFinite(number) ? number : this.#fault(place, 'a number')
    const [min, max] = INTEGERS[type] ?? unreadable(type)
    if (Number.isSafeInteger(number) && Number(number) >= min && Number(number) <= max) return number
    return this.#fault(place, min === 0 ? 'a whole number, 0 or more' : 'a whole number')
  }

  #enumeration(typeName: string, place: Place): unknown {
    const values = this.#schemas.enums.get(typeName)?.values ?? new Map<string, number>()
    const value = this.#plain(place.node)
    for (const [name, number] of values) if (value === name || value === number) return name
    return this.#fault(place, `one of ${[...values.keys()].join(', ')}`)
  }

  #duration(place: Place): unknown {
    const [whole, seconds = '', fraction = ''] = DURATION.exec(String(this.#plain(place.node))) ?? []
    if (whole === undefined) return this.#fault(place, 'a duration in seconds, such as 0.5s')
    return { seconds: Number(seconds), nanos: Number(fraction.padEnd(9, '0')) }
  }

  /** A message of a type that `proto/` has; any other is as unknown as a field. */
  #any(place: Place): unknown {
    const entries = this.#entries(place)
    if (entries.length === 0) return {}
    const type = this.#plain(entries.find(({ key }) => key === '@type')?.place.node)
    if (typeof type !== 'string') return this.#fault(place, 'a message with its "@type"')
    const name = type.slice(type.lastIndexOf('/') + 1)
    if (this.#schemas.messages.has(name)) return { '@type': type, ...this.message(name, place) }
    this.#unknown.push(place)
    return undefined
  }

  #struct(place: Place): Struct {
    const fields = this.#entries(place).map(({ key, place: at }) => [key, this.#structValue(at)] as const)
    return { fields: Object.fromEntries(fields) }
  }

  #structValue(place: Place): Value {
    const node = this.#resolved(place.node)
    if (isMap(node)) return { structValue: this.#struct(place) }
    if (isSeq(node)) {
      const values = node.items.map((item, index) =>
        this.#structValue({ node: item as Node, path: `${place.path}[${index}]` }),
      )
      return { listValue: { values } }
    }
    const value = this.#plain(node)
    if (typeof value === 'number') return { numberValue: value }
    if (typeof value === 'boolean') return { boolValue: value }
    return { stringValue: String(value) }
  }

  #entries(place: Place): { key: string; place: Place }[] {
    const node = this.#resolved(place.node)
    if (!isMap(node)) {
      this.#fault(place, 'a mapping')
      return []
    }
    return node.items.map((pair: Pair) => {
      const key = String(this.#plain(pair.key))
      const at = (pair.value ?? pair.key) as Node
      return { key, place: { node: at, path: place.path === '' ? key : `${place.path}.${key}` } }
    })
  }

  #plain(node: unknown): unknown {
    const resolved = this.#resolved(node)
    return isScalar(resolved) ? resolved.value : undefined
  }

  #resolved(node: unknown): unknown {
    return isAlias(node) ? this.#resolveAlias(node) : node
  }

  #fault(place: Place, expected: string): undefined {
    this.#faults.push({ ...place, expected })
    return undefined
  }
}

function isNull(node: Node): boolean {
  return isScalar(node) && node.value === null
}

/** proto3's JSON mapping takes a field's name in either case. */
function snakeCase(key: string): string {
  return key.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`)
}

function unreadable(type: string): never {
  throw new Error(`proto/ has a field of type ${type}, which no file of Envoy's is read for`)
}
