import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { FakeCall } from '../../test/support/grpc-call.ts'
import { slowness } from '../../test/support/slowness.ts'
import { DEFAULT_SERVICE, routingRules, zonePolicy } from '../../test/support/zone-policy.ts'
import {
  codec,
  type DeltaDiscoveryRequest,
  type DeltaDiscoveryResponse,
  loadReporting,
} from '../grpc/protos.ts'
import { ZoneActivity } from '../status/zone-activity.ts'
import type { Timer, Timers } from '../timers.ts'
import { AdsService, adsDefinition } from './ads-service.ts'
import { Catalog, type ZonePolicy } from './catalog.ts'
import { LoadReportService, loadReportDefinition } from './load-report-service.ts'
import { KINDS, TYPE_URLS } from './resource.ts'

/** What one turn may take of the event loop, milliseconds of CPU; the aim is 20. */
const TURN_MS_MAX = 50
const RUNS_MAX = 3
/** As long as no machine takes. */
const UNTIL_MS_MAX = 150_000
/** What one Envoy may have kept. */
const GROWTH_MB_MAX = 16

setFlagsFromString('--expose-gc')
const collect = runInNewContext('gc') as () => void

const requests = codec<DeltaDiscoveryRequest>('envoy.service.discovery.v3.DeltaDiscoveryRequest')
const responses = codec<DeltaDiscoveryResponse>('envoy.service.discovery.v3.DeltaDiscoveryResponse')

const policyOf = (seconds: number): ZonePolicy =>
  zonePolicy({ timeout: { seconds }, connectSeconds: seconds })
const rules = routingRules([DEFAULT_SERVICE])

/** Node's timers, and the longest that one callback took of the CPU. */
class MeasuredTimers implements Timers {
  longestMs = 0
  steps = 0

  now(): number {
    return performance.now()
  }

  start(callback: () => void, milliseconds: number): Timer {
    const timeout = setTimeout(() => this.measure(callback), milliseconds)
    return { cancel: () => clearTimeout(timeout) }
  }

  measure(callback: () => void): void {
    this.steps += 1
    const before = process.threadCpuUsage()
    callback()
    const { user, system } = process.threadCpuUsage(before)
    this.longestMs = Math.max(this.longestMs, (user + system) / 1000)
  }
}

/** An Envoy that acknowledges whatever comes, each in a turn of its own. */
class Envoy extends FakeCall {
  answers = 0
  deaf = false
  readonly #timers: MeasuredTimers

  constructor(timers: MeasuredTimers) {
    super()
    this.#timers = timers
  }

  override write(message: unknown): void {
    if (this.deaf) return
    const { type_url, nonce } = responses.decode(message as Buffer)
    this.answers += 1
    this.say({ type_url, response_nonce: nonce })
  }

  say(request: DeltaDiscoveryRequest | Buffer): void {
    const octets = Buffer.isBuffer(request) ? request : requests.encode(request)
    setImmediate(() =>
      this.#timers.measure(() => {
        const { requestDeserialize } = adsDefinition.DeltaAggregatedResources
        this.emit('data', requestDeserialize(octets))
      }),
    )
  }
}

function scene(zones: number) {
  const timers = new MeasuredTimers()
  const catalog = new Catalog(policyOf(1), rules, 'e')
  for (let id = 0; id < zones; id++)
    catalog.publish(
      { service: 'default', id: String(id), addresses: ['10.0.0.1'], port: 1, staleAtMs: 9e9 },
      0,
    )
  const found: string[] = []
  const ads = new AdsService({
    catalog,
    timers,
    log: {
      info: () => undefined,
      warn: () => undefined,
      error: (fields) => assert.fail(JSON.stringify(fields)),
    },
    isTestedVersion: () => true,
    onAnswer: () => undefined,
    onBug: (error) => assert.fail(String(error)),
    onZonesFound(_, all) {
      for (const { key } of all) found.push(key)
    },
  })
  const connect = (): Envoy => {
    const envoy = new Envoy(timers)
    ads.handle(envoy as never)
    return envoy
  }
  return { timers, catalog, ads, found, connect }
}

/**
 * Runs something until its turns are short, three times at most: a turn that the code makes long comes again, one that the
 * machine makes long (a collection whose threads get no core) does not.
 */
