/**
 * Domain names: text and wire form (RFC 1035 §3.1, §4.1.4; RFC 4343 for case). The text is absolute, in lower case, without
 * the final dot; the root is the empty text. Octets that no host name has are written `\.`, `\\` or `\DDD` (RFC 4343
 * §2.1), so every wire name has exactly one text.
 */
declare const domainName: unique symbol
export type DomainName = string & { readonly [domainName]: true }

/** RFC 1035 §2.3.4. The limit of a name includes length octets and the root label. */
const LABEL_OCTETS_MAX = 63
export const NAME_OCTETS_MAX = 255
/** RFC 1035 §4.1.4: the two top bits of a length octet mark a pointer; 01 and 10 are unused. */
const POINTER_MARK = 0xc0
const HEADER_OCTETS = 12
const [DOT, BACKSLASH, ZERO] = [0x2e, 0x5c, 0x30]
/** The most labels that a name can have: none needs more pointers. */
const POINTERS_MAX = 127

/** Nearly every real name: it needs no escapes, and its wire form is two octets longer. */
const PLAIN_NAME = /^[a-z0-9_-]{1,63}(?:\.[a-z0-9_-]{1,63})*$/
const PLAIN_LABEL = /^[a-z0-9_-]{1,63}$/
/** `a` to `z`, `0` to `9`, `_` and `-`. */
function isPlainOctet(octet: number): boolean {
  return (
    (octet >= 0x61 && octet <= 0x7a) || (octet >= 0x30 && octet <= 0x39) || octet === 0x2d || octet === 0x5f
  )
}

/** One octet of a label as text: escaped, or a printable character that is neither `.` nor `\`. */
const OCTET_TEXT = /\\(\d{3}|[!-/:-~])|[!-\-/-[\]-~]/y
const FINAL_DOT = /(?<=^|[^\\])((?:\\\\)*)\.$/

/** Null where the text is no domain name: an empty or too long label, a too long name, a broken escape, not ASCII. */
export function parseDomainName(text: string): DomainName | null {
  if (text.length <= NAME_OCTETS_MAX - 2 && PLAIN_NAME.test(text)) return text as DomainName
  if (text === '.') return '' as DomainName
  const labels = labelsOf(text.replace(FINAL_DOT, '$1'))
  if (labels === null) return null
  const octets = labels.reduce((sum, label) => sum + 1 + label.length, 1)
  return octets > NAME_OCTETS_MAX ? null : (labels.map(labelText).join('.') as DomainName)
}

/** True where the labels are the texts between the dots. */
function isPlain(name: DomainName): boolean {
  return !name.includes('\\')
}

/** The labels as octets, one latin1 character each; null where one is empty, too long or broken. */
function labelsOf(text: string): string[] | null {
  const labels: string[] = []
  let label = ''
  for (let at = 0; at <= text.length; ) {
    if (at === text.length || text[at] === '.') {
      if (label === '' || label.length > LABEL_OCTETS_MAX) return null
      labels.push(label)
      label = ''
      at++
      continue
    }
    OCTET_TEXT.lastIndex = at
    const [written, escaped] = OCTET_TEXT.exec(text) ?? []
    if (written === undefined) return null
    const octet = escaped?.length === 3 ? Number(escaped) : (escaped ?? written).charCodeAt(0)
    if (octet > 0xff) return null
    label += String.fromCharCode(lowerCase(octet))
    at += written.length
  }
  return labels
}

/** The text of one label's octets. */
function labelText(label: string): string {
  if (PLAIN_LABEL.test(label)) return label
  let text = ''
  for (let at = 0; at < label.length; at++) {
    const octet = lowerCase(label.charCodeAt(at))
    const character = String.fromCharCode(octet)
    if (character === '.' || character === '\\') text += `\\${character}`
    else if (octet > 0x20 && octet < 0x7f) text += character
    else text += `\\${String(octet).padStart(3, '0')}`
  }
  return text
}

/** RFC 4343 §3: ASCII letters only. */
export function lowerCase(octet: number): number {
  return octet >= 0x41 && octet <= 0x5a ? octet + 0x20 : octet
}

/** The name without its first label; null for the root. */
export function parentOf(name: DomainName): DomainName | null {
  if (name === '') return null
  let dot = name.indexOf('.')
  while (dot > 0 && isEscaped(name, dot)) dot = name.indexOf('.', dot + 1)
  return (dot < 0 ? '' : name.slice(dot + 1)) as DomainName
}

/** True where an odd number of backslashes precedes. */
function isEscaped(text: string, at: number): boolean {
  let backslashes = 0
  while (text[at - 1 - backslashes] === '\\') backslashes++
  return backslashes % 2 === 1
}

