import { contentVersion } from './resource.ts'

/** Encoded messages that differ in one text only, such as the virtual hosts of all ids: encoded once, then stamped. */
export interface Template {
  /** Of everything but the text. */
  readonly version: string
  stamp(text: string): Buffer
}

/** Encodings of texts of one length: in protobuf's wire format they have the same length, and differ only where the text stands. */
interface Mould {
  readonly bytes: Buffer
  readonly offsets: readonly number[]
}

/**
 * @param encode makes the message that carries `text`, as it is and any number of times. Texts are printable ASCII: two
 *   samples without a common character are encoded, and where they differ the text stands.
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
