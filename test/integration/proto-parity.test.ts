import assert from 'node:assert/strict'
import { globSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { before, describe, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import protobuf from 'protobufjs'
import { allMessages, describe as describeApi, textOf } from '../../scripts/envoy-api.ts'
import { ensureEnvoy } from '../../src/launch/envoy-binary.ts'
import { MESSAGE_FILE, type MessageDescription } from '../../src/xds/envoy-api.ts'

/** Envoy carries the descriptors of its whole API: what it speaks, not what is written about it. */
let program: Buffer
let official: ReadonlyMap<string, MessageDescription>
before(async () => {
  program = readFileSync(await ensureEnvoy())
  official = allMessages(program)
})

test("proto/envoy-api.json is what Envoy's program has (scripts/envoy-api.ts writes it)", () => {
  assert.equal(readFileSync(MESSAGE_FILE, 'utf8'), textOf(describeApi(program)))
})

const folder = fileURLToPath(new URL('../../proto', import.meta.url))
const root = new protobuf.Root()
root.resolvePath = (_, path) => (path.startsWith('/') ? path : join(folder, path))
root.loadSync(
  globSync('**/*.proto', { cwd: folder }).map((path) => join(folder, path)),
  { keepCase: true },
)
root.resolveAll()

describe('the .proto files have what Envoy has:', () => {
  for (const type of typesOf(root)) {
    const name = type.fullName.slice(1)
    if (name.startsWith('google.protobuf.')) continue
    test(name, () => {
      const reference = official.get(name)
      assert.ok(reference, 'Envoy has it')
      if (type instanceof protobuf.Enum) {
        for (const [value, number] of Object.entries(type.values))
          assert.equal(number, reference.enum?.[value], value)
        return
      }
      for (const field of type.fieldsArray) {
        const typeName = field.resolvedType?.fullName.slice(1) ?? field.type
        const rule =
          field instanceof protobuf.MapField ? `map ${field.keyType}` : field.repeated && 'repeated'
        assert.deepEqual(
          [field.id, typeName, ...(rule ? [rule] : [])],
          reference.fields?.[field.name],
          field.name,
        )
      }
      for (const { name: oneof, oneof: fields } of type.oneofsArray)
        for (const field of fields)
          assert.ok(reference.oneofs?.[oneof]?.includes(field), `${oneof}: ${field}`)
    })
  }
})

function typesOf(namespace: protobuf.NamespaceBase): (protobuf.Type | protobuf.Enum)[] {
  return namespace.nestedArray.flatMap((object) => [
    ...(object instanceof protobuf.Type || object instanceof protobuf.Enum ? [object] : []),
    ...(object instanceof protobuf.Namespace ? typesOf(object) : []),
  ])
}
