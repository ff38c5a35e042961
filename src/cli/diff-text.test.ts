import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Diff } from '../diff/diff.ts'
import { diffText } from './diff-text.ts'

const NOTHING: Diff = {
  result: 'same',
  changed: [],
  live: 2,
  requestsPerSecond: 5,
  zones: [],
  namesAsked: 0,
  notes: [],
}
const shown = (diff: Partial<Diff>): string[] =>
  diffText({ ...NOTHING, ...diff }, (_, text) => text)
    .split('\n')
    .map((line) => line.replace(/ {2,}/g, '  '))

test('nothing moves', () => {
  assert.deepEqual(shown({}), [
    'No key that decides where requests go has changed.',
    '',
    '0 of 2 zones in use would change, with 0.0 of 5.0 requests a second',
    '',
    'Nothing would change for requests.',
    '',
  ])
})

test('without zones in use, nothing moves as far as this compared', () => {
  const lines = (diff: Partial<Diff>): string[] => shown({ live: 0, requestsPerSecond: 0, ...diff }).slice(2)
  assert.deepEqual(lines({}), [
    'No zone is in use, so no zone was compared',
    '',
    'Found no change, but no zone is in use: only the files were compared.',
    '',
  ])
  const log = {
    requests: 0,
    differently: 0,
    changes: [],
    unknown: { requests: 0, why: {} },
    unreadable: { lines: 0, examples: [] },
  }
  assert.equal(
    lines({ log }).at(-2),
    'Found no change, but no zone is in use: only the files and the log were compared.',
  )
})

test('zones, the kinds of their requests, the policy of all, and what to know', () => {
  assert.deepEqual(
    shown({
      result: 'moves',
      changed: [{ key: 'rules', before: [], after: [] }],
      zones: [
        {
          service: 'pay',
          id: '7',
          requestsPerSecond: 3,
          changes: [{ change: 'refused', requests: ['GET /pay'], before: 'a at 10.0.0.1:1', after: '405 x' }],
        },
        {
          service: 'pay',
          id: '*',
          requestsPerSecond: null,
          changes: [{ change: 'forwarded', before: 'b', after: 'c' }],
        },
      ],
      policy: {
        changes: [{ field: 'routes.yaml: x.timeout', before: '2s', after: null }],
        reasonsBefore: [],
        reasonsAfter: ['routes.yaml:1:1: why'],
      },
      notes: ['a thing'],
    }),
    [
      'Changed: rules',
      '',
      'The policy of every zone changes:',
      '  routes.yaml: x.timeout: 2s -> absent',
      'With these files no zone can be learned:',
      '  routes.yaml:1:1: why',
      '',
      '1 of 2 zones in use would change, with 3.0 of 5.0 requests a second, and ids that are not in DNS (*); 1 of them would be refused:',
      'ZONE  REQ/S  CHANGE  REQUESTS  BEFORE  AFTER',
      'pay/7  3.0  refused  GET /pay  a at 10.0.0.1:1  405 x',
      'pay/*  -  forwarded  all  b  c',
      '',
      'note  a thing',
      '',
      'Something would change for requests.',
      '',
    ],
  )
})

test('a log: by kind with examples, what is unknown and why, and what is no line of it', () => {
  const example = { line: 4, request: 'POST a/', before: 'x', after: 'y' }
  const lines = shown({
    result: 'moves',
    log: {
      requests: 9,
      differently: 3,
      changes: [{ change: 'port', kind: 'port 1, then port 2', requests: 3, examples: [example] }],
      unknown: { requests: 2, why: { 'the log does not say: cookie a': 2 } },
      unreadable: { lines: 1, examples: [8] },
    },
  })
  assert.deepEqual(lines.slice(4, -3), [
    '3 of 9 requests in the log would be decided differently',
    '  3  port: port 1, then port 2',
    '  line 4: POST a/: x -> y',
    '2 unknown:',
    '  2  the log does not say: cookie a',
    '1 line is not from an access log: line 8',
  ])
})
