import type { Config } from '../config/schema.ts'
import { createDns, type Dns } from '../dns/dns.ts'
import type { DnsEvent } from '../dns/events.ts'
import { addressPolicy } from '../routing/denied-addresses.ts'

/** DNS by a configuration. Close it. */
export function openDns(
  { dns, addresses }: Config,
  environment: NodeJS.ProcessEnv,
  onEvent: (event: DnsEvent) => void = () => undefined,
): Dns {
  return createDns(dns, {
    now: () => performance.now(),
    environment,
    admit: addressPolicy(addresses.allow),
    onEvent,
  })
}

/** Why nothing can be resolved by this configuration. */
export function noSearchDomain({ dns }: Config): string {
  return `dns.search: ${dns.resolvConf} names no search domain; set dns.search in zonegate.yaml, like "game.test"`
}
