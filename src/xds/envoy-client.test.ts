import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Node, Value } from '../grpc/protos.ts'
import { inlineHeaders, nodeName, nodeVersion } from './envoy-client.ts'

test('an Envoy without a name is unnamed, and a long name is cut', () => {
  assert.equal(nodeName(undefined), 'unnamed')
  assert.equal(nodeName({ id: '' }), 'unnamed')
  assert.equal(nodeName({ id: 'a'.repeat(1_000_000) }).length, 256)
})

const VERSIONS: [title: string, node: Node | undefined, version: string | null][] = [
  [
    "Envoy's own",
    { user_agent_build_version: { version: { major_number: 1, minor_number: 40, patch: 2 } } },
    '1.40.2',
  ],
  [
    'a field that is 0, and so not sent',
    { user_agent_build_version: { version: { major_number: 1, minor_number: 40 } } },
    '1.40.0',
  ],
  ['that of another client', { user_agent_version: 'abcd1234' }, 'abcd1234'],
  ['a long one is cut', { user_agent_version: 'a'.repeat(1_000_000) }, 'a'.repeat(64)],
  ['an empty one is none', { user_agent_version: '' }, null],
  ['a build without one', { user_agent_build_version: {} }, null],
  ['none', { id: 'e' }, null],
  ['no node', undefined, null],
]
for (const [title, node, version] of VERSIONS)
  test(`the version of a client: ${title}`, () => assert.equal(nodeVersion(node), version))

const text = (stringValue: string): Value => ({ stringValue })
const list = (...values: Value[]): Value => ({ listValue: { values } })
const INLINE: [title: string, inline: Value | undefined, names: string[]][] = [
  ['none', undefined, []],
  ['those that zonegate render wrote', list(text('server'), text('x-zone')), ['server', 'x-zone']],
  ['what is no text is left out', list({ numberValue: 1 }, text('server')), ['server']],
  ['what is no list is none', text('server'), []],
]
for (const [title, inline, names] of INLINE)
  test(`inline headers that an Envoy says of itself: ${title}`, () => {
    const fields: Record<string, Value> = inline === undefined ? {} : { inline_headers: inline }
    const node = { metadata: { fields: { zonegate: { structValue: { fields } } } } }
    assert.deepEqual([...inlineHeaders(node)], names)
  })
