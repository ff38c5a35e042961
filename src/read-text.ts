import { closeSync, constants, fstatSync, openSync, readSync } from 'node:fs'

/** Says why a file can't be read, and at which place if that is known. */
export class UnreadableFileError extends Error {
  /** The system's error code, such as `ENOENT`. Undefined if the file's type or content is at fault. */
  readonly code: string | undefined
  /** Both count from 1. */
  readonly place: { readonly line: number; readonly column: number } | undefined

  constructor(message: string, { code, place }: Pick<UnreadableFileError, 'code' | 'place'>) {
    super(message)
    this.name = 'UnreadableFileError'
    this.code = code
    this.place = place
  }
}

/** Control characters that no text file has: all but tab, line feed and carriage return. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: the pattern finds control characters
const CONTROL = /[\0-\x08\x0b\x0c\x0e-\x1f]/

/**
 * Reads a text file in UTF-8, without its byte order mark. Never blocks: an ordinary read of a FIFO without a writer would
 * wait for ever, so a FIFO is an error.
 * @param octetsMax a longer file is an error
 * @throws UnreadableFileError
 */
export function readText(path: string, octetsMax: number): string {
  const octets = readOctets(path, octetsMax)
  const text = octets.toString('utf8')
  const broken = firstDifference(octets, Buffer.from(text))
  if (broken !== null)
    throw new UnreadableFileError('expected text in UTF-8', {
      code: undefined,
      place: placeAt(octets.toString('utf8', 0, broken)),
    })
  const control = CONTROL.exec(text)
  if (control !== null) {
    const code = control[0].charCodeAt(0).toString(16).padStart(4, '0').toUpperCase()
    throw new UnreadableFileError(`expected text, got the control character U+${code}`, {
      code: undefined,
      place: placeAt(text.slice(0, control.index)),
    })
  }
  return text.startsWith('\ufeff') ? text.slice(1) : text
}

function readOctets(path: string, octetsMax: number): Buffer {
  let file: number | undefined
  try {
    file = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK)
    const stats = fstatSync(file)
    if (stats.isDirectory()) throw refused('is a directory, expected a file')
    // People use /dev/null as an empty file. The limit below stops at a device without an end.
    if (!stats.isFile() && !stats.isCharacterDevice()) throw refused('is no regular file')
    const octets = Buffer.alloc(Math.min(stats.size, octetsMax) + 1)
    let length = 0
    for (let read = -1; read !== 0 && length < octets.length; length += read)
      read = readSync(file, octets, length, octets.length - length, null)
    if (length > octetsMax) throw refused(`expected ${octetsMax} octets or fewer`)
    return octets.subarray(0, length)
  } catch (error) {
    if (error instanceof UnreadableFileError) throw error
    const { code, message } = error as NodeJS.ErrnoException
    const why = code === 'ENOENT' ? 'no such file' : code === 'EACCES' ? 'not readable' : message
    throw new UnreadableFileError(why, { code, place: undefined })
  } finally {
    if (file !== undefined) closeSync(file)
  }
}

function refused(why: string): UnreadableFileError {
  return new UnreadableFileError(why, { code: undefined, place: undefined })
}

/** The index of the first octet that differs. Null if none does. */
function firstDifference(a: Buffer, b: Buffer): number | null {
  if (a.equals(b)) return null
  let at = 0
  while (at < a.length && a[at] === b[at]) at += 1
  return at
}

function placeAt(before: string): { line: number; column: number } {
  const lines = before.split('\n')
  return { line: lines.length, column: (lines.at(-1) ?? '').replace(/^\ufeff/, '').length + 1 }
}
