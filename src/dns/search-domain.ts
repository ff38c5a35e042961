/**
 * The search domain in force. Every zone has another name under another one, so a resolv.conf that changes does not
 * simply change it: a VPN or a DHCP client that puts its own domain in front knows none of the zones.
 */
import type { DomainName } from './domain-name.ts'
import type { DnsEvent } from './events.ts'

export interface SearchDomainSeams {
  /** Of the resolv.conf. */
  readonly path: string
  /** Why no zone could be named with it; null: they can. */
  readonly faultOf: (domain: DomainName) => string | null
  /** A name under it has addresses. */
  readonly isInUse: (domain: DomainName) => boolean
  readonly onEvent: (event: DnsEvent) => void
}

export class SearchDomain {
  readonly #seams: SearchDomainSeams
  #current: DomainName | null
  #offered: DomainName | null = null

  /** @param current null: none yet */
  constructor(current: DomainName | null, seams: SearchDomainSeams) {
    this.#current = current
    this.#seams = seams
  }

  get current(): DomainName | null {
    return this.#current
  }

  /** The first one of resolv.conf, where another is in force. */
  get offered(): DomainName | null {
    return this.#offered
  }

  /**
   * Those of a resolv.conf. The first one comes into force where there is none yet, or where the one in force is neither
   * among them nor in use.
   */
  offer(domains: readonly DomainName[]): void {
    const { path, faultOf, isInUse, onEvent } = this.#seams
    const [first] = domains
    const current = this.#current
    const before = this.#offered
    this.#offered = null
    if (first === undefined || first === current) return
    if (current === null) {
      this.#current = first
      return
    }
    const fault = faultOf(first)
    if (fault !== null) {
      onEvent({ kind: 'resolv_conf_kept', path, reason: `its search domain ${first} ${fault}` })
    } else if (domains.includes(current) || isInUse(current)) {
      this.#offered = first
      if (first !== before) onEvent({ kind: 'search_domain_kept', path, search: current, offered: first })
    } else this.#current = first
  }

  /** Takes what was offered. False where nothing was. */
  take(): boolean {
    if (this.#offered === null) return false
    this.#current = this.#offered
    this.#offered = null
    return true
  }
}
