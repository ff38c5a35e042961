/** Envoy's HeaderMatcher, in proto3 JSON. The expression must match the whole value. */
export type HeaderCondition = {
  readonly name: string
  readonly string_match: { readonly safe_regex: { readonly regex: string } }
  readonly invert_match?: boolean
  readonly treat_missing_header_as_empty?: boolean
}

/** @param regex in RE2's syntax */
export function matching(name: string, regex: string): HeaderCondition {
  return { name, string_match: { safe_regex: { regex } } }
}

/** The opposite condition. In Envoy a missing header meets neither of the two. */
export function not(condition: HeaderCondition): HeaderCondition {
  const { invert_match, ...rest } = condition
  return invert_match ? rest : { ...rest, invert_match: true }
}

/** A text as a string in CEL. It contains no per cent sign, because that could end the command in Envoy's format string. */
export function celText(value: string): string {
  return JSON.stringify(value).replaceAll('%', '\\x25')
}

/** A regular expression of RE2 that matches exactly this text. */
export function literal(value: string): string {
  return value.replace(/[\\^$.*+?()[\]{}|]/g, '\\$&')
}

/**
 * A regular expression of RE2 that matches this text in upper and lower case. It needs one instruction for each letter. With `(?i)`
 * RE2 needs four for "s" and "k", because these letters have a third form outside ASCII.
 */
export function anyCase(value: string): string {
  return literal(value).replace(/[a-z]/gi, (letter) => `[${letter.toLowerCase()}${letter.toUpperCase()}]`)
}
