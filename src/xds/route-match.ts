import type { HeaderMatcher, Route, StringMatcher } from './messages.ts'

/** What is known of a header of all the requests that a list of routes is for: its values, as far as case is known. */
export interface KnownHeader {
  readonly values: readonly string[]
  readonly anyCase?: boolean
}

/**
 * False where a route surely matches none of the requests, so that it need not be in the list: each route that a virtual
 * host doesn't have saves Envoy 2 to 3 KB for every zone, and a look at it for every request.
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
  // Of a value in any case it is known what it doesn't match, but not what it does.
  if (invert_match && anyCase) return true
  const result = string_match === undefined ? present_match : matches(string_match, value, anyCase)
  return result !== invert_match
}

/** Undefined where that is Envoy's to say. */
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

/** Patterns that RE2 and JavaScript read alike: no groups, no escapes but \d, \s, \w and of punctuation. */
const READ_ALIKE = /^(?:[^\\(]|\\[dDsSwW\W])*$/
/** JavaScript tries every way in which repetitions can share a text between them, RE2 does not. */
const REPETITIONS_MAX = 3

/** Undefined where only RE2 can say: Envoy's regular expressions match the whole value. */
export function matchesPattern(regex: string, text: string, anyCase: boolean): boolean | undefined {
  if (!READ_ALIKE.test(regex) || (regex.match(/[*+{]/g) ?? []).length > REPETITIONS_MAX) return undefined
  try {
    return new RegExp(`^(?:${regex})$`, anyCase ? 'i' : '').test(text)
  } catch {
    return undefined
  }
}
