import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { addressFence } from '../config/envoy-settings.ts'
import { HTTP_OPTIONS } from '../xds/cold-cluster.ts'
import { RenderError } from './envoy-document.ts'
import { type FallbackDns, namesCluster } from './names-cluster.ts'

// biome-ignore lint/suspicious/noExplicitAny: JSON as it comes
type Json = any
const SHIPPED = {
  path: 'envoy/clusters.yaml',
  text: readFileSync(new URL('../../envoy/clusters.yaml', import.meta.url), 'utf8'),
}
const DNS: FallbackDns = {
  search: 'game.test',
  nameservers: ['10.0.0.53:53', '[fd00::53]:5353'],
  family: 'both',
  budgetMs: 1500,
  queriesInFlightMax: 7,
  namesMax: 9,
  fence: addressFence(['127.0.2.0/24']),
}
const cluster = (changed: Partial<FallbackDns> = {}, source = SHIPPED): Json =>
  namesCluster(source, { ...DNS, ...changed }).cluster
const edited = (from: string, to: string) => {
  const text = SHIPPED.text.replace(from, to)
  assert.notEqual(text, SHIPPED.text)
  return { ...SHIPPED, text }
}
const cacheOf = (json: Json): Json => json.cluster_type.typed_config.dns_cache_config

test('the fence stands in front of the filters, and its addresses are taken out of answers but for what is allowed', () => {
  const filters = cluster().typed_extension_protocol_options[HTTP_OPTIONS].http_filters
  assert.deepEqual(
    filters.map(({ name }: Json) => name),
    ['zonegate.denied_addresses', 'upstream_codec'],
  )
  const ranges = cacheOf(cluster()).resolved_address_filter.ranges.map(
    ({ address_prefix, prefix_len }: Json) => `${address_prefix}/${prefix_len}`,
  )
  assert.ok(ranges.includes('169.254.0.0/16'))
  assert.ok(
    ranges.includes('127.0.3.0/24') && !ranges.includes('127.0.2.0/24') && !ranges.includes('127.0.0.0/8'),
  )
})

test('it asks the nameservers by their addresses, and puts no domain behind a name', () => {
  const { typed_config } = cacheOf(cluster()).typed_dns_resolver_config
  assert.deepEqual(typed_config.resolvers, [
    { socket_address: { address: '10.0.0.53', port_value: 53 } },
    { socket_address: { address: 'fd00::53', port_value: 5353 } },
  ])
  assert.equal(typed_config.dns_resolver_options.no_default_search_domain, true)
})

test('what is different has another name, as has its cache; the search domain is not in it', () => {
  const names = [
    cluster(),
    cluster({ nameservers: ['10.0.0.54:53'] }),
    cluster({ family: 'ipv4' }),
    cluster({ fence: addressFence([]) }),
    cluster({}, edited('connect_timeout: 1s', 'connect_timeout: 2s')),
  ].map((json) => {
    assert.equal(cacheOf(json).name, json.name)
    assert.equal(json.alt_stat_name, 'zones_by_name')
    return json.name
  })
  assert.equal(new Set(names).size, names.length)
  assert.equal(cluster({ search: 'other.test' }).name, names[0])
})

test("the operator's options stay, but for how addresses are found", () => {
  const json = cluster(
    {},
    edited('connect_timeout: 1s', 'connect_timeout: 3s\n  load_assignment: {}\n  health_checks: []'),
  )
  assert.equal(json.connect_timeout, '3s')
  assert.equal(json.load_assignment, undefined)
  assert.equal(json.health_checks, undefined)
  assert.equal(json.circuit_breakers.thresholds[0].max_requests, 4096)
  const options = json.typed_extension_protocol_options[HTTP_OPTIONS]
  assert.deepEqual(options.common_http_protocol_options, { idle_timeout: '1s' })
})

test('fields may be written as in JSON', () => {
  const text = SHIPPED.text.replace(/^( {2,})(\w+_\w+)(?=:)/gm, (_, blanks: string, field: string) => {
    return blanks + field.replace(/_(.)/g, (__, letter: string) => letter.toUpperCase())
  })
  assert.match(text, /lbPolicy: .*originalDstLbConfig.*commonHttpProtocolOptions/s)
  const [asShipped, asJson] = [cluster(), cluster({}, { ...SHIPPED, text })]
  assert.deepEqual(Object.keys(asJson).sort(), Object.keys(asShipped).sort())
  const options = (json: Json): Json => json.typed_extension_protocol_options[HTTP_OPTIONS]
  assert.deepEqual(Object.keys(options(asJson)).sort(), Object.keys(options(asShipped)).sort())
})

test('a file without a cluster is named', () => {
  for (const text of ['resources: []', '', '- {', 'resources: [1]'])
    assert.throws(
      () => namesCluster({ path: 'envoy/clusters.yaml', text }, DNS),
      (error: Error) => {
        assert.ok(error instanceof RenderError)
        return error.message.startsWith('envoy/clusters.yaml: ')
      },
    )
})
