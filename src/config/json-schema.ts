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
        jsonSchema.pattern = jsonSchema.pattern.replace(/(?<!A-Z)a-z/g, 'A-Za-z')
    },
  })
  const { $schema, properties, ...rest } = schema as JsonSchema
  const rule = properties?.['rules']?.items
  const id = rule?.properties?.['id']
  const text = {
    $schema,
    title: 'zonegate.yaml',
    ...rest,
    properties: { ...properties, rules: oneOrList(properties?.['rules'], 'rule') },
    $defs: {
      rule: { ...rule, properties: { ...rule?.properties, id: oneOrList(id, 'place') } },
      place: { ...id?.items, minProperties: 1, maxProperties: 1 },
    },
  }
  return `${withShortArrays(JSON.stringify(text, null, 2))}\n`
}

interface JsonSchema {
  readonly $schema?: string
  readonly description?: string
  readonly minItems?: number
  readonly maxItems?: number
  readonly items?: JsonSchema
  readonly properties?: Readonly<Record<string, JsonSchema>>
}

/** Where one will do, no list need be written: withLists() of schema.ts. */
function oneOrList({ description, minItems, maxItems }: JsonSchema = {}, name: string): object {
  const items = { $ref: `#/$defs/${name}` }
  return { description, anyOf: [items, { type: 'array', minItems, maxItems, items }] }
}

/** lineWidth of biome.json. */
const LINE_WIDTH = 110

/** Arrays of plain values on one line, if they fit, as the formatter has them. */
export function withShortArrays(json: string): string {
  return json.replace(/^(.*\[)\n([^[\]{}]*)\n\s*\]/gm, (long, start: string, items: string) => {
    const short = `${start}${items.trim().replace(/,\n\s*/g, ', ')}]`
    return short.length < LINE_WIDTH ? short : long
  })
}

if (import.meta.main) writeFileSync(JSON_SCHEMA_FILE, jsonSchemaText())
