import assert from 'node:assert/strict'
import { beforeEach, describe, test } from 'node:test'
import fc from 'fast-check'
import {
  DEFAULT_SERVICE,
  DRAIN_MS,
  MAIL_SERVICE,
  routingRules,
  zonePolicy,
} from '../../test/support/zone-policy.ts'
import type { DeltaDiscoveryRequest } from '../grpc/protos.ts'
import { Catalog } from './catalog.ts'
import type { DeltaResponse } from './delta-response.ts'
import { messageCodec } from './envoy-api.ts'
import { ZONE_OF_KEY } from './learned-routes.ts'
import type { VirtualHost } from './messages.ts'
import { REFUSED_MS } from './refusals.ts'
import {
  type Kind,
  kindOf,
  MESSAGE_NAMES,
  parseZoneKey,
  type Resource,
  TYPE_URLS,
  type ZoneKey,
} from './resource.ts'
import { Rollout } from './rollout.ts'
import type { RoutingRules } from './routing-rules.ts'

// The same cases each time: what is drawn at random fails at random. `npm run fuzz` draws others.
fc.configureGlobal({ seed: 1 })

const HOUR_MS = 3_600_000

const policy = zonePolicy()
const rules = routingRules([MAIL_SERVICE, DEFAULT_SERVICE])

const inMaintenance: RoutingRules['said'] = (service, id) =>
  service === 'default' && id === '7'
    ? { answer: { status: 503, text: 'x', retryAfterSeconds: null } }
    : undefined

/** By which many ids have their routes in one virtual host. */
const sharing: RoutingRules = {
  ...rules,
  rules: rules.rules.map((rule) => ({ ...rule, zoneOfKey: ZONE_OF_KEY })),
}

const byTls: RoutingRules = {
  ...rules,
  rules: rules.rules.map((rule) => ({
    ...rule,
    services: rule.services.map((service) => ({
      ...service,
      upstream: {
        cluster: 'zones.tls.1',
        http: 1,
        tls: { ca: { name: 'ca', path: 'ca.yaml' }, client: null },
      },
    })),
  })),
  serverName: rules.zoneName,
}

/**
 * Envoy as far as xDS goes: subscribes to the endpoints of its clusters, and acknowledges a cluster only when its
 * endpoints have come. Requests are queued until the test lets them through.
 */
class SimulatedEnvoy {
  readonly clusters = new Map<string, string>()
  readonly endpoints = new Map<string, string>()
  /** With the clusters that they lead to. */
  readonly virtualHosts = new Map<string, { version: string; clusters: string[] }>()
  /** Requests on their way to the control plane. */
  requests: DeltaDiscoveryRequest[] = []
  /** A breach of make-before-break, seen while a response was applied. */
  faults: string[] = []
  /** Refuses resources of these names. */
  refuses = new Set<string>()
  /** Refuses a virtual host with one of these domains. */
  refusesDomains = new Set<string>()
  #warming = new Set<string>()
  #clusterAck: DeltaDiscoveryRequest | undefined

