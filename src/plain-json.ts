/** Terminals obey these as they do those below U+0020, which JSON escapes. */
const C1_CONTROLS = /[\u007f-\u009f]/g

/** JSON in which no control character stands as it is, whoever sent the value. */
export function plainJson(value: unknown, indent?: number): string {
  return JSON.stringify(value, null, indent).replace(
    C1_CONTROLS,
    (control) => `\\u00${control.charCodeAt(0).toString(16)}`,
  )
}
