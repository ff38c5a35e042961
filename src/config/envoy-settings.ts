import { createDns } from '../dns/dns.ts'
import type { FallbackDns } from '../envoy-files/names-cluster.ts'
import type { Addresses, HostPort } from '../envoy-files/render.ts'
import type { TracingSettings } from '../envoy-files/tracing.ts'
import { carried, deniedCidrs } from '../routing/denied-addresses.ts'
import type { AddressFence } from '../xds/cold-cluster.ts'
import { collectorOf, hostPortOf, parseAddressPort } from './host-port.ts'
import type { Environment } from './load.ts'
import type { Config } from './schema.ts'

/** What Envoy's files need of the configuration and the environment. */

/** Environment variables by which a launcher sets where Envoy listens. They win over what Envoy's files say. */
export const LISTEN_VARIABLE = 'ZONEGATE_ENVOY_LISTEN'
export const ADMIN_VARIABLE = 'ZONEGATE_ENVOY_ADMIN'

/** @throws Error that names the variable whose value is not an address with a port */
export function addressesOf({ listen: { grpc } }: Config, environment: Environment): Addresses {
  return {
    processor: grpc.startsWith('unix:') ? grpc : hostPortOf(grpc),
    listen: addressIn(environment, LISTEN_VARIABLE),
    admin: addressIn(environment, ADMIN_VARIABLE),
  }
}

function addressIn(environment: Environment, name: string): HostPort | undefined {
  const text = environment[name] ?? ''
  if (text === '') return undefined
  const parsed = parseAddressPort(text)
  if (parsed === null) throw new Error(`${name}: expected address:port, like 127.0.0.1:8101, got "${text}"`)
  return parsed
}

/** Undefined if requests are not traced. */
export function tracingOf({ tracing: { otlp, samplePercent } }: Config): TracingSettings | undefined {
  const collector = otlp === null ? null : collectorOf(otlp)
  return collector === null ? undefined : { collector, samplePercent }
}

/** The nameservers and the search domain in force. */
export interface NamesInForce {
  readonly nameservers: readonly string[]
  readonly search: string | null
}

/** What Envoy needs to resolve names itself. Undefined if `fallback.enabled` is false or there is no nameserver to ask. */
export function fallbackDns(config: Config, { nameservers, search }: NamesInForce): FallbackDns | undefined {
  const { fallback, dns, addresses } = config
  // Envoy rejects addresses with a scope.
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

/** Like `fallbackDns`, for commands that run without a processor: reads resolv.conf itself. */
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

/** @param allow CIDRs of denied addresses that zones may have nevertheless */
export function addressFence(allow: readonly string[]): AddressFence {
  return { denied: deniedCidrs(), allowed: allow.flatMap(carried) }
}
