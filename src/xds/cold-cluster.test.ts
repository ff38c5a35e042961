import assert from 'node:assert/strict'
import { test } from 'node:test'
import { coldClusterResource, HTTP_OPTIONS, httpOptions } from './cold-cluster.ts'
import { messageCodec } from './envoy-api.ts'
import type { Cluster } from './messages.ts'

const { decode } = messageCodec<Cluster>('envoy.config.cluster.v3.Cluster')
const rbac = messageCodec<{ rules: { action?: string; policies: Record<string, unknown> } }>(
  'envoy.extensions.filters.http.rbac.v3.RBAC',
)
const fence = { denied: ['127.0.0.0/8', '::1/128'], allowed: ['127.0.2.0/24'] }
const filtersOf = (cluster: Cluster, by = fence) => {
  const sent = decode(coldClusterResource(cluster, by).encode(0))
  const options = httpOptions.decode(
    sent.typed_extension_protocol_options?.[HTTP_OPTIONS]?.value ?? Buffer.alloc(0),
  )
  return { sent, options, filters: options.http_filters ?? [] }
}
/** The CIDRs of each policy. */
const cidrs = (value: unknown): string[] => {
  const packed: string[] = []
  JSON.stringify(value, (key, each) => {
    if (key === 'typed_config') {
      const octets = Buffer.from(each.value.data ?? each.value)
      const { upstream_ip } = upstreamIp.decode(octets)
      packed.push(`${upstream_ip.address_prefix}/${upstream_ip.prefix_len.value}`)
    }
    return each
  })
  return packed
}
const upstreamIp = messageCodec<{ upstream_ip: { address_prefix: string; prefix_len: { value: number } } }>(
  'envoy.extensions.rbac.matchers.upstream_ip_port.v3.UpstreamIpPortMatcher',
)

test('the fence stands in front of all filters, with the exceptions in a policy of their own', () => {
  const { filters } = filtersOf({ name: 'zones' })
  assert.deepEqual(
    filters.map(({ name }) => name),
    ['zonegate.denied_addresses', 'upstream_codec'],
  )
  const { rules } = rbac.decode(filters[0]?.typed_config?.value ?? Buffer.alloc(0))
  assert.equal(rules.action ?? 'ALLOW', 'ALLOW')
  assert.deepEqual(cidrs(rules.policies['others']), fence.denied)
  assert.match(JSON.stringify(rules.policies['others']), /"permissions":\[\{"not_rule":\{"or_rules"/)
  assert.deepEqual(cidrs(rules.policies['allowed']), fence.allowed)
})

test('without exceptions there is no policy for them, as an empty one would be refused', () => {
  const { filters } = filtersOf({ name: 'zones' }, { ...fence, allowed: [] })
  const { rules } = rbac.decode(filters[0]?.typed_config?.value ?? Buffer.alloc(0))
  assert.deepEqual(Object.keys(rules.policies), ['others'])
})

test("the operator's own filters and options stay, behind the fence", () => {
  const value = httpOptions.encode({
    http_filters: [{ name: 'own' }, { name: 'codec' }],
    common_http_protocol_options: { idle_timeout: { seconds: 4 } },
  })
  const { sent, options, filters } = filtersOf({
    name: 'zones',
    connect_timeout: { seconds: 1 },
    typed_extension_protocol_options: { [HTTP_OPTIONS]: { type_url: 'a', value } },
  })
  assert.deepEqual(
    filters.map(({ name }) => name),
    ['zonegate.denied_addresses', 'own', 'codec'],
  )
  assert.deepEqual(options['common_http_protocol_options'], { idle_timeout: { seconds: '4' } })
  assert.deepEqual(sent.connect_timeout, { seconds: '1' })
})

test('another fence is another version', () => {
  const version = (allowed: string[]) => coldClusterResource({ name: 'zones' }, { ...fence, allowed }).version
  assert.equal(version([]), version([]))
  assert.notEqual(version([]), version(['127.0.2.0/24']))
})

test('the cold cluster has no health checks, which it would make and not go by', () => {
  const { sent } = filtersOf({ name: 'zones', health_checks: [{ timeout: { seconds: '1' } }] } as Cluster)
  assert.equal(sent['health_checks'], undefined)
})
