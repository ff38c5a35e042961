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

/** Decodes %XX to octets and leaves other percent signs. It does not decode UTF-8, because ids are ASCII. */
export function percentDecoded(text: string): string {
  return text.replace(/%([0-9a-f]{2})/gi, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)))
}

/**
 * True where some receiver takes a field for the one with this name. ASP.NET ignores case and decodes `%u0041`. PHP skips
 * leading blanks, ends a name at a NUL, and reads dots, blanks and a lone `[` as `_`. PHP, Rack and qs read `a[]` and `a[0]`
 * as `a`.
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
