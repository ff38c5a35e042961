import assert from 'node:assert/strict'
import { test } from 'node:test'
import { codec } from '../grpc/protos.ts'
import { type ClusterPolicy, type ClusterTemplates, clusterTemplates } from './cluster.ts'
import { durationOf } from './duration.ts'
import { endpointsResource, sameAddresses } from './endpoints.ts'
import { messageCodec } from './envoy-api.ts'
import type { Cluster, ClusterLoadAssignment } from './messages.ts'
import { contentVersion, MESSAGE_NAMES, parseZoneKey } from './resource.ts'

const { decode } = codec<ClusterLoadAssignment>(MESSAGE_NAMES.endpoints)
const zone = { addresses: ['10.0.0.1', '2001:db8::1'], port: 8101, staleAtMs: 10_500 }

test('endpoints carry the authority of the cold path as their host name', () => {
  const resource = endpointsResource('mail/42', zone, 'v1')
  assert.deepEqual(decode(resource.encode(0)), {
    cluster_name: 'mail/42',
    endpoints: [
      {
        lb_endpoints: [
          {
            endpoint: {
              address: { socket_address: { address: '10.0.0.1', port_value: 8101 } },
              hostname: '10.0.0.1:8101',
            },
          },
          {
            endpoint: {
              address: { socket_address: { address: '2001:db8::1', port_value: 8101 } },
              hostname: '[2001:db8::1]:8101',
            },
          },
        ],
      },
    ],
    policy: { endpoint_stale_after: { seconds: 10, nanos: 0 } },
  })
})

test('addresses without an end have none in Envoy', () => {
  const { policy, endpoints = [] } = decode(
    endpointsResource('mail/42', { ...zone, staleAtMs: Number.POSITIVE_INFINITY }, 'v1').encode(0),
  )
  assert.equal(policy?.endpoint_stale_after, undefined)
  assert.equal(endpoints[0]?.lb_endpoints.length, 2)
})

test('addresses that bring ports have priorities and weights, and the next priority nothing while one of the first is well', () => {
  const addresses = [
    { address: '10.0.0.1', port: 9001, priority: 1, weight: 1 },
    { address: '10.0.0.2', port: 9002, priority: 0, weight: 7 },
    { address: '10.0.0.2', port: 9003, priority: 0, weight: 3 },
  ]
  const { endpoints = [], policy } = decode(
    endpointsResource('mail/42', { ...zone, addresses }, 'v1').encode(0),
  )
  const seen = endpoints.map(({ priority, lb_endpoints }) => [
    priority ?? 0,
    lb_endpoints.map(({ endpoint, load_balancing_weight }) => [
      endpoint.hostname,
      load_balancing_weight?.value,
    ]),
  ])
  assert.deepEqual(seen, [
    [
      0,
      [
        ['10.0.0.2:9002', 7],
        ['10.0.0.2:9003', 3],
      ],
    ],
    [1, [['10.0.0.1:9001', 1]]],
  ])
  assert.deepEqual(policy, {
    overprovisioning_factor: { value: 10_000 },
    endpoint_stale_after: { seconds: 10, nanos: 0 },
  })
})

test('endpoints may be used for what is left of their time at the moment of sending, never longer', () => {
  const resource = endpointsResource('mail/42', zone, 'v1')
  assert.deepEqual(decode(resource.encode(10_000)).policy?.endpoint_stale_after, {
    seconds: 0,
    nanos: 500_000_000,
  })
})

test('endpoints whose time is over are none, as 0 would mean for ever', () => {
  for (const nowMs of [10_500, 99_000])
    assert.deepEqual(decode(endpointsResource('mail/42', zone, 'v1').encode(nowMs)), {
      cluster_name: 'mail/42',
    })
})

test('addresses are the same in any order, and with the same port', () => {
  assert.equal(sameAddresses(zone, { ...zone, addresses: ['2001:db8::1', '10.0.0.1'], staleAtMs: 0 }), true)
  assert.equal(sameAddresses(zone, { ...zone, addresses: ['10.0.0.1'] }), false)
  assert.equal(sameAddresses(zone, { ...zone, addresses: ['10.0.0.1', '10.0.0.2'] }), false)
  assert.equal(sameAddresses(zone, { ...zone, port: 8102 }), false)
  const first = { address: '10.0.0.1', port: 9001, priority: 0, weight: 1 }
  const second = { ...first, port: 9002, priority: 1 }
  const own = { ...zone, addresses: [first, second] }
  assert.equal(sameAddresses(own, { ...zone, addresses: [{ ...second }, { ...first }] }), true)
  for (const change of [{ port: 9003 }, { priority: 0 }, { weight: 2 }])
    assert.equal(sameAddresses(own, { ...zone, addresses: [first, { ...second, ...change }] }), false)
})

