// zonegate.schema.json, for editors: node scripts/with-node.mjs src/config/json-schema.ts writes it anew.
import { writeFileSync } from 'node:fs'
import * as z from 'zod'
import { configSchema } from './schema.ts'

export const JSON_SCHEMA_FILE = new URL('../../zonegate.schema.json', import.meta.url)

/**
 * JSON Schema (2020-12) of what may stand in `zonegate.yaml`, as text. It is wider than the schema it is made from: what
 * that checks by code (addresses, regular expressions, keys that go together) JSON Schema can't say.
 */
export function jsonSchemaText(): string {
  const schema = z.toJSONSchema(configSchema, {
    io: 'input',
    override: ({ jsonSchema }) => {
      // JSON Schema's patterns have no flag for case, and ours that name small letters take both.
      if (jsonSchema.pattern !== undefined)
        jsonSchema.pattern = jsonSchema.pattern.replaceAll('a-z', 'A-Za-z')
    },
  })
  const { $schema, ...rest } = schema
  return `${withShortArrays(JSON.stringify({ $schema, title: 'zonegate.yaml', ...rest }, null, 2))}\n`
}

/** Arrays of plain values on one line, as the formatter has them. */
function withShortArrays(json: string): string {
  return json.replace(/\[\n[^[\]{}]*\n\s*\]/g, (array) => array.replace(/\n\s*/g, '').replaceAll(',', ', '))
}

if (import.meta.main) writeFileSync(JSON_SCHEMA_FILE, jsonSchemaText())
