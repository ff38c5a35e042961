import assert from 'node:assert/strict'
import { test } from 'node:test'
import { status } from '@grpc/grpc-js'
import { FakeCall } from '../../test/support/grpc-call.ts'
import { routingRules, zonePolicy } from '../../test/support/zone-policy.ts'
import { aggregatedDiscovery } from '../grpc/protos.ts'
import { PushCounts } from '../status/counts.ts'
import { AdsService } from './ads-service.ts'
import { Catalog } from './catalog.ts'
import { createControlPlane } from './control-plane.ts'
import { LoadReportService } from './load-report-service.ts'
import { TYPE_URLS } from './resource.ts'

const report = (name: string) => ({ node: { id: 'e' }, cluster_stats: [{ cluster_name: name }] })

test('an exception over one load report ends its stream, and no other', () => {
  const bugs: unknown[] = []
  const reported: string[] = []
  const service = new LoadReportService({
    intervalMs: 5000,
    timers: { now: () => 0, start: () => ({ cancel: () => undefined }) },
    onLoad: (_, key) => {
      if (key === 'default/bad') throw new Error('a bug')
      reported.push(key)
    },
    onBug: (error) => bugs.push(error),
  })
  const [one, other] = [new FakeCall(), new FakeCall()]
  service.handle(one as never)
  service.handle(other as never)
  one.emit('data', report('default/bad'))
  other.emit('data', report('default/1'))
  assert.equal(one.failed?.code, status.INTERNAL)
  assert.equal(one.failed?.details, 'internal error')
  assert.equal(bugs.length, 1)
  assert.equal(other.failed, undefined)
  assert.deepEqual(reported, ['default/1'])
})

const policy = zonePolicy()
const rules = routingRules([{ name: 'a', paths: [] }])
const emptyCatalog = (): Catalog => new Catalog(policy, rules, 'e')

test('each answer to a push is counted once, of 200 streams of one node that were opened in the same moment', () => {
  const pushes = new PushCounts()
  const catalog = emptyCatalog()
  const ads = new AdsService({
    catalog,
    timers: { now: () => 0, start: () => ({ cancel: () => undefined }) },
    log: { info: () => undefined, warn: () => undefined, error: () => assert.fail() },
    isTestedVersion: () => true,
    onZonesFound: () => undefined,
    onAnswer: (kind, answer) => pushes.count(kind, answer),
    onBug: assert.fail,
  })
  const calls = Array.from({ length: 200 }, () => new FakeCall())
  const type_url = TYPE_URLS.cluster
  for (const call of calls) {
    ads.handle(call as never)
    call.emit('data', { node: { id: 'e' }, type_url, resource_names_subscribe: ['*'] })
    const [sent] = call.written
    assert.ok(sent instanceof Buffer)
    const { nonce } = aggregatedDiscovery.DeltaAggregatedResources.responseDeserialize(sent)
    call.emit('data', { type_url, response_nonce: nonce })
    call.emit('close')
  }
  assert.deepEqual(pushes.totals.cluster, { acks: 200, nacks: 0 })
})

test('an Envoy that goes on naming resources is refused at a bound, and forgotten', () => {
  const catalog = emptyCatalog()
  const warnings: string[] = []
  const ads = new AdsService({
    catalog,
    timers: { now: () => 0, start: () => ({ cancel: () => undefined }) },
    log: { info: () => undefined, warn: (_, text) => warnings.push(text), error: () => assert.fail() },
    isTestedVersion: () => true,
    onZonesFound: () => undefined,
    onAnswer: () => undefined,
    onBug: assert.fail,
  })
  const call = new FakeCall()
  ads.handle(call as never)
  for (let batch = 0; batch < 21 && call.failed === undefined; batch++) {
    const names = Array.from({ length: 10_000 }, (_, at) => `a/${batch}-${at}`)
    call.emit('data', { type_url: TYPE_URLS.endpoints, resource_names_subscribe: names })
  }
  assert.equal(call.failed?.code, status.RESOURCE_EXHAUSTED)
  assert.deepEqual(warnings, ['an Envoy asked for too much; its stream was closed'])
  assert.deepEqual(ads.status(), [])
})

test('a closed control plane ends its streams, takes no others, and no timer of it is left', () => {
  let timers = 0
  const counted = {
    now: () => 0,
    start: () => {
      timers += 1
      let isOver = false
      return {
        cancel: () => {
          if (!isOver) timers -= 1
          isOver = true
        },
      }
    },
  }
  const log = { info: () => undefined, warn: () => undefined, error: () => assert.fail() }
  const plane = createControlPlane({
    policy,
    rules,
    events: { onZonesFound: assert.fail, onLoad: assert.fail, onAnswer: () => undefined },
    timers: counted,
    log,
    onBug: () => assert.fail,
    isTestedVersion: () => true,
    epoch: 'e',
    loadReportIntervalMs: 5000,
  })
  const handlers = [plane.ads.handle, plane.loads.handle]
  const connected = (): FakeCall[] =>
    handlers.map((handle) => {
      const call = new FakeCall()
      handle(call as never)
      return call
    })
  const before = connected()
  before[0]?.emit('data', { node: { id: 'e' }, type_url: TYPE_URLS.cluster, resource_names_subscribe: ['*'] })
  plane.close()
  for (const call of before) call.emit('close') // as gRPC does once a stream has ended
  assert.deepEqual(
    connected().map(({ failed }) => failed?.code),
    [status.UNAVAILABLE, status.UNAVAILABLE],
  )
  assert.deepEqual([plane.status().envoys, timers], [[], 0])
  before[0]?.emit('data', { type_url: TYPE_URLS.endpoints, resource_names_subscribe: ['a/1'] })
  assert.deepEqual([plane.status().envoys, timers], [[], 0])
})
