import * as fc from 'fast-check'

const TOKENS = [
  '',
  ' ',
  '\n',
  '\t',
  '{',
  '}',
  '[',
  ']',
  ':',
  ',',
  '"',
  "'",
  '&a',
  '*a',
  '- ',
  '#',
  '!!',
  '%',
  '|',
  '>',
  '0',
  '-1',
  '1e999',
  '99999999999999999999',
  'null',
  'true',
  '~',
  '.inf',
  '.nan',
  '<<: *a',
  '__proto__',
  'constructor',
  '\0',
  '\u2028',
  '\ud800',
  '&a [*a]',
  '[[[[[[[[[[[[[[[[',
  '{a: '.repeat(40),
  '@type',
  'x'.repeat(300),
]

/**
 * Texts near one of these: pieces cut out, doubled, moved, or replaced by what parsers stumble over.
 */
export function mutated(texts: readonly string[]): fc.Arbitrary<string> {
  const change = fc.record({
    at: fc.double({ min: 0, max: 1, noNaN: true }),
    length: fc.oneof(fc.nat({ max: 12 }), fc.nat({ max: 400 })),
    by: fc.oneof(fc.constantFrom(...TOKENS), fc.string({ maxLength: 8 })),
    kind: fc.constantFrom('replace', 'insert', 'double', 'line'),
  })
  return fc
    .tuple(fc.constantFrom(...texts), fc.array(change, { maxLength: 4 }))
    .map(([text, changes]) => changes.reduce(apply, text))
}

type Change = { at: number; length: number; by: string; kind: string }

function apply(text: string, { at, length, by, kind }: Change): string {
  const start = Math.floor(at * text.length)
  if (kind === 'insert') return text.slice(0, start) + by + text.slice(start)
  if (kind === 'double') return text.slice(0, start + length) + text.slice(start)
  if (kind === 'replace') return text.slice(0, start) + by + text.slice(start + length)
  const lines = text.split('\n')
  const line = Math.floor(at * lines.length)
  return [...lines.slice(0, line), ...(by === '' ? [] : [by]), ...lines.slice(line + 1)].join('\n')
}