test('a cluster has the fields of the cold one, and its endpoints from the same stream', () => {
  const clusters = messageCodec<Cluster>(MESSAGE_NAMES.cluster)
  const cold = {
    connect_timeout: { seconds: '1' },
    circuit_breakers: { thresholds: [{ max_retries: { value: 4096 } }] },
    outlier_detection: { split_external_local_origin_errors: true },
    common_lb_config: { healthy_panic_threshold: { value: 30 } },
  }
  assert.deepEqual(clusters.decode(clusterTemplates(cold).oneAddress.stamp('mail/42')), {
    ...cold,
    name: 'mail/42',
    type: 'EDS',
    eds_cluster_config: {
      eds_config: { ads: {}, resource_api_version: 'V3', initial_fetch_timeout: { seconds: '5' } },
    },
    lb_policy: 'RANDOM',
  })
})

test('of several addresses a cluster leaves out those that refuse connections, unless the cold one says otherwise', () => {
  const { decode } = messageCodec<Cluster>(MESSAGE_NAMES.cluster)
  const detectionOf = (policy: ClusterPolicy, kind: keyof ClusterTemplates): Record<string, unknown> =>
    decode(clusterTemplates(policy)[kind].stamp('mail/42'))['outlier_detection'] as Record<string, unknown>
  assert.equal(decode(clusterTemplates({}).severalAddresses.stamp('mail/42'))['lb_policy'], 'ROUND_ROBIN')
  const own = detectionOf({}, 'severalAddresses')
  assert.deepEqual(own['consecutive_local_origin_failure'], { value: 3 })
  assert.deepEqual(own['enforcing_consecutive_5xx'], { value: 0 })
  assert.equal(detectionOf({}, 'oneAddress'), undefined)
  const cold = { outlier_detection: { split_external_local_origin_errors: true } }
  assert.deepEqual(detectionOf(cold, 'severalAddresses'), cold.outlier_detection)
  assert.deepEqual(detectionOf(cold, 'oneAddress'), cold.outlier_detection)
})

test('durations are exact to the millisecond', () => {
  assert.deepEqual(durationOf(1_500.9), { seconds: 1, nanos: 500_000_000 })
})

test("a cluster's name is read back as service and id, or not at all", () => {
  assert.deepEqual(parseZoneKey('mail/42'), { key: 'mail/42', service: 'mail', id: '42' })
  for (const name of ['', 'zones', '/42', 'mail/', 'mail/4/2']) assert.equal(parseZoneKey(name), undefined)
})

test('a version of content is stable from one process to the next', () => {
  assert.equal(contentVersion('a', Buffer.from('b')), contentVersion('ab'))
  assert.equal(contentVersion('ab'), '-44g_C5MPySM')
})

test('of several addresses a cluster has the health checks of the cold one, and what must go with them; of one it has none', () => {
  const { decode } = messageCodec<Cluster>(MESSAGE_NAMES.cluster)
  const partsOf = (policy: ClusterPolicy, kind: keyof ClusterTemplates): unknown[] => {
    const cluster = decode(clusterTemplates(policy)[kind].stamp('mail/42'))
    return ['health_checks', 'common_lb_config', 'ignore_health_on_host_removal'].map((name) => cluster[name])
  }
  const health_checks = [{ timeout: { seconds: '1' } }]
  const panic = (value: number) => ({ healthy_panic_threshold: { value } })
  assert.deepEqual(partsOf({ health_checks }, 'severalAddresses'), [health_checks, panic(1), true])
  assert.deepEqual(partsOf({ health_checks }, 'oneAddress'), [undefined, panic(0), undefined])
  assert.deepEqual(partsOf({}, 'severalAddresses'), [undefined, panic(0), undefined])
  const own = { health_checks, common_lb_config: panic(30) }
  assert.deepEqual(partsOf(own, 'severalAddresses'), [health_checks, panic(30), true])
})
