import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { codec, type Node } from '../grpc/protos.ts'
import { template } from './template.ts'

// The same cases each time: what is drawn at random fails at random. `npm run fuzz` draws others.
fc.configureGlobal({ seed: 1 })

const { encode, decode } = codec<Node>('envoy.config.core.v3.Node')
const message = (text: string): Buffer => encode({ id: `ab/${text}`, cluster: text })

test('a stamped message is the encoded message', () => {
  const nodes = template(message)
  const texts = fc.string({ unit: fc.constantFrom(...'abc019-'), minLength: 1, maxLength: 200 })
  fc.assert(fc.property(texts, (text) => assert.deepEqual(nodes.stamp(text), message(text))))
  assert.deepEqual(decode(nodes.stamp('b1')), { id: 'ab/b1', cluster: 'b1' })
})

test('stamps do not share memory', () => {
  const nodes = template(message)
  const first = nodes.stamp('1')
  nodes.stamp('2')
  assert.deepEqual(decode(first), { id: 'ab/1', cluster: '1' })
})

test('the version is that of everything but the text', () => {
  assert.equal(template(message).version, template(message).version)
  assert.notEqual(template(message).version, template((text) => encode({ id: text })).version)
})