/** True where `name` is `ancestor` or is below it. */
export function isWithin(name: DomainName, ancestor: DomainName): boolean {
  if (ancestor === '' || name === ancestor) return true
  const dot = name.length - ancestor.length - 1
  return name[dot] === '.' && !isEscaped(name, dot) && name.endsWith(ancestor)
}

/** Writes the first label with its length octet. The buffer has room for 64 octets. @returns the offset behind it */
export function writeLabel(name: DomainName, parent: DomainName, buffer: Buffer, offset: number): number {
  const text = parent === '' ? name : name.slice(0, name.length - parent.length - 1)
  const label = isPlain(text as DomainName) ? text : (labelsOf(text)?.[0] ?? '')
  buffer[offset] = label.length
  return offset + 1 + buffer.write(label, offset + 1, 'latin1')
}

/** Writes all labels and the root's. The buffer has room for `NAME_OCTETS_MAX` octets. @returns the offset behind them */
export function writeName(name: DomainName, buffer: Buffer, offset: number): number {
  let at = offset
  if (isPlain(name)) {
    let lengthAt = at++
    for (let index = 0; index < name.length; index++) {
      const octet = name.charCodeAt(index)
      if (octet === 0x2e) {
        buffer[lengthAt] = at - lengthAt - 1
        lengthAt = at
      } else buffer[at] = octet
      at++
    }
    buffer[lengthAt] = at - lengthAt - 1
    if (name === '') return at
  } else {
    for (let rest = name; rest !== ''; ) {
      const parent = parentOf(rest) ?? ('' as DomainName)
      at = writeLabel(rest, parent, buffer, at)
      rest = parent
    }
  }
  buffer[at] = 0
  return at + 1
}

interface WireName {
  readonly name: DomainName
  /** The offset behind the name. */
  readonly end: number
  /** Its length without compression. */
  readonly octets: number
}

/**
 * Reads a name that may be compressed; null where it breaks a rule. Each pointer leads to before the part that contains
 * it, because RFC 1035 §4.1.4 speaks of "a prior occurrence": no loop is possible. The limits on octets and pointers
 * bound the work.
 */
export function readName(message: Buffer, offset: number): WireName | null {
  let labels = 0
  let octets = 1
  let at = offset
  let partStart = offset
  let end = -1
  let pointersLeft = POINTERS_MAX
  for (;;) {
    const length = message[at]
    if (length === undefined) return null
    if (length === 0) return { name: labelsText(message, labels), end: end < 0 ? at + 1 : end, octets }
    if (length >= POINTER_MARK) {
      const low = message[at + 1]
      if (low === undefined) return null
      const target = ((length & ~POINTER_MARK) << 8) | low
      if (target >= partStart || target < HEADER_OCTETS || pointersLeft-- === 0) return null
      if (end < 0) end = at + 2
      at = partStart = target
      continue
    }
    octets += 1 + length
    if (length > LABEL_OCTETS_MAX || octets > NAME_OCTETS_MAX || at + 1 + length > message.length) return null
    labelOffsets[labels++] = at
    at += 1 + length
  }
}

/** The offsets of the labels, and the text, of the name that `readName` reads: one at a time. */
const labelOffsets = new Uint16Array(NAME_OCTETS_MAX / 2)
const nameText = Buffer.alloc(4 * NAME_OCTETS_MAX)

function labelsText(message: Buffer, labels: number): DomainName {
  let length = 0
  for (let label = 0; label < labels; label++) {
    const start = (labelOffsets[label] ?? 0) + 1
    const end = start + (message[start - 1] ?? 0)
    if (label > 0) nameText[length++] = DOT
    for (let at = start; at < end; at++) {
      const octet = lowerCase(message[at] ?? 0)
      if (isPlainOctet(octet)) nameText[length++] = octet
      else length = writeEscaped(octet, length)
    }
  }
  return nameText.toString('latin1', 0, length) as DomainName
}

/** Writes an octet as `labelText` does. @returns the offset behind it */
function writeEscaped(octet: number, offset: number): number {
  let at = offset
  if (octet > 0x20 && octet < 0x7f) {
    if (octet === DOT || octet === BACKSLASH) nameText[at++] = BACKSLASH
    nameText[at] = octet
    return at + 1
  }
  nameText[at] = BACKSLASH
  nameText[at + 1] = ZERO + Math.floor(octet / 100)
  nameText[at + 2] = ZERO + (Math.floor(octet / 10) % 10)
  nameText[at + 3] = ZERO + (octet % 10)
  return at + 4
}
