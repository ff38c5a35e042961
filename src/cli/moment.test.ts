import assert from 'node:assert/strict'
import { test } from 'node:test'
import { UsageError } from './command.ts'
import { localTime, momentOf } from './moment.ts'

const NOW = new Date(2026, 10, 29, 4, 45).getTime()

test('a time of day is the latest one in the past, in local time', () => {
  const shown = (text: string): string => localTime(momentOf('at', text, NOW))
  assert.equal(shown('02:12'), '2026-11-29 02:12:00.000')
  assert.equal(shown('2:12:03.5'), '2026-11-29 02:12:03.500')
  assert.equal(shown('23:00'), '2026-11-28 23:00:00.000')
  assert.equal(shown('10m'), '2026-11-29 04:35:00.000')
  assert.equal(shown('1 h'), '2026-11-29 03:45:00.000')
  assert.equal(shown('2026-11-01T02:12'), '2026-11-01 02:12:00.000')
  assert.equal(momentOf('at', '2026-11-29T02:12:00Z', NOW), Date.UTC(2026, 10, 29, 2, 12))
})

test('what is no time is a wrong command line', () => {
  for (const text of ['', 'soon', '25:00', '02:60', '12', '-5m'])
    assert.throws(() => momentOf('at', text, NOW), UsageError, text)
})
