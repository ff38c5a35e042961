/** A literal text, or a prefix, which ends with `*` in zonegate.yaml. */
export interface Pattern {
  readonly text: string
  readonly isPrefix: boolean
}

export function patternOf(text: string): Pattern {
  return text.endsWith('*') ? { text: text.slice(0, -1), isPrefix: true } : { text, isPrefix: false }
}

export function fits({ text, isPrefix }: Pattern, value: string): boolean {
  return isPrefix ? value.startsWith(text) : value === text
}

/** True where the first pattern fits everything that the second one fits. */
export function covers(first: Pattern, second: Pattern): boolean {
  return first.isPrefix ? second.text.startsWith(first.text) : !second.isPrefix && second.text === first.text
}

/** A text with one `{id}`: the parts before and after it. */
export interface Template {
  readonly before: string
  readonly after: string
  /** It ends with `/*` in zonegate.yaml, so anything may follow. */
  readonly isOpen: boolean
}

/** @param text with `{id}` once */
export function templateOf(text: string): Template {
  const isOpen = text.endsWith('*')
  const [before = '', after = ''] = (isOpen ? text.slice(0, -1) : text).split('{id}')
  return { before, after, isOpen }
}

/**
 * The text in the place of `{id}`; undefined: the template does not fit. The text ends at the next separator, or before the
 * part that the template has between `{id}` and that separator.
 */
export function extract(
  { before, after, isOpen }: Template,
  value: string,
  separator: '/' | '.',
): string | undefined {
  if (!value.startsWith(before)) return undefined
  const start = before.length
  const separated = value.indexOf(separator, start)
  const [suffix = ''] = after.split(separator, 1)
  const end = (separated === -1 ? value.length : separated) - suffix.length
  if (end < start) return undefined
  const rest = value.slice(end)
  return (isOpen ? rest.startsWith(after) : rest === after) ? value.slice(start, end) : undefined
}