  connect(): void {
    this.#warming.clear()
    this.#clusterAck = undefined
    this.requests = [this.#hello('cluster', this.clusters), this.#hello('virtualHost', this.#hostVersions())]
    if (this.clusters.size > 0) {
      const names = [...this.clusters.keys()]
      this.requests.push({ ...this.#hello('endpoints', this.endpoints), resource_names_subscribe: names })
    }
  }

  apply(response: DeltaResponse): void {
    const kind = kindOf(response.typeUrl) as Kind
    const answer = { type_url: response.typeUrl, response_nonce: response.nonce }
    const domains = [...this.refusesDomains]
    const refused = response.updated.some(
      (resource) =>
        this.refuses.has(resource.name) ||
        (domains.length > 0 && domainsOf(resource).some((domain) => domains.includes(domain))),
    )
    if (refused) this.requests.push({ ...answer, error_detail: { message: 'refused' } })
    // Of clusters and endpoints Envoy takes over what is acceptable, of virtual hosts none.
    const updated = response.updated.filter(({ name }) => !this.refuses.has(name))
    const { removed } = response
    // A cluster whose endpoints it refuses waits for them no longer.
    if (kind === 'endpoints') for (const { name } of response.updated) this.#warming.delete(name)
    if (kind === 'cluster') this.#applyClusters(updated, removed, refused ? undefined : answer)
    else if (kind === 'endpoints') this.#applyEndpoints(updated, removed, refused ? undefined : answer)
    else if (!refused) this.#applyVirtualHosts(updated, removed, answer)
    this.#check()
  }

  #applyClusters(
    updated: readonly { name: string; version: string }[],
    removed: readonly string[],
    answer: DeltaDiscoveryRequest | undefined,
  ): void {
    const fresh = updated.filter(({ name }) => !this.clusters.has(name)).map(({ name }) => name)
    for (const { name, version } of updated) {
      this.clusters.set(name, version)
      this.#warming.add(name)
    }
    for (const name of removed) {
      this.clusters.delete(name)
      this.endpoints.delete(name)
      this.#warming.delete(name)
    }
    if (fresh.length > 0 || removed.length > 0) {
      this.requests.push({
        type_url: TYPE_URLS.endpoints,
        resource_names_subscribe: fresh,
        resource_names_unsubscribe: [...removed],
      })
    }
    this.#clusterAck = answer
    this.#acknowledgeClusters()
  }

  #applyEndpoints(
    updated: readonly { name: string; version: string }[],
    removed: readonly string[],
    answer: DeltaDiscoveryRequest | undefined,
  ): void {
    for (const { name, version } of updated) {
      if (!this.clusters.has(name)) continue
      this.endpoints.set(name, version)
      this.#warming.delete(name)
    }
    for (const name of removed) this.#warming.delete(name)
    if (answer !== undefined) this.requests.push(answer)
    this.#acknowledgeClusters()
  }

  #applyVirtualHosts(
    updated: readonly Resource[],
    removed: readonly string[],
    answer: DeltaDiscoveryRequest,
  ): void {
    for (const resource of updated) {
      const { name, version } = resource
      this.virtualHosts.set(name, { version, clusters: clustersOf(resource) })
    }
    for (const name of removed) this.virtualHosts.delete(name)
    const ids = new Set<string | undefined>()
    const twice: string[] = []
    for (const [name, { clusters }] of this.virtualHosts)
      for (const id of new Set(clusters.map((cluster) => cluster.split('/')[1]))) {
        if (ids.has(id)) twice.push(`${id} ${name}`)
        ids.add(id)
      }
    if (twice.length > 0) this.faults.push(`domains that stand twice: ${twice}`)
    this.requests.push(answer)
  }

  #acknowledgeClusters(): void {
    if (this.#clusterAck === undefined || this.#warming.size > 0) return
    this.requests.push(this.#clusterAck)
    this.#clusterAck = undefined
  }

  #check(): void {
    for (const [name, { clusters }] of this.virtualHosts) {
      for (const key of clusters) {
        if (!this.clusters.has(key)) this.faults.push(`${name} leads to ${key}, which is no cluster`)
        if (!this.endpoints.has(key)) this.faults.push(`${name} leads to ${key}, which has no endpoints`)
      }
    }
  }

  #hello(kind: Kind, versions: ReadonlyMap<string, string>): DeltaDiscoveryRequest {
    return { type_url: TYPE_URLS[kind], initial_resource_versions: Object.fromEntries(versions) }
  }

  #hostVersions(): Map<string, string> {
    return new Map([...this.virtualHosts].map(([name, { version }]) => [name, version]))
  }
}

const { decode } = messageCodec<VirtualHost>(MESSAGE_NAMES.virtualHost)

function domainsOf(resource: Resource): readonly string[] {
  return resource.name.startsWith('zonegate/') ? (decode(resource.encode(0)).domains ?? []) : []
}

/** What the routes of a virtual host lead to; those that read the zone from the key, to that of each domain. */
function clustersOf(resource: Resource): string[] {
  const { routes = [], domains = [] } = decode(resource.encode(0))
  return routes.flatMap(({ route }) =>
    route?.cluster_specifier_plugin === ZONE_OF_KEY
      ? domains.map((domain) => `default/${domain.split('/')[1]}`)
      : (route?.cluster ?? []),
  )
}

/** A catalogue, one Envoy and the rollout between them, with time that the test moves. */
class Scene {
  catalog: Catalog
  rollout: Rollout
  #rules: RoutingRules
  readonly envoy = new SimulatedEnvoy()
  /** Responses on their way to Envoy. */
  responses: DeltaResponse[] = []
  nowMs = 0
  /** Kinds in the order in which responses with content were sent, such as `cluster a/1`. */
  sent: string[] = []
  nacks = 0
  #disconnect: () => void = () => undefined
  #processes = 0