async function assertShort(run: () => Promise<number>): Promise<void> {
  const seen: string[] = []
  while (seen.length < RUNS_MAX) {
    const [turnMs, factor] = [await run(), slowness()]
    if (turnMs <= TURN_MS_MAX * factor) return
    seen.push(`${turnMs} ms where the machine is ${factor} times slower`)
  }
  assert.fail(`the longest turns: ${seen.join(', ')}`)
}

const until = async (what: string, probe: () => boolean): Promise<void> => {
  const deadline = performance.now() + UNTIL_MS_MAX
  while (!probe()) {
    assert.ok(performance.now() < deadline, `not within ${UNTIL_MS_MAX} ms: ${what}`)
    await new Promise((tick) => setTimeout(tick, 10))
  }
}

test('a policy change at 10,000 zones and 50 Envoys holds the event loop for moments only', () =>
  assertShort(policyChange))

async function policyChange(): Promise<number> {
  const { timers, catalog, ads, connect } = scene(10_000)
  const versions = { cluster: {}, endpoints: {}, virtualHost: {} } as Record<string, Record<string, string>>
  for (const key of catalog.keys()) {
    const zone = catalog.zone(key)
    assert.ok(zone?.known)
    Object.assign(versions['cluster'] as object, { [key]: catalog.cluster(zone).version })
    Object.assign(versions['endpoints'] as object, { [key]: zone.known.resource.version })
    const host = catalog.virtualHosts.resource(zone.id, new Set(['default']))
    Object.assign(versions['virtualHost'] as object, { [host.name]: host.version })
  }
  // All say the same: encoded once.
  const hellos = KINDS.map((kind) =>
    requests.encode({
      type_url: TYPE_URLS[kind],
      initial_resource_versions: versions[kind] ?? {},
      ...(kind === 'endpoints' && { resource_names_subscribe: Object.keys(versions[kind] ?? {}) }),
    }),
  )
  const envoys = Array.from({ length: 50 }, connect)
  for (const envoy of envoys) for (const hello of hellos) envoy.say(hello)
  const held = () => ads.status().map(({ resources }) => KINDS.map((kind) => resources[kind].held).join())
  await until('all are known', () => held().every((counts) => counts === '10000,10000,10000'))
  const connectedMs = timers.longestMs
  timers.longestMs = 0
  timers.measure(() => catalog.setPolicy(policyOf(2), rules))
  await until('each Envoy has had some of it', () => envoys.every(({ answers }) => answers >= 6))
  ads.close()
  return Math.max(timers.longestMs, connectedMs)
}

test('100,000 zones that an Envoy brings along are taken in slices', () => assertShort(manyBrought))

async function manyBrought(): Promise<number> {
  const { timers, ads, found, connect } = scene(0)
  const envoy = connect()
  const versions = Object.fromEntries(
    Array.from({ length: 100_000 }, (_, id) => [`default/${id}`, 'version']),
  )
  for (const kind of ['cluster', 'endpoints'] as const)
    envoy.say({
      type_url: TYPE_URLS[kind],
      initial_resource_versions: versions,
      ...(kind === 'endpoints' && { resource_names_subscribe: Object.keys(versions) }),
    })
  await until('they are taken', () => ads.status()[0]?.resources.endpoints.held === 100_000)
  assert.equal(found.length, 100_000)
  ads.close()
  return timers.longestMs
}

