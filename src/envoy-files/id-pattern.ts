/** Characters of ids, and the underscore. The characters around an id in a key are not among them. */
const LETTERS = '[A-Za-z0-9_]'
/** A class of characters. RE2 does not accept `[a-\d]`, so the expression excludes it. */
const CLASS = String.raw`\[(?:(?:${LETTERS}(?!-\\)|\\[dw])(?:-${LETTERS})?|\\?-)+\]`
const TOKEN = new RegExp(
  String.raw`${CLASS}|\\[dw-]|${LETTERS}|-|\((?:\?:)?|\)|\||[*+?]\??|\{\d+(?:,\d*)?\}\??`,
  'y',
)
/** RE2's limit of repetitions. Nested repetitions multiply. */
const REPETITIONS_MAX = 1000

/**
 * Converts an `idPattern` to RE2, without its anchors, to match whole ids. Null: RE2 might match other ids than JavaScript. That is so
 * for patterns without anchors, with look-around, or that match characters which a key has around an id.
 */
export function plainPattern({ source, flags }: RegExp): string | null {
  if (flags !== '' || !source.startsWith('^') || !source.endsWith('$')) return null
  const body = source.slice(1, -1)
  /** The most repetitions inside each open group. `inside` has those of the part that the next repetition applies to. */
  const open = [1]
  let inside = 1
  let text = ''
  TOKEN.lastIndex = 0
  for (let at = 0; at < body.length; at = TOKEN.lastIndex) {
    TOKEN.lastIndex = at
    const [token] = TOKEN.exec(body) ?? []
    if (token === undefined) return null
    // Outside of a group, each alternative would have only one of the anchors.
    if (token === '|' && open.length === 1) return null
    const repetitions = token.startsWith('{') ? Math.max(...(token.match(/\d+/g) ?? []).map(Number)) : 1
    inside = token === ')' ? (open.pop() ?? 1) : token.startsWith('{') ? inside * repetitions : 1
    if (inside > REPETITIONS_MAX) return null
    open.push(Math.max(inside, open.pop() ?? 1))
    if (token.startsWith('(')) open.push(1)
    text += token === '(' ? '(?:' : token
  }
  return `(?:${text})`
}
