import assert from 'node:assert/strict'
import { test } from 'node:test'
import { unifiedDiff } from './unified-diff.ts'

const NAMES = { before: 'a', after: 'b' }
const lines = (...numbers: number[]): string => `${numbers.join('\n')}\n`

test('nothing differs: nothing is said', () => {
  assert.equal(unifiedDiff(lines(1, 2), lines(1, 2), NAMES), '')
})

test('a line changed, with three around it', () => {
  assert.equal(
    unifiedDiff(lines(1, 2, 3, 4, 5, 6, 7, 8, 9), lines(1, 2, 3, 4, 50, 6, 7, 8, 9), NAMES),
    '--- a\n+++ b\n@@ -2,7 +2,7 @@\n 2\n 3\n 4\n-5\n+50\n 6\n 7\n 8\n',
  )
})

test('changes far apart are parts of their own, numbered on both sides', () => {
  const before = Array.from({ length: 30 }, (_, n) => n)
  const diff = unifiedDiff(lines(...before), lines(...before.toSpliced(2, 1).toSpliced(25, 0, 99)), NAMES)
  assert.deepEqual(diff.match(/^@@.*$/gm), ['@@ -1,6 +1,5 @@', '@@ -24,6 +23,7 @@'])
  assert.match(diff, /^-2$/m)
  assert.match(diff, /^\+99$/m)
})

test('a file that was not there is added whole', () => {
  assert.equal(unifiedDiff('', lines(1), NAMES).includes('\n+1\n'), true)
})
