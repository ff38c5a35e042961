/** What an id may consist of, and an underscore: nothing that stands around an id in a key. */
const LETTERS = '[A-Za-z0-9_]'
/** Of `[a-\d]` RE2 makes no class. */
const CLASS = String.raw`\[(?:(?:${LETTERS}(?!-\\)|\\[dw])(?:-${LETTERS})?|\\?-)+\]`
const TOKEN = new RegExp(
  String.raw`${CLASS}|\\[dw-]|${LETTERS}|-|\((?:\?:)?|\)|\||[*+?]\??|\{\d+(?:,\d*)?\}\??`,
  'y',
)
/** Repetitions that RE2 takes, those in each other multiplied. */
const REPETITIONS_MAX = 1000

/**
 * A pattern of ids as RE2 reads it, without its anchors and for the whole of an id; null where the two may differ: what is not
 * anchored, looks around, or admits what stands around an id in a key.
 */
export function plainPattern({ source, flags }: RegExp): string | null {
  if (flags !== '' || !source.startsWith('^') || !source.endsWith('$')) return null
  const body = source.slice(1, -1)
  /** Of each open group the most repetitions in it, and what the next repetition is of. */
  const open = [1]
  let inside = 1
  let text = ''
  TOKEN.lastIndex = 0
  for (let at = 0; at < body.length; at = TOKEN.lastIndex) {
    TOKEN.lastIndex = at
    const [token] = TOKEN.exec(body) ?? []
    if (token === undefined) return null
    // Outside of a group each side would have one anchor.
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
