import { isIPv4 } from 'node:net'

/** A CIDR as numbers: `start` has its first `prefix` bits in common with every address. */
interface Range {
  readonly bits: 32 | 128
  readonly start: bigint
  readonly prefix: number
}

/** Subtracts `others`, of either family, from CIDRs. */
export function withoutRanges(cidrs: readonly string[], others: readonly string[]): string[] {
  const holes = others.map(parse)
  return cidrs.flatMap((cidr) => without(parse(cidr), holes)).map(format)
}

function without(range: Range, holes: readonly Range[]): Range[] {
  const inside = holes.filter((hole) => contains(hole, range) || contains(range, hole))
  if (inside.length === 0) return [range]
  if (inside.some((hole) => contains(hole, range))) return []
  const { bits, start, prefix } = range
  const half = 1n << BigInt(bits - prefix - 1)
  return [start, start + half].flatMap((each) => without({ bits, start: each, prefix: prefix + 1 }, inside))
}

function contains(outer: Range, inner: Range): boolean {
  const shift = BigInt(outer.bits - outer.prefix)
  return (
    outer.bits === inner.bits && outer.prefix <= inner.prefix && outer.start >> shift === inner.start >> shift
  )
}

function parse(cidr: string): Range {
  const [address = '', prefix = ''] = cidr.split('/')
  const bits = isIPv4(address) ? 32 : 128
  const value = bits === 32 ? ofIPv4(address) : ofIPv6(address)
  const shift = BigInt(bits - Number(prefix))
  return { bits, start: (value >> shift) << shift, prefix: Number(prefix) }
}

function ofIPv4(address: string): bigint {
  return address.split('.').reduce((value, octet) => (value << 8n) | BigInt(octet), 0n)
}

function ofIPv6(address: string): bigint {
  const [, front = address, ipv4] = /^(.*:)(\d+\.\d+\.\d+\.\d+)$/.exec(address) ?? []
  const last = ipv4 === undefined ? 0n : ofIPv4(ipv4)
  const text =
    ipv4 === undefined ? address : `${front}${(last >> 16n).toString(16)}:${(last & 0xffffn).toString(16)}`
  const [before = '', after] = text.split('::')
  const words = (part: string): string[] => part.split(':').filter((word) => word !== '')
  const [left, right] = [words(before), words(after ?? '')]
  const zeros = Array<string>(8 - left.length - right.length).fill('0')
  return [...left, ...zeros, ...right].reduce((value, word) => (value << 16n) | BigInt(`0x${word}`), 0n)
}

function format({ bits, start, prefix }: Range): string {
  const [count, size, separator] = bits === 32 ? [4, 8, '.'] : [8, 16, ':']
  const radix = bits === 32 ? 10 : 16
  const parts = Array.from({ length: count }, (_, at) =>
    ((start >> BigInt((count - 1 - at) * size)) & ((1n << BigInt(size)) - 1n)).toString(radix),
  )
  return `${parts.join(separator)}/${prefix}`
}
