import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type EnvoyFilesEvent, ToldFiles } from './told-files.ts'

const files = (retries: number, listener = 'a: 1') => ({
  routes: { path: 'envoy/routes.yaml', text: `resources: [{ retries: ${retries} }]` },
  clusters: { path: 'envoy/clusters.yaml', text: 'resources: [{}]' },
  listener: { path: 'envoy/listener.yaml', text: listener },
})

test('each save is reported once, with its file and what differs; the files at the start are no save', () => {
  const events: EnvoyFilesEvent[] = []
  const told = new ToldFiles((event) => events.push(event))
  told.taken(undefined)
  told.taken(files(1))
  told.taken(files(1))
  assert.deepEqual(events, [])
  told.taken(files(2))
  told.taken(files(2))
  told.taken(files(2, 'a: 2'))
  assert.deepEqual(events, [
    {
      kind: 'envoy_files',
      files: ['envoy/routes.yaml'],
      changes: [{ key: 'retries', before: '1', after: '2' }],
    },
    { kind: 'envoy_files', files: ['envoy/listener.yaml'], changes: [{ key: 'a', before: '1', after: '2' }] },
  ])
})

test('a fault is reported once, and again after a save that came into force', () => {
  const events: EnvoyFilesEvent[] = []
  const told = new ToldFiles((event) => events.push(event))
  told.taken(files(1))
  for (const faults of [['x'], ['x'], [], ['x']]) told.faults(faults)
  assert.equal(events.length, 1)
  told.taken(files(2))
  told.faults(['x'])
  assert.deepEqual(
    events.map(({ kind }) => kind),
    ['envoy_files_fault', 'envoy_files', 'envoy_files_fault'],
  )
})

test('a fault is reported again after a sound save, even a save of the previous files', () => {
  const events: EnvoyFilesEvent[] = []
  const told = new ToldFiles((event) => events.push(event))
  told.taken(files(1))
  told.faults(['x'])
  told.taken(files(1))
  told.faults(['x'])
  assert.equal(events.length, 2)
})

test('for a text that can not be parsed, only the file is reported', () => {
  const events: EnvoyFilesEvent[] = []
  const told = new ToldFiles((event) => events.push(event))
  told.taken(files(1))
  told.taken(files(1, 'a: 1\n---\na: 2'))
  assert.deepEqual(events, [{ kind: 'envoy_files', files: ['envoy/listener.yaml'], changes: [] }])
})
