import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { YamlFile } from '../xds/yaml-file.ts'
import { BOOTSTRAP, unknownFields, unknownFieldsOfResources } from './unknown-fields.ts'

const shipped = (name: string): string =>
  readFileSync(fileURLToPath(new URL(`../../envoy/${name}.yaml`, import.meta.url)), 'utf8')
const placesIn = (lines: readonly string[]): string[] =>
  lines.map((line) => line.replace(/^\S+:\d+:\d+: (.*): no field of Envoy's API$/, '$1'))
const inResources = (text: string): string[] =>
  unknownFieldsOfResources(new YamlFile({ path: 'listener.yaml', text }))
const inBootstrap = (text: string): string[] =>
  unknownFields(new YamlFile({ path: 'envoy.yaml', text }), BOOTSTRAP)

test('the files as shipped have none', () => {
  for (const name of ['listener', 'routes', 'clusters', 'refusal-log-rate'])
    assert.deepEqual(inResources(shipped(name)), [], name)
  assert.deepEqual(inBootstrap(shipped('envoy')), [])
})

test('each is named with line and column, however deep it stands', () => {
  const text = shipped('listener')
  const misspelt = text
    .replace('stream_idle_timeout:', 'stream_idle_timeuot:')
    .replace('message_timeout:', 'message_timeuot:')
    .replace('json_format:', 'jsonFormat:')
  assert.notEqual(misspelt, text)
  const lines = inResources(misspelt)
  assert.match(
    lines[0] ?? '',
    /^listener\.yaml:\d+:\d+: resources\[0\]\.filter_chains\[0\]\.filters\[0\]\.typed_config\./,
  )
  assert.deepEqual(
    placesIn(lines)
      .map((place) => place.replace(/^.*\./, ''))
      .sort(),
    ['message_timeuot', 'stream_idle_timeuot'],
  )
})

test('a field of the bootstrap, one of a static listener in it', () => {
  const text = shipped('envoy')
    .replace('overload_manager:', 'overload_manger:')
    .replace('filter_chains:', 'filter_chain:')
  assert.deepEqual(placesIn(inBootstrap(text)).sort(), [
    'overload_manger',
    'static_resources.listeners[0].filter_chain',
  ])
})

test("an extension that is not known here is another Envoy's, and keys of maps and structs are no fields", () => {
  const text = `resources:
- "@type": type.googleapis.com/envoy.config.listener.v3.Listener
  metadata: { filterMetadata: { any.name: { key: { deep: 1 } } } }
  listener_filters:
  - { name: x, typed_config: { "@type": type.googleapis.com/example.Unknown, field: 1 } }
  nonsense: {}
`
  assert.deepEqual(inResources(text), ["listener.yaml:6:13: resources[0].nonsense: no field of Envoy's API"])
})
