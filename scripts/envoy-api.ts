// Writes proto/envoy-api.json: the messages of Envoy's bootstrap, listeners, routes and clusters. It reads them from the pinned
// Envoy's binary, which contains the descriptors of its whole API. Run it after a change of Envoy's version:
// node scripts/with-node.mjs scripts/envoy-api.ts ENVOY
import { readFileSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import type {
  IDescriptorProto,
  IEnumDescriptorProto,
  IFileDescriptorProto,
} from 'protobufjs/ext/descriptor/index.js'
import descriptor from 'protobufjs/ext/descriptor/index.js'
import { MESSAGE_FILE, type MessageDescription } from '../src/xds/envoy-api.ts'

/** Messages that the processor reads from the operator's files, or sends to Envoy. */
const ROOTS = [
  'envoy.config.bootstrap.v3.Bootstrap',
  'envoy.config.cluster.v3.Cluster',
  'envoy.config.listener.v3.Listener',
  'envoy.config.route.v3.RouteConfiguration',
  'envoy.config.route.v3.FilterConfig',
]
/** Extensions that these messages may contain in an Any. */
const EXTENSIONS =
  /^envoy\.extensions\.(?:access_loggers|clusters|common|early_data|filters|formatter|http|internal_redirect|load_balancing_policies|matching|network\.dns_resolver\.cares|path|request_id|resource_monitors|retry|rbac|router|string_matcher|transport_sockets|upstreams)\./
/** protobuf's own messages, which protobufjs already has. */
const WELL_KNOWN = /^google\.protobuf\.(?:Any|Duration|Empty|FieldMask|Timestamp|\w*Value|Struct)/

type Description = MessageDescription

/** Finds the descriptors in Envoy's binary. Each starts with its file's name, and ends before the first octet that is no field. */
function descriptorFiles(program: Buffer): IFileDescriptorProto[] {
  const files = new Map<string, IFileDescriptorProto>()
  for (let at = program.indexOf('.proto\x12'); at !== -1; at = program.indexOf('.proto\x12', at + 1)) {
    const start = startOf(program, at + '.proto'.length)
    if (start === undefined) continue
    const { FileDescriptorProto } = descriptor
    const message = FileDescriptorProto.decode(program.subarray(start, endOf(program, start)))
    const file: IFileDescriptorProto = FileDescriptorProto.toObject(message)
    files.set(file.name ?? '', file)
  }
  return [...files.values()]
}

const NAME_LENGTH_MAX = 127
const NAME_TAG = 0x0a

function startOf(program: Buffer, nameEnd: number): number | undefined {
  for (let length = 1; length <= NAME_LENGTH_MAX; length++) {
    const start = nameEnd - length - 2
    if (program[start] !== NAME_TAG || program[start + 1] !== length) continue
    if (/^[\w./-]+$/.test(program.toString('latin1', start + 2, nameEnd))) return start
  }
  return undefined
}

/** The fields of FileDescriptorProto that are numbers. All others have a length. */
const FIELD_MAX = 14
const NUMBERS = new Set([10, 11, 14])
const LENGTH_DELIMITED = 2

function endOf(program: Buffer, start: number): number {
  for (let at = start; ; ) {
    const tag = program[at] ?? 0
    const [field, wireType] = [tag >> 3, tag & 7]
    const isField =
      field >= 1 && field <= FIELD_MAX && wireType === (NUMBERS.has(field) ? 0 : LENGTH_DELIMITED)
    if (!isField || (tag === NAME_TAG && at !== start)) return at
    let [length, shift, position] = [0, 0, at + 1]
    for (let more = true; more; shift += 7) {
      const octet = program[position++] ?? 0
      length |= (octet & 0x7f) << shift
      more = (octet & 0x80) !== 0
    }
    at = position + (wireType === LENGTH_DELIMITED ? length : 0)
  }
}

/** All messages and enums of Envoy, by name. */
export function allMessages(program: Buffer): Map<string, Description> {
  const all = new Map<string, Description>()
  for (const file of descriptorFiles(program)) {
    const { package: scope = '', messageType = [], enumType = [] } = file
    for (const message of messageType) collect(scope, message, all)
    for (const each of enumType) all.set(`${scope}.${each.name}`, { enum: valuesOf(each) })
  }
  return all
}

/** All messages that the roots and the extensions refer to. */
export function describe(program: Buffer): Record<string, Description> {
  const all = allMessages(program)
  const todo = [...ROOTS, ...[...all.keys()].filter((name) => EXTENSIONS.test(name) && isMessage(all, name))]
  const reached = new Set<string>()
  for (let name = todo.pop(); name !== undefined; name = todo.pop()) {
    if (reached.has(name) || WELL_KNOWN.test(name)) continue
    const description = all.get(name)
    if (description === undefined) throw new Error(`Envoy has no ${name}`)
    reached.add(name)
    for (const [, type = ''] of Object.values(description.fields ?? {}))
      if (type.includes('.')) todo.push(type)
    const parent = name.slice(0, name.lastIndexOf('.'))
    if (all.has(parent)) todo.push(parent)
  }
  return Object.fromEntries([...reached].sort().map((name) => [name, all.get(name) as Description]))
}

const isMessage = (all: ReadonlyMap<string, Description>, name: string): boolean =>
  all.get(name)?.fields !== undefined

function valuesOf({ value = [] }: IEnumDescriptorProto): Record<string, number> {
  return Object.fromEntries(value.map(({ name, number }) => [name, number]))
}

/** The scalar types of google.protobuf.FieldDescriptorProto.Type. */
const SCALARS: Readonly<Record<number, string>> = {
  1: 'double',
  2: 'float',
  3: 'int64',
  4: 'uint64',
  5: 'int32',
  6: 'fixed64',
  7: 'fixed32',
  8: 'bool',
  9: 'string',
  12: 'bytes',
  13: 'uint32',
  15: 'sfixed32',
  16: 'sfixed64',
  17: 'sint32',
  18: 'sint64',
}
const REPEATED = 3

function collect(scope: string, message: IDescriptorProto, all: Map<string, Description>): void {
  const name = `${scope}.${message.name}`
  const nested = message.nestedType ?? []
  for (const inner of nested) if (!inner.options?.mapEntry) collect(name, inner, all)
  for (const inner of message.enumType ?? []) all.set(`${name}.${inner.name}`, { enum: valuesOf(inner) })
  const fields: NonNullable<Description['fields']> = {}
  const oneofs: Record<string, string[]> = {}
  for (const field of message.field ?? []) {
    const typeOf = ({ type, typeName }: typeof field): string =>
      typeName ? typeName.replace(/^\./, '') : (SCALARS[Number(type)] as string)
    const entry = nested.find(
      (inner) => inner.options?.mapEntry && field.typeName === `.${name}.${inner.name}`,
    )
    const [key, value] = entry?.field ?? []
    const label = Number(field.label) === REPEATED ? 'repeated' : undefined
    const fieldName = field.name as string
    if (key !== undefined && value !== undefined)
      fields[fieldName] = [field.number as number, typeOf(value), `map ${typeOf(key)}`]
    else if (label !== undefined) fields[fieldName] = [field.number as number, typeOf(field), label]
    else fields[fieldName] = [field.number as number, typeOf(field)]
    const oneof = Object.hasOwn(field, 'oneofIndex') && message.oneofDecl?.[field.oneofIndex as number]?.name
    if (oneof) oneofs[oneof] = [...(oneofs[oneof] ?? []), fieldName]
  }
  all.set(name, { fields, ...(Object.keys(oneofs).length > 0 && { oneofs }) })
}

/** One message on each line, so that a diff is readable. */
export function textOf(messages: Record<string, Description>): string {
  const lines = Object.entries(messages).map(([name, message]) => `"${name}":${JSON.stringify(message)}`)
  return `{\n${lines.join(',\n')}\n}\n`
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [, , envoy] = process.argv
  if (envoy === undefined) throw new Error('usage: envoy-api.ts ENVOY')
  writeFileSync(MESSAGE_FILE, textOf(describe(readFileSync(envoy))))
}