describe('whatever one Envoy sends', () => {
  const { requestSerialize: packReport } = loadReporting.StreamLoadStats
  const manyNames = (count: number, make: (n: number) => string): string[] =>
    Array.from({ length: count }, (_, n) => make(n))
  const named = (names: string[]): Buffer =>
    requests.encode({ type_url: TYPE_URLS.endpoints, resource_names_subscribe: names })
  const discovery: readonly [what: string, octets: () => Buffer[]][] = [
    ['100,000 names', () => [named(manyNames(100_000, (n) => `default/${n}`))]],
    ['100,000 names that are no zones', () => [named(manyNames(100_000, (n) => `${n}`))]],
    [
      'names as long as may be, without end',
      () =>
        manyNames(40, (k) => `${k}`).map((k) =>
          named(manyNames(2_000, (n) => `${k}-${n}-${'x'.repeat(480)}`)),
        ),
    ],
    ['one name of 8 MB', () => [named(['x'.repeat(8_000_000)])]],
    ['8 MB that are no message', () => [Buffer.alloc(8_000_000, 0xff)]],
    ['8 MB of empty names', () => [Buffer.alloc(8_000_000, Buffer.from([0x1a, 0]))]],
    ['8 MB of fields that nobody knows', () => [Buffer.alloc(8_000_000, Buffer.from([0x7a, 0]))]],
    ['8 MB of types', () => [Buffer.alloc(8_000_000, Buffer.from([0x12, 0]))]],
    [
      '10,000 answers with nonces that were never given',
      () =>
        manyNames(10_000, (n) => `${n}`).map((response_nonce) =>
          requests.encode({ type_url: TYPE_URLS.cluster, response_nonce, error_detail: { message: 'no' } }),
        ),
    ],
    [
      '100,000 names without an answer for any kind',
      () =>
        KINDS.map((kind) =>
          requests.encode({
            type_url: TYPE_URLS[kind],
            resource_names_subscribe: manyNames(33_000, (n) => `default/${n}`),
          }),
        ),
    ],
  ]
  const reported = (count: number, name: (n: number) => string): Buffer =>
    packReport({
      cluster_stats: Array.from({ length: count }, (_, n) => ({
        cluster_name: name(n),
        upstream_locality_stats: [{ total_issued_requests: n }],
      })),
    })
  const loads: readonly [what: string, octets: () => Buffer][] = [
    ['a report of 100,000 zones', () => reported(100_000, (n) => `default/${n}`)],
    ['a report of 100,000 that are none', () => reported(100_000, (n) => `${n}/${n}/${n}`)],
    ['a report of one name of 8 MB', () => reported(1, () => 'x'.repeat(8_000_000))],
    ['a report that is none', () => Buffer.alloc(8_000_000, 0xff)],
    ['8 MB of fields of a report that nobody knows', () => Buffer.alloc(8_000_000, Buffer.from([0x7a, 0]))],
    ['8 MB of empty clusters', () => Buffer.alloc(8_000_000, Buffer.from([0x12, 0]))],
  ]
  const keeps = async (
    timers: MeasuredTimers,
    envoy: FakeCall,
    deserialize: (octets: Buffer) => unknown,
    make: () => Buffer[],
  ): Promise<number> => {
    // The sender's own copies are not what is measured.
    let octets = make()
    collect()
    const before = process.memoryUsage()
    for (const message of octets)
      timers.measure(() => {
        try {
          envoy.emit('data', deserialize(message))
        } catch (error) {
          assert.match(String(error), /Error/) // gRPC ends the stream: INTERNAL
        }
      })
    octets = []
    let steps = -1
    await until('all is read', () => {
      const idle = steps === timers.steps
      steps = timers.steps
      return idle
    })
    collect()
    const after = process.memoryUsage()
    const grown = (after.heapUsed - before.heapUsed + (after.external - before.external)) / 1e6
    assert.ok(grown <= GROWTH_MB_MAX, `${grown} MB`)
    return timers.longestMs
  }

  for (const [what, octets] of discovery)
    test(`${what}: no turn of the event loop is long, and little is kept`, () =>
      assertShort(async () => {
        const { timers, ads, connect } = scene(100)
        // It reads nothing, and so acknowledges nothing.
        const envoy = connect()
        envoy.deaf = true
        timers.longestMs = 0
        const { requestDeserialize } = adsDefinition.DeltaAggregatedResources
        const longestMs = await keeps(timers, envoy, requestDeserialize, octets)
        ads.close()
        return longestMs
      }))

  for (const [what, octets] of loads)
    test(`${what}: no turn of the event loop is long, and nothing is kept`, () =>
      assertShort(async () => {
        const timers = new MeasuredTimers()
        const activity = new ZoneActivity({ coldMax: 2000, idleMs: 1000 }, () => 0)
        const service = new LoadReportService({
          intervalMs: 5000,
          timers,
          onLoad: (envoy, key, load) => {
            const [named = '', id = ''] = key.split('/')
            activity.reported(envoy, { service: named, id }, load)
          },
          onBug: (error) => assert.fail(String(error)),
        })
        const call = new FakeCall()
        service.handle(call as never)
        const { requestDeserialize } = loadReportDefinition.StreamLoadStats
        const longestMs = await keeps(timers, call, requestDeserialize, () => [octets()])
        service.close()
        return longestMs
      }))
})
