import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { parse, parseDocument } from 'yaml'
import { carried, deniedCidrs } from '../../src/routing/denied-addresses.ts'

const HTTP_OPTIONS = 'envoy.extensions.upstreams.http.v3.HttpProtocolOptions'
const typed = (name: string, fields: object = {}): object => ({
  '@type': `type.googleapis.com/envoy.extensions.${name}`,
  ...fields,
})

/** Puts the cold path's cluster with its fence into Envoy's own file. Envoy then ignores the processor's cluster of that name. */
export function writeZonesInto(folder: string, allow: readonly string[]): void {
  const bootstrap = join(folder, 'envoy.yaml')
  const { '@type': _, ...cluster } = parse(readFileSync(join(folder, 'clusters.yaml'), 'utf8')).resources[0]
  const others = { not_rule: { or_rules: { rules: deniedCidrs().map(within) } } }
  const policies = {
    others: { principals: [{ any: true }], permissions: [others] },
    ...(allow.length > 0 && {
      allowed: { principals: [{ any: true }], permissions: allow.flatMap(carried).map(within) },
    }),
  }
  cluster.typed_extension_protocol_options[HTTP_OPTIONS].http_filters = [
    {
      name: 'fence',
      typed_config: typed('filters.http.rbac.v3.RBAC', { rules: { action: 'ALLOW', policies } }),
    },
    { name: 'upstream_codec', typed_config: typed('filters.http.upstream_codec.v3.UpstreamCodec') },
  ]
  const document = parseDocument(readFileSync(bootstrap, 'utf8'))
  document.addIn(['static_resources', 'clusters'], cluster)
  writeFileSync(bootstrap, document.toString({ lineWidth: 0 }))
}

function within(cidr: string): object {
  const [address_prefix, prefix] = cidr.split('/')
  const upstream_ip = { address_prefix, prefix_len: Number(prefix) }
  return {
    matcher: {
      name: 'upstream_ip',
      typed_config: typed('rbac.matchers.upstream_ip_port.v3.UpstreamIpPortMatcher', { upstream_ip }),
    },
  }
}
