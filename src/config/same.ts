import type { Config } from './schema.ts'

/** What of a configuration says where requests go. */
export type Placing = Pick<Config, 'dns' | 'addresses' | 'rules' | 'zones' | 'learned' | 'fallback'>

export function placingOf(config: Config): Placing {
  const { dns, addresses, rules, zones, learned, fallback } = config
  return { dns, addresses, rules, zones, learned, fallback }
}

/** Parts of a configuration of which another one needs more than a new level of the log. */
export const SHAPING = [
  'dns',
  'addresses',
  'rules',
  'zones',
  'learned',
  'fallback',
  'tracing',
] as const satisfies readonly (keyof Config)[]

export function same<Part extends keyof Config>(
  a: Pick<Config, Part>,
  b: Pick<Config, Part>,
  sections: readonly Part[],
): boolean {
  return sections.every((section) => JSON.stringify(a[section]) === JSON.stringify(b[section]))
}

/** True where a new configuration goes on with the DNS client of the one before, and with all that it has cached. */
export function keepsDns(
  before: Pick<Config, 'dns' | 'addresses'>,
  after: Pick<Config, 'dns' | 'addresses'>,
): boolean {
  return same(before, after, ['dns', 'addresses'])
}

/** True where a search domain that resolv.conf gave, and that was not asked to change, stays. */
export function keepsSearch(before: Pick<Config, 'dns'>, after: Pick<Config, 'dns'>): boolean {
  return (
    before.dns.search === null && after.dns.search === null && before.dns.resolvConf === after.dns.resolvConf
  )
}
