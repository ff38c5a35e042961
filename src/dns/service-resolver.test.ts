import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Endpoint } from './answer.ts'
import type { DomainName } from './domain-name.ts'
import type { SrvRecord } from './message.ts'
import { endpointsOf } from './service-resolver.ts'

const ADDRESSES: Readonly<Record<string, readonly string[]>> = {
  'a.test': ['10.0.0.1'],
  'b.test': ['10.0.0.2'],
  'c.test': ['10.0.0.3'],
  'two.test': ['10.0.1.2', '10.0.1.1'],
  'like-a.test': ['10.0.0.1'],
  'many.test': Array.from({ length: 40 }, (_, at) => `10.1.0.${at}`),
}
const addressesOf = (target: DomainName): readonly string[] => ADDRESSES[target] ?? []

function srv(target: string, priority: number, weight: number, port = 9000): SrvRecord {
  const name = '_pay._tcp.zone1.test' as DomainName
  return { name, type: 'SRV', target: target as DomainName, priority, weight, port, ttlSeconds: 60 }
}

const short = (endpoints: readonly Endpoint[]): unknown =>
  endpoints.map(({ address, port, priority, weight }) => [`${address}:${port}`, priority, weight])

test('priorities are counted from 0, without those that have no address', () => {
  const endpoints = endpointsOf(
    [srv('gone.test', 5, 1), srv('a.test', 10, 3, 9001), srv('gone.test', 15, 1), srv('b.test', 20, 1, 9002)],
    addressesOf,
  )
  assert.deepEqual(short(endpoints), [
    ['10.0.0.1:9001', 0, 3],
    ['10.0.0.2:9002', 1, 1],
  ])
  assert.deepEqual(endpoints[1]?.srv, { target: 'b.test', priority: 20, weight: 1 })
})

test('a target with two addresses has no more than one with the same weight', () => {
  const weights = endpointsOf([srv('two.test', 0, 5), srv('a.test', 0, 5)], addressesOf).map(
    ({ address, weight }) => [address, weight],
  )
  assert.deepEqual(Object.fromEntries(weights), {
    '10.0.1.1': 250_000,
    '10.0.1.2': 250_000,
    '10.0.0.1': 500_000,
  })
})

test('weight 0 has what RFC 2782 leaves it: together one draw of the sum and one more', () => {
  assert.deepEqual(short(endpointsOf([srv('a.test', 0, 9), srv('b.test', 0, 0)], addressesOf)), [
    ['10.0.0.1:9000', 0, 9],
    ['10.0.0.2:9000', 0, 1],
  ])
  const three = endpointsOf([srv('a.test', 0, 9), srv('b.test', 0, 0), srv('c.test', 0, 0)], addressesOf)
  assert.deepEqual(
    three.map(({ weight }) => weight),
    [900_000, 50_000, 50_000],
  )
})

test('where all weights are 0, all have the same', () => {
  const weights = endpointsOf([srv('a.test', 0, 0), srv('b.test', 0, 0)], addressesOf).map(
    ({ weight }) => weight,
  )
  assert.deepEqual(weights, [1, 1])
})

test('one address and port is one endpoint: of the lowest priority, with the weights of all that lead there', () => {
  const services = [
    srv('a.test', 0, 2),
    srv('b.test', 0, 4),
    srv('like-a.test', 0, 1),
    srv('a.test', 1, 7),
    srv('c.test', 2, 1),
  ]
  assert.deepEqual(short(endpointsOf(services, addressesOf)), [
    ['10.0.0.1:9000', 0, 3],
    ['10.0.0.2:9000', 0, 4],
    ['10.0.0.3:9000', 1, 1],
  ])
})

test('two ports of one address are two endpoints', () =>
  assert.deepEqual(short(endpointsOf([srv('a.test', 0, 1, 9001), srv('a.test', 0, 1, 9002)], addressesOf)), [
    ['10.0.0.1:9001', 0, 1],
    ['10.0.0.1:9002', 0, 1],
  ]))

test('32 endpoints at most, the same each time', () => {
  const endpoints = endpointsOf([srv('many.test', 0, 65_535), srv('a.test', 1, 1)], addressesOf)
  assert.equal(endpoints.length, 32)
  assert.deepEqual(
    endpoints,
    endpointsOf([srv('many.test', 0, 65_535)], (target) => addressesOf(target).toReversed()),
  )
})

test('a weight is an integer from 1 up, however small its part', () => {
  const endpoints = endpointsOf([srv('two.test', 0, 65_535), srv('a.test', 0, 0)], addressesOf)
  for (const { weight } of endpoints) assert.ok(Number.isInteger(weight) && weight >= 1, `${weight}`)
})
