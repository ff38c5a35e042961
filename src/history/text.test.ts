import assert from 'node:assert/strict'
import { test } from 'node:test'
import { changesText } from './text.ts'

test('of a rule that is another only what differs in it is told', () => {
  const rule = (tls: object): object[] => [
    { name: 'pay', methods: ['GET', 'POST'], match: { hosts: ['a'.repeat(200)] }, upstream: { tls } },
  ]
  assert.equal(
    changesText([
      { key: 'rules', before: rule({ ca: 'a.pem' }), after: rule({ ca: 'a.pem', cert: 'b.pem' }) },
    ]),
    'rules[pay].upstream.tls.cert: absent -> "b.pem"',
  )
})

test('a value that comes or goes is told as one', () => {
  assert.match(
    changesText([{ key: 'zones.7', before: undefined, after: { as: '8' } }]),
    /^zones\.7: .* -> \{"as":"8"\}$/,
  )
})
