import { now } from '../clock.ts'
import { type Config, portsOf, zoneNameFault } from '../config/schema.ts'
import { createDns, type Dns } from '../dns/dns.ts'
import type { DnsEvent } from '../dns/events.ts'
import { addressPolicy, portPolicy } from '../routing/denied-addresses.ts'

/**
 * Creates the DNS client of a configuration. The caller closes it.
 * @param searchBefore the search domain in force, if it comes from resolv.conf before and after
 * @param askedFor called for each query: who needs its answer, for the query's event
 */
export function openDns(
  config: Config,
  environment: NodeJS.ProcessEnv,
  onEvent: (event: DnsEvent) => void = () => undefined,
  searchBefore: string | null = null,
  askedFor: () => unknown = () => undefined,
): Dns {
  const { dns, addresses, rules } = config
  return createDns(dns, {
    now,
    environment,
    admit: addressPolicy(addresses.allow),
    admitPort: portPolicy(portsOf(config)),
    searchFault: (domain) => namingFault(rules, domain),
    searchBefore,
    onEvent,
    askedFor,
  })
}

/** Why this search domain can't name the zones of a configuration. Null if it can. */
export function searchFault({ dns, rules }: Config, search: string | null): string | null {
  const wayOut = 'set dns.search in zonegate.yaml, like "game.test"'
  if (search === null) return `dns.search: ${dns.resolvConf} names no search domain; ${wayOut}`
  const fault = namingFault(rules, search)
  return fault && `dns.search: the search domain ${search} of ${dns.resolvConf} ${fault}; ${wayOut}`
}

function namingFault(rules: Config['rules'], search: string): string | null {
  const faults = rules.map((rule) => zoneNameFault(rule, search))
  return faults.find((fault) => fault !== null) ?? null
}
