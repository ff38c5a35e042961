/** So many unchanged lines surround a change. */
const CONTEXT = 3

interface Line {
  readonly mark: ' ' | '-' | '+'
  readonly text: string
}

/** The output of `diff -u` for two texts; empty: they are equal. */
export function unifiedDiff(before: string, after: string, names: { before: string; after: string }): string {
  if (before === after) return ''
  const lines = linesOf(before.split('\n'), after.split('\n'))
  const changed = lines.flatMap(({ mark }, index) => (mark === ' ' ? [] : [index]))
  const hunks: { from: number; to: number }[] = []
  for (const index of changed) {
    const last = hunks.at(-1)
    if (last !== undefined && index <= last.to + 2 * CONTEXT) last.to = index
    else hunks.push({ from: index, to: index })
  }
  const text = hunks.map(({ from, to }) => {
    const [start, end] = [Math.max(0, from - CONTEXT), Math.min(lines.length, to + CONTEXT + 1)]
    const count = (mark: '-' | '+', part: readonly Line[]): number =>
      part.filter((line) => line.mark !== (mark === '-' ? '+' : '-')).length
    const part = lines.slice(start, end)
    const range = (mark: '-' | '+'): string =>
      `${mark}${count(mark, lines.slice(0, start)) + 1},${count(mark, part)}`
    return [`@@ ${range('-')} ${range('+')} @@`, ...part.map((line) => line.mark + line.text)].join('\n')
  })
  return [`--- ${names.before}`, `+++ ${names.after}`, ...text, ''].join('\n')
}

/** Compares the lines between the first and the last change by their longest common subsequence. */
function linesOf(before: readonly string[], after: readonly string[]): Line[] {
  let start = 0
  while (start < Math.min(before.length, after.length) && before[start] === after[start]) start++
  let end = 0
  while (end < Math.min(before.length, after.length) - start && before.at(-1 - end) === after.at(-1 - end))
    end++
  const [a, b] = [before.slice(start, before.length - end), after.slice(start, after.length - end)]
  const width = b.length + 1
  const lengths = new Uint32Array((a.length + 1) * width)
  const at = (i: number, j: number): number => lengths[i * width + j] ?? 0
  for (let i = a.length - 1; i >= 0; i--)
    for (let j = b.length - 1; j >= 0; j--)
      lengths[i * width + j] = a[i] === b[j] ? at(i + 1, j + 1) + 1 : Math.max(at(i + 1, j), at(i, j + 1))
  const same = (text: string): Line => ({ mark: ' ', text })
  const lines = before.slice(0, start).map(same)
  let [i, j] = [0, 0]
  while (i < a.length || j < b.length) {
    if (i < a.length && j < b.length && a[i] === b[j]) {
      lines.push(same(a[i] ?? ''))
      i++
      j++
    } else if (j >= b.length || (i < a.length && at(i + 1, j) >= at(i, j + 1)))
      lines.push({ mark: '-', text: a[i++] ?? '' })
    else lines.push({ mark: '+', text: b[j++] ?? '' })
  }
  return [...lines, ...before.slice(before.length - end).map(same)]
}
