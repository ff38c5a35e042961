import assert from 'node:assert/strict'
import { test } from 'node:test'
import { changesText, textOf } from './text.ts'

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

test('a save that changed no value says what it did change', () => {
  for (const changes of [[], [{ key: 'rules', before: [{ name: 'a' }], after: [{ name: 'a' }] }]])
    assert.equal(changesText(changes), 'only comments or layout changed')
})

test('a fault of a file that Envoy loads does not say that the previous file stays active', () => {
  const faults = ['routes.yaml: x (Envoy ignores this unknown field, so the default applies)']
  assert.equal(textOf({ kind: 'envoy_files_fault', faults }), `Envoy's files have faults: ${faults[0]}`)
})

test('the time in the line of a pin names its time zone', () => {
  const until = '2027-01-01T04:00:00.000Z'
  const pin = { zone: '12', addresses: ['10.0.0.5'], who: 'ada', because: 'disk', since: until, until }
  assert.equal(
    textOf({ kind: 'pinned', ...pin }),
    '12 pinned to 10.0.0.5 by ada until 2027-01-01 04:00:00 UTC, because "disk"',
  )
})
