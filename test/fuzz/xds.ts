/** Fuzzes xDS, with delta discovery requests and load reports that Envoys may send. */
import assert from 'node:assert/strict'
import * as fc from 'fast-check'
import {
  codec,
  type DeltaDiscoveryRequest,
  type DeltaDiscoveryResponse,
  type LoadStatsRequest,
} from '../../src/grpc/protos.ts'
import { ZoneActivity } from '../../src/status/zone-activity.ts'
import type { Timer, Timers } from '../../src/timers.ts'
import { AdsService } from '../../src/xds/ads-service.ts'
import { Catalog, type ZonePolicy } from '../../src/xds/catalog.ts'
import type { DeltaResponse } from '../../src/xds/delta-response.ts'
import { LoadReportService } from '../../src/xds/load-report-service.ts'
import { REFUSED_MS } from '../../src/xds/refusals.ts'
import { KINDS, kindOf, type Resource, TYPE_URLS, zoneKey } from '../../src/xds/resource.ts'
import { Subscription } from '../../src/xds/subscription.ts'
import { FakeCall } from '../support/grpc-call.ts'
import { DEFAULT_SERVICE, MAIL_SERVICE, routingRules, zonePolicy } from '../support/zone-policy.ts'
import { type Target, target } from './target.ts'

const requests = codec<DeltaDiscoveryRequest>('envoy.service.discovery.v3.DeltaDiscoveryRequest')
const responses = codec<DeltaDiscoveryResponse>('envoy.service.discovery.v3.DeltaDiscoveryResponse')
const reports = codec<LoadStatsRequest>('envoy.service.load_stats.v3.LoadStatsRequest')

const NAMES = ['a', 'b', 'c', 'd'] as const
const name = fc.constantFrom(...NAMES)
const subscribable = fc.constantFrom<string[]>('*', 'x', ...NAMES)
const some = fc.uniqueArray(subscribable, { maxLength: 3 })

type Step =
  | { do: 'offer'; name: string }
  | { do: 'withdraw'; name: string }
  | { do: 'subscribe' | 'unsubscribe'; names: string[] }
  | { do: 'poison'; names: string[] }
  | { do: 'wait'; ms: number }
  | { do: 'answer' | 'nack' | 'stale' | 'causeGone' }

const steps: fc.Arbitrary<Step[]> = fc.array(
  fc.oneof(
    { weight: 3, arbitrary: fc.record({ do: fc.constant('offer' as const), name }) },
    { weight: 2, arbitrary: fc.record({ do: fc.constant('withdraw' as const), name }) },
    {
      weight: 2,
      arbitrary: fc.record({
        do: fc.constantFrom('subscribe' as const, 'unsubscribe' as const),
        names: some,
      }),
    },
    {
      weight: 1,
      arbitrary: fc.record({ do: fc.constant('poison' as const), names: fc.uniqueArray(name) }),
    },
    { weight: 1, arbitrary: fc.record({ do: fc.constant('wait' as const), ms: fc.nat({ max: 5_000 }) }) },
    { weight: 5, arbitrary: fc.record({ do: fc.constant('answer' as const) }) },
    {
      weight: 1,
      arbitrary: fc.record({ do: fc.constantFrom('nack' as const, 'stale' as const, 'causeGone' as const) }),
    },
  ),
  { maxLength: 60, size: 'max' },
)

/** A client by the protocol's words, beside the server's subscription. */
class Client {
  readonly has = new Map<string, string>()
  /** Refused alone: versions that must not be sent for a while, since it didn't subscribe anew, and until when. */
  readonly unwelcome = new Map<string, { readonly version: string; readonly untilMs: number }>()
  /** Names of resources that this client refuses. */
  poison = new Set<string>()
  readonly named = new Set<string>()
  wildcard: boolean
  inFlight: DeltaResponse | undefined
  /** Uses the sound resources of a response that it refuses, as Envoy does with clusters. */
  readonly #takesParts: boolean

