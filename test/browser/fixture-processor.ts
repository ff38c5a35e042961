import assert from 'node:assert/strict'
import { createPageHandler } from '../../src/admin/page/serve-page.ts'
import { type AdminServer, serveAdmin } from '../../src/admin/server.ts'
import { now } from '../../src/clock.ts'
import type { NameserverStatus } from '../../src/dns/dns.ts'
import type { HistoryPage, HistoryQuery, ToldEvent } from '../../src/history/read-history.ts'
import type { PinsStatus } from '../../src/pins/pins.ts'
import type { Rules } from '../../src/routing/rules.ts'
import { type Explained, explain } from '../../src/status/explain.ts'
import type { ExplainedThen } from '../../src/status/explain-then.ts'
import { describedRequest, type RequestDescription } from '../../src/status/request-description.ts'
import type { RuleStatus } from '../../src/status/rule-counts.ts'
import type { Status, ZoneState, ZoneStatus } from '../../src/status/status.ts'
import { nodeTimers } from '../../src/timers.ts'
import { Turns } from '../../src/turns.ts'
import type { EnvoyStatus } from '../../src/xds/envoy-stream.ts'
import { freePort } from '../support/ports.ts'
import { DEFAULT_RULES } from './rules.ts'

type Mutable<T> = { -readonly [K in keyof T]: T[K] }
type Zone = Mutable<ZoneStatus> & { history: number[] }

const POINTS = 60
const TTL_SECONDS_MAX = 60
/** Where it is busy, the slot and all rates change every so many updates: as with a real processor, whose updates are a second apart. */
const UPDATES_PER_SLOT = 5

export interface FixtureOptions {
  readonly zones: number
  readonly token?: string
  readonly port?: number
  /** Zones that have something wrong, Envoys that refuse, nameservers that fail. */
  readonly trouble?: boolean
  readonly envoys?: number
  /** Those of the defaults, unless told otherwise. */
  readonly rules?: Rules
  /** Every so often all rates are others; else they are what the test sets. */
  readonly busy?: boolean
}

/** The real admin server over a status that is made up: as many zones as wanted, and each changes as they do. */
export class FixtureProcessor {
  readonly zones: Zone[]
  unready: Record<string, string> = {}
  faults: string[] = []
  policy = { faults: [] as string[], reasons: [] as string[], needsRestart: [] as string[] }
  awayMs: number | null = null
  readonly refused: Record<string, number> = {}
  rules: RuleStatus[]
  pins: PinsStatus = { pins: [], fault: null }
  readonly asked: RequestDescription[] = []
  readonly #options: FixtureOptions
  readonly #startedAt = Date.now() - 7_384_000
  readonly #random = seeded(7)
  #updates = 0
  #slot = 1000
  #server: AdminServer | undefined

