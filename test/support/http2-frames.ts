/** HTTP/2 octet by octet, for what no HTTP/2 library would send. */

/** RFC 9113 section 6. */
export const FRAME = { data: 0, headers: 1, rstStream: 3, settings: 4, goAway: 7 } as const
export const END_STREAM = 1
export const END_HEADERS = 4
const HEAD_OCTETS = 9

/** Name, value pairs, pseudo-headers first. Each shorter than 127 octets. */
export type Fields = readonly (readonly [name: string, value: string])[]

/** What a client says first (RFC 9113 section 3.4). */
export function preface(): Buffer {
  return Buffer.concat([
    Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'),
    frame(FRAME.settings, 0, 0, Buffer.alloc(0)),
  ])
}

export function frame(type: number, flags: number, stream: number, payload: Buffer): Buffer {
  const head = Buffer.alloc(HEAD_OCTETS)
  head.writeUIntBE(payload.length, 0, 3)
  head[3] = type
  head[4] = flags
  head.writeUInt32BE(stream, 5)
  return Buffer.concat([head, payload])
}

/** Literals without indexing, names and values as they are (RFC 7541 section 6.2.2). */
export function headerBlock(fields: Fields): Buffer {
  const literal = (text: string) => Buffer.concat([Buffer.from([text.length]), Buffer.from(text, 'latin1')])
  return Buffer.concat(fields.flatMap(([name, value]) => [Buffer.from([0]), literal(name), literal(value)]))
}

/** The types of the frames that these octets begin with. */
export function frameTypes(octets: Buffer): number[] {
  const types: number[] = []
  for (let at = 0; at + HEAD_OCTETS <= octets.length; at += HEAD_OCTETS + octets.readUIntBE(at, 3))
    types.push(octets[at + 3] ?? 0)
  return types
}
