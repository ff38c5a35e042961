import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { parse } from 'yaml'
import { deniedCidrs } from '../routing/denied-addresses.ts'
import { renderEnvoyConfig } from './envoy-config.ts'

const text = readFileSync(new URL('../../envoy/envoy.yaml', import.meta.url), 'utf8')
const addresses = {
  listen: { host: '127.0.0.1', port: 1 },
  admin: { host: '127.0.0.2', port: 2 },
  processor: 'unix:run/other.sock',
}

/** Lines of `after` that `before` does not have at the same place. */
const changed = (before: string, after: string): string[] => {
  const lines = before.split('\n')
  return after.split('\n').filter((line, index) => line !== lines[index])
}

test('three lines change and no other, where no denied address is allowed', () => {
  const lines = changed(text, renderEnvoyConfig(text, addresses))
  assert.equal(lines.length, 3, lines.join('\n'))
})

test('the three values are where Envoy reads them', () => {
  const config = parse(renderEnvoyConfig(text, addresses))
  assert.deepEqual(config.static_resources.listeners[0].address, {
    socket_address: { address: '127.0.0.1', port_value: 1 },
  })
  assert.deepEqual(config.admin.address, { socket_address: { address: '127.0.0.2', port_value: 2 } })
  const processor = config.static_resources.clusters.find(
    ({ name }: { name: string }) => name === 'processor',
  )
  assert.deepEqual(processor.load_assignment.endpoints[0].lb_endpoints[0].endpoint.address, {
    pipe: { path: 'run/other.sock' },
  })
})

test("as shipped Envoy's admin page is on loopback: compose and Kubernetes take the file as it is", () =>
  assert.equal(parse(text).admin.address.socket_address.address, '127.0.0.1'))

test('a processor may be reached over TCP', () => {
  const rendered = renderEnvoyConfig(text, { ...addresses, processor: { host: '10.0.0.9', port: 9002 } })
  assert.match(rendered, /socket_address: \{ address: "10\.0\.0\.9", port_value: 9002 \}/)
})

test('addresses written in block style are replaced whole', () => {
  const block = [
    'admin:',
    '  address:',
    '    socket_address:',
    '      address: 0.0.0.0',
    '      port_value: 9',
    'static_resources:',
    '  listeners:',
    '  - name: callback',
    '    address:',
    '      socket_address: { address: 0.0.0.0, port_value: 8 }',
    '  clusters:',
    '  - name: processor',
    '    load_assignment: { endpoints: [{ lb_endpoints: [{ endpoint: { address: { pipe: { path: x } } } }] }] }',
    '',
  ].join('\n')
  const config = parse(renderEnvoyConfig(block, addresses))
  assert.deepEqual(config.admin.address, { socket_address: { address: '127.0.0.2', port_value: 2 } })
  assert.equal(config.static_resources.listeners[0].address.socket_address.port_value, 1)
})

const UPSTREAM_HTTP = 'envoy.extensions.upstreams.http.v3.HttpProtocolOptions'
type Rule = { matcher: { typed_config: { upstream_ip: { address_prefix: string; prefix_len: number } } } }

/** CIDRs that Envoy's fence lets through, and those that it denies. */
function fence(rendered: string): { allowed: string[]; denied: string[] } {
  const { clusters } = parse(rendered).static_resources
  const zones = clusters.find(({ name }: { name: string }) => name === 'zones')
  const [rbac] = zones.typed_extension_protocol_options[UPSTREAM_HTTP].http_filters
  const { allowed, others } = rbac.typed_config.rules.policies
  const cidrs = (rules: Rule[]) =>
    rules
      .map(({ matcher }) => matcher.typed_config.upstream_ip)
      .map(({ address_prefix, prefix_len }) => `${address_prefix}/${prefix_len}`)
  return {
    allowed: cidrs(allowed.permissions),
    denied: cidrs(others.permissions[0].not_rule.or_rules.rules),
  }
}

test("the deny list of Envoy's fence is the processor's", () =>
  assert.deepEqual(fence(text).denied.sort(), deniedCidrs().sort()))

test("addresses.allow goes into Envoy's fence, also inside IPv6", () => {
  assert.deepEqual(fence(renderEnvoyConfig(text, addresses)).allowed, ['192.0.2.0/32'])
  const rendered = renderEnvoyConfig(text, { ...addresses, allow: ['127.0.2.0/24', '::1/128'] })
  assert.deepEqual(fence(rendered), {
    allowed: ['127.0.2.0/24', '::ffff:127.0.2.0/120', '::127.0.2.0/120', '64:ff9b::127.0.2.0/120', '::1/128'],
    denied: fence(text).denied,
  })
})

test('a file without the listener says so', () => {
  assert.throws(
    () => renderEnvoyConfig(text.replace('- name: callback', '- name: other'), addresses),
    /expected static_resources\.listeners\.callback\.address, found no callback/,
  )
})
