import assert from 'node:assert/strict'
import { test } from 'node:test'
import { isSlow } from './slow-pattern.ts'

const PATTERNS: [pattern: string, isSlow: boolean][] = [
  ['^[A-Za-z0-9-]{1,40}$', false],
  ['.', false],
  ['^\\d+$', false],
  ['^(?:eu|us)-\\d{1,6}$', false],
  ['^[a-z0-9]+(?:-[a-z0-9]+)*$', false],
  ['^(?!-)[a-z0-9-]+(?<!-)$', false],
  ['[a-z]+[0-9]+', false],
  ['^(a+)+$', true],
  ['^(a|a)*$', true],
  ['^(?:[a-z0-9]+-?)+$', true],
  ['^(q+q+)+y', true],
  ['^(?:xy|x|y)+0$', true],
  ['^\\w*\\w*\\w*\\w*\\w*\\w*_$', true],
]
for (const [pattern, expected] of PATTERNS)
  test(`${pattern} is ${expected ? '' : 'not '}slow`, () => assert.equal(isSlow(pattern), expected))
