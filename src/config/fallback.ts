import { createDns } from '../dns/dns.ts'
import type { FallbackDns } from '../envoy-files/names-cluster.ts'
import { carried, deniedCidrs } from '../routing/denied-addresses.ts'
import type { AddressFence } from '../xds/cold-cluster.ts'
import type { Environment } from './load.ts'
import type { Config } from './schema.ts'

/** Nameservers and search domain in force. */
export interface NamesInForce {
  readonly nameservers: readonly string[]
  readonly search: string | null
}

/** What Envoy needs to resolve names itself; undefined where it never does: `fallback.enabled` is false, or there are none to ask. */
export function fallbackDns(config: Config, { nameservers, search }: NamesInForce): FallbackDns | undefined {
  const { fallback, dns, addresses } = config
  // Envoy takes no address with a scope.
  const usable = nameservers.filter((nameserver) => !nameserver.includes('%'))
  if (!fallback.enabled || search === null || usable.length === 0) return undefined
  return {
    search,
    nameservers: usable,
    family: dns.family,
    budgetMs: dns.budgetMs,
    queriesInFlightMax: dns.queriesInFlightMax,
    namesMax: dns.cacheEntriesMax,
    fence: addressFence(addresses.allow),
  }
}

/** As `fallbackDns`, where no processor runs: by resolv.conf as it is now. */
export function readFallbackDns(config: Config, environment: Environment): FallbackDns | undefined {
  if (!config.fallback.enabled) return undefined
  const dns = createDns(config.dns, {
    now: () => performance.now(),
    environment,
    admit: () => false,
    admitPort: () => false,
    onEvent: () => undefined,
  })
  dns.close()
  return fallbackDns(config, { nameservers: dns.nameservers(), search: dns.searchDomain() })
}

/** @param allow CIDRs that zones may have though they are on the deny list */
export function addressFence(allow: readonly string[]): AddressFence {
  return { denied: deniedCidrs(), allowed: allow.flatMap(carried) }
}
