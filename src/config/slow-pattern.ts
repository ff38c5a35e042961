import { runInNewContext } from 'node:vm'

/** Of all ids together. A pattern that is none of those takes 20 ms, one that takes 5 ms for an id three seconds. */
const TIMEOUT_MS = 1000
const ID_LENGTH_MAX = 63
const LETTERS_MAX = 12

/**
 * True for a regular expression that some id keeps busy for long, as `^(a+)+$` does: 28 letters for a second, 63 for ever. It is
 * tried with ids that repeat one or two of its letters and end with another. Nothing is proved by that, yet what one writes by
 * mistake is found.
 */
export function isSlow(pattern: string): boolean {
  // One repetition without a choice has as many ways as an id has letters.
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