  constructor(names: readonly string[], takesParts: boolean) {
    this.#takesParts = takesParts
    this.wildcard = names.length === 0
    this.subscribe(names)
  }

  subscribe(names: readonly string[]): void {
    for (const one of names) {
      if (one === '*') this.wildcard = true
      else this.named.add(one)
      this.unwelcome.delete(one)
    }
  }

  unsubscribe(names: readonly string[]): void {
    for (const one of names) {
      if (one === '*') this.wildcard = false
      else this.named.delete(one)
    }
    // "Unsubscribing from Resources": what nothing covers any more is dropped without a word.
    for (const held of [this.has, this.unwelcome])
      for (const one of [...held.keys()]) if (!this.wants(one)) held.delete(one)
  }

  wants(one: string): boolean {
    return this.wildcard || this.named.has(one)
  }

  get accepts(): boolean {
    return !this.inFlight?.updated.some(({ name: one }) => this.poison.has(one))
  }

  settle(accept: boolean, nowMs: number): void {
    const { updated = [], removed = [] } = this.inFlight ?? {}
    this.inFlight = undefined
    const wanted = updated.filter(({ name: one }) => this.wants(one))
    const [only, ...others] = wanted
    if (!accept && only !== undefined && others.length === 0)
      this.unwelcome.set(only.name, { version: only.version, untilMs: nowMs + REFUSED_MS.first })
    if (!accept && !this.#takesParts) return
    for (const { name: one, version } of wanted)
      if (accept || (others.length > 0 && !this.poison.has(one))) this.has.set(one, version)
    if (accept || updated.length > 0) for (const one of removed) this.has.delete(one)
  }
}

/** Policies that an operator may save. */
const policyOf = (saved: number): ZonePolicy =>
  zonePolicy({ routeConfiguration: saved === 3 ? 'other' : 'zonegate', connectSeconds: 1 + saved })
const rules = routingRules([MAIL_SERVICE, DEFAULT_SERVICE])

const resourceNames = fc.oneof(
  fc.constantFrom('*', 'default/1', 'mail/1', 'default/2', 'zonegate/1', 'zonegate/2', 'zonegate/', '/', ''),
  fc.string({ maxLength: 12 }),
)
const nonces = fc.oneof(fc.constantFrom('', '1', '2', '3', '4'), fc.string({ maxLength: 4 }))
const discoveryRequests: fc.Arbitrary<DeltaDiscoveryRequest> = fc.record(
  {
    node: fc.record({ id: fc.string() }),
    type_url: fc.oneof({ weight: 9, arbitrary: fc.constantFrom(...Object.values(TYPE_URLS)) }, fc.string()),
    resource_names_subscribe: fc.array(resourceNames, { maxLength: 4 }),
    resource_names_unsubscribe: fc.array(resourceNames, { maxLength: 4 }),
    initial_resource_versions: fc.dictionary(resourceNames, fc.string({ maxLength: 4 }), { maxKeys: 4 }),
    response_nonce: nonces,
    error_detail: fc.record({ code: fc.nat({ max: 20 }), message: fc.string() }),
  },
  { requiredKeys: ['type_url'] },
)
const events = fc.oneof(
  { weight: 6, arbitrary: discoveryRequests.map((request) => ({ request })) },
  { weight: 2, arbitrary: fc.constantFrom('1', '2', '3').map((publish) => ({ publish })) },
  { weight: 1, arbitrary: fc.constantFrom('1', '2', '3').map((withdraw) => ({ withdraw })) },
  { weight: 2, arbitrary: fc.constantFrom(0, 50, 200, 5000).map((waitMs) => ({ waitMs })) },
  { weight: 3, arbitrary: fc.constantFrom(...KINDS).map((ack) => ({ ack })) },
  { weight: 1, arbitrary: fc.constantFrom(...KINDS).map((nack) => ({ nack })) },
  // A file is saved: another policy, another name of the route configuration, or the same again.
  { weight: 1, arbitrary: fc.constantFrom(0, 1, 2, 3).map((saved) => ({ saved })) },
)

class FakeTimers implements Timers {
  #nowMs = 0
  #timers: { atMs: number; callback: () => void }[] = []

