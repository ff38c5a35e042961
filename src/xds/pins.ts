import type { Pin } from './learned-routes.ts'
import type { RouteConfiguration } from './messages.ts'
import { type HostKey, partsOf, type RoutingRules } from './routing-rules.ts'

export function pinsOf({ virtual_hosts = [] }: RouteConfiguration): Pin[] {
  return virtual_hosts.map(({ name = '', domains = [] }) => ({
    virtualHost: name,
    domains: domains.filter((domain) => domain !== '*'),
  }))
}

/**
 * The operator's virtual host that gets an id's requests, or that has the name of the id's learned virtual host. The id must not be
 * learned then: Envoy refuses two virtual hosts with one domain or name, and would prefer a learned one to a wildcard domain.
 */
export function pinOf(
  pins: readonly Pin[],
  hostKey: HostKey,
  learnedName: string,
  rules: Pick<RoutingRules, 'rules'>,
): string | undefined {
  let known: readonly string[] | undefined
  const keys = (): readonly string[] => {
    const parts = known === undefined ? partsOf(hostKey, rules) : undefined
    known ??= parts?.rule.domains(parts.id).map((domain) => domain.toLowerCase()) ?? []
    return known
  }
  return pins.find(
    ({ virtualHost, domains }) =>
      virtualHost === learnedName || domains.some((domain) => keys().some((key) => covers(domain, key))),
  )?.virtualHost
}

/** Envoy ignores the case of domains. A wildcard stands for at least one character. */
function covers(domain: string, key: string): boolean {
  const text = domain.toLowerCase()
  if (text.startsWith('*')) return key.length >= text.length && key.endsWith(text.slice(1))
  if (text.endsWith('*')) return key.length >= text.length && key.startsWith(text.slice(0, -1))
  return key === text
}
