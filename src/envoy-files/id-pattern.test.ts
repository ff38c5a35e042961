import assert from 'node:assert/strict'
import { test } from 'node:test'
import { plainPattern } from './id-pattern.ts'

const PLAIN: [source: string, plain: string][] = [
  ['^[A-Za-z0-9-]{1,40}$', '(?:[A-Za-z0-9-]{1,40})'],
  ['^\\d+$', '(?:\\d+)'],
  ['^(ab|cd)-[0-9]{2,}$', '(?:(?:ab|cd)-[0-9]{2,})'],
  ['^(?:[a-f\\d_]+)?x$', '(?:(?:[a-f\\d_]+)?x)'],
  ['^a\\-b[\\w-]*?$', '(?:a\\-b[\\w-]*?)'],
  ['^[a-f]{8}(-[a-f]{4}){3}-[a-f]{12}$', '(?:[a-f]{8}(?:-[a-f]{4}){3}-[a-f]{12})'],
  ['^([a-z]{40}-)x{30}$', '(?:(?:[a-z]{40}-)x{30})'],
]
for (const [source, plain] of PLAIN)
  test(`${source} is read as it is`, () => {
    assert.equal(plainPattern(new RegExp(source)), plain)
  })

const OTHERS: [why: string, pattern: RegExp][] = [
  ['it has no anchor in front', /[0-9]+$/],
  ['it has none behind', /^[0-9]+/],
  ['each side has one anchor', /^1|2$/],
  ['it looks ahead', /^(?!0)[0-9]+$/],
  ['it looks behind', /^[0-9]+(?<=7)$/],
  ['it refers back', /^(.)\1$/],
  ['any letter', /^.+$/],
  ['all but some', /^[^a]+$/],
  ['a slash', /^[a-z/]+$/],
  ['a dot', /^a\.b$/],
  ['a semicolon', /^[a;b]$/],
  ['a range over what is between', /^[+-z]+$/],
  ['no digit', /^\D+$/],
  ['a boundary', /^a\b$/],
  ['a name of a group', /^(?<id>a)$/],
  ['letters of any case', /^[a-z]+$/i],
  ['more than RE2 repeats', /^[a-z]{1,1001}$/],
  ['more than RE2 repeats, in a group', /^([a-z]{40}-){30}$/],
  ['more than RE2 repeats, in groups', /^(?:([a-z]{40}-)|a){30}$/],
  ['a range to digits', /^[a-\d]+$/],
  ['a code', /^\x41$/],
  ['a final backslash in a class', /^[a\]]$/],
  ['an anchor inside', /^a^b$/],
  ['a dollar that is meant', /^a\$$/],
]
for (const [why, pattern] of OTHERS)
  test(`it is none where Envoy may read it in another way: ${why}`, () => {
    assert.equal(plainPattern(pattern), null)
  })
