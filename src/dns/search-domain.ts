/**
 * The search domain in force. The names of all zones depend on it, so a changed resolv.conf doesn't simply replace it: a
 * VPN or a DHCP client may put its own domain first, under which no zone exists.
 */
import type { DomainName } from './domain-name.ts'
import type { DnsEvent } from './events.ts'

interface SearchDomainSeams {
  /** The path of resolv.conf, for events. */
  readonly path: string
  /** Why no zone can have a name under the domain; null where zones can. */
  readonly faultOf: (domain: DomainName) => string | null
  /** True where a name under the domain has addresses. */
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

  /** The first search domain of resolv.conf, where another one is in force. */
  get offered(): DomainName | null {
    return this.#offered
  }

  /**
   * Offers the search domains of a resolv.conf. The first one comes into force where there is none yet, or where the
   * current one is neither listed nor in use.
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

  /** Takes the offered domain. False where there is none. */
  take(): boolean {
    if (this.#offered === null) return false
    this.#current = this.#offered
    this.#offered = null
    return true
  }
}
