import type { Config } from './schema.ts'

/** The sections that decide where requests go. */
const PLACING = ['dns', 'addresses', 'rules', 'zones', 'learned', 'fallback'] as const
export type Placing = Pick<Config, (typeof PLACING)[number]>

export function placingOf(config: Config): Placing {
  return Object.fromEntries(PLACING.map((section) => [section, config[section]])) as Placing
}

/** The sections for which the processor makes parts of its own. It makes them again when one of these changes. */
export const SHAPING = [...PLACING, 'tracing'] as const

export function same<Part extends keyof Config>(
  a: Pick<Config, Part>,
  b: Pick<Config, Part>,
  sections: readonly Part[],
): boolean {
  return sections.every((section) => JSON.stringify(a[section]) === JSON.stringify(b[section]))
}

/** True if a new configuration keeps the previous DNS client and its cache. */
export function keepsDns(
  before: Pick<Config, 'dns' | 'addresses'>,
  after: Pick<Config, 'dns' | 'addresses'>,
): boolean {
  return same(before, after, ['dns', 'addresses'])
}

/** True if the search domain comes from the same resolv.conf before and after, and so stays. */
export function keepsSearch(before: Pick<Config, 'dns'>, after: Pick<Config, 'dns'>): boolean {
  return (
    before.dns.search === null && after.dns.search === null && before.dns.resolvConf === after.dns.resolvConf
  )
}
