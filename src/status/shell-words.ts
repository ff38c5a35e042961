/** The command can't be read as one request; the message says why. */
export class CommandFault extends Error {
  constructor(message: string) {
    super(message)
    this.name = 'CommandFault'
  }
}

/** Characters that a shell reads as operators (POSIX Shell Command Language, section 2.3). */
const OPERATORS = /[|&;<>()]/
/** Characters that a backslash escapes between double quotes (section 2.2.3); before others it stays. */
const ESCAPED_IN_QUOTES = /[$`"\\]/
/** The escapes of `$'...'` that stand for one character. */
const ANSI_C: Readonly<Record<string, string>> = {
  a: '\u0007',
  b: '\b',
  e: '\u001b',
  E: '\u001b',
  f: '\f',
  n: '\n',
  r: '\r',
  t: '\t',
  v: '\v',
}
const ANSI_C_NUMBER = /x([0-9a-f]{1,2})|u([0-9a-f]{1,4})|U([0-9a-f]{1,8})|([0-7]{1,3})/iy

/**
 * The words of one simple command, as a POSIX shell splits it, with the `$'...'` of bash. Nothing is expanded and nothing
 * is run.
 * @throws CommandFault where a shell would do more than split: variables, substitutions, a second command
 */
export function shellWords(text: string): string[] {
  const words: string[] = []
  let word: string | undefined
  let at = 0
  while (at < text.length) {
    const char = text.charAt(at)
    if (/\s/.test(char)) {
      if (word !== undefined) words.push(word)
      word = undefined
      at += 1
    } else {
      const part = partAt(text, at)
      if (part.text !== undefined) word = (word ?? '') + part.text
      at = part.end
    }
  }
  if (word !== undefined) words.push(word)
  return words
}

interface Part {
  /** Absent: it adds nothing, as a backslash at the end of a line. */
  readonly text?: string
  readonly end: number
}

function partAt(text: string, at: number): Part {
  const char = text.charAt(at)
  const next = text.charAt(at + 1)
  if (char === "'") {
    const end = text.indexOf("'", at + 1)
    if (end === -1) throw new CommandFault("a ' has no end")
    return { text: text.slice(at + 1, end), end: end + 1 }
  }
  if (char === '"') return doubleQuoted(text, at + 1)
  if (char === '$' && next === "'") return ansiC(text, at + 2)
  if (char === '\\') {
    const lineEnd = /^\\\r?\n/.exec(text.slice(at, at + 3))
    return lineEnd === null ? { text: next, end: at + 2 } : { end: at + lineEnd[0].length }
  }
  noExpansion(text, at)
  if (char === '^')
    throw new CommandFault('a ^ outside of quotes: was this copied for Windows? Copy it for bash')
  if (OPERATORS.test(char))
    throw new CommandFault(
      `a ${char} outside of quotes: put quotes around the URL, or leave out what follows`,
    )
  return { text: char, end: at + 1 }
}

function doubleQuoted(text: string, start: number): Part {
  let content = ''
  for (let at = start; at < text.length; at += 1) {
    const char = text.charAt(at)
    if (char === '"') return { text: content, end: at + 1 }
    const next = text.charAt(at + 1)
    if (char === '\\' && next === '\n') at += 1
    else if (char === '\\' && ESCAPED_IN_QUOTES.test(next)) {
      content += next
      at += 1
    } else {
      noExpansion(text, at)
      content += char
    }
  }
  throw new CommandFault('a " has no end')
}

function ansiC(text: string, start: number): Part {
  let content = ''
  for (let at = start; at < text.length; at += 1) {
    const char = text.charAt(at)
    if (char === "'") return { text: content, end: at + 1 }
    if (char !== '\\') {
      content += char
      continue
    }
    at += 1
    ANSI_C_NUMBER.lastIndex = at
    const number = ANSI_C_NUMBER.exec(text)
    if (number === null) content += ANSI_C[text.charAt(at)] ?? text.charAt(at)
    else {
      content += characterOf(number)
      at += number[0].length - 1
    }
  }
  throw new CommandFault("a $' has no end")
}

function characterOf([, octet, short, long, octal]: RegExpExecArray): string {
  const hex = octet ?? short ?? long
  const code = hex === undefined ? Number.parseInt(octal ?? '0', 8) : Number.parseInt(hex, 16)
  if (code > 0x10ffff) throw new CommandFault("an escape in $'...' is no character")
  return String.fromCodePoint(code)
}

function noExpansion(text: string, at: number): void {
  if (text.charAt(at) === '`') throw new CommandFault('a ` runs a command: write its output instead')
  if (text.charAt(at) !== '$') return
  const variable = /^\$(?:\w+|\{[^}]*\}|\()/.exec(text.slice(at, at + 80))?.[0]
  if (variable === undefined) return
  throw new CommandFault(
    variable === '$('
      ? '$( runs a command: write its output instead'
      : `${variable} is a variable: write its value`,
  )
}
