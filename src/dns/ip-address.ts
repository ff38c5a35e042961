/** IP addresses: text and octets. Texts are canonical: dotted quads, RFC 5952 for IPv6. */

/** `octets` holds 4 bytes from `offset` on. */
export function ipv4Text(octets: Uint8Array, offset = 0): string {
  return `${octets[offset]}.${octets[offset + 1]}.${octets[offset + 2]}.${octets[offset + 3]}`
}

/** `octets` holds 16 bytes from `offset` on. */
export function ipv6Text(octets: Uint8Array, offset = 0): string {
  const groups: number[] = []
  for (let at = 0; at < 16; at += 2)
    groups.push(((octets[offset + at] ?? 0) << 8) | (octets[offset + at + 1] ?? 0))
  if (groups.slice(0, 5).every((group) => group === 0) && groups[5] === 0xffff) {
    return `::ffff:${ipv4Text(octets, offset + 12)}`
  }
  const run = longestZeroRun(groups)
  const hex = (part: number[]): string => part.map((group) => group.toString(16)).join(':')
  // RFC 5952 §4.2.2: a single zero group is not shortened.
  if (run.length < 2) return hex(groups)
  return `${hex(groups.slice(0, run.start))}::${hex(groups.slice(run.start + run.length))}`
}

/** RFC 5952 §4.2.3: the longest run of zero groups; among equals the first. */
function longestZeroRun(groups: readonly number[]): { start: number; length: number } {
  let longest = { start: 0, length: 0 }
  let start = 0
  groups.forEach((group, at) => {
    if (group !== 0) start = at + 1
    else if (at + 1 - start > longest.length) longest = { start, length: at + 1 - start }
  })
  return longest
}

/** 4 or 16 octets. The text must be an IP address (`net.isIP`). */
export function ipOctets(text: string): Buffer {
  if (!text.includes(':')) return Buffer.from(text.split('.').map(Number))
  const [head = '', tail] = text.split('::')
  const front = groupOctets(head)
  const back = tail === undefined ? [] : groupOctets(tail)
  return Buffer.from([...front, ...new Array<number>(16 - front.length - back.length).fill(0), ...back])
}

function groupOctets(text: string): number[] {
  if (text === '') return []
  return text.split(':').flatMap((group) => {
    if (group.includes('.')) return group.split('.').map(Number)
    const value = Number.parseInt(group, 16)
    return [value >> 8, value & 0xff]
  })
}
