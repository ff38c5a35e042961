/** What this client tells its surroundings, for logs and metrics. */
import type { Answer, Try } from './answer.ts'

export type DnsEvent =
  | ResolverEvent
  /** At the start, and when resolv.conf has changed. Each says where it is from: a path, a key, or a variable. */
  | {
      readonly kind: 'resolv_conf_loaded'
      readonly nameservers: readonly string[]
      readonly nameserversFrom: string
      readonly search: string | null
      readonly searchFrom: string
    }
  /** A resolv.conf, or part of it, was not taken: what held before still holds. */
  | { readonly kind: 'resolv_conf_kept'; readonly path: string; readonly reason: string }
  /** A resolv.conf has another search domain in front. The one in force stays until someone asks for the other. */
  | {
      readonly kind: 'search_domain_kept'
      readonly path: string
      readonly search: string
      readonly offered: string
    }
  /** A name has other addresses than before, none any more, or none that any nameserver tells. The first that is known of it, too. */
  | {
      readonly kind: 'answer_changed'
      readonly name: string
      readonly answer: Answer
      /** Null: nothing was known. */
      readonly before: Answer | null
      /** Who said so; undefined: nobody did. */
      readonly nameserver: string | undefined
    }
  /** An exception. It cost one name one answer. */
  | { readonly kind: 'bug'; readonly error: unknown }
  /** A line or an option of resolv.conf that has no effect. */
  | { readonly kind: 'option_ignored'; readonly option: string }
  /** An RRset was larger than what is kept of one. */
  | {
      readonly kind: 'addresses_capped'
      readonly name: string
      readonly found: number
      readonly kept: number
    }

export type ResolverEvent =
  /** One query sent to one nameserver, and what came of it. */
  | {
      readonly kind: 'query'
      readonly name: string
      readonly try: Try
      /** What `askedFor` of the seams said when it was sent. */
      readonly askedFor?: unknown
    }
  | { readonly kind: 'nameserver_failing'; readonly nameserver: string; readonly outcome: string }
  | { readonly kind: 'nameserver_recovered'; readonly nameserver: string }
  | { readonly kind: 'edns_unsupported'; readonly nameserver: string }