  now(): number {
    return this.#nowMs
  }

  start(callback: () => void, milliseconds: number): Timer {
    const timer = { atMs: this.#nowMs + milliseconds, callback }
    this.#timers.push(timer)
    return {
      cancel: () => {
        this.#timers = this.#timers.filter((other) => other !== timer)
      },
    }
  }

  get running(): number {
    return this.#timers.length
  }

  wait(ms: number): void {
    const untilMs = this.#nowMs + ms
    for (let fired = 0; fired < 10_000; fired++) {
      const [next] = this.#timers.filter(({ atMs }) => atMs <= untilMs).sort((a, b) => a.atMs - b.atMs)
      if (next === undefined) {
        this.#nowMs = untilMs
        return
      }
      this.#nowMs = Math.max(this.#nowMs, next.atMs)
      this.#timers = this.#timers.filter((other) => other !== next)
      next.callback()
    }
    assert.fail('timers without an end')
  }
}

const uint64 = fc.oneof(fc.nat(), fc.constantFrom(Number.MAX_SAFE_INTEGER, 2 ** 64, 0))
const loadReports: fc.Arbitrary<LoadStatsRequest> = fc.record(
  {
    node: fc.record({ id: fc.string() }),
    cluster_stats: fc.array(
      fc.record(
        {
          cluster_name: resourceNames,
          upstream_locality_stats: fc.array(
            fc.record(
              {
                total_issued_requests: uint64,
                total_error_requests: uint64,
                total_requests_in_progress: uint64,
              },
              { requiredKeys: [] },
            ),
            { maxLength: 3 },
          ),
        },
        { requiredKeys: [] },
      ),
      { maxLength: 4 },
    ),
  },
  { requiredKeys: [] },
)

/** Through the codec, a few octets changed: undefined where gRPC itself would end the stream. */
function overTheWire<Message extends object>(
  { encode, decode }: { encode(message: Message): Buffer; decode(octets: Buffer): Message },
  message: Message,
  changes: readonly (readonly [number, number])[],
): Message | undefined {
  const octets = Buffer.from(encode(message))
  if (octets.length > 0) for (const [at, value] of changes) octets[at % octets.length] = value
  try {
    return decode(octets)
  } catch {
    return undefined
  }
}
const changes = fc.oneof(
  { weight: 4, arbitrary: fc.constant([]) },
  { weight: 1, arbitrary: fc.array(fc.tuple(fc.nat(), fc.nat({ max: 255 })), { maxLength: 3 }) },
)

export const xdsTargets: readonly Target[] = [
  target(
    'xds: a client has all that is offered of what it wants but what it refuses, and that as soon as it takes it',
    [some, steps, fc.integer({ min: 1, max: 3 }), fc.boolean()],
    (first, script, max, takesParts) => {
      const offered = new Map<string, Resource>()
      let versions = 0
      let nowMs = 0
      const offer = {
        names: () => offered.keys(),
        desired: (one: string) => offered.get(one) ?? ('absent' as const),
      }
      const subscription = new Subscription(TYPE_URLS.cluster, offer, max)
      const client = new Client(first, takesParts)
      subscription.receive({ resource_names_subscribe: first }, nowMs)
      const pump = (): void => {
        const response = subscription.next(nowMs)
        if (response === undefined) return
        assert.equal(client.inFlight, undefined, 'one response at a time')
        assert.ok(response.updated.length + response.removed.length <= max)
        for (const { name: one, version } of response.updated) {
          const { version: unwelcome, untilMs = 0 } = client.unwelcome.get(one) ?? {}
          assert.ok(
            version !== unwelcome || nowMs >= untilMs,
            `${one} is sent again within ${untilMs - nowMs} ms`,
          )
        }
        client.inFlight = response
      }
      const settle = (accept: boolean): void => {
        const nonce = client.inFlight?.nonce
        if (nonce === undefined) return
        client.settle(accept, nowMs)
        const more = accept ? {} : { error_detail: { message: 'no' } }
        subscription.receive({ response_nonce: nonce, ...more }, nowMs)
      }
      const take = (step: Step): void => {
        if (step.do === 'offer') {
          const version = String(++versions)
          offered.set(step.name, { name: step.name, version, encode: () => Buffer.alloc(0) })
        }
        if (step.do === 'withdraw') offered.delete(step.name)
        if (step.do === 'offer' || step.do === 'withdraw') subscription.mark(step.name)
        if (step.do === 'subscribe') {
          client.subscribe(step.names)
          subscription.receive({ resource_names_subscribe: step.names }, nowMs)
        }
        if (step.do === 'unsubscribe') {
          client.unsubscribe(step.names)
          subscription.receive({ resource_names_unsubscribe: step.names }, nowMs)
        }
        if (step.do === 'stale')
          subscription.receive({ response_nonce: 'old', error_detail: { message: 'no' } }, nowMs)
        if (step.do === 'poison') client.poison = new Set(step.names)
        if (step.do === 'wait') nowMs += step.ms
        if (step.do === 'causeGone') {
          client.unwelcome.clear()
          subscription.forgetRefusals()
        }
        if (step.do === 'answer' || step.do === 'nack') settle(step.do === 'answer' && client.accepts)
      }
      const rest = (): void => {
        for (let round = 0; round < 300; round++) {
          pump()
          if (client.inFlight !== undefined) settle(client.accepts)
          else if (!subscription.pending) {
            const wakeAtMs = subscription.wakeAtMs()
            if (wakeAtMs === Number.POSITIVE_INFINITY) return
            nowMs = Math.max(nowMs, wakeAtMs)
          }
        }
      }
      const check = (): void => {
        for (const [one, { version }] of offered)
          if (client.wants(one) && !client.poison.has(one)) assert.equal(client.has.get(one), version, one)
        for (const one of client.has.keys()) {
          assert.ok(client.wants(one))
          assert.ok(offered.has(one), `${one} is gone`)
        }
        // What a client has of what it refuses nobody knows: it may have taken it over before.
        const known = (entries: Iterable<[string, string]>): [string, string][] =>
          [...entries].filter(([one]) => !client.poison.has(one)).sort()
        const held = [...subscription.held].map(([one, { version }]): [string, string] => [one, version])
        assert.deepEqual(known(held), known(client.has))
      }
      for (const step of script) {
        pump()
        take(step)
      }
      rest()
      check()
      client.poison.clear()
      rest()
      check()
      assert.equal(subscription.wakeAtMs(), Number.POSITIVE_INFINITY, 'it comes to rest')
      assert.equal(subscription.rejectedCount, 0)
    },
  ),
  target(
    'xds: whatever an Envoy sends, its stream answers by the protocol, and no other is touched',
    [fc.array(fc.tuple(events, changes), { maxLength: 30, size: 'max' })],
    (script) => {
      const timers = new FakeTimers()
      const catalog = new Catalog(policyOf(0), rules, 'e')
      const errors: object[] = []
      const log = {
        info: () => undefined,
        warn: () => undefined,
        error: (fields: object) => void errors.push(fields),
      }
      const ads = new AdsService({
        catalog,
        timers,
        log,
        isTestedVersion: () => true,
        onZonesFound: () => undefined,
        onAnswer: () => undefined,
        onBug: (error) => void errors.push({ error }),
      })
      const [call, other] = [new FakeCall(), new FakeCall()]
      ads.handle(call as never)
      ads.handle(other as never)
      // The server soon closes a silent stream.
      for (const each of [call, other]) each.emit('data', { type_url: 'of nothing' })
      const unanswered = new Map<string, string>()
      let read = 0
      const readAll = (): void => {
        for (; read < call.written.length; read++) {
          const response = responses.decode(call.written[read] as Buffer)
          const kind = kindOf(response.type_url)
          assert.ok(kind, response.type_url)
          assert.ok(!unanswered.has(kind), `a second ${kind} before the first is answered`)
          unanswered.set(kind, response.nonce)
        }
      }
      const send = (request: DeltaDiscoveryRequest): void => {
        const kind = kindOf(request.type_url)
        if (kind !== undefined && request.response_nonce === unanswered.get(kind)) unanswered.delete(kind)
        call.emit('data', request)
        timers.wait(0)
      }
      for (const [event, change] of script) {
        timers.wait(0)
        readAll()
        if ('request' in event) {
          const request = overTheWire(requests, event.request, change)
          if (request !== undefined) send(request)
        } else if ('publish' in event) {
          const zone = { service: 'default', id: event.publish, addresses: ['10.0.0.1'], port: 1 }
          catalog.publish({ ...zone, staleAtMs: timers.now() + 3_600_000 }, timers.now())
        } else if ('withdraw' in event) catalog.withdraw(zoneKey('default', event.withdraw))
        else if ('waitMs' in event) timers.wait(event.waitMs)
        else if ('saved' in event) {
          catalog.setPolicy(policyOf(event.saved), rules)
          catalog.retryRefused()
        } else if ('nack' in event) {
          const response_nonce = unanswered.get(event.nack)
          const error_detail = { message: 'no' }
          if (response_nonce !== undefined)
            send({ type_url: TYPE_URLS[event.nack], response_nonce, error_detail })
        } else {
          const nonce = unanswered.get(event.ack)
          if (nonce !== undefined) send({ type_url: TYPE_URLS[event.ack], response_nonce: nonce })
        }
        readAll()
      }
      timers.wait(20_000)
      readAll()
      assert.deepEqual(errors, [])
      assert.equal(call.failed, undefined)
      assert.deepEqual([other.written, other.ended, other.failed], [[], false, undefined])
      assert.equal(ads.status().length, 2)
      ads.close()
      assert.equal(timers.running, 0, 'no timer is left')
    },
  ),
  target(
    'xds: whatever an Envoy reports, zones in use stay finite and bounded',
    [fc.array(fc.tuple(loadReports, changes), { maxLength: 12, size: 'max' })],
    (script) => {
      const activity = new ZoneActivity({ coldMax: 5, idleMs: 1000 }, () => 0)
      for (const id of ['1', '2'])
        activity.used({
          id,
          service: { name: 'default', label: 'default', rule: 'default', port: 1 },
          name: `zone${id}.test`,
        })
      const service = new LoadReportService({
        intervalMs: 5000,
        timers: new FakeTimers(),
        onLoad: (envoy, key, load) => {
          const [named = '', id = ''] = key.split('/')
          activity.reported(envoy, { service: named, id }, load)
        },
        onBug: (error) => assert.fail(String(error)),
      })
      const call = new FakeCall()
      service.handle(call as never)
      let first = true
      for (const [report, change] of script) {
        const request = overTheWire(reports, report, change)
        if (request === undefined) continue
        call.emit('data', request)
        assert.equal(call.written.length, 1, first ? 'the first is answered' : 'the others are not')
        first = false
      }
      activity.nextSlot()
      activity.nextSlot()
      assert.ok(activity.size <= 5)
      for (const { requestsPerSecond, errors, history, envoys } of activity.list(true)) {
        assert.ok(envoys.length <= 16)
        for (const value of [requestsPerSecond, errors, ...(history ?? [])])
          assert.ok(Number.isFinite(value) && value >= 0, `${value}`)
      }
      call.emit('end')
      assert.ok(call.ended)
    },
  ),
]
