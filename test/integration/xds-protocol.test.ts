import assert from 'node:assert/strict'
import { once } from 'node:events'
import { after, afterEach, before, describe, test } from 'node:test'
import {
  Client,
  type ClientDuplexStream,
  credentials,
  Server,
  ServerCredentials,
  type ServiceError,
} from '@grpc/grpc-js'
import {
  aggregatedDiscovery,
  type DeltaDiscoveryRequest,
  type DeltaDiscoveryResponse,
  type LoadStatsRequest,
  type LoadStatsResponse,
  loadReporting,
} from '../../src/grpc/protos.ts'
import { nodeTimers } from '../../src/timers.ts'
import { type ControlPlane, controlPlaneServices, createControlPlane } from '../../src/xds/control-plane.ts'
import type { ZoneLoad } from '../../src/xds/load-report-service.ts'
import { kindOf, TYPE_URLS } from '../../src/xds/resource.ts'
import { eventually } from '../support/processor.ts'
import { DEFAULT_SERVICE, routingRules, zonePolicy } from '../support/zone-policy.ts'

const policy = zonePolicy()
const rules = routingRules([DEFAULT_SERVICE])
const timers = nodeTimers(() => performance.now(), assert.fail)

/** A client that records what it is sent, and answers only when the test says so. */
class RecordingPeer {
  readonly received: DeltaDiscoveryResponse[] = []
  readonly #client: Client
  readonly #stream: ClientDuplexStream<DeltaDiscoveryRequest, DeltaDiscoveryResponse>
  #named = false

  constructor(port: number) {
    this.#client = new Client(`127.0.0.1:${port}`, credentials.createInsecure())
    const { path, requestSerialize, responseDeserialize } = aggregatedDiscovery.DeltaAggregatedResources
    this.#stream = this.#client.makeBidiStreamRequest(path, requestSerialize, responseDeserialize)
    this.#stream.on('data', (response: DeltaDiscoveryResponse) => this.received.push(response))
    this.#stream.on('error', () => undefined)
  }

  send(kind: keyof typeof TYPE_URLS, request: DeltaDiscoveryRequest = {}): void {
    // As Envoy does, only the first request of a stream says who asks.
    const node = this.#named ? {} : { node: { id: 'recording-peer' } }
    this.#named = true
    this.#stream.write({ ...node, type_url: TYPE_URLS[kind], ...request })
  }

  /** The next response, as `cluster default/1 -default/2`; waits for it. */
  async next(): Promise<string> {
    while (this.received.length === 0)
      await once(this.#stream, 'data', { signal: AbortSignal.timeout(60_000) })
    this.last = this.received.shift()
    const updated = (this.last?.resources ?? []).map(({ name }) => name).sort()
    const removed = (this.last?.removed_resources ?? []).map((name) => `-${name}`).sort()
    return [kindOf(this.last?.type_url), ...updated, ...removed].join(' ')
  }
  last: DeltaDiscoveryResponse | undefined

  versions(): Record<string, string> {
    return Object.fromEntries((this.last?.resources ?? []).map(({ name, version }) => [name, version]))
  }

  ack(more: DeltaDiscoveryRequest = {}): void {
    this.#stream.write({ ...this.#answer(), ...more })
  }

  nack(message: string): void {
    this.#stream.write({ ...this.#answer(), error_detail: { code: 13, message } })
  }

  #answer(): DeltaDiscoveryRequest {
    assert.ok(this.last, 'a response was read before')
    return { type_url: this.last.type_url, response_nonce: this.last.nonce }
  }

  /** True if nothing comes for a moment: in turns, as each of them gets through what has come meanwhile. */
  async isQuiet(): Promise<boolean> {
    for (let turn = 0; turn < 20; turn++) await new Promise((resolve) => setTimeout(resolve, 3))
    return this.received.length === 0
  }

  close(): void {
    this.#stream.cancel()
    this.#client.close()
  }
}

