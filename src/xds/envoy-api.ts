/** The messages of Envoy's bootstrap, listeners, routes and clusters. `scripts/envoy-api.ts` reads them from Envoy's binary into `proto/envoy-api.json`. */
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import protobuf from 'protobufjs'

/** `proto/` is beside `src/`, and beside `dist/` in the package. */
export const MESSAGE_FILE = fileURLToPath(new URL('../../proto/envoy-api.json', import.meta.url))

/** Describes a message (`fields`, `oneofs`) or an enum. */
export interface MessageDescription {
  /** By name: number, type (a scalar, or a fully qualified name), and `repeated` or `map KEYTYPE`. */
  fields?: Record<string, readonly [number: number, type: string, rule?: string]>
  oneofs?: Record<string, string[]>
  enum?: Record<string, number>
}

const WELL_KNOWN = ['any', 'duration', 'empty', 'field_mask', 'struct', 'timestamp', 'wrappers']

/** Fields have Envoy's own names (snake case), enums their names, 64-bit integers are decimal texts, bytes Buffers. */
export type Message = Record<string, unknown>

const AS_OBJECT: protobuf.IConversionOptions = { enums: String, longs: String }

let descriptions: Record<string, MessageDescription> | undefined
const root = new protobuf.Root()
const defined = new Set<string>()

function described(): Record<string, MessageDescription> {
  if (descriptions !== undefined) return descriptions
  descriptions = JSON.parse(readFileSync(MESSAGE_FILE, 'utf8')) as Record<string, MessageDescription>
  for (const file of WELL_KNOWN) {
    const { nested } = protobuf.common.get(`google/protobuf/${file}.proto`) as protobuf.INamespace
    root.addJSON(nested as Record<string, protobuf.AnyNestedObject>)
  }
  return descriptions
}

/** The fields of a message, without defining it; undefined: Envoy has no message of this name. */
export function fieldsOf(name: string): MessageDescription['fields'] {
  return described()[name]?.fields
}

/** The message type, defined at its first use with all that it refers to; undefined: Envoy has no message of this name. */
export function messageType(name: string): protobuf.Type | undefined {
  const descriptions = described()
  const isKnown = descriptions[name]?.fields !== undefined || name.startsWith('google.protobuf.')
  if (!isKnown) return undefined
  define(name, descriptions)
  const found = root.lookup(name, [protobuf.Type])
  return found instanceof protobuf.Type ? found : undefined
}

/** Encodes and decodes one type of message, as plain objects. @throws for an unknown name, which is a bug */
export function messageCodec<Kind extends object>(
  name: string,
): { encode(message: Kind): Buffer; decode(bytes: Uint8Array): Kind } {
  const type = (): protobuf.Type => {
    const found = messageType(name)
    if (found === undefined) throw new Error(`Envoy has no message ${name}`)
    return found
  }
  return {
    encode: (message) => Buffer.from(type().encode(type().fromObject(message)).finish()),
    decode: (bytes) => type().toObject(type().decode(bytes), AS_OBJECT) as Kind,
  }
}

/** Defines a message and all that it refers to. Outer messages come before those nested in them. */
function define(name: string, all: Record<string, MessageDescription>): void {
  const missing: string[] = []
  const todo = [name]
  for (let next = todo.pop(); next !== undefined; next = todo.pop()) {
    const description = all[next]
    if (description === undefined || defined.has(next)) continue
    defined.add(next)
    missing.push(next)
    for (const [, type] of Object.values(description.fields ?? {})) todo.push(type)
    todo.push(next.slice(0, next.lastIndexOf('.')))
  }
  for (const each of missing.sort()) {
    const dot = each.lastIndexOf('.')
    const parent = root.define(each.slice(0, dot))
    parent.add(objectOf(each.slice(dot + 1), all[each] as MessageDescription))
  }
}

function objectOf(name: string, description: MessageDescription): protobuf.ReflectionObject {
  if (description.enum !== undefined) return new protobuf.Enum(name, description.enum)
  const type = new protobuf.Type(name)
  for (const [field, [number, kind, rule]] of Object.entries(description.fields ?? {})) {
    const typeName = kind.includes('.') ? `.${kind}` : kind
    const [word, keyType] = rule?.split(' ') ?? []
    if (word === 'map') type.add(new protobuf.MapField(field, number, keyType as string, typeName))
    else type.add(new protobuf.Field(field, number, typeName, word))
  }
  for (const [oneof, fields] of Object.entries(description.oneofs ?? {}))
    type.add(new protobuf.OneOf(oneof, fields))
  return type
}
