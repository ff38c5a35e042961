import protobuf from 'protobufjs'
import { type Message, messageType } from './envoy-api.ts'
import { type Place, YamlFile } from './yaml-file.ts'

export interface MessageReading {
  /** Undefined if there are faults or unknown parts. */
  readonly message: Message | undefined
  /** Values of the wrong type, with what was expected. Envoy refuses them, too. */
  readonly faults: readonly Remark[]
  /** Fields and extension types that this release's copy of Envoy's API does not have. Another Envoy may know them. */
  readonly unknown: readonly Remark[]
}

export interface Remark {
  readonly place: Place
  readonly what: string
}

/** Reads YAML as one of Envoy's messages, the way Envoy does (proto3's JSON mapping). Finds all faults, not just the first. */
export function readMessage(file: YamlFile, name: string, place: Place): MessageReading {
  const type = messageType(name)
  if (type === undefined) throw new Error(`Envoy has no message ${name}`)
  const reader = new Reader(file)
  const message = reader.message(type, place)
  const { faults, unknown } = reader
  const isComplete = faults.length === 0 && unknown.length === 0
  return { message: isComplete ? message : undefined, faults, unknown }
}

/** A message from proto3's JSON mapping that the processor generated. @throws Error for a field that Envoy's API doesn't have */
export function messageOf<Kind>(name: string, json: object): Kind {
  const file = new YamlFile({ path: 'zonegate.yaml', text: JSON.stringify(json) })
  const { message, faults, unknown } = readMessage(file, name, file.root)
  const [fault] = [...faults, ...unknown]
  if (fault !== undefined) throw new Error(`a generated ${name}: ${file.line(fault.place, fault.what)}`)
  return message as Kind
}

class Reader {
  readonly faults: Remark[] = []
  readonly unknown: Remark[] = []
  readonly #file: YamlFile

  constructor(file: YamlFile) {
    this.#file = file
  }

