import { runInNewContext } from 'node:vm'

/** For all ids together. A fast pattern takes 20 ms. A pattern that takes 5 ms per id would take three seconds. */
const TIMEOUT_MS = 1000
const ID_LENGTH_MAX = 63
const LETTERS_MAX = 12

/**
 * True for a regular expression that is slow for some id: `^(a+)+$` takes a second for 28 letters, and for ever for 63. This
 * tries ids that repeat one or two of the pattern's letters and end with another. It can't prove that a pattern is fast, but
 * it finds the usual mistakes.
 */
export function isSlow(pattern: string): boolean {
  // With a single repetition and no alternatives, matching takes at most one attempt for each letter.
  if (!pattern.includes('|') && pattern.split(/[*+{]/).length <= 2) return false
  const own = [...pattern.replace(/\\[A-Za-z]/g, '')].filter((letter) => /[A-Za-z0-9-]/.test(letter))
  const letters = [...new Set(['a', 'Z', '0', '-', ...own])].slice(0, LETTERS_MAX)
  const repeated = letters.flatMap((one) => [
    one,
    ...letters.filter((two) => two !== one).map((two) => one + two),
  ])
  const ids = repeated.flatMap((part) =>
    ['', 'a', 'Z', '0', '-'].map((end) => part.repeat(ID_LENGTH_MAX).slice(0, ID_LENGTH_MAX - 1) + end),
  )
  try {
    runInNewContext(
      'for (const id of ids) new RegExp(pattern).test(id)',
      { ids, pattern },
      { timeout: TIMEOUT_MS },
    )
    return false
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ERR_SCRIPT_EXECUTION_TIMEOUT') return true
    throw error
  }
}
