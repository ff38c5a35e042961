import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import fc from 'fast-check'
import { codec, type DeltaDiscoveryRequest } from '../grpc/protos.ts'
import { NAME_LENGTH_MAX } from './envoy-client.ts'
import { NAMES_PER_PART, RequestFault, requestParts } from './request-parts.ts'
import { MalformedMessage } from './wire.ts'

const { encode, decode } = codec<DeltaDiscoveryRequest>('envoy.service.discovery.v3.DeltaDiscoveryRequest')

function partsOf(bytes: Buffer): DeltaDiscoveryRequest[] {
  return [...requestParts(bytes)].filter((part) => part !== null)
}

const names = (count: number): string[] => Array.from({ length: count }, (_, n) => `default/${n}`)

describe('a request in parts', () => {
  test('is the request', () => {
    const name = fc.string({ maxLength: 20, unit: 'grapheme' })
    const request = fc.record(
      {
        node: fc.record({ id: fc.string() }),
        type_url: fc.string(),
        resource_names_subscribe: fc.array(name, { maxLength: 3 * NAMES_PER_PART, size: 'max' }),
        resource_names_unsubscribe: fc.array(name, { maxLength: 20 }),
        initial_resource_versions: fc.dictionary(name, fc.string(), { maxKeys: 50 }),
        response_nonce: fc.string(),
        error_detail: fc.record({ code: fc.nat(), message: fc.string() }),
      },
      { requiredKeys: [] },
    )
    fc.assert(
      fc.property(request, (given) => {
        const bytes = encode(given)
        const expected = decode(bytes)
        const [first = {}, ...others] = partsOf(bytes)
        for (const part of others) assert.deepEqual([part.response_nonce, part.node], [undefined, undefined])
        const all = [first, ...others]
        assert.deepEqual(
          all.flatMap((part) => part.resource_names_subscribe ?? []),
          expected.resource_names_subscribe ?? [],
        )
        assert.deepEqual(
          all.flatMap((part) => part.resource_names_unsubscribe ?? []),
          expected.resource_names_unsubscribe ?? [],
        )
        assert.deepEqual(
          Object.assign({}, ...all.map((part) => part.initial_resource_versions)),
          expected.initial_resource_versions ?? {},
        )
        for (const key of ['type_url', 'response_nonce', 'error_detail', 'node'] as const)
          assert.deepEqual(first[key], expected[key])
      }),
      { numRuns: 200, seed: 1 },
    )
  })

  test('has no part with more than a slice of names, and none without its type', () => {
    const parts = partsOf(encode({ type_url: 't', resource_names_subscribe: names(10_000) }))
    assert.equal(parts.length, 10_000 / NAMES_PER_PART + 1)
    for (const part of parts) {
      assert.equal(part.type_url, 't')
      assert.ok((part.resource_names_subscribe?.length ?? 0) <= NAMES_PER_PART)
    }
  })

  test('has its last words first, wherever they stand', () => {
    const bytes = Buffer.concat([
      encode({ resource_names_subscribe: names(2_000) }),
      encode({ type_url: 't', response_nonce: 'n', error_detail: { message: 'no' } }),
    ])
    const [first] = partsOf(bytes)
    assert.deepEqual([first?.type_url, first?.response_nonce, first?.error_detail?.message], ['t', 'n', 'no'])
  })

  test('is refused for a name that is longer than any, before any part of it', () => {
    for (const request of [
      { resource_names_subscribe: [...names(1_000), 'a'.repeat(NAME_LENGTH_MAX + 1)] },
      { initial_resource_versions: { ['a'.repeat(2 * NAME_LENGTH_MAX)]: '1' } },
    ])
      assert.throws(() => partsOf(encode({ type_url: 't', ...request })), RequestFault)
  })

  test('is malformed, and nothing else, whatever octets it has', () => {
    const some = encode({ type_url: 't', resource_names_subscribe: names(50), response_nonce: 'n' })
    const change = fc.tuple(fc.nat({ max: some.length - 1 }), fc.nat({ max: 255 }))
    fc.assert(
      fc.property(fc.array(change, { maxLength: 8 }), fc.nat({ max: some.length }), (changes, length) => {
        const bytes = Buffer.from(some)
        for (const [at, value] of changes) bytes[at] = value
        try {
          partsOf(bytes.subarray(0, length))
        } catch (error) {
          assert.ok(error instanceof MalformedMessage || error instanceof RequestFault, String(error))
        }
      }),
      { numRuns: 2_000, seed: 1 },
    )
  })
})
