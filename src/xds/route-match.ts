import type { HeaderMatcher, Route, StringMatcher } from './messages.ts'

/** What is known about a header of all requests to a virtual host: its possible values, perhaps in any case. */
export interface KnownHeader {
  readonly values: readonly string[]
  readonly anyCase?: boolean
}

/**
 * False if a route can match none of these requests, so the virtual host need not have it. Each route left out saves Envoy 2 to
 * 3 KB for every zone, and one comparison for every request.
 *
 * @param known by header name, in lower case
 */
export function mayMatch({ match }: Route, known: Readonly<Record<string, KnownHeader>>): boolean {
  return (match?.headers ?? []).every((matcher) => {
    const header = known[matcher.name?.toLowerCase() ?? '']
    return (
      header === undefined || header.values.some((value) => mayHold(matcher, value, header.anyCase ?? false))
    )
  })
}

function mayHold(matcher: HeaderMatcher, value: string, anyCase: boolean): boolean {
  const { string_match, present_match, invert_match = false } = matcher
  // If the case is unknown, a value may surely not match, but it never surely matches.
  if (invert_match && anyCase) return true
  const result = string_match === undefined ? present_match : matches(string_match, value, anyCase)
  return result !== invert_match
}

/** Undefined: unknown, only Envoy can tell. */
function matches(matcher: StringMatcher, text: string, anyCase: boolean): boolean | undefined {
  const fold = (part: string): string => (anyCase || matcher.ignore_case ? part.toLowerCase() : part)
  const value = fold(text)
  if (matcher.exact !== undefined) return value === fold(matcher.exact)
  if (matcher.prefix !== undefined) return value.startsWith(fold(matcher.prefix))
  if (matcher.suffix !== undefined) return value.endsWith(fold(matcher.suffix))
  if (matcher.contains !== undefined) return value.includes(fold(matcher.contains))
  if (matcher.safe_regex !== undefined) return matchesPattern(matcher.safe_regex.regex ?? '', text, anyCase)
  return undefined
}

/** Patterns that mean the same to RE2 and JavaScript: no groups, no escapes except \d, \s, \w and of punctuation. */
const READ_ALIKE = /^(?:[^\\(]|\\[dDsSwW\W])*$/
/** JavaScript backtracks, RE2 does not: more repetitions could take very long. */
const REPETITIONS_MAX = 3

/** Whether a regular expression matches the whole value, as in Envoy. Undefined: only RE2 can tell. */
function matchesPattern(regex: string, text: string, anyCase: boolean): boolean | undefined {
  if (!READ_ALIKE.test(regex) || (regex.match(/[*+{]/g) ?? []).length > REPETITIONS_MAX) return undefined
  try {
    return new RegExp(`^(?:${regex})$`, anyCase ? 'i' : '').test(text)
  } catch {
    return undefined
  }
}
