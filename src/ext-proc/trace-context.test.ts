import assert from 'node:assert/strict'
import { test } from 'node:test'
import { traceContextOf, traceIdOf } from './trace-context.ts'

const TRACE = '0af7651916cd43dd8448eb211c80319c'
const PARENT = 'b7ad6b7169203331'

const CASES: [title: string, traceparent: string, expected: string | undefined][] = [
  ['version 00', `00-${TRACE}-${PARENT}-01`, TRACE],
  ['flags of any value', `00-${TRACE}-${PARENT}-ff`, TRACE],
  ['a later version', `cc-${TRACE}-${PARENT}-01`, TRACE],
  ['a later version with more fields', `cc-${TRACE}-${PARENT}-01-what-the-future-will-be-like`, TRACE],
  ['version 00 has no more fields', `00-${TRACE}-${PARENT}-01-more`, undefined],
  ['a later version whose fields are not set off', `cc-${TRACE}-${PARENT}-01.more`, undefined],
  ['version ff is invalid', `ff-${TRACE}-${PARENT}-01`, undefined],
  ['a trace id of zeros is invalid', `00-${'0'.repeat(32)}-${PARENT}-01`, undefined],
  ['a parent id of zeros is invalid', `00-${TRACE}-${'0'.repeat(16)}-01`, undefined],
  ['upper case is invalid', `00-${TRACE.toUpperCase()}-${PARENT}-01`, undefined],
  ['a short trace id is invalid', `00-${TRACE.slice(1)}-${PARENT}-01`, undefined],
  ['a line break at the end is invalid', `00-${TRACE}-${PARENT}-01\n`, undefined],
  ['nothing', '', undefined],
]
for (const [title, traceparent, expected] of CASES)
  test(`traceparent: ${title}`, () => assert.equal(traceIdOf(traceparent), expected))

for (const [flags, sampled] of [
  ['00', false],
  ['01', true],
  ['02', false],
  ['03', true],
] as const)
  test(`traceparent: flags ${flags} say ${sampled ? 'sampled' : 'not sampled'}`, () =>
    assert.deepEqual(traceContextOf(`00-${TRACE}-${PARENT}-${flags}`), {
      traceId: TRACE,
      spanId: PARENT,
      sampled,
    }))