describe('the control plane, to a peer on loopback', () => {
  let server: Server
  let port: number
  let plane: ControlPlane
  let peers: RecordingPeer[] = []
  let found: string[] = []
  const loads: [string, string, ZoneLoad][] = []
  const logged: string[] = []
  const bugs: string[] = []

  before(async () => {
    const log = (fields: object, text: string) => void logged.push(`${text} ${JSON.stringify(fields)}`)
    plane = createControlPlane({
      policy,
      rules,
      timers,
      log: { info: log, warn: log, error: log },
      onBug: (place) => (error) => void bugs.push(`${place}: ${error}`),
      isTestedVersion: (version) => version === '1.40.0',
      epoch: 'test',
      loadReportIntervalMs: 1_500,
      events: {
        onZonesFound: (_, zones) => void found.push(...zones.map(({ key }) => key)),
        onLoad: (envoy, key, load) => {
          if (envoy === 'cursed') throw new Error('a bug')
          loads.push([envoy, key, load])
        },
        onAnswer: () => undefined,
      },
    })
    server = new Server()
    for (const [definition, implementation] of controlPlaneServices(() => plane))
      server.addService(definition, implementation)
    port = await new Promise((resolve, reject) => {
      server.bindAsync('127.0.0.1:0', ServerCredentials.createInsecure(), (error, bound) =>
        error ? reject(error) : resolve(bound),
      )
    })
  })
  after(() => server.forceShutdown())
  afterEach(async () => {
    for (const peer of peers) peer.close()
    await quiet()
    peers = []
    for (const key of [...plane.catalog.keys()]) plane.catalog.withdraw(key)
    found = []
    logged.length = 0
  })

  function connect(): RecordingPeer {
    const peer = new RecordingPeer(port)
    peers.push(peer)
    return peer
  }
  /** Waits until all streams have ended. */
  async function quiet(): Promise<void> {
    await eventually('all streams have ended', () => plane.status().envoys.length === 0)
  }
  function publish(id: string, address = '10.0.0.1'): void {
    const staleAtMs = timers.now() + 3_600_000
    plane.catalog.publish(
      { service: 'default', id, addresses: [address], port: 8101, staleAtMs },
      timers.now(),
    )
  }
  /** A peer that has been sent a zone and has acknowledged all of it, as Envoy does. */
  async function withZone(id: string): Promise<RecordingPeer> {
    const peer = connect()
    publish(id)
    peer.send('cluster')
    assert.equal(await peer.next(), `cluster default/${id}`)
    peer.ack()
    peer.send('endpoints', { resource_names_subscribe: [`default/${id}`] })
    assert.equal(await peer.next(), `endpoints default/${id}`)
    peer.ack()
    peer.send('virtualHost')
    assert.equal(await peer.next(), `virtualHost zonegate/${id}`)
    peer.ack()
    return peer
  }

  test('answers a wildcard at once, even without zones', async () => {
    const peer = connect()
    peer.send('cluster')
    assert.equal(await peer.next(), 'cluster')
    peer.ack()
    publish('1')
    assert.equal(await peer.next(), 'cluster default/1')
  })

  test('answers that there are no virtual hosts by the removal of one that nobody has', async () => {
    const peer = connect()
    peer.send('virtualHost')
    assert.equal(await peer.next(), 'virtualHost -zonegate/-')
    peer.ack()
  })

  test('sends named endpoints only to who names them, and says what does not exist', async () => {
    const peer = connect()
    publish('1')
    publish('2')
    peer.send('endpoints', { resource_names_subscribe: ['default/1', 'default/9'] })
    assert.equal(await peer.next(), 'endpoints default/1 -default/9')
    peer.ack({ resource_names_unsubscribe: ['default/1'] })
    publish('1', '10.0.0.2')
    assert.equal(await peer.isQuiet(), true)
    publish('9')
    assert.equal(await peer.next(), 'endpoints default/9')
  })

  test('keeps the order: endpoints after their cluster, the virtual host after both are acknowledged', async () => {
    const peer = connect()
    publish('1')
    peer.send('virtualHost')
    assert.equal(await peer.next(), 'virtualHost')
    peer.ack()
    peer.send('cluster')
    assert.equal(await peer.next(), 'cluster default/1')
    peer.ack()
    peer.send('endpoints', { resource_names_subscribe: ['default/1'] })
    assert.equal(await peer.next(), 'endpoints default/1')
    assert.equal(await peer.isQuiet(), true)
    peer.ack()
    assert.equal(await peer.next(), 'virtualHost zonegate/1')
  })

  // src/xds/rollout.test.ts tells how long, by a clock of its own.
  test('removes the virtual host, and keeps the cluster for requests that are under way', async () => {
    const peer = await withZone('1')
    plane.catalog.withdraw('default/1')
    assert.equal(await peer.next(), 'virtualHost -zonegate/1')
    peer.ack()
    assert.equal(await peer.isQuiet(), true)
  })

  test('tells the version of an Envoy, and warns once of one that it is not tested with', async () => {
    const version = (minor_number: number): DeltaDiscoveryRequest => ({
      node: {
        id: `minor-${minor_number}`,
        user_agent_build_version: { version: { major_number: 1, minor_number, patch: 0 } },
      },
    })
    publish('1')
    for (const minor of [40, 39]) {
      const peer = connect()
      peer.send('cluster', version(minor))
      await peer.next()
      peer.send('endpoints', { resource_names_subscribe: ['default/1'] })
      await peer.next()
    }
    assert.deepEqual(
      plane.status().envoys.map(({ envoy, version, testedVersion }) => [envoy, version, testedVersion]),
      [
        ['minor-40', '1.40.0', true],
        ['minor-39', '1.39.0', false],
      ],
    )
    assert.deepEqual(
      logged.filter((line) => line.includes('not tested')),
      ['this release is not tested with that version of Envoy {"envoy":"minor-39","version":"1.39.0"}'],
    )
  })

  test('logs a NACK with the words of the peer, lets what it refused rest, and recovers with the next version', async () => {
    const peer = connect()
    publish('1')
    peer.send('endpoints', { resource_names_subscribe: ['default/1'] })
    assert.equal(await peer.next(), 'endpoints default/1')
    peer.nack('malformed IP address')
    assert.equal(await peer.isQuiet(), true)
    await eventually('it is logged', () => /refuses a resource.*malformed IP address/.test(logged.join('\n')))
    const [envoy] = plane.status().envoys
    assert.equal(envoy?.lastRejection, 'malformed IP address')
    assert.deepEqual([envoy?.resources.endpoints.nacks, envoy?.resources.endpoints.rejected], [1, 1])
    publish('1', '10.0.0.2')
    assert.equal(await peer.next(), 'endpoints default/1')
    peer.ack()
    await eventually('it is accepted', () => plane.status().envoys[0]?.resources.endpoints.rejected === 0)
    assert.equal(await peer.isQuiet(), true)
  })

  test('does not take an answer with the nonce of an old response for one to the latest', async () => {
    const peer = connect()
    publish('1')
    peer.send('endpoints', { resource_names_subscribe: ['default/1'] })
    await peer.next()
    const old = peer.last?.nonce as string
    peer.ack()
    publish('1', '10.0.0.2')
    await peer.next()
    peer.send('endpoints', { response_nonce: old })
    publish('1', '10.0.0.3')
    assert.equal(await peer.isQuiet(), true, 'the response before is still to be acknowledged')
    peer.ack()
    assert.equal(await peer.next(), 'endpoints default/1')
  })

  test('sends a slow peer the latest state alone', async () => {
    const peer = connect()
    publish('1')
    peer.send('endpoints', { resource_names_subscribe: ['default/1'] })
    await peer.next()
    for (let address = 2; address < 100; address++) publish('1', `10.0.0.${address}`)
    assert.equal(await peer.isQuiet(), true)
    peer.ack()
    await peer.next()
    const [resource] = peer.last?.resources ?? []
    assert.ok(resource?.resource && 'value' in resource.resource)
    const { value } = resource.resource as { value: Buffer }
    assert.ok(value.includes('10.0.0.99'))
    peer.ack()
    assert.equal(await peer.isQuiet(), true)
  })

  test('sends a peer that reconnects with its versions only what has changed, and removals', async () => {
    const peer = await withZone('1')
    const hosts = peer.versions()
    peer.close()
    publish('2')
    const again = connect()
    again.send('virtualHost', { initial_resource_versions: { ...hosts, 'zonegate/3': 'old' } })
    assert.equal(await again.next(), 'virtualHost -zonegate/3')
    again.ack()
    again.send('cluster', { initial_resource_versions: { 'default/1': 'old' } })
    assert.equal(await again.next(), 'cluster default/1 default/2')
    assert.deepEqual(found, [])
  })

  test('takes over the zones of an unknown peer, until they are published or withdrawn', async () => {
    const peer = connect()
    const zones = { 'default/7': 'old', 'default/8': 'old' }
    peer.send('cluster', { initial_resource_versions: zones })
    assert.equal(await peer.next(), 'cluster')
    peer.ack()
    peer.send('virtualHost', { initial_resource_versions: { 'zonegate/7': 'old', 'zonegate/8': 'old' } })
    assert.equal(await peer.next(), 'virtualHost')
    peer.ack()
    peer.send('endpoints', { resource_names_subscribe: Object.keys(zones), initial_resource_versions: zones })
    // Its virtual hosts are brought up to date, which needs no address.
    assert.equal(await peer.next(), 'virtualHost zonegate/7 zonegate/8')
    peer.ack()
    assert.deepEqual(found.sort(), ['default/7', 'default/8'])
    assert.equal(await peer.isQuiet(), true)
    publish('7')
    assert.equal(await peer.next(), 'cluster default/7')
    peer.ack()
    assert.equal(await peer.next(), 'endpoints default/7')
    plane.catalog.withdraw('default/8')
    assert.equal(await peer.next(), 'virtualHost -zonegate/8')
  })

  test('sends clusters and virtual hosts in turns', async () => {
    const peer = await withZone('1')
    publish('2')
    assert.equal(await peer.next(), 'cluster default/2')
    plane.catalog.withdraw('default/1')
    assert.equal(await peer.isQuiet(), true)
    peer.ack()
    assert.equal(await peer.next(), 'virtualHost -zonegate/1')
    publish('3')
    assert.equal(await peer.isQuiet(), true)
    peer.ack()
    assert.equal(await peer.next(), 'cluster default/3')
  })

  test('keeps peers apart: each with its own subscriptions and acknowledgements', async () => {
    const [one, two] = [await withZone('1'), connect()]
    two.send('cluster')
    assert.equal(await two.next(), 'cluster default/1')
    publish('2')
    assert.equal(await one.next(), 'cluster default/2')
    assert.equal(await two.isQuiet(), true)
    two.ack()
    assert.equal(await two.next(), 'cluster default/2')
    assert.equal(plane.status().envoys.length, 2)
  })

  test('forgets a peer that has gone', async () => {
    const peer = await withZone('1')
    peer.close()
    await quiet()
    assert.equal(plane.status().envoys.length, 0)
    publish('2')
  })

  test('tells a load reporter to report all clusters, and passes on what it reports of zones', async () => {
    const client = new Client(`127.0.0.1:${port}`, credentials.createInsecure())
    const { path, requestSerialize, responseDeserialize } = loadReporting.StreamLoadStats
    const stream = client.makeBidiStreamRequest<LoadStatsRequest, LoadStatsResponse>(
      path,
      requestSerialize,
      responseDeserialize,
    )
    stream.on('error', () => undefined)
    stream.write({ node: { id: 'reporter' } })
    const [response] = (await once(stream, 'data')) as [LoadStatsResponse]
    assert.equal(response.send_all_clusters, true)
    assert.deepEqual(response.load_reporting_interval, { seconds: 1, nanos: 500_000_000 })
    stream.write({
      cluster_stats: [
        {
          cluster_name: 'default/1',
          upstream_locality_stats: [
            { total_issued_requests: 5, total_error_requests: 1 },
            { total_requests_in_progress: 3 },
          ],
        },
        { cluster_name: 'default/2' },
        { cluster_name: 'processor' },
      ],
    })
    await eventually('both are told', () => loads.length >= 2)
    assert.deepEqual(loads, [
      ['reporter', 'default/1', { requests: 8, errors: 1 }],
      ['reporter', 'default/2', { requests: 0, errors: 0 }],
    ])
    stream.cancel()
    client.close()
  })

  test('an exception in one load report ends that stream alone', async () => {
    const client = new Client(`127.0.0.1:${port}`, credentials.createInsecure())
    const { path, requestSerialize, responseDeserialize } = loadReporting.StreamLoadStats
    const report = (id: string) => {
      const stream = client.makeBidiStreamRequest<LoadStatsRequest, LoadStatsResponse>(
        path,
        requestSerialize,
        responseDeserialize,
      )
      stream.on('data', () => undefined)
      stream.write({ node: { id }, cluster_stats: [{ cluster_name: 'default/9' }] })
      return stream
    }
    const other = report('other')
    await once(other, 'data')
    const failed = report('cursed')
    const code = await new Promise((resolve) => {
      failed.on('error', (error: ServiceError) => resolve(error.code))
    })
    assert.equal(code, 13)
    assert.deepEqual(bugs, ['load_report: Error: a bug'])
    const before = loads.length
    other.write({ cluster_stats: [{ cluster_name: 'default/9' }] })
    await eventually('it is told', () => loads.length > before)
    assert.deepEqual(loads.at(-1)?.slice(0, 2), ['other', 'default/9'])
    other.on('error', () => undefined)
    other.cancel()
    client.close()
  })

  test('ends the streams when it closes', async () => {
    const peer = await withZone('1')
    plane.close()
    await quiet()
    assert.equal(plane.status().envoys.length, 0)
    assert.equal(await peer.isQuiet(), true)
  })
})
