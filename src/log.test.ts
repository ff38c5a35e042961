import assert from 'node:assert/strict'
import { Writable } from 'node:stream'
import { test } from 'node:test'
import { createLog, prettyLine } from './log.ts'

const line = (fields: object): string =>
  prettyLine(
    JSON.stringify({ level: 'warn', time: '2026-01-02T03:04:05.678Z', service: 'zonegate', ...fields }),
    false,
  )

test('a line for people: time, level, text, then fields', () => {
  assert.equal(
    line({ reason: 'no_address', id: '12', count: 3, msg: 'refused' }),
    '03:04:05.678 WARN  refused  reason=no_address id=12 count=3\n',
  )
})

test('values that are not plain are quoted', () =>
  assert.equal(line({ id: 'a b', msg: 'm' }), '03:04:05.678 WARN  m  id="a b"\n'))

test('control characters of a client never reach the terminal', () => {
  const text = line({ id: '\u001b[2J\u009b1m\u007f', msg: 'm' })
  assert.equal(text, '03:04:05.678 WARN  m  id="\\u001b[2J\\u009b1m\\u007f"\n')
})

test('an error shows its stack', () =>
  assert.match(
    line({ err: { message: 'x', stack: 'Error: x\n  at y' }, msg: 'm' }),
    /WARN {2}m\nError: x\n {2}at y\n$/,
  ))

test('text that is not JSON stays as it is', () => assert.equal(prettyLine('plain\n', false), 'plain\n'))

test('colours where they are wanted', () =>
  assert.ok(
    prettyLine(JSON.stringify({ level: 'error', time: '', msg: 'm' }), true).includes('\u001b[31mERROR'),
  ))

test('a line has a bounded length, whatever texts, lists and errors it gets', () => {
  let written = ''
  const output = new Writable({
    write(chunk, _encoding, done) {
      written += chunk
      done()
    },
  })
  const log = createLog({ level: 'info', pretty: true, colour: false, output })
  const long = 'a'.repeat(100_000)
  const error = Object.assign(new Error(long), { details: long })
  log.warn(
    { long, list: Array.from({ length: 10_000 }, () => 'b'), deep: { er: [{ long }] }, err: error },
    'm',
  )
  assert.ok(written.length < 20_000, `${written.length} characters`)
  assert.match(written, /long=a{2000}|long="a{2000}…"/)
})
