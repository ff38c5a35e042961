import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { aggregatedDiscovery } from '../grpc/protos.ts'
import { encodeDeltaResponse } from './delta-response.ts'

// The same cases each time: what is drawn at random fails at random. `npm run fuzz` draws others.
fc.configureGlobal({ seed: 1 })

const { responseDeserialize } = aggregatedDiscovery.DeltaAggregatedResources
const typeUrl = 'type.googleapis.com/envoy.config.cluster.v3.Cluster'

test('an encoded response is read back as it was, whatever the lengths', () => {
  const name = fc.string({ unit: 'binary', minLength: 1, maxLength: 200 })
  const bytes = fc.uint8Array({ maxLength: 300 }).map((array) => Buffer.from(array))
  const resource = fc.record({ name, version: fc.base64String({ minLength: 4, maxLength: 20 }), bytes })
  const responses = fc.record({
    nonce: fc.nat().map(String),
    resources: fc.array(resource, { maxLength: 40 }),
    removed: fc.array(name, { maxLength: 40 }),
  })
  fc.assert(
    fc.property(responses, ({ nonce, resources, removed }) => {
      const updated = resources.map((one) => ({ ...one, encode: () => one.bytes }))
      const read = responseDeserialize(encodeDeltaResponse({ typeUrl, nonce, updated, removed }, 0))
      assert.equal(read.type_url, typeUrl)
      assert.equal(read.nonce, nonce)
      assert.deepEqual(read.removed_resources ?? [], removed)
      assert.deepEqual(
        (read.resources ?? []).map(({ name, version, resource }) => ({ name, version, ...resource })),
        resources.map((one) => ({
          name: one.name,
          version: one.version,
          type_url: typeUrl,
          value: one.bytes,
        })),
      )
    }),
  )
})

test('a response is as long as it has to be', () => {
  const large = Buffer.alloc(3_000_000, 1)
  const updated = [{ name: 'a', version: 'v', encode: () => large }]
  const read = responseDeserialize(encodeDeltaResponse({ typeUrl, nonce: '1', updated, removed: [] }, 0))
  assert.deepEqual(read.resources?.[0]?.resource, { type_url: typeUrl, value: large })
})
