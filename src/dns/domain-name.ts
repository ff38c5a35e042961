/**
 * Domain names: text and wire form (RFC 1035 §3.1, §4.1.4; RFC 4343 for case).
 * As text a name is absolute, in lower case, without the final dot; the root is the empty text. Octets that a
 * host name wouldn't have are written `\.`, `\\` or `\DDD` (RFC 4343 §2.1), so that every wire name has one text.
 */
declare const domainName: unique symbol
export type DomainName = string & { readonly [domainName]: true }

/** RFC 1035 §2.3.4. The name's limit counts length octets and the root label. */
const LABEL_OCTETS_MAX = 63
const NAME_OCTETS_MAX = 255
/** RFC 1035 §4.1.4: the two top bits of a length octet mark a pointer; 01 and 10 are not in use. */
const POINTER_MARK = 0xc0
const HEADER_OCTETS = 12

const PLAIN_LABEL = /^[a-z0-9_-]{1,63}$/
/** One octet of a label as text: escaped, or a printable character that is neither `.` nor `\\`. */
const OCTET_TEXT = /\\(\d{3}|[!-/:-~])|[!-\-/-[\]-~]/y
const FINAL_DOT = /(?<=^|[^\\])((?:\\\\)*)\.$/

/** Null where the text is no domain name: an empty or overlong label, an overlong name, a broken escape, not ASCII. */
export function parseDomainName(text: string): DomainName | null {
  const absolute = text.replace(FINAL_DOT, '$1')
  if (absolute === '') return text === '.' ? ('' as DomainName) : null
  const lower = absolute.replace(/[A-Z]/g, (letter) => letter.toLowerCase())
  const labels = splitLabels(lower)
  if (labels === null) return null
  let octets = 1
  for (const label of labels) octets += 1 + label.length
  if (octets > NAME_OCTETS_MAX) return null
  return labels.map(labelText).join('.') as DomainName
}

/** The labels as octets, one latin1 character each; null where one is empty, too long or not well written. */
function splitLabels(text: string): string[] | null {
  if (!text.includes('\\')) {
    const labels = text.split('.')
    return labels.every((label) => PLAIN_LABEL.test(label) || isPrintableLabel(label)) ? labels : null
  }
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
    const match = OCTET_TEXT.exec(text)
    if (match === null) return null
    const octet = match[1] === undefined ? match[0].charCodeAt(0) : escapedOctet(match[1])
    if (octet > 0xff) return null
    label += lowerCase(octet)
    at = OCTET_TEXT.lastIndex
  }
  return labels
}

function isPrintableLabel(label: string): boolean {
  return label.length <= LABEL_OCTETS_MAX && /^[!-~]+$/.test(label)
}

function escapedOctet(escaped: string): number {
  return escaped.length === 3 ? Number(escaped) : escaped.charCodeAt(0)
}

function lowerCase(octet: number): string {
  return String.fromCharCode(octet >= 0x41 && octet <= 0x5a ? octet + 0x20 : octet)
}

function labelText(label: string): string {
  if (PLAIN_LABEL.test(label)) return label
  let text = ''
  for (let at = 0; at < label.length; at++) {
    const octet = label.charCodeAt(at)
    if (octet === 0x2e || octet === 0x5c) text += `\\${label[at]}`
    else if (octet > 0x20 && octet < 0x7f) text += label[at]
    else text += `\\${String(octet).padStart(3, '0')}`
  }
  return text
}

/** The parent's text, one label shorter; null for the root. */
export function parentOf(name: DomainName): DomainName | null {
  if (name === '') return null
  for (let at = 0; at < name.length; at++) {
    if (name[at] === '\\') at++
    else if (name[at] === '.') return name.slice(at + 1) as DomainName
  }
  return '' as DomainName
}

/** True where `name` is `ancestor` or lies below it. */
export function isWithin(name: DomainName, ancestor: DomainName): boolean {
  for (let at: DomainName | null = name; at !== null; at = parentOf(at)) if (at === ancestor) return true
  return false
}

/** The octets of one label of a name's text, from its start. */
export function firstLabel(name: DomainName): Buffer {
  const parent = parentOf(name)
  const text = parent === null || parent === '' ? name : name.slice(0, name.length - parent.length - 1)
  const labels = splitLabels(text)
  return Buffer.from(labels?.[0] ?? '', 'latin1')
}

/** A wire name's text, and the offset behind it in the message; null where it breaks a rule. */
export interface WireName {
  readonly name: DomainName
  readonly end: number
}

/**
 * Reads a name that may be compressed. Pointers lead strictly backwards, each before the part that holds it, as
 * "a prior occurrence" (RFC 1035 §4.1.4) demands: no loop is possible, and the 255 octets bound the work.
 */
export function readName(message: Buffer, offset: number): WireName | null {
  let text = ''
  let octets = 1
  let at = offset
  let partStart = offset
  let end = -1
  for (;;) {
    const length = message[at]
    if (length === undefined) return null
    if (length === 0) return { name: text as DomainName, end: end < 0 ? at + 1 : end }
    if (length >= POINTER_MARK) {
      const low = message[at + 1]
      if (low === undefined) return null
      const target = ((length & ~POINTER_MARK) << 8) | low
      if (target >= partStart || target < HEADER_OCTETS) return null
      if (end < 0) end = at + 2
      at = partStart = target
      continue
    }
    octets += 1 + length
    if (length > LABEL_OCTETS_MAX || octets > NAME_OCTETS_MAX || at + 1 + length > message.length) return null
    const label = labelText(
      message.toString('latin1', at + 1, at + 1 + length).replace(/[A-Z]/g, lowerLetter),
    )
    text = text === '' ? label : `${text}.${label}`
    at += 1 + length
  }
}

function lowerLetter(letter: string): string {
  return letter.toLowerCase()
}