  constructor(by = rules) {
    this.#rules = by
    this.catalog = new Catalog(policy, by, 'p0')
    this.rollout = new Rollout(this.catalog)
    this.connect()
  }

  connect(): void {
    this.#disconnect()
    this.responses = []
    const rollout = new Rollout(this.catalog)
    this.rollout = rollout
    this.#disconnect = this.catalog.onChange((change) => change(rollout))
    this.envoy.connect()
  }

  restartProcessor(by = this.#rules): void {
    this.#processes += 1
    this.#rules = by
    this.catalog = new Catalog(policy, this.#rules, `p${this.#processes}`)
    this.connect()
  }

  publish(key: string, addresses: string | readonly string[] = '10.0.0.1', goodForMs = HOUR_MS): void {
    const { service, id } = parseZoneKey(key) as { service: string; id: string }
    const zone = { service, id, addresses: [addresses].flat(), port: 8101, staleAtMs: this.nowMs + goodForMs }
    this.catalog.publish(zone, this.nowMs)
  }

  withdraw(key: string): void {
    this.catalog.withdraw(key as ZoneKey)
  }

  /** One request, if there is one, and what is due. */
  step(): void {
    const request = this.envoy.requests.shift()
    if (request !== undefined) {
      const event = this.rollout.receive(request, this.nowMs)
      if (event?.received.kind === 'nack') this.nacks += 1
      for (const zone of event?.found ?? []) this.catalog.adopt(zone)
    }
    for (const response of this.rollout.next(this.nowMs)) {
      this.responses.push(response)
      const kind = kindOf(response.typeUrl)
      for (const { name } of response.updated) this.sent.push(`${kind} ${name}`)
      for (const name of response.removed) this.sent.push(`${kind} -${name}`)
    }
  }

  deliver(): void {
    const response = this.responses.shift()
    if (response !== undefined) this.envoy.apply(response)
  }

  /** Lets everything happen that can happen without time passing. */
  settle(): void {
    for (let round = 0; round < 1_000; round++) {
      this.step()
      this.deliver()
      if (this.envoy.requests.length === 0 && this.responses.length === 0) return
    }
    assert.fail('never settles')
  }

  /** Lets time pass, and everything happen that happens in it. */
  pass(ms: number): void {
    const untilMs = this.nowMs + ms
    for (let round = 0; round < 1_000; round++) {
      this.settle()
      const wakeAtMs = this.rollout.wakeAtMs()
      if (wakeAtMs === undefined || wakeAtMs > untilMs) break
      this.nowMs = Math.max(this.nowMs + 1, wakeAtMs)
    }
    this.nowMs = untilMs
    this.settle()
  }

  hot(): string[] {
    return [...this.envoy.virtualHosts.values()].flatMap(({ clusters }) => clusters).sort()
  }
}

describe('a rollout', () => {
  let scene: Scene
  beforeEach(() => {
    scene = new Scene()
    scene.pass(1_000)
    assert.deepEqual(
      scene.sent,
      ['virtualHost -zonegate/-'],
      'an Envoy that starts is told that there is nothing',
    )
    scene.sent = []
  })

  const CHANGES: [how: string, change: (to: RoutingRules) => void][] = [
    ['live', (to) => scene.catalog.setPolicy(policy, to)],
    ['by another processor', (to) => scene.restartProcessor(to)],
  ]
  for (const [how, change] of CHANGES)
    for (const [from, to, title] of [
      [rules, byTls, 'plain text to TLS'],
      [byTls, rules, 'TLS to plain text'],
    ] as const)
      test(`from ${title}, ${how}: no request goes to the address of the other`, () => {
        scene.restartProcessor(from)
        scene.publish('default/1', '10.0.0.1')
        scene.pass(1_000)
        assert.deepEqual(scene.hot(), ['default/1'])
        const was = scene.envoy.clusters.get('default/1')
        const endpoints = scene.envoy.endpoints.get('default/1')
        change(to)
        for (let round = 0; round < 100; round++) {
          scene.step()
          // Its clusters are known by then, and its virtual hosts are not.
          if (round === 0) scene.publish('default/1', '10.0.0.2')
          scene.deliver()
          if (scene.hot().length > 0 && scene.envoy.clusters.get('default/1') === was)
            assert.equal(scene.envoy.endpoints.get('default/1'), endpoints, `round ${round}`)
          scene.nowMs += 10
        }
        scene.pass(10_000)
        assert.deepEqual(scene.hot(), ['default/1'])
        assert.notEqual(scene.envoy.clusters.get('default/1'), was)
        assert.notEqual(scene.envoy.endpoints.get('default/1'), endpoints)
      })

  test('sends a zone in the order cluster, endpoints, virtual host', () => {
    scene.publish('default/1')
    scene.pass(0)
    assert.deepEqual(scene.sent, ['cluster default/1', 'endpoints default/1', 'virtualHost zonegate/1'])
    assert.deepEqual(scene.hot(), ['default/1'])
  })

  test('sends a virtual host only when its endpoints are acknowledged', () => {
    scene.publish('default/1')
    scene.step() // cluster
    scene.deliver()
    scene.step() // subscription of endpoints, endpoints
    assert.equal(scene.responses.length, 1)
    scene.step()
    assert.deepEqual(scene.sent, ['cluster default/1', 'endpoints default/1'])
    scene.settle()
    assert.deepEqual(scene.sent.slice(2), ['virtualHost zonegate/1'])
  })

  test('withdraws the virtual host first, and the cluster a drain later', () => {
    scene.publish('default/1')
    scene.pass(1_000)
    scene.sent = []
    scene.withdraw('default/1')
    scene.pass(DRAIN_MS - 1)
    assert.deepEqual(scene.sent, ['virtualHost -zonegate/1'])
    scene.pass(1)
    assert.deepEqual(scene.sent, ['virtualHost -zonegate/1', 'cluster -default/1'])
    assert.equal(scene.envoy.clusters.size, 0)
  })

  const drainOf = (requestTimeoutMs: number | undefined): number => {
    const { routes, cluster } = policy
    scene.catalog.setPolicy(
      { routes, cluster, ...(requestTimeoutMs !== undefined && { requestTimeoutMs }) },
      rules,
    )
    scene.publish('default/1')
    scene.pass(1_000)
    scene.withdraw('default/1')
    scene.pass(0)
    for (let passed = 0; ; passed += 1_000) {
      if (!scene.envoy.clusters.has('default/1')) return passed
      scene.pass(1_000)
    }
  }

  test('drains as long as a request may take to arrive, for a minute to an hour', () => {
    assert.equal(drainOf(500), 60_000)
    assert.equal(drainOf(90_000), 90_000)
    assert.equal(drainOf(900_000), 900_000)
    assert.equal(drainOf(10 * HOUR_MS), HOUR_MS)
    assert.equal(drainOf(undefined), HOUR_MS)
  })

  test('keeps the cluster of a zone that comes back while it drains', () => {
    scene.publish('default/1')
    scene.pass(1_000)
    scene.withdraw('default/1')
    scene.pass(DRAIN_MS / 2)
    scene.publish('default/1')
    scene.pass(10 * DRAIN_MS)
    assert.deepEqual(scene.hot(), ['default/1'])
    assert.equal(scene.sent.includes('cluster -default/1'), false)
  })

  test('gives an id one virtual host with the services that are ready', () => {
    scene.publish('default/1')
    scene.pass(1_000)
    scene.publish('mail/1')
    scene.pass(1_000)
    assert.deepEqual(scene.hot(), ['default/1', 'mail/1'])
    scene.withdraw('default/1')
    scene.pass(1_000)
    assert.deepEqual(scene.hot(), ['mail/1'])
    assert.deepEqual(scene.envoy.faults, [])
  })

  test('withdraws one service at once while another of the same id is not ready yet', () => {
    scene.publish('mail/1')
    scene.pass(1_000)
    scene.envoy.refuses.add('default/1')
    scene.publish('default/1')
    scene.withdraw('mail/1')
    scene.pass(0)
    assert.deepEqual(scene.hot(), [])
  })

  test('an address change touches only the endpoints', () => {
    scene.publish('default/1', '10.0.0.1')
    scene.pass(1_000)
    scene.sent = []
    scene.publish('default/1', '10.0.0.2')
    scene.pass(1_000)
    assert.deepEqual(scene.sent, ['endpoints default/1'])
  })

  test('the same addresses are sent again when less than three quarters of their time are left', () => {
    scene.publish('default/1', '10.0.0.1', HOUR_MS)
    scene.pass(HOUR_MS / 4)
    scene.sent = []
    scene.publish('default/1', '10.0.0.1', HOUR_MS)
    scene.pass(0)
    assert.deepEqual(scene.sent, [])
    scene.pass(1)
    scene.publish('default/1', '10.0.0.1', HOUR_MS)
    scene.pass(0)
    assert.deepEqual(scene.sent, ['endpoints default/1'])
  })

  test('the same addresses are sent again when they are good for another time: without an end, and with one again', () => {
    for (const goodForMs of [HOUR_MS, Number.POSITIVE_INFINITY, HOUR_MS]) {
      scene.sent = []
      scene.publish('default/1', '10.0.0.1', goodForMs)
      scene.pass(0)
      assert.deepEqual(
        scene.sent.at(-1),
        scene.sent.length > 1 ? 'virtualHost zonegate/1' : 'endpoints default/1',
      )
      scene.sent = []
      scene.publish('default/1', '10.0.0.1', goodForMs)
      scene.pass(0)
      assert.deepEqual(scene.sent, [])
    }
  })

  test('a zone in maintenance has a virtual host and no cluster, and gives it back', () => {
    scene.catalog.setPolicy(policy, { ...rules, said: inMaintenance })
    scene.catalog.adopt({ service: 'default', id: '7' })
    scene.pass(1_000)
    assert.deepEqual(scene.sent, ['virtualHost zonegate/7'])
    scene.withdraw('default/7')
    scene.pass(1_000)
    assert.equal(scene.envoy.virtualHosts.size, 0)
    assert.deepEqual(scene.envoy.faults, [])
  })

  test('a changed policy sends clusters, their endpoints and virtual hosts', () => {
    scene.publish('default/1')
    scene.pass(1_000)
    scene.sent = []
    const { routes } = policy
    scene.catalog.setPolicy(
      {
        routes: {
          ...routes,
          coldRoutes: routes.coldRoutes.map((route) => ({ ...route, response_headers_to_remove: ['x'] })),
        },
        cluster: { connect_timeout: { seconds: 2 } },
      },
      rules,
    )
    scene.pass(1_000)
    assert.deepEqual(scene.sent.sort(), [
      'cluster default/1',
      'endpoints default/1',
      'virtualHost zonegate/1',
    ])
  })

  test('a zone that is reached in another way loses its route first, and has no address of the other way meanwhile', () => {
    scene.publish('default/1')
    scene.publish('mail/1')
    scene.pass(1_000)
    const tls: RoutingRules = {
      ...rules,
      rules: rules.rules.map((rule) => ({
        ...rule,
        services: rule.services.map((service) =>
          service.name === 'default'
            ? { ...service, upstream: { cluster: 'zones.http2', http: 2, tls: null } }
            : service,
        ),
      })),
    }
    for (const by of [tls, rules]) {
      scene.sent = []
      scene.catalog.setPolicy(policy, by)
      scene.publish('default/1', by === tls ? '10.0.0.2' : '10.0.0.1')
      scene.pass(1_000)
      const ofZone = scene.sent.filter((sent) => !sent.includes('mail'))
      assert.deepEqual(ofZone, [
        'virtualHost zonegate/1', // mail alone
        'cluster default/1',
        'endpoints default/1',
        'virtualHost zonegate/1',
      ])
      assert.deepEqual(scene.hot(), ['default/1', 'mail/1'])
    }
  })

  test('a second address sends another cluster with its endpoints, once and no routes', () => {
    scene.publish('default/1')
    scene.pass(1_000)
    const steps = [['10.0.0.1', '10.0.0.2'], ['10.0.0.2'], ['10.0.0.2', '10.0.0.3']]
    const sent = steps.map((addresses) => {
      scene.sent = []
      scene.publish('default/1', addresses)
      scene.pass(1_000)
      return scene.sent.sort()
    })
    assert.deepEqual(sent, [
      ['cluster default/1', 'endpoints default/1'],
      ['endpoints default/1'],
      ['endpoints default/1'],
    ])
    assert.deepEqual(scene.hot(), ['default/1'])
  })

  test('pushes routes at most every 100 ms', () => {
    scene.publish('default/1')
    scene.pass(0)
    scene.publish('default/2')
    scene.publish('default/3')
    scene.pass(99)
    assert.deepEqual(scene.hot(), ['default/1'])
    scene.pass(1)
    assert.deepEqual(scene.hot(), ['default/1', 'default/2', 'default/3'])
  })

  test('pushes routes at most every five times as long as Envoy took for the last push', () => {
    scene.publish('default/1')
    for (let round = 0; round < 10 && !scene.sent.includes('virtualHost zonegate/1'); round++) {
      scene.step()
      scene.deliver()
    }
    scene.nowMs += 200 // Envoy is busy
    scene.settle()
    scene.publish('default/2')
    scene.pass(799)
    assert.deepEqual(scene.hot(), ['default/1'])
    scene.pass(1)
    assert.deepEqual(scene.hot(), ['default/1', 'default/2'])
  })

  test('a refused virtual host leaves the zone cold, and the others hot', () => {
    scene.publish('default/1')
    scene.pass(1_000)
    scene.envoy.refuses.add('zonegate/2')
    scene.publish('default/2')
    scene.pass(1_000)
    assert.deepEqual(scene.hot(), ['default/1'])
    scene.publish('default/3')
    scene.pass(1_000)
    assert.deepEqual(scene.hot(), ['default/1', 'default/3'])
  })

  describe('after a reconnect', () => {
    test('to the same processor sends nothing that Envoy has', () => {
      scene.publish('default/1')
      scene.pass(1_000)
      scene.sent = []
      scene.connect()
      scene.pass(1_000)
      assert.deepEqual(scene.sent, [])
    })

    test('to a restarted processor leaves all zones until they are published or withdrawn', () => {
      for (const key of ['default/1', 'mail/1', 'default/2']) scene.publish(key)
      scene.pass(1_000)
      scene.sent = []
      scene.restartProcessor()
      scene.pass(10 * DRAIN_MS)
      assert.deepEqual(scene.sent, [])
      assert.deepEqual(scene.hot(), ['default/1', 'default/2', 'mail/1'])
      assert.deepEqual([...scene.catalog.keys()].sort(), ['default/1', 'default/2', 'mail/1'])

      scene.publish('default/1')
      scene.withdraw('default/2')
      scene.pass(10 * DRAIN_MS)
      assert.deepEqual(scene.sent, ['endpoints default/1', 'virtualHost -zonegate/2', 'cluster -default/2'])
      assert.deepEqual(scene.hot(), ['default/1', 'mail/1'])
    })

    test('removes what is no zone of these rules', () => {
      scene.envoy.clusters.set('other/1', 'v')
      scene.envoy.clusters.set('no/zone/here', 'v')
      scene.connect()
      scene.pass(2 * DRAIN_MS)
      assert.deepEqual([...scene.envoy.clusters.keys()], [])
    })
  })

  test('asked for another type, says so', () => {
    const request = { type_url: 'type.googleapis.com/envoy.config.listener.v3.Listener' }
    assert.equal(scene.rollout.receive(request, 0), undefined)
  })
})

const key = fc.constantFrom('default/1', 'mail/1', 'default/2', 'mail/2', 'default/3')
const refusals = fc.uniqueArray(fc.constantFrom('default/1', 'mail/1', 'zonegate/1', 'zonegate/2'))
const event = fc.oneof(
  { weight: 4, arbitrary: key.map((k) => ({ kind: 'publish' as const, key: k })) },
  { weight: 2, arbitrary: key.map((k) => ({ kind: 'withdraw' as const, key: k })) },
  { weight: 10, arbitrary: fc.constant({ kind: 'step' as const }) },
  { weight: 10, arbitrary: fc.constant({ kind: 'deliver' as const }) },
  { weight: 2, arbitrary: fc.integer({ min: 1, max: 1_500 }).map((ms) => ({ kind: 'time' as const, ms })) },
  { weight: 1, arbitrary: fc.constant({ kind: 'reconnect' as const }) },
  { weight: 1, arbitrary: fc.constant({ kind: 'restart' as const }) },
)
const eventOrRefusal = fc.oneof(
  { weight: 20, arbitrary: event },
  { weight: 1, arbitrary: refusals.map((names) => ({ kind: 'refuse' as const, names })) },
)

/** Lets things happen. @returns the zones that are published in the end */
function happen(
  scene: Scene,
  events: readonly (typeof eventOrRefusal extends fc.Arbitrary<infer E> ? E : never)[],
): Set<string> {
  const published = new Set<string>()
  let address = 0
  for (const happening of events) {
    if (happening.kind === 'publish') {
      scene.publish(happening.key, `10.0.0.${++address % 250}`)
      published.add(happening.key)
    } else if (happening.kind === 'withdraw') {
      scene.withdraw(happening.key)
      published.delete(happening.key)
    } else if (happening.kind === 'step') scene.step()
    else if (happening.kind === 'deliver') scene.deliver()
    else if (happening.kind === 'time') scene.nowMs += happening.ms
    else if (happening.kind === 'reconnect') scene.connect()
    else if (happening.kind === 'refuse') scene.envoy.refuses = new Set(happening.names)
    else {
      scene.restartProcessor()
      published.clear()
    }
  }
  return published
}

const BOTH = [
  ['a virtual host for each id', rules],
  ['virtual hosts of many ids', sharing],
] as const

for (const [how, by] of BOTH)
  test(`${how}: whatever happens in whatever order, no route leads to a missing cluster, and all ends as published`, () => {
    const events = fc.array(event, { maxLength: 120, size: 'max' })
    fc.assert(
      fc.property(events, (happenings) => {
        const scene = new Scene(by)
        const published = happen(scene, happenings)
        scene.pass(20 * DRAIN_MS)
        // Whoever knows the zones decides on those found.
        for (const found of [...scene.catalog.keys()]) if (!published.has(found)) scene.withdraw(found)
        for (const wanted of published) scene.publish(wanted)
        scene.pass(20 * DRAIN_MS)
        assert.deepEqual(scene.envoy.faults, [])
        assert.deepEqual(scene.hot(), [...published].sort())
        assert.deepEqual([...scene.envoy.clusters.keys()].sort(), [...published].sort())
      }),
      { numRuns: 500 },
    )
  })

for (const [how, by] of BOTH)
  test(`${how}: whatever an Envoy refuses, all else is hot, no route leads to a missing cluster, and all is hot in the end`, () => {
    const events = fc.array(eventOrRefusal, { maxLength: 120, size: 'max' })
    fc.assert(
      fc.property(events, (happenings) => {
        const scene = new Scene(by)
        const published = happen(scene, happenings)
        scene.pass(20 * DRAIN_MS)
        for (const found of [...scene.catalog.keys()]) if (!published.has(found)) scene.withdraw(found)
        for (const wanted of published) scene.publish(wanted)
        scene.pass(2 * REFUSED_MS.max + 2 * DRAIN_MS)
        assert.deepEqual(scene.envoy.faults, [])
        const isRefused = (zone: string): boolean =>
          scene.envoy.refuses.has(zone) || scene.envoy.refuses.has(`zonegate/${zone.split('/')[1]}`)
        const hot = scene.hot()
        for (const zone of published) if (!isRefused(zone)) assert.ok(hot.includes(zone), `${zone} is hot`)
        scene.envoy.refuses.clear()
        scene.pass(2 * REFUSED_MS.max + 2 * DRAIN_MS)
        assert.deepEqual(scene.envoy.faults, [])
        assert.deepEqual(scene.hot(), [...published].sort())
        assert.deepEqual([...scene.envoy.clusters.keys()].sort(), [...published].sort())
      }),
      { numRuns: 500 },
    )
  })

describe('an Envoy that refuses some of a thousand zones', () => {
  for (const kind of ['cluster and endpoints', 'virtual host'] as const)
    for (const bad of [[1], [500], [1000], [7, 8, 9, 400, 999]])
      test(`has all others hot: ${kind} ${bad}`, () => {
        const scene = new Scene()
        for (const id of bad)
          scene.envoy.refuses.add(kind === 'virtual host' ? `zonegate/${id}` : `default/${id}`)
        for (let id = 1; id <= 1000; id++) scene.publish(`default/${id}`)
        scene.pass(60_000)
        assert.equal(scene.hot().length, 1000 - bad.length)
        assert.deepEqual(scene.envoy.faults, [])
        assert.ok(scene.nacks < 14 * bad.length + 20, `${scene.nacks} NACKs`)
        scene.envoy.refuses.clear()
        scene.catalog.retryRefused()
        scene.pass(5_000)
        assert.equal(scene.hot().length, 1000)
      })
})

describe('virtual hosts of many ids', () => {
  const ids = Array.from({ length: 1000 }, (_, at) => String(at + 1))
  let scene: Scene
  beforeEach(() => {
    scene = new Scene(sharing)
    for (const id of ids) scene.publish(`default/${id}`)
    scene.pass(30_000)
    scene.sent = []
  })
  const shares = (): string[] => [...scene.envoy.virtualHosts.keys()].filter((name) => name.includes('~'))

  test('have the routes of all ids, and a change sends one', () => {
    assert.equal(scene.hot().length, 1000)
    assert.ok(shares().length <= 128)
    assert.equal(shares().length, scene.envoy.virtualHosts.size)
    scene.publish('default/1001')
    scene.pass(1_000)
    assert.deepEqual(
      scene.sent.map((sent) => sent.replace(/~\d+$/, '~')),
      ['cluster default/1001', 'endpoints default/1001', 'virtualHost zonegate/~'],
    )
    assert.equal(scene.rollout.stateOf({ service: 'default', id: '1001' }), 'held')
    assert.equal(scene.rollout.stateOf({ service: 'mail', id: '1001' }), 'pending')
  })

  test('an id with another service has one of its own, and is back with the others afterwards', () => {
    scene.publish('mail/7')
    scene.pass(1_000)
    assert.ok(scene.envoy.virtualHosts.has('zonegate/7'))
    assert.equal(scene.hot().length, 1001)
    scene.withdraw('mail/7')
    scene.pass(1_000)
    assert.ok(!scene.envoy.virtualHosts.has('zonegate/7'))
    assert.equal(scene.hot().length, 1000)
    assert.deepEqual(scene.envoy.faults, [])
  })

  test('an id of which something is said has one of its own', () => {
    scene.catalog.setPolicy(policy, { ...sharing, said: inMaintenance })
    scene.withdraw('default/7')
    scene.pass(30_000)
    scene.catalog.adopt({ service: 'default', id: '7' })
    scene.pass(30_000)
    assert.ok(scene.envoy.virtualHosts.has('zonegate/7'))
    assert.equal(scene.envoy.virtualHosts.size, shares().length + 1)
    assert.deepEqual(scene.envoy.faults, [])
  })

  test('after a reconnect nothing is sent, and after a restart neither', () => {
    scene.connect()
    scene.pass(1_000)
    assert.equal(scene.sent.length, 0)
    scene.restartProcessor()
    scene.pass(10 * DRAIN_MS)
    assert.equal(scene.sent.length, 0)
    assert.equal(scene.rollout.stateOf({ service: 'default', id: '7' }), 'held')
    for (const id of ids) scene.publish(`default/${id}`)
    scene.pass(1_000)
    assert.deepEqual(
      scene.sent.filter((sent) => !sent.startsWith('endpoints')),
      [],
    )
  })

  for (const bad of [['1'], ['7', '8', '9', '400', '999']])
    test(`an Envoy that refuses ${bad} has all others hot, and all in the end`, () => {
      const other = new Scene(sharing)
      for (const id of bad) other.envoy.refusesDomains.add(`POST/${id}`)
      for (const id of ids) other.publish(`default/${id}`)
      other.pass(120_000)
      assert.equal(other.hot().length, 1000 - bad.length)
      assert.equal(other.rollout.stateOf({ service: 'default', id: bad[0] ?? '' }), 'refused')
      assert.deepEqual(other.envoy.faults, [])
      other.envoy.refusesDomains.clear()
      other.catalog.retryRefused()
      other.pass(30_000)
      assert.equal(other.hot().length, 1000)
      assert.ok([...other.envoy.virtualHosts.keys()].every((name) => name.includes('~')))
      assert.deepEqual(other.envoy.faults, [])
    })

  test('come and go with the setting, and no domain stands twice', () => {
    scene.catalog.setPolicy(policy, rules)
    scene.pass(30_000)
    assert.deepEqual(shares(), [])
    assert.equal(scene.hot().length, 1000)
    scene.catalog.setPolicy(policy, sharing)
    scene.pass(30_000)
    assert.equal(shares().length, scene.envoy.virtualHosts.size)
    assert.equal(scene.hot().length, 1000)
    assert.deepEqual(scene.envoy.faults, [])
  })

  test('give back an id that the operator has in a virtual host of their own', () => {
    const pins = [{ virtualHost: 'own', domains: ['POST/7'] }]
    scene.catalog.setPolicy({ ...policy, routes: { ...policy.routes, pins } }, sharing)
    scene.pass(1_000)
    assert.equal(scene.hot().length, 999)
    assert.ok(!scene.hot().includes('default/7'))
  })
})
