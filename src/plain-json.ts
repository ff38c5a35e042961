/** Control characters that terminals obey, but JSON does not escape: it escapes those below U+0020 only. */
const C1_CONTROLS = /[\u007f-\u009f]/g

/** JSON with all control characters escaped, so that a client's text can't control a terminal. */
export function plainJson(value: unknown, indent?: number): string {
  return JSON.stringify(value, null, indent).replace(
    C1_CONTROLS,
    (control) => `\\u00${control.charCodeAt(0).toString(16)}`,
  )
}
