import assert from 'node:assert/strict'
import { EventEmitter } from 'node:events'
import { test } from 'node:test'
import { status } from '@grpc/grpc-js'
import { AdsService } from './ads-service.ts'
import { Catalog } from './catalog.ts'
import { LoadReportService } from './load-report-service.ts'
import { TYPE_URLS } from './resource.ts'

/** As much of a gRPC stream as the services touch. */
class FakeCall extends EventEmitter {
  readonly written: unknown[] = []
  failed: { code: number; details: string } | undefined

  constructor() {
    super()
    this.on('error', (error) => {
      this.failed = error
    })
  }

  write(message: unknown): void {
    this.written.push(message)
  }
}

const report = (name: string) => ({ node: { id: 'e' }, cluster_stats: [{ cluster_name: name }] })

test('an exception over one load report ends its stream, and no other', () => {
  const bugs: unknown[] = []
  const reported: string[] = []
  const service = new LoadReportService({
    intervalMs: 5000,
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

test('an Envoy that goes on naming resources is refused at a bound, and forgotten', () => {
  const catalog = new Catalog(
    { routes: { routeConfiguration: 'zonegate', coldRoutes: [] }, cluster: {} },
    {
      routeHeader: 'x',
      idHeader: 'y',
      methods: ['POST'],
      services: [{ name: 'a', paths: [] }],
      zoneName: () => '',
    },
    'e',
  )
  const warnings: string[] = []
  const ads = new AdsService({
    catalog,
    timers: { now: () => 0, start: () => ({ cancel: () => undefined }) },
    log: { info: () => undefined, warn: (_, text) => warnings.push(text), error: () => assert.fail() },
    isTestedVersion: () => true,
    drainMs: () => 0,
    onZonesFound: () => undefined,
  })
  const call = new FakeCall()
  ads.handle(call as never)
  for (let batch = 0; batch < 21 && call.failed === undefined; batch++) {
    const names = Array.from({ length: 10_000 }, (_, at) => `a/${batch}-${at}`)
    call.emit('data', { type_url: TYPE_URLS.endpoints, resource_names_subscribe: names })
  }
  assert.equal(call.failed?.code, status.RESOURCE_EXHAUSTED)
  assert.deepEqual(warnings, ['an Envoy asked for what no Envoy can need'])
  assert.deepEqual(ads.status(), [])
})
