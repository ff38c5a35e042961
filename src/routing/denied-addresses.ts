import { BlockList, isIPv4, isIPv6 } from 'node:net'

/**
 * Addresses that no zone may have: a name in DNS must not turn the gateway against its own host, its network's control
 * addresses or its cloud's metadata service. Registry: IANA special-purpose addresses (RFC 6890).
 */
const DENIED = [
  '0.0.0.0/8', // "this network" (RFC 791 section 3.2); Linux connects 0.0.0.0 to itself
  '127.0.0.0/8', // loopback (RFC 1122 section 3.2.1.3)
  '169.254.0.0/16', // link-local (RFC 3927), with 169.254.169.254, the metadata service of most clouds
  '224.0.0.0/4', // multicast (RFC 5771)
  '255.255.255.255/32', // limited broadcast (RFC 919)
  '::/128', // unspecified (RFC 4291 section 2.5.2)
  '::1/128', // loopback (RFC 4291 section 2.5.3)
  'fe80::/10', // link-local (RFC 4291 section 2.5.6)
  'ff00::/8', // multicast (RFC 4291 section 2.7)
  'fd00:ec2::254/128', // metadata service of AWS over IPv6
] as const

/**
 * Prefixes under which an IPv6 address carries an IPv4 one that the kernel or a translator connects to: IPv4-compatible
 * (RFC 4291 section 2.5.5.1) and NAT64 (RFC 6052). BlockList sees through IPv4-mapped addresses by itself.
 */
const IPV4_CARRIERS = ['::', '64:ff9b::'] as const
const IPV4_MAPPED = '::ffff:'
const CARRIER_BITS = 96

/** The denied addresses, as CIDRs, for who does not see through what carries an IPv4 address. */
export function deniedCidrs(): string[] {
  return DENIED.flatMap(carried)
}

/** A CIDR and, for IPv4, the same addresses inside IPv6. */
export function carried(cidr: string): string[] {
  const [address = '', prefix = ''] = cidr.split('/')
  if (!isIPv4(address)) return [cidr]
  const carriers = [IPV4_MAPPED, ...IPV4_CARRIERS]
  return [cidr, ...carriers.map((carrier) => `${carrier}${address}/${CARRIER_BITS + Number(prefix)}`)]
}

/** Says whether a zone may have this address: not denied, or let through by a CIDR of `addresses.allow`. */
export function addressPolicy(allow: readonly string[]): (address: string) => boolean {
  const denied = blockList(DENIED)
  const allowed = blockList(allow)
  return (address) => {
    const family = isIPv4(address) ? 'ipv4' : isIPv6(address) ? 'ipv6' : undefined
    if (family === undefined) return false
    return !denied.check(address, family) || allowed.check(address, family)
  }
}

function blockList(cidrs: readonly string[]): BlockList {
  const list = new BlockList()
  for (const cidr of cidrs) {
    const [address = '', prefix = ''] = cidr.split('/')
    if (!isIPv4(address)) {
      list.addSubnet(address, Number(prefix), 'ipv6')
      continue
    }
    list.addSubnet(address, Number(prefix), 'ipv4')
    for (const carrier of IPV4_CARRIERS)
      list.addSubnet(carrier + address, CARRIER_BITS + Number(prefix), 'ipv6')
  }
  return list
}
