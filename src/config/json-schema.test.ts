import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { JSON_SCHEMA_FILE, jsonSchemaText } from './json-schema.ts'
import { parseConfig } from './load.ts'

interface Schema {
  readonly type?: string
  readonly pattern?: string
  readonly description?: string
  readonly anyOf?: readonly Schema[]
  readonly propertyNames?: Schema
  readonly properties?: Readonly<Record<string, Schema>>
}

const schema: Schema = JSON.parse(jsonSchemaText())
const reference = readFileSync(new URL('../../docs/configuration.md', import.meta.url), 'utf8')

test('zonegate.schema.json is current', () => {
  const write = 'node scripts/with-node.mjs src/config/json-schema.ts'
  assert.equal(readFileSync(JSON_SCHEMA_FILE, 'utf8'), jsonSchemaText(), `${write} makes it anew`)
})

test('every key that holds a value says what it is', () => {
  const without = Object.entries(schema.properties ?? {}).flatMap(([section, { properties = {} }]) =>
    Object.entries(properties)
      .filter(([, { description, properties }]) => description === undefined && properties === undefined)
      .map(([key]) => `${section}.${key}`),
  )
  assert.deepEqual(without, [])
})

test('patterns take letters of both cases where the configuration does', () => {
  const { rules, dns } = schema.properties ?? {}
  const patterns: [pattern: string | undefined, text: string][] = [
    [rules?.properties?.['header']?.pattern, 'Server'],
    [rules?.properties?.['services']?.propertyNames?.pattern, 'Mail'],
    [dns?.properties?.['search']?.anyOf?.[0]?.pattern, 'Game.Test'],
  ]
  for (const [pattern, text] of patterns) assert.match(text, new RegExp(pattern ?? '(?!)'))
})

test('docs/configuration.md has a whole file, with every default', () => {
  const [, yaml = ''] = /with every default:\n\n```yaml\n(.*?)```/s.exec(reference) ?? []
  assert.deepEqual(parseConfig(yaml, 'docs/configuration.md'), parseConfig('', 'defaults'))
  for (const [section, { properties = {} }] of Object.entries(schema.properties ?? {}))
    for (const key of Object.keys(properties))
      assert.match(yaml, new RegExp(`^${section}:(\\n .*)*\\n  ${key}:`, 'm'))
})

test('docs/configuration.md has a row for every key', () => {
  for (const [section, { properties = {} }] of Object.entries(schema.properties ?? {})) {
    const [, table = ''] = new RegExp(`^### ${section}\\n(.*?)^##`, 'ms').exec(reference) ?? []
    for (const [key, { properties: nested }] of Object.entries(properties))
      for (const name of nested === undefined ? [key] : Object.keys(nested).map((inner) => `${key}.${inner}`))
        assert.ok(table.includes(`\n| \`${name}\` |`), `expected a row for ${section}.${name}`)
  }
})
