/** Events for logs and metrics. */
import type { Answer, Try } from './answer.ts'

export type DnsEvent =
  /** One query to one nameserver, and its outcome. */
  | {
      readonly kind: 'query'
      readonly name: string
      readonly try: Try
      /** What the seam `askedFor` returned when the query was sent. */
      readonly askedFor?: unknown
    }
  | { readonly kind: 'nameserver_failing'; readonly nameserver: string; readonly outcome: string }
  | { readonly kind: 'nameserver_recovered'; readonly nameserver: string }
  /** Queries to this nameserver no longer carry OPT. */
  | { readonly kind: 'edns_unsupported'; readonly nameserver: string }
  /**
   * The nameservers gave another answer than before, or none. The first answer of a name counts as another one. So does
   * the end of all answers.
   */
  | {
      readonly kind: 'answer_changed'
      readonly name: string
      readonly answer: Answer
      /** Null: this is the first answer. */
      readonly before: Answer | null
      /** The nameserver of the answer; undefined where no nameserver answered. */
      readonly nameserver: string | undefined
    }
  /** A name has more addresses than the resolver uses. */
  | {
      readonly kind: 'addresses_capped'
      readonly name: string
      readonly found: number
      readonly kept: number
    }
  /** At the start, and when resolv.conf has changed. `…From` names the source: a path, a key, or a variable. */
  | {
      readonly kind: 'resolv_conf_loaded'
      readonly nameservers: readonly string[]
      readonly nameserversFrom: string
      readonly search: string | null
      readonly searchFrom: string
    }
  /** A resolv.conf, or a part of it, can't be used. What was in force before stays in force. */
  | { readonly kind: 'resolv_conf_kept'; readonly path: string; readonly reason: string }
  /** A resolv.conf starts with another search domain. The current one stays until an operator takes the other one. */
  | {
      readonly kind: 'search_domain_kept'
      readonly path: string
      readonly search: string
      readonly offered: string
    }
  /** A line or an option of resolv.conf has no effect. */
  | { readonly kind: 'option_ignored'; readonly option: string }
  /** An exception. It affects at most one answer of one name. */
  | { readonly kind: 'bug'; readonly error: unknown }
