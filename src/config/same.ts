import type { Config } from './schema.ts'

/** The parts of a configuration that decide where requests go. */
export type Placing = Pick<Config, 'dns' | 'addresses' | 'rules' | 'zones' | 'learned' | 'fallback'>

export function placingOf(config: Config): Placing {
  const { dns, addresses, rules, zones, learned, fallback } = config
  return { dns, addresses, rules, zones, learned, fallback }
}

/** The parts of a configuration that the processor must rebuild its own parts for when they change. */
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
