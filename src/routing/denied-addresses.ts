import { BlockList, isIPv4, isIPv6 } from 'node:net'

/**
 * Addresses that no zone may have: a DNS name must not point the gateway at its own host, at its network's control addresses
 * or at its cloud's metadata service. Registry: IANA special-purpose addresses (RFC 6890).
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
  '100.100.100.200/32', // metadata service of Alibaba Cloud
  '168.63.129.16/32', // metadata and control of Azure
  '192.0.0.192/32', // metadata service of Oracle Cloud, the older one
  'fd00:ec2::/32', // of AWS over IPv6: metadata (::254), credentials of pods (::23), DNS, time
  'fd20:ce::254/128', // metadata service of Google Cloud over IPv6
  'fd00:c1::a9fe:a9fe/128', // metadata service of Oracle Cloud over IPv6
  'fd00:42::42/128', // metadata service of Scaleway over IPv6
  // Prefixes that can embed any IPv4 address, also a denied one, in their own format: no zone needs them.
  '64:ff9b:1::/48', // translation for local use (RFC 8215)
  '2002::/16', // 6to4 (RFC 3056)
  '2001::/32', // Teredo (RFC 4380)
  '::ffff:0:0:0/96', // IPv4-translated (RFC 2765)
] as const

/**
 * IPv6 prefixes with an embedded IPv4 address that the kernel or a translator connects to: IPv4-compatible (RFC 4291 section
 * 2.5.5.1) and NAT64 (RFC 6052). BlockList already handles IPv4-mapped addresses.
 */
const IPV4_CARRIERS = ['::', '64:ff9b::'] as const
const IPV4_MAPPED = '::ffff:'
const CARRIER_BITS = 96

/** The denied addresses as CIDRs for Envoy, which does not look at an IPv4 address inside an IPv6 one. */
export function deniedCidrs(): string[] {
  return DENIED.flatMap(carried)
}

/** A CIDR; for IPv4 also the CIDRs of the same addresses embedded in IPv6. */
export function carried(cidr: string): string[] {
  const [address = '', prefix = ''] = cidr.split('/')
  if (!isIPv4(address)) return [cidr]
  const carriers = [IPV4_MAPPED, ...IPV4_CARRIERS]
  return [cidr, ...carriers.map((carrier) => `${carrier}${address}/${CARRIER_BITS + Number(prefix)}`)]
}

/** Tells whether a zone may have an address: it is not denied, or a CIDR of `addresses.allow` allows it. */
export function addressPolicy(allow: readonly string[]): (address: string) => boolean {
  const denied = blockList(DENIED)
  const allowed = blockList(allow)
  return (address) => {
    const family = isIPv4(address) ? 'ipv4' : isIPv6(address) ? 'ipv6' : undefined
    if (family === undefined) return false
    return !denied.check(address, family) || allowed.check(address, family)
  }
}

/** A range of ports, both ends included. */
export type PortRange = readonly [first: number, last: number]

/** Tells whether an SRV record may lead to a port. */
export function portPolicy(ranges: readonly PortRange[]): (port: number) => boolean {
  return (port) => ranges.some(([first, last]) => port >= first && port <= last)
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
