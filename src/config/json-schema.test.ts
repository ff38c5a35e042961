import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import * as z from 'zod'
import { JSON_SCHEMA_FILE, jsonSchemaText } from './json-schema.ts'
import { parseConfig } from './load.ts'
import { rulesOf } from './rules.ts'
import { configSchema } from './schema.ts'

interface Schema {
  readonly type?: string
  readonly pattern?: string
  readonly description?: string
  readonly anyOf?: readonly Schema[]
  readonly propertyNames?: Schema
  readonly $defs?: Readonly<Record<string, Schema>>
  readonly properties?: Readonly<Record<string, Schema>>
}

const schema: Schema = JSON.parse(jsonSchemaText())
/** The keys of a section; of `rules`, those of a rule. */
const sections = Object.entries(schema.properties ?? {}).map(
  ([section, { properties = {} }]) =>
    [section, section === 'rules' ? (schema.$defs?.['rule']?.properties ?? {}) : properties] as const,
)
const reference = readFileSync(new URL('../../docs/configuration.md', import.meta.url), 'utf8')

test('zonegate.schema.json is current', () => {
  const write = 'node scripts/with-node.mjs src/config/json-schema.ts'
  assert.equal(readFileSync(JSON_SCHEMA_FILE, 'utf8'), jsonSchemaText(), `${write} makes it anew`)
})

test('every key that holds a value says what it is', () => {
  const without = sections.flatMap(([section, keys]) =>
    Object.entries(keys)
      .filter(([, { description, properties }]) => description === undefined && properties === undefined)
      .map(([key]) => `${section}.${key}`),
  )
  assert.deepEqual(without, [])
})

test('patterns take letters of both cases where the configuration does', () => {
  const { dns } = schema.properties ?? {}
  const rule = schema.$defs?.['rule']?.properties
  const patterns: [pattern: string | undefined, text: string][] = [
    [rule?.['header']?.pattern, 'Server'],
    [rule?.['services']?.propertyNames?.pattern, 'Mail'],
    [dns?.properties?.['search']?.anyOf?.[0]?.pattern, 'Game.Test'],
  ]
  for (const [pattern, text] of patterns) assert.match(text, new RegExp(pattern ?? '(?!)'))
})

test('editors take rules as a mapping or a list, and the places of an id too', () => {
  const editor = z.fromJSONSchema(JSON.parse(jsonSchemaText()))
  const taken = [
    {},
    { rules: { header: 'x' } },
    { rules: [{ name: 'a', id: { query: 'x' } }] },
    { rules: { id: [{ query: 'x' }, { path: '/cb/{id}/*' }] } },
  ]
  const faulty = [
    { rules: [] },
    { rules: { metods: ['POST'] } },
    { rules: { id: [] } },
    { rules: { id: {} } },
    { rules: { id: { query: 'a', cookie: 'b' } } },
  ]
  for (const value of taken) {
    assert.ok(editor.safeParse(value).success, JSON.stringify(value))
    assert.ok(configSchema.safeParse(value).success, JSON.stringify(value))
  }
  for (const value of faulty) assert.ok(!editor.safeParse(value).success, JSON.stringify(value))
})

test('docs/configuration.md has a whole file, with every default', () => {
  const [, yaml = ''] = /with every default:\n\n```yaml\n(.*?)```/s.exec(reference) ?? []
  const [written, defaults] = [parseConfig(yaml, 'docs/configuration.md'), parseConfig('', 'defaults')]
  assert.deepEqual({ ...written, rules: rulesOf(written) }, { ...defaults, rules: rulesOf(defaults) })
  for (const [section, keys] of sections)
    for (const key of Object.keys(keys))
      assert.match(yaml, new RegExp(`^${section}:(\\n .*)*\\n  (?:# )?${key}:`, 'm'))
})

test('docs/configuration.md has a row for every key', () => {
  for (const [section, keys] of sections) {
    const [, table = ''] = new RegExp(`^### ${section}\\n(.*?)^##`, 'ms').exec(reference) ?? []
    for (const [key, { properties: nested }] of Object.entries(keys))
      for (const name of nested === undefined || section === 'rules'
        ? [key]
        : Object.keys(nested).map((inner) => `${key}.${inner}`))
        assert.ok(table.includes(`\n| \`${name}\` |`), `expected a row for ${section}.${name}`)
  }
})
