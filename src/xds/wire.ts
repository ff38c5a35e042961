/** Wire types (protobuf encoding, "Message Structure"). */
const WIRE = { varint: 0, fixed64: 1, length: 2, fixed32: 5 } as const

/** The octets are not a valid message. */
export class MalformedMessage extends Error {}

/** Reads fields one after the other. Each method throws MalformedMessage if the message ends within a field. */
export class WireReader {
  offset = 0
  readonly #bytes: Buffer
  #wire = 0

  constructor(bytes: Buffer) {
    this.#bytes = bytes
  }

  get atEnd(): boolean {
    return this.offset >= this.#bytes.length
  }

  /** Begins a field. @returns its number */
  field(): number {
    const tag = this.#varint()
    this.#wire = tag % 8
    const field = Math.floor(tag / 8)
    if (field === 0) throw new MalformedMessage('no field has the number 0')
    return field
  }

  text(): string {
    return this.open().toString('utf8')
  }

  /** The octets of a length-delimited field. */
  open(): Buffer {
    if (this.#wire !== WIRE.length)
      throw new MalformedMessage(`expected a length, not wire type ${this.#wire}`)
    const length = this.#varint()
    return this.#bytes.subarray(this.offset, this.#advance(length))
  }

  skip(): void {
    if (this.#wire === WIRE.length) this.open()
    else if (this.#wire === WIRE.varint) this.#varint()
    else if (this.#wire === WIRE.fixed64) this.#advance(8)
    else if (this.#wire === WIRE.fixed32) this.#advance(4)
    else throw new MalformedMessage(`unknown wire type ${this.#wire}`)
  }

  /** @returns the offset after it */
  #advance(octets: number): number {
    if (octets > this.#bytes.length - this.offset)
      throw new MalformedMessage('a field is longer than its message')
    this.offset += octets
    return this.offset
  }

  #varint(): number {
    let value = 0
    for (let factor = 1; factor < 2 ** 70; factor *= 128) {
      const octet = this.#bytes[this.offset++]
      if (octet === undefined) throw new MalformedMessage('a number is longer than its message')
      value += (octet & 0x7f) * factor
      if (octet < 0x80) return value
    }
    throw new MalformedMessage('a number of more than ten octets')
  }
}
