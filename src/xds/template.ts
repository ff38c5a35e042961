import { contentVersion } from './resource.ts'

/** Encoded messages that differ only in one text, such as the virtual hosts of all ids. Encoded once, then the text is written into copies. */
export interface Template {
  /** A hash of everything except the text. */
  readonly version: string
  stamp(text: string): Buffer
}

/** The message with a text of one length. With other texts of that length, only the octets at `offsets` differ. */
interface Mould {
  readonly bytes: Buffer
  readonly offsets: readonly number[]
}

/**
 * @param encode encodes the message with `text` in it, unchanged, any number of times. To find where, two texts without a common
 *   character are encoded and compared. `text` is printable ASCII.
 */
export function template(encode: (text: string) => Buffer): Template {
  const moulds = new Map<number, Mould>()
  return {
    version: contentVersion(encode('a')),
    stamp(text) {
      let mould = moulds.get(text.length)
      if (mould === undefined) {
        mould = mouldOf(encode, text.length)
        moulds.set(text.length, mould)
      }
      const bytes = Buffer.from(mould.bytes)
      for (const offset of mould.offsets) bytes.write(text, offset, 'latin1')
      return bytes
    },
  }
}

function mouldOf(encode: (text: string) => Buffer, length: number): Mould {
  const bytes = encode('a'.repeat(length))
  const other = encode('b'.repeat(length))
  if (bytes.length !== other.length)
    throw new Error('the length of the message depends on more than the length of the text')
  const offsets: number[] = []
  for (let at = 0; at < bytes.length; at++) {
    if (bytes[at] === other[at]) continue
    offsets.push(at)
    at += length - 1
  }
  return { bytes, offsets }
}
