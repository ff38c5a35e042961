export type FormFields = readonly { readonly name: string; readonly value: string }[]

/** Names and values of a query or a form (URL Standard, application/x-www-form-urlencoded parsing), in order. */
export function formFields(text: string, separator: '&' | RegExp = '&'): FormFields {
  return text
    .split(separator)
    .filter((pair) => pair !== '')
    .map((pair) => {
      const at = pair.indexOf('=')
      const [name, value] = at === -1 ? [pair, ''] : [pair.slice(0, at), pair.slice(at + 1)]
      return { name: decoded(name), value: decoded(value) }
    })
}

function decoded(text: string): string {
  return percentDecoded(text.replaceAll('+', ' '))
}

/** What is no octet in hexadecimal stays as it is. Octets, and no letters: an id has none beyond ASCII. */
export function percentDecoded(text: string): string {
  return text.replace(/%([0-9a-f]{2})/gi, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)))
}

/**
 * True where some receiver takes a field for the one of this name. ASP.NET knows no case, and `%u0041`. PHP leaves out blanks in
 * front, ends a name at a NUL, and puts `_` for dots, blanks and a lone `[`; `a[]`, `a[0]` and the like are `a` to PHP, Rack and
 * qs.
 */
export function isAlike(given: string, name: string): boolean {
  const [text = ''] = given
    .replace(/%u00([0-9a-f]{2})/gi, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)))
    .split('\0', 1)
  const wanted = folded(name)
  return [text, text.split('[', 1)[0] ?? ''].some((one) => folded(one.trim()) === wanted)
}

function folded(name: string): string {
  return name.replace(/[ .[]/g, '_').toLowerCase()
}
