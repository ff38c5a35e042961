import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { HeaderMatcher } from './messages.ts'
import { mayMatch } from './route-match.ts'

const route = (...headers: HeaderMatcher[]) => ({ match: { prefix: '/', headers } })
const known = {
  ':method': { values: ['POST', 'PUT'] },
  server: { values: ['Zone-42'] },
  key: { values: ['POST/a-1'], anyCase: true },
}
const server = (rest: Omit<HeaderMatcher, 'name'>): HeaderMatcher => ({ name: 'server', ...rest })

const table: [what: string, matcher: HeaderMatcher, mayMatch: boolean][] = [
  ['another exact value', server({ string_match: { exact: '-' } }), false],
  ['the exact value', server({ string_match: { exact: 'Zone-42' } }), true],
  ['the exact value in another case', server({ string_match: { exact: 'zone-42' } }), false],
  ['the exact value, case ignored', server({ string_match: { exact: 'zone-42', ignore_case: true } }), true],
  ['not the exact value', server({ string_match: { exact: 'Zone-42' }, invert_match: true }), false],
  ['not another value', server({ string_match: { exact: '-' }, invert_match: true }), true],
  ['a prefix', server({ string_match: { prefix: 'Zone' } }), true],
  ['another prefix', server({ string_match: { prefix: 'one' } }), false],
  ['another suffix', server({ string_match: { suffix: '43' } }), false],
  ['a part', server({ string_match: { contains: 'e-4' } }), true],
  ['another part', server({ string_match: { contains: 'x' } }), false],
  ['a pattern for something else', server({ string_match: { safe_regex: { regex: '-?' } } }), false],
  [
    'a pattern for the whole value',
    server({ string_match: { safe_regex: { regex: '[A-Z]\\w+-\\d{2}' } } }),
    true,
  ],
  ['a pattern for a part of it', server({ string_match: { safe_regex: { regex: '\\d+' } } }), false],
  ['a pattern of RE2 only', server({ string_match: { safe_regex: { regex: '(?i)x' } } }), true],
  [
    'a pattern that JavaScript reads otherwise',
    server({ string_match: { safe_regex: { regex: '\\Ax' } } }),
    true,
  ],
  [
    'a pattern that JavaScript may never be done with',
    server({ string_match: { safe_regex: { regex: '(x+x+)+y' } } }),
    true,
  ],
  ['no pattern at all', server({ string_match: { safe_regex: { regex: '[' } } }), true],
  ['presence', server({ present_match: true }), true],
  ['absence', server({ present_match: true, invert_match: true }), false],
  ['a condition of another kind', server({ contains_match: 'x' }), true],
  ['the header in another spelling', { name: 'Server', string_match: { exact: '-' } }, false],
  ['one of the methods', { name: ':method', string_match: { exact: 'PUT' } }, true],
  ['no method but one', { name: ':method', string_match: { exact: 'POST' }, invert_match: true }, true],
  ['another method', { name: ':method', string_match: { exact: 'GET' } }, false],
  ['another key', { name: 'key', string_match: { exact: 'POST/a-2' } }, false],
  ['the key in another case', { name: 'key', string_match: { exact: 'POST/A-1' } }, true],
  ['a pattern for other keys', { name: 'key', string_match: { safe_regex: { regex: '[A-Z]+/-?' } } }, false],
  ['a pattern in another case', { name: 'key', string_match: { safe_regex: { regex: '[A-Z]+/A.*' } } }, true],
  [
    'not the key, which may have another case',
    { name: 'key', string_match: { exact: 'POST/a-1' }, invert_match: true },
    true,
  ],
  ['a header of which nothing is known', { name: 'x', string_match: { exact: '-' } }, true],
]
for (const [what, matcher, expected] of table) {
  test(`a route that asks for ${what} ${expected ? 'may match' : 'never matches'}`, () => {
    assert.equal(mayMatch(route(matcher), known), expected)
  })
}

test('a route needs all its conditions', () => {
  assert.equal(
    mayMatch(route(server({ present_match: true }), server({ string_match: { exact: '-' } })), known),
    false,
  )
  assert.equal(mayMatch({ match: { prefix: '/' } }, known), true)
})
