/** What this client tells its surroundings, for logs and metrics. */
import type { Try } from './answer.ts'

export type DnsEvent =
  | ResolverEvent
  /** A resolv.conf came into force, at the start or by a change. */
  | {
      readonly kind: 'resolv_conf_loaded'
      readonly path: string
      readonly nameservers: readonly string[]
      readonly search: string | null
    }
  /** A resolv.conf, or part of it, was not taken: what held before still holds. */
  | { readonly kind: 'resolv_conf_kept'; readonly path: string; readonly reason: string }
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
  | { readonly kind: 'query'; readonly name: string; readonly try: Try }
  | { readonly kind: 'nameserver_failing'; readonly nameserver: string; readonly outcome: string }
  | { readonly kind: 'nameserver_recovered'; readonly nameserver: string }
  | { readonly kind: 'edns_unsupported'; readonly nameserver: string }
