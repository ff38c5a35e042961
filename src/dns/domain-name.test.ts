import assert from 'node:assert/strict'
import { test } from 'node:test'
import { isWithin, parentOf, parseDomainName, readName } from './domain-name.ts'

const texts: [string, string | null][] = [
  ['zone1-default.game.test', 'zone1-default.game.test'],
  ['Game.TEST.', 'game.test'],
  ['_dmarc.test', '_dmarc.test'],
  ['.', ''],
  ['a\\.b.test', 'a\\.b.test'],
  ['a\\046b.test', 'a\\.b.test'],
  ['\\065.test', 'a.test'],
  ['\\000.test', '\\000.test'],
  ['a\\\\.', 'a\\\\'],
  ['a!.test', 'a!.test'],
  ['a\\.', 'a\\.'],
  ['x'.repeat(63), 'x'.repeat(63)],
  ['x'.repeat(64), null],
  [`${'a.'.repeat(126)}b`, `${'a.'.repeat(126)}b`],
  [`${'a.'.repeat(127)}b`, null],
  ['', null],
  ['..', null],
  ['a..b', null],
  ['.a', null],
  ['a\\', null],
  ['a\\25', null],
  ['a\\256', null],
  ['a b', null],
  ['ä', null],
]
for (const [text, expected] of texts) {
  test(`${JSON.stringify(text)} is read as ${JSON.stringify(expected)}`, () => {
    assert.equal(parseDomainName(text), expected)
    if (expected !== null && expected !== '')
      assert.equal(parseDomainName(expected), expected, 'its text is stable')
  })
}

test('the parent of a name is one label shorter, escaped dots or not', () => {
  const name = parseDomainName('a\\.b.c\\\\.test')
  const parents = []
  for (let at = name; at !== null; at = parentOf(at)) parents.push(at)
  assert.deepEqual(parents, ['a\\.b.c\\\\.test', 'c\\\\.test', 'test', ''])
})

test('a name lies within its ancestors and itself, by labels', () => {
  const within = (name: string, ancestor: string): boolean =>
    isWithin(parseDomainName(name) ?? assert.fail(), parseDomainName(ancestor) ?? assert.fail())
  assert.ok(within('a.game.test', 'game.test'))
  assert.ok(within('game.test', 'game.test'))
  assert.ok(within('game.test', '.'))
  assert.ok(!within('mygame.test', 'game.test'))
  assert.ok(!within('test', 'game.test'))
})

test('255 octets on the wire are a name, 256 are none, even when pointers put them together', () => {
  const label = (octets: number): Buffer => Buffer.concat([Buffer.of(octets), Buffer.alloc(octets, 0x61)])
  const header = Buffer.alloc(12)
  const most = Buffer.concat([header, label(63), label(63), label(63), Buffer.of(0)])
  for (const [octets, fits] of [
    [61, true],
    [62, false],
  ] as const) {
    const message = Buffer.concat([most, label(octets), Buffer.of(0xc0, 12)])
    const read = readName(message, most.length)
    assert.equal(read !== null, fits)
    if (read !== null) assert.equal(read.end, message.length)
  }
})
