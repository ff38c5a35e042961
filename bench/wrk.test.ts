import assert from 'node:assert/strict'
import { test } from 'node:test'
import { faultOf, type Load } from './wrk.ts'

const clean: Load = {
  requests: 1000,
  micros: 1e6,
  p50Micros: 1,
  p99Micros: 2,
  maxMicros: 3,
  errors: { connect: 0, read: 0, write: 0, status: 0, timeout: 0 },
}

for (const { what, load, fault } of [
  { what: 'a clean run', load: clean, fault: undefined },
  {
    what: 'one refusal',
    load: { ...clean, errors: { ...clean.errors, status: 1 } },
    fault: '1 of 1000 answers were not 2xx',
  },
  {
    what: 'a torn connection',
    load: { ...clean, errors: { ...clean.errors, read: 2 } },
    fault: '2 read errors',
  },
  { what: 'no answer at all', load: { ...clean, requests: 0 }, fault: 'no answers' },
]) {
  test(`${what} is ${fault === undefined ? 'valid' : 'void'}`, () => assert.equal(faultOf(load), fault))
}