  message(type: protobuf.Type, place: Place): Message {
    const message: Message = {}
    if (!this.#file.isMapping(place)) return this.#fault(place, 'a mapping') ?? message
    for (const [key, at] of this.#file.entries(place)) {
      const name = fieldNames(type).get(key)
      const field = name === undefined ? undefined : type.fields[name]
      if (name === undefined || field === undefined) {
        if (key !== '@type') this.#unknown(at, "no field of Envoy's API")
        continue
      }
      const value = this.#field(field, at)
      if (value === undefined) continue
      const set = field.partOf?.oneof.find((other) => Object.hasOwn(message, other))
      if (Object.hasOwn(message, name)) this.#fault(at, `${name} only once`)
      else if (set !== undefined) this.#fault(at, `only one of ${set} and ${name}`)
      else message[name] = value
    }
    return message
  }

  #field(field: protobuf.Field, place: Place): unknown {
    field.resolve()
    const isValue = field.resolvedType?.fullName === '.google.protobuf.Value'
    if (this.#file.scalar(place) === null && !isValue) return undefined
    if (field instanceof protobuf.MapField) {
      if (!this.#file.isMapping(place)) return this.#fault(place, 'a mapping')
      if (field.keyType !== 'string')
        return this.#unknown(place, 'not supported here: a map with keys that are not texts')
      const entries = this.#file.entries(place)
      return Object.fromEntries(entries.map(([key, at]) => [key, this.#single(field, at)]))
    }
    if (!field.repeated) return this.#single(field, place)
    if (!this.#file.isList(place)) return this.#fault(place, 'a list')
    return this.#file.items(place).map((item) => this.#single(field, item))
  }

  #single({ resolvedType, type }: protobuf.Field, place: Place): unknown {
    if (resolvedType instanceof protobuf.Enum) return this.#enumeration(resolvedType, place)
    if (!(resolvedType instanceof protobuf.Type)) return this.#scalar(type, place)
    const wrapped = WRAPPED[resolvedType.fullName]
    if (wrapped !== undefined) return { value: this.#scalar(wrapped, place) }
    switch (resolvedType.fullName) {
      case '.google.protobuf.Any':
        return this.#any(place)
      case '.google.protobuf.Duration':
        return this.#duration(place)
      case '.google.protobuf.Struct':
        return this.#struct(place)
      case '.google.protobuf.Value':
        return this.#value(place)
      case '.google.protobuf.ListValue':
        return this.#list(place)
      case '.google.protobuf.Timestamp':
      case '.google.protobuf.FieldMask':
        return this.#unknown(place, `not supported here: ${resolvedType.name}`)
      default:
        return this.message(resolvedType, place)
    }
  }

  #scalar(type: string, place: Place): unknown {
    const value = this.#file.scalar(place)
    if (type === 'string') return typeof value === 'string' ? value : this.#fault(place, 'a text (in quotes)')
    if (type === 'bool') return typeof value === 'boolean' ? value : this.#fault(place, 'true or false')
    if (type === 'bytes') return this.#bytes(value, place)
    if (type === 'double' || type === 'float') {
      const number = typeof value === 'string' && /\d/.test(value) ? Number(value) : value
      return typeof number === 'number' && Number.isFinite(number) ? number : this.#fault(place, 'a number')
    }
    const bits = INTEGERS[type]
    if (bits === undefined) return this.#unknown(place, `not supported here: ${type}`)
    const integer = integerOf(value)
    const isSigned = !type.startsWith('u') && !type.startsWith('f')
    if (integer !== undefined && integer === (isSigned ? BigInt.asIntN : BigInt.asUintN)(bits, integer))
      return bits === 32 ? Number(integer) : String(integer)
    return this.#fault(place, isSigned ? 'a whole number' : 'a whole number, 0 or more')
  }

  /** base64, with either alphabet. */
  #bytes(value: unknown, place: Place): unknown {
    const octets = typeof value === 'string' ? Buffer.from(value, 'base64') : undefined
    const plain = (text: string): string => text.replace(/=+$/, '').replaceAll('-', '+').replaceAll('_', '/')
    if (octets !== undefined && plain(octets.toString('base64')) === plain(String(value))) return octets
    return this.#fault(place, 'octets as base64')
  }

  /** By number, or by name in any case. */
  #enumeration({ values }: protobuf.Enum, place: Place): unknown {
    const value = this.#file.scalar(place)
    const wanted = typeof value === 'string' ? value.toUpperCase() : value
    for (const [name, number] of Object.entries(values))
      if (name.toUpperCase() === wanted || number === wanted) return name
    return this.#fault(place, `one of ${Object.keys(values).join(', ')}`)
  }

  #duration(place: Place): unknown {
    const text = String(this.#file.scalar(place))
    const [whole, sign, seconds = '', fraction = ''] = DURATION.exec(text) ?? []
    if (whole === undefined) return this.#fault(place, 'a duration in seconds, such as 0.5s')
    const nanos = Number(fraction.padEnd(9, '0'))
    const factor = sign === '-' ? -1 : 1
    return { seconds: String(factor * Number(seconds)), nanos: factor * nanos }
  }

  #any(place: Place): unknown {
    if (!this.#file.isMapping(place)) return this.#fault(place, 'a message with its "@type"')
    if (this.#file.entries(place).length === 0) return {}
    const url = this.#file.text(place, '@type')
    if (url === undefined) return this.#fault(place, 'a message with its "@type"')
    const name = url.slice(url.lastIndexOf('/') + 1)
    const type = messageType(name)
    // protobuf's own messages have another form in an Any.
    if (type === undefined || name.startsWith('google.protobuf.'))
      return this.#unknown(place, `unknown type: ${name}`)
    const faults = this.faults.length + this.unknown.length
    const message = this.message(type, place)
    if (this.faults.length + this.unknown.length > faults) return undefined
    return { type_url: url, value: Buffer.from(type.encode(type.fromObject(message)).finish()) }
  }

  #struct(place: Place): unknown {
    if (!this.#file.isMapping(place)) return this.#fault(place, 'a mapping')
    const fields = this.#file.entries(place).map(([key, at]) => [key, this.#value(at)])
    return { fields: Object.fromEntries(fields) }
  }

  #list(place: Place): unknown {
    if (!this.#file.isList(place)) return this.#fault(place, 'a list')
    return { values: this.#file.items(place).map((item) => this.#value(item)) }
  }

  #value(place: Place): unknown {
    if (this.#file.isMapping(place)) return { structValue: this.#struct(place) }
    if (this.#file.isList(place)) return { listValue: this.#list(place) }
    const value = this.#file.scalar(place)
    if (typeof value === 'string') return { stringValue: value }
    if (typeof value === 'number') return { numberValue: value }
    if (typeof value === 'boolean') return { boolValue: value }
    return { nullValue: 'NULL_VALUE' }
  }

  #fault(place: Place, expected: string): undefined {
    this.faults.push({ place, what: `expected ${expected}` })
    return undefined
  }

  #unknown(place: Place, what: string): undefined {
    this.unknown.push({ place, what })
    return undefined
  }
}

const WRAPPED: Readonly<Record<string, string>> = {
  '.google.protobuf.BoolValue': 'bool',
  '.google.protobuf.UInt32Value': 'uint32',
  '.google.protobuf.UInt64Value': 'uint64',
  '.google.protobuf.Int32Value': 'int32',
  '.google.protobuf.Int64Value': 'int64',
  '.google.protobuf.DoubleValue': 'double',
  '.google.protobuf.FloatValue': 'float',
  '.google.protobuf.StringValue': 'string',
  '.google.protobuf.BytesValue': 'bytes',
}

/** Bits of the integer types. */
const INTEGERS: Readonly<Record<string, number>> = {
  uint32: 32,
  int32: 32,
  sint32: 32,
  fixed32: 32,
  uint64: 64,
  int64: 64,
  sint64: 64,
  fixed64: 64,
}

/** Seconds with up to nine decimals (proto3's JSON mapping of Duration). */
const DURATION = /^(-?)(\d{1,12})(?:\.(\d{1,9}))?s$/

/** @param text in proto3's JSON mapping. @returns undefined if it is no duration, or a negative one */
export function durationMs(text: string): number | undefined {
  const [whole, sign] = DURATION.exec(text) ?? []
  return whole === undefined || sign === '-' ? undefined : Number.parseFloat(whole) * 1000
}

/** Whole numbers, plain or as texts. Envoy also takes `1e3` and `5.0`; they are refused here because they are likely mistakes. */
function integerOf(value: unknown): bigint | undefined {
  if (typeof value === 'number') return BigInt(value)
  return typeof value === 'string' && /^-?\d{1,20}$/.test(value) ? BigInt(value) : undefined
}

const namesOfTypes = new WeakMap<protobuf.Type, ReadonlyMap<string, string>>()

/** proto3's JSON mapping takes a field's name in either case. */
function fieldNames(type: protobuf.Type): ReadonlyMap<string, string> {
  let names = namesOfTypes.get(type)
  if (names === undefined) {
    const all = Object.keys(type.fields)
    const camelCase = (name: string): string => name.replace(/_(.)/g, (_, next: string) => next.toUpperCase())
    names = new Map([
      ...all.map((name) => [camelCase(name), name] as const),
      ...all.map((name) => [name, name] as const),
    ])
    namesOfTypes.set(type, names)
  }
  return names
}