  constructor(options: FixtureOptions) {
    this.#options = options
    const now = Date.now()
    this.rules = (options.rules ?? DEFAULT_RULES).map(({ name }) => ({
      name,
      requests: 50_324,
      hot: 48_000,
      forwarded: 2324,
      refused: {},
      requestsPerSecond: 812.4,
    }))
    this.zones = Array.from({ length: options.zones }, (_, at) => this.#zone(at, now))
    if (options.trouble === true) {
      for (const [seq, tone] of (['bad', 'warn', 'good', 'plain'] as const).entries())
        this.happened.push({
          kind: 'nameserver_failing',
          nameserver: '10.0.0.3:53',
          outcome: 'timeout',
          seq: seq + 1,
          at: Date.now() - seq * 60_000,
          text: 'nameserver 10.0.0.3:53 fails (timeout)',
          tone,
        })
      Object.assign(this.refused, { name_not_found: 1841, server_header_missing: 96, nameservers_failed: 12 })
    }
  }

  /** Of the last hour. */
  readonly happened: ToldEvent[] = []

  get url(): string {
    return `http://127.0.0.1:${this.#server?.port}/`
  }

  get port(): number {
    return this.#server?.port ?? 0
  }

  async start(port = this.#options.port): Promise<this> {
    this.#server = await serveAdmin({
      host: '127.0.0.1',
      port: port ?? (await freePort()),
      token: this.#options.token ?? null,
      status: (history) => {
        const { zones, ...rest } = this.#status(history)
        return { rest, zones }
      },
      turns: new Turns(nodeTimers(now, assert.fail)),
      unready: () => this.unready,
      configFaults: () => this.faults,
      explain: async (description) => this.#explain(description),
      history: async (query) => this.#history(query),
      explainThen: async () => ({}) as ExplainedThen,
      inForce: () => {
        throw new Error('the page does not ask')
      },
      flush: (name) => ({ name, names: 1 }),
      metrics: { contentType: 'text/plain', text: async () => '' },
      page: createPageHandler(),
      onBug: (error) => {
        throw error
      },
    })
    return this
  }

  stop(): void {
    this.#server?.close()
    this.#server = undefined
  }

  #history({ after = 0, kinds, limit }: HistoryQuery): HistoryPage {
    const events = this.happened.filter(
      ({ seq, kind }) => seq > after && (kinds.length === 0 || kinds.includes(kind)),
    )
    const leftOut = Math.max(0, events.length - limit)
    return { events: events.slice(leftOut), leftOut, completeSince: null, fault: null }
  }

  #status(history: boolean): Status {
    const at = Date.now()
    if (!history) this.#letTimePass(at)
    return {
      at,
      build: {
        version: '0.1.0',
        node: 'v24.21.0',
        envoy: '1.40.0',
        startedAt: new Date(this.#startedAt).toISOString(),
      },
      awayMs: this.awayMs,
      ready: Object.keys(this.unready).length === 0,
      unready: this.unready,
      policy: this.policy,
      config: {
        source: 'zonegate.yaml',
        loadedAt: new Date(this.#startedAt).toISOString(),
        faults: this.faults,
        needsRestart: [],
        reloads: { accepted: 0, rejected: 0 },
      },
      dns: {
        nameservers: nameservers(this.#options.trouble === true),
        search: 'game.example',
        searchOffered: null,
        lookups: { fresh: 48_211, stale: 0, backedOff: 0, waited: 2113, overloaded: 0, rateLimited: 0 },
        names: this.zones.length,
        namesKept: this.zones.length,
        queriesInFlight: 0,
        refreshesWaiting: 0,
        ttlSecondsMax: TTL_SECONDS_MAX,
      },
      history: { points: POINTS, slotSeconds: 5, slot: this.#slot },
      rules: this.rules,
      pins: this.pins,
      zonesLearned: this.zones.filter(({ route }) => route !== 'cold').length,
      zones: history ? this.zones : this.zones.map(({ history: _, ...zone }) => zone as ZoneStatus),
      envoys: this.#envoys(),
      exceptions: {},
      decisions: {
        forwarded: 50_324,
        refused: { ...NO_REFUSALS, ...this.refused },
        answers: { positive: 50_324, stale: 0, nxdomain: 0, nodata: 0, failure: 0 },
      },
    } as Status
  }

  /** Lifetimes are renewed as they end; at each slot of a busy one all rates change. */
  #letTimePass(at: number): void {
    this.#updates += 1
    const slot = this.#options.busy === true && this.#updates % UPDATES_PER_SLOT === 0
    if (slot) this.#slot += 1
    for (const zone of this.zones) {
      if (zone.state === 'fresh' && zone.expiresAt !== null && zone.expiresAt < at + 3000)
        zone.expiresAt = at + Math.round((20 + this.#random() * 40) * 10) * 100
      if (!slot) continue
      if (zone.requestsPerSecond > 0)
        zone.requestsPerSecond =
          Math.round(Math.max(0.1, zone.requestsPerSecond * (0.8 + this.#random() * 0.4)) * 10) / 10
      zone.history = [...zone.history.slice(1), zone.requestsPerSecond]
    }
  }

  #zone(at: number, now: number): Zone {
    const random = this.#random
    const id = String(at + 1)
    const service = at % 7 === 3 ? 'mail' : 'default'
    const state = this.#options.trouble === true ? troubled(at) : 'fresh'
    const usable = state === 'fresh' || state === 'stale'
    const hot = usable && at % 9 !== 5
    const level = at % 11 === 2 ? 0 : 0.4 + 180 * random() ** 6
    const history = Array.from(
      { length: POINTS },
      (_, point) =>
        Math.round(
          Math.max(
            0,
            level *
              (0.7 + 0.2 * Math.sin(point / 9 + at) + 0.15 * Math.sin(point / 7) + (random() - 0.5) * 0.3),
          ) * 10,
        ) / 10,
    )
    const address = (last: number): string => `10.${40 + (at >> 8)}.${at & 255}.${last}`
    return {
      service,
      id,
      name: `zone${id}-${service}.game.example`,
      state,
      addresses: usable ? (at % 4 === 1 ? [address(11), address(12)] : [address(11)]) : [],
      expiresAt:
        state === 'failed' ? null : state === 'stale' ? now - 41_000 : now + Math.round(random() * 600) * 100,
      route: hot ? (at % 23 === 7 ? 'learned' : 'hot') : 'cold',
      coldReason: !usable || (hot && at % 23 !== 7) ? null : hot ? 'being_pushed' : 'asked_once',
      envoys: hot && at % 23 !== 7 ? ['edge-1', 'edge-2'] : [],
      requestsPerSecond: history.at(-1) ?? 0,
      history,
      errors: this.#options.trouble === true && at % 13 === 6 ? 3 + (at % 5) : 0,
    }
  }

  #envoys(): EnvoyStatus[] {
    const held = this.zones.filter(({ route }) => route !== 'cold').length
    const resource = { held, rejected: 0, acks: 212, nacks: 0, lastAckMs: 14 }
    return Array.from({ length: this.#options.envoys ?? 2 }, (_, at) => {
      const refuses = this.#options.trouble === true && at === 1
      return {
        envoy: `edge-${at + 1}`,
        version: at === 2 ? '1.39.2' : '1.40.0',
        testedVersion: at !== 2,
        connectedMs: Date.now() - this.#startedAt - at * 3_600_000,
        resources: {
          cluster: refuses ? { ...resource, held: held - 1, rejected: 1, nacks: 2 } : resource,
          endpoints: resource,
          virtualHost: resource,
        },
        lastRejection: refuses
          ? 'Error adding/updating cluster(s) default/7: circuit_breakers: max_retries must be above 0'
          : undefined,
      }
    })
  }

  #explain(description: RequestDescription): Promise<Explained> {
    this.asked.push(description)
    const rules = this.#options.rules ?? DEFAULT_RULES
    return explain(describedRequest(description, rules), {
      rules,
      search: 'game.example',
      explainName: async (name) => {
        const zone = this.zones.find((one) => one.name === name)
        const nameserver = '10.0.0.2:53'
        if (zone === undefined) {
          const answer = { kind: 'nxdomain', name, ttlSeconds: 30, nameserver } as const
          return {
            answer,
            cached: null,
            tries: [{ nameserver, outcome: 'NXDOMAIN', milliseconds: 1.31, type: 'A', transport: 'udp' }],
          }
        }
        const answer = {
          kind: 'positive',
          name,
          addresses: zone.addresses,
          denied: [],
          ttlSeconds: 37,
          stale: false,
        } as const
        return {
          answer,
          cached: answer,
          tries: [
            {
              nameserver: '10.0.0.3:53',
              outcome: 'timeout',
              milliseconds: 500.2,
              type: 'A',
              transport: 'udp',
            },
            { nameserver, outcome: 'NOERROR', milliseconds: 0.82, type: 'A', transport: 'udp' },
          ],
        }
      },
      envoys: ({ id, service }) => {
        const zone = this.zones.find((one) => one.id === id && one.service === service.name)
        return this.#envoys().map(({ envoy }) =>
          zone?.envoys.includes(envoy) === true
            ? { envoy, route: 'hot' }
            : { envoy, route: 'cold', reason: zone?.coldReason ?? 'not_asked' },
        )
      },
    })
  }
}

const NO_REFUSALS = {
  no_rule: 0,
  method_not_allowed: 0,
  id_missing: 0,
  id_invalid: 0,
  server_header_missing: 0,
  server_header_invalid: 0,
  name_not_found: 0,
  no_address: 0,
  service_not_offered: 0,
  nameservers_failed: 0,
  address_denied: 0,
  resolver_overloaded: 0,
  lookup_rate_limited: 0,
  maintenance: 0,
}

function nameservers(trouble: boolean): NameserverStatus[] {
  const healthy = {
    failures: 0,
    edns: true,
    smoothedRttMs: 0.84,
    outcomes: { NOERROR: 18_204, NXDOMAIN: 311 },
  }
  return [
    { nameserver: '10.0.0.2:53', ...healthy },
    trouble
      ? {
          nameserver: '10.0.0.3:53',
          failures: 4,
          edns: true,
          smoothedRttMs: 12.4,
          outcomes: { NOERROR: 912, timeout: 38, SERVFAIL: 3 },
        }
      : { nameserver: '10.0.0.3:53', ...healthy, smoothedRttMs: 1.21, outcomes: { NOERROR: 204 } },
  ] as NameserverStatus[]
}

function troubled(at: number): ZoneState {
  return (
    ({ 4: 'stale', 17: 'nxdomain', 33: 'failed', 52: 'denied', 71: 'nodata', 88: 'unknown' } as const)[
      at % 97
    ] ?? 'fresh'
  )
}

/** Mulberry32: the same zones at each run. */
function seeded(seed: number): () => number {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296
  }
}
