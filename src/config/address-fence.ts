import { BlockList, isIPv4 } from 'node:net'
import { carried, deniedCidrs } from '../routing/denied-addresses.ts'
import type { YamlFile } from '../xds/yaml-file.ts'

const HTTP_OPTIONS = 'envoy.extensions.upstreams.http.v3.HttpProtocolOptions'

type Place = ReturnType<YamlFile['items']>[number]

/**
 * Where Envoy's own fence (decision 16) and the processor's let through what the other denies, a line each:
 * `file:line:column: key: what`. A range counts as denied where one rule of Envoy's has the whole of it.
 */
export function compareAddressFences(file: YamlFile, allow: readonly string[]): string[] {
  const clusters = file.items(file.at(file.at(file.root, 'static_resources'), 'clusters'))
  const zones = clusters.find((cluster) => file.text(cluster, 'name') === 'zones')
  if (zones === undefined) return []
  const options = file.at(file.at(zones, 'typed_extension_protocol_options'), HTTP_OPTIONS)
  const rules = file
    .items(file.at(options, 'http_filters'))
    .map((filter) => file.at(file.at(filter, 'typed_config'), 'rules'))
    .find((place) => place !== undefined)
  if (rules === undefined)
    return [
      `${file.position(zones)}: zones: Envoy itself denies no address: http_filters has no RBAC with rules`,
    ]

  const permissions = (policy: string): Place | undefined =>
    file.at(file.at(file.at(rules, 'policies'), policy), 'permissions')
  const allowed = permissions('allowed')
  const allowedByEnvoy = cidrsOf(file, file.items(allowed))
  const others = permissions('others')
  const exceptions = file
    .items(others)
    .map((permission) => file.at(file.at(file.at(permission, 'not_rule'), 'or_rules'), 'rules'))
  const deniedByEnvoy = cidrsOf(
    file,
    exceptions.flatMap((list) => file.items(list)),
  )

  const allowedHere = allow.flatMap(carried)
  const denied = deniedCidrs().filter((cidr) => !allowedHere.some((range) => contains(range, cidr)))
  const missing = allow.filter((cidr) => !allowedByEnvoy.some((range) => contains(range, cidr)))
  const open = denied.filter((cidr) => !deniedByEnvoy.some((range) => contains(range, cidr)))
  const leftOver = allowedByEnvoy.filter(
    (range) =>
      !allowedHere.some((cidr) => contains(cidr, range)) &&
      denied.some((cidr) => contains(cidr, range) || contains(range, cidr)),
  )
  const line = (place: Place | undefined, policy: string, what: string): string =>
    `${file.position(place ?? rules)}: policies.${policy}: ${what}`
  return [
    missing.length > 0 &&
      line(
        allowed,
        'allowed',
        `Envoy itself denies ${missing.join(', ')} of addresses.allow; npm start writes it here, nothing else does`,
      ),
    leftOver.length > 0 &&
      line(
        allowed,
        'allowed',
        `Envoy itself lets through ${leftOver.join(', ')}, which the processor denies: not in addresses.allow`,
      ),
    open.length > 0 &&
      line(
        exceptions[0] ?? others,
        'others',
        `Envoy itself lets through ${open.join(', ')}, which the processor denies; expected a rule here for each`,
      ),
  ].filter((text) => text !== false)
}

/** Of rules by upstream address; others say nothing that could be compared. */
function cidrsOf(file: YamlFile, rules: readonly Place[]): string[] {
  return rules.flatMap((rule) => {
    const range = file.at(file.at(file.at(rule, 'matcher'), 'typed_config'), 'upstream_ip')
    const address = file.text(range, 'address_prefix')
    return address === undefined ? [] : [`${address}/${file.number(range, 'prefix_len')}`]
  })
}

/** As Envoy reads CIDRs: one for IPv6 says nothing about IPv4, nor the other way round. False for what is none. */
function contains(outer: string, inner: string): boolean {
  const [address = '', prefix = ''] = outer.split('/')
  const [innerAddress = '', innerPrefix = ''] = inner.split('/')
  const family = isIPv4(address) ? 'ipv4' : 'ipv6'
  if (family !== (isIPv4(innerAddress) ? 'ipv4' : 'ipv6') || Number(prefix) > Number(innerPrefix))
    return false
  const list = new BlockList()
  try {
    list.addSubnet(address, Number(prefix), family)
    return list.check(innerAddress, family)
  } catch {
    return false
  }
}
