import type { PackageDefinition } from '@grpc/proto-loader'

/** What `.proto` files say of their messages and enums: the closed set of names that may be read or written. */
export interface MessageSchemas {
  readonly messages: ReadonlyMap<string, MessageSchema>
  readonly enums: ReadonlyMap<string, EnumSchema>
}

export interface MessageSchema {
  /** Fully qualified, without a leading dot. */
  readonly name: string
  readonly fields: ReadonlyMap<string, FieldSchema>
  readonly oneofs: readonly string[]
}

export interface FieldSchema {
  readonly name: string
  readonly number: number
  readonly label: 'singular' | 'repeated' | 'map'
  /** Such as `string`, `uint32`, `message`, `enum`. Of a map: its values' (keys are strings). */
  readonly type: string
  /** Fully qualified name of the message or enum, else empty. */
  readonly typeName: string
}

export interface EnumSchema {
  readonly name: string
  readonly values: ReadonlyMap<string, number>
}

/** google.protobuf.DescriptorProto and its parts, as the loader gives them. */
interface Descriptor {
  name: string
  field?: FieldDescriptor[]
  nestedType?: Descriptor[]
  enumType?: Descriptor[]
  oneofDecl?: { name: string }[]
  value?: { name: string; number: number }[]
  options?: { mapEntry?: boolean } | null
}

interface FieldDescriptor {
  name: string
  number: number
  label: string
  type: string
  typeName: string
}

export function messageSchemas(definitions: PackageDefinition): MessageSchemas {
  const types = new Map<string, Descriptor>()
  for (const [name, definition] of Object.entries(definitions)) {
    if ('format' in definition) collect(name, definition.type as unknown as Descriptor, types)
  }
  const messages = new Map<string, MessageSchema>()
  const enums = new Map<string, EnumSchema>()
  for (const [name, type] of types) {
    if (type.value !== undefined) {
      enums.set(name, { name, values: new Map(type.value.map((value) => [value.name, value.number])) })
    } else if (!type.options?.mapEntry) {
      const fields = (type.field ?? []).map((field) => fieldSchema(name, field, types))
      messages.set(name, {
        name,
        fields: new Map(fields.map((field) => [field.name, field])),
        oneofs: (type.oneofDecl ?? []).map((oneof) => oneof.name),
      })
    }
  }
  return { messages, enums }
}

function collect(name: string, type: Descriptor, into: Map<string, Descriptor>): void {
  into.set(name, type)
  for (const inner of [...(type.nestedType ?? []), ...(type.enumType ?? [])])
    collect(`${name}.${inner.name}`, inner, into)
}

function fieldSchema(
  message: string,
  field: FieldDescriptor,
  types: ReadonlyMap<string, Descriptor>,
): FieldSchema {
  const typeName = field.typeName === '' ? '' : resolve(message, field.typeName, types)
  const entry = types.get(typeName)
  if (entry?.options?.mapEntry) {
    const value = entry.field?.find(({ name }) => name === 'value')
    if (value === undefined) throw new Error(`map without values: ${typeName}`)
    return { ...fieldSchema(typeName, value, types), name: field.name, number: field.number, label: 'map' }
  }
  return {
    name: field.name,
    number: field.number,
    label: field.label === 'LABEL_REPEATED' ? 'repeated' : 'singular',
    type: field.type.replace(/^TYPE_/, '').toLowerCase(),
    typeName,
  }
}

/** A relative name means the innermost scope that has it (protobuf's language guide, "Packages and Name Resolution"). */
function resolve(scope: string, name: string, types: ReadonlyMap<string, Descriptor>): string {
  if (name.startsWith('.')) return name.slice(1)
  for (let outer = scope; ; outer = outer.slice(0, Math.max(0, outer.lastIndexOf('.')))) {
    const candidate = outer === '' ? name : `${outer}.${name}`
    if (types.has(candidate)) return candidate
    if (outer === '') throw new Error(`no type ${name} in the scope of ${scope}`)
  }
}
