import { createHash, timingSafeEqual } from 'node:crypto'
import type { IncomingMessage } from 'node:http'
import { isIP } from 'node:net'
import { parseHostPort } from '../config/host-port.ts'

/** Why a request is refused. */
export interface Refusal {
  readonly status: 401 | 403 | 421
  readonly error: string
  readonly headers?: Readonly<Record<string, string>>
}

/** Longer credentials are refused without being hashed. */
const CREDENTIALS_LENGTH_MAX = 4096

/**
 * Decides which requests may ask. Without a token `listen.http` is loopback, so only this machine can connect. Its
 * browser is the remaining danger: a page of another site may send requests across origins, or use a name of its own that
 * resolves to loopback (DNS rebinding).
 */
export class Access {
  readonly #tokenHash: Buffer | null
  readonly #host: string

  /** @param host the host of `listen.http` */
  constructor(token: string | null, host: string) {
    this.#tokenHash = token === null ? null : hash(token)
    this.#host = host
  }

  /** Null: the request may ask. */
  refusal(request: IncomingMessage): Refusal | null {
    if (this.#tokenHash !== null && !this.#hasToken(request)) {
      return {
        status: 401,
        error: 'expected "Authorization: Bearer TOKEN" with the token of listen.httpToken',
        headers: { 'www-authenticate': 'Bearer realm="zonegate"' },
      }
    }
    // With a token any name will do: a page of another site does not have it.
    if (this.#tokenHash === null && !this.#isOwnName(request.headers.host))
      return { status: 421, error: 'expected an IP address other than 0.0.0.0 and ::, or localhost, as Host' }
    if (isFromAnotherOrigin(request)) return { status: 403, error: 'expected a request of the same origin' }
    return null
  }

  #hasToken(request: IncomingMessage): boolean {
    const { authorization = '' } = request.headers
    if (authorization.length > CREDENTIALS_LENGTH_MAX || this.#tokenHash === null) return false
    const [, token = ''] = /^bearer +(.*)$/i.exec(authorization) ?? []
    // The time it takes tells nothing about the token: hashes have one length, and are compared in constant time.
    return timingSafeEqual(hash(token), this.#tokenHash)
  }

  /** An address cannot be rebound. A name can, except for localhost and the host of `listen.http`. */
  #isOwnName(text: string | undefined): boolean {
    if (text === undefined) return false
    const host = (parseHostPort(text)?.host ?? text.replace(/^\[(.*)\]$/, '$1')).toLowerCase()
    return (isIP(host) !== 0 && !MASKED.test(host)) || host === 'localhost' || host === this.#host
  }
}

/**
 * 0.0.0.0, :: and IPv4-mapped addresses lead to loopback, too. But browsers do not count them as loopback, and send no Fetch
 * Metadata there (Secure Contexts, section 3.1). So a page's request would look like a program's.
 */
const MASKED = /^(?:0\.|::(?!1$))/

/** Browsers send these headers (Fetch section 3.2, Fetch Metadata); other programs do not, and may ask. */
function isFromAnotherOrigin({ headers }: IncomingMessage): boolean {
  const { origin, host } = headers
  if (origin !== undefined) return origin !== `http://${host}` && origin !== `https://${host}`
  // A page of another site can have the browser fetch a URL ahead (Speculation Rules), as if a user had typed it.
  if (headers['sec-purpose'] !== undefined) return true
  const site = headers['sec-fetch-site']
  return site !== undefined && site !== 'same-origin' && site !== 'none'
}

function hash(text: string): Buffer {
  return createHash('sha256').update(text).digest()
}
