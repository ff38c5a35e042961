import { isIP, isIPv4, isIPv6 } from 'node:net'
import type { PortRange } from '../routing/denied-addresses.ts'

/** `host:port`, `[v6]:port`; a port from 1 to 65535. */
const HOST_PORT = /^(?:\[([^\]]+)\]|([^\s:[\]/]+)):(\d{1,5})$/
/** A domain name: letters, digits and hyphens, labels up to 63 octets (RFC 1123 section 2.1), an optional final dot. */
export const DOMAIN_NAME = /^(?=.{1,254}$)(?!-)[a-z0-9-]{1,63}(?<!-)(?:\.(?!-)[a-z0-9-]{1,63}(?<!-))*\.?$/i
/** These addresses need a scope (RFC 4007 section 4). */
const LINK_LOCAL = /^fe[89ab]/i
const PORT_RANGE = /^(\d{1,5})-(\d{1,5})$/

/** Splits `host:port` and `[v6]:port`. Null if the text is neither. */
export function parseHostPort(text: string): { host: string; port: number } | null {
  const match = HOST_PORT.exec(text)
  if (match === null) return null
  const host = match[1] ?? match[2] ?? ''
  const number = Number(match[3])
  if (number < 1 || number > 65_535) return null
  if (match[1] !== undefined && !isIPv6(host)) return null
  return { host, port: number }
}

/** Where to connect to a server that listens on this host: one that listens on all addresses also listens on loopback. */
export function wildcardToLoopback(host: string): string {
  return host === '0.0.0.0' ? '127.0.0.1' : host === '::' ? '::1' : host
}

/** Like `parseHostPort`, but only for addresses that Envoy accepts: no host name, and a scope only for link-local ones. */
export function parseAddressPort(text: string): { host: string; port: number } | null {
  const parsed = parseHostPort(text)
  if (parsed === null || isIP(parsed.host) === 0) return null
  return parsed.host.includes('%') && !LINK_LOCAL.test(parsed.host) ? null : parsed
}

/** Like `parseHostPort`, but only for an address or a host name. */
export function parseNamedPort(text: string): { host: string; port: number } | null {
  const parsed = parseHostPort(text)
  return parsed !== null && (isIP(parsed.host) !== 0 || isHostName(parsed.host)) ? parsed : null
}

/** Host and port of `http://HOST:PORT`. Null if the text is something else. */
export function collectorOf(url: string): { host: string; port: number } | null {
  return url.startsWith('http://') ? parseNamedPort(url.slice('http://'.length).replace(/\/$/, '')) : null
}

/** Like `parseHostPort`, for text that the schema has accepted. */
export function hostPortOf(text: string): { host: string; port: number } {
  const parsed = parseHostPort(text)
  if (parsed === null) throw new Error(`the schema accepts only host:port, not "${text}"`)
  return parsed
}

/** True if only this machine can be reached by the address or name. */
export function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || (isIPv4(host) && host.startsWith('127.'))
}

/** A host name does not end in a number: that would be an address (RFC 3696 section 2). */
export function isHostName(host: string): boolean {
  return DOMAIN_NAME.test(host) && !/(?:^|\.)\d+\.?$/.test(host)
}

export function isCidr(text: string): boolean {
  const [address = '', prefix = '', ...rest] = text.split('/')
  const family = address.includes('%') ? 0 : isIP(address)
  return (
    rest.length === 0 &&
    family !== 0 &&
    /^\d{1,3}$/.test(prefix) &&
    Number(prefix) <= (family === 4 ? 32 : 128)
  )
}

/** A range of ports, such as `8000-8999`. Null if the text is none. */
export function parsePortRange(text: string): PortRange | null {
  const [, first, last] = (PORT_RANGE.exec(text) ?? []).map(Number)
  if (first === undefined || last === undefined) return null
  return first >= 1 && first <= last && last <= 65_535 ? [first, last] : null
}
