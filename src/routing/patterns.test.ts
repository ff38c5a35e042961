import assert from 'node:assert/strict'
import { test } from 'node:test'
import { covers, extract, fits, patternOf, templateOf } from './patterns.ts'

test('a pattern fits its text alone, or with a final * what begins with it', () => {
  const table: [pattern: string, value: string, expected: boolean][] = [
    ['/pay', '/pay', true],
    ['/pay', '/pay/', false],
    ['/pay', '/PAY', false],
    ['/pay/*', '/pay/', true],
    ['/pay/*', '/pay/a/b', true],
    ['/pay/*', '/pay', false],
    ['/pay*', '/payment', true],
    ['*', '', true],
    ['*', 'anything', true],
  ]
  for (const [pattern, value, expected] of table)
    assert.equal(fits(patternOf(pattern), value), expected, `${pattern} ${value}`)
})

test('a pattern covers another where it fits all that this one fits', () => {
  const table: [first: string, second: string, expected: boolean][] = [
    ['/a', '/a', true],
    ['/a', '/a*', false],
    ['/a*', '/a', true],
    ['/a*', '/ab*', true],
    ['/ab*', '/a*', false],
    ['/a', '/b', false],
    ['*', '/x*', true],
  ]
  for (const [first, second, expected] of table)
    assert.equal(covers(patternOf(first), patternOf(second)), expected, `${first} ${second}`)
})

test('what stands in the place of {id} reaches to the next separator', () => {
  const table: [template: string, value: string, separator: '/' | '.', expected: string | undefined][] = [
    ['/{id}', '/7', '/', '7'],
    ['/{id}', '/7/8', '/', undefined],
    ['/{id}', '/', '/', ''],
    ['/{id}/*', '/7/8', '/', '7'],
    ['/{id}/*', '/7', '/', undefined],
    ['/a{id}b/c', '/a7b/c', '/', '7'],
    ['/a{id}b/c', '/a7bb/c', '/', '7b'],
    ['/a{id}b/c', '/ab/c', '/', ''],
    ['/a{id}b/c', '/a/c', '/', undefined],
    ['/a{id}a', '/a', '/', undefined],
    ['{id}.cb.test', '7.cb.test', '.', '7'],
    ['{id}.cb.test', '7.8.cb.test', '.', undefined],
    ['{id}-pay.cb.test', '7-pay.cb.test', '.', '7'],
    ['{id}-pay.cb.test', '7-pay-pay.cb.test', '.', '7-pay'],
    ['cb.{id}', 'cb.7', '.', '7'],
    ['{id}', '7', '.', '7'],
    ['{id}', '7.8', '.', undefined],
  ]
  for (const [template, value, separator, expected] of table)
    assert.equal(extract(templateOf(template), value, separator), expected, `${template} ${value}`)
})
