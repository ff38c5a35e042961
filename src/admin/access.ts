import { createHash, timingSafeEqual } from 'node:crypto'
import type { IncomingMessage } from 'node:http'
import { isIP } from 'node:net'
import { parseHostPort } from '../config/schema.ts'

/** Why a request is not let in. */
export interface Refusal {
  readonly status: 401 | 403 | 421
  readonly error: string
  readonly headers?: Readonly<Record<string, string>>
}

/** Longer credentials are wrong without being looked at. */
const CREDENTIALS_LENGTH_MAX = 4096

/**
 * Who may ask. Without a token only this machine can (`listen.http` is loopback then), and what is left to fear is its
 * browser: another site's page that calls us by a name of its own which resolves to loopback (DNS rebinding), or across
 * origins.
 */
export class Access {
  readonly #tokenHash: Buffer | null
  readonly #host: string

  /** @param host that of `listen.http` */
  constructor(token: string | null, host: string) {
    this.#tokenHash = token === null ? null : hash(token)
    this.#host = host
  }

  /** Null: let in. */
  refusal(request: IncomingMessage): Refusal | null {
    if (this.#tokenHash !== null && !this.#hasToken(request)) {
      return {
        status: 401,
        error: 'expected "Authorization: Bearer TOKEN" with the token of listen.httpToken',
        headers: { 'www-authenticate': 'Bearer realm="zonegate"' },
      }
    }
    // A page of another site has no token, whatever name it calls us by.
    if (this.#tokenHash === null && !this.#isOwnName(request.headers.host))
      return { status: 421, error: 'expected an IP address or localhost as Host' }
    if (isFromAnotherOrigin(request)) return { status: 403, error: 'expected a request of the same origin' }
    return null
  }

  #hasToken(request: IncomingMessage): boolean {
    const { authorization = '' } = request.headers
    if (authorization.length > CREDENTIALS_LENGTH_MAX || this.#tokenHash === null) return false
    const [, token = ''] = /^bearer +(.*)$/i.exec(authorization) ?? []
    // Hashes have one length and are compared in constant time: nothing tells how much of a guess was right.
    return timingSafeEqual(hash(token), this.#tokenHash)
  }

  /** An address can't be rebound; a name can, except for those that are ours. */
  #isOwnName(text: string | undefined): boolean {
    if (text === undefined) return false
    const host = (parseHostPort(text)?.host ?? text.replace(/^\[(.*)\]$/, '$1')).toLowerCase()
    return isIP(host) !== 0 || host === 'localhost' || host === this.#host
  }
}

/** By what browsers say (Fetch section 3.2, Fetch Metadata): programs that are no browser say nothing. */
function isFromAnotherOrigin({ method, headers }: IncomingMessage): boolean {
  const { origin, host } = headers
  if (origin !== undefined) return origin !== `http://${host}` && origin !== `https://${host}`
  const site = headers['sec-fetch-site']
  if (site === undefined || site === 'same-origin' || site === 'none') return false
  // A link may stand anywhere.
  return !(method === 'GET' && headers['sec-fetch-mode'] === 'navigate')
}

function hash(text: string): Buffer {
  return createHash('sha256').update(text).digest()
}
