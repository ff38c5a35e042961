import assert from 'node:assert/strict'
import { beforeEach, test } from 'node:test'
import type { Answer } from '../dns/answer.ts'
import { LearnedZones, type PublishedZone, type ZoneChange } from './learned-zones.ts'

const SECOND = 1000
const OPTIONS = { zonesMax: 3, idleMs: 600 * SECOND, staleMs: 3600 * SECOND, busyMs: 10 * SECOND }

/** A DNS of names with answers, as `keep` shows them; the clock is the test's. */
let nowMs: number
let answers: Map<string, Answer | null>
let listeners: Map<string, (answer: Answer) => void>
let expiresAtMs: number
let published: Map<string, PublishedZone>
let withdrawn: string[]
let changes: string[]
let refreshed: string[]
let zones: LearnedZones

const keyOf = ({ service, id }: { service: string; id: string }): string => `${service}/${id}`
const ref = (id: string) => ({ service: 'default', id })
const positive = (name: string, addresses = ['10.0.0.1'], ttlSeconds = 30, stale = false): Answer => ({
  kind: 'positive',
  name,
  addresses,
  denied: [],
  ttlSeconds,
  stale,
})
const ask = (id: string): void => zones.used(ref(id), answers.get(`zone${id}`) ?? positive(`zone${id}`))

beforeEach(() => {
  nowMs = 1_000_000
  answers = new Map()
  listeners = new Map()
  expiresAtMs = nowMs + 30 * SECOND
  published = new Map()
  withdrawn = []
  changes = []
  refreshed = []
  zones = new LearnedZones(OPTIONS, {
    now: () => nowMs,
    resolveRef: ({ service, id }) =>
      service === 'default' && /^\w+$/.test(id) ? { name: `zone${id}`, port: 8101 } : null,
    dns: {
      keep: (name, onChange) => {
        listeners.set(name, onChange)
        return {
          name,
          current: () => answers.get(name) ?? null,
          expiresAtMs: () => expiresAtMs,
          release: () => void listeners.delete(name),
        }
      },
      refresh: (name) => void refreshed.push(name),
    },
    publish: (zone) => void published.set(keyOf(zone), zone),
    withdraw: (zone) => {
      published.delete(keyOf(zone))
      withdrawn.push(keyOf(zone))
    },
    onChange: (zone, change: ZoneChange) => void changes.push(`${keyOf(zone)} ${change}`),
  })
})

const say = (name: string, answer: Answer): void => {
  answers.set(name, answer)
  listeners.get(name)?.(answer)
}
const learn = (id: string): void => {
  answers.set(`zone${id}`, positive(`zone${id}`))
  ask(id)
  ask(id)
}

test('the first request learns nothing, the second publishes the addresses with the time they are good for', () => {
  answers.set('zone1', positive('zone1', ['10.0.0.1', '10.0.0.2']))
  ask('1')
  assert.equal(published.size, 0)
  ask('1')
  assert.deepEqual(published.get('default/1'), {
    service: 'default',
    id: '1',
    addresses: ['10.0.0.1', '10.0.0.2'],
    port: 8101,
    staleAtMs: expiresAtMs + OPTIONS.staleMs,
  })
})

test('a second request after the idle time is a first one', () => {
  answers.set('zone1', positive('zone1'))
  ask('1')
  nowMs += OPTIONS.idleMs
  ask('1')
  assert.equal(published.size, 0)
  ask('1')
  assert.equal(published.size, 1)
})

test('a zone with TTL 0 stays cold', () => {
  answers.set('zone1', positive('zone1', ['10.0.0.1'], 0))
  ask('1')
  ask('1')
  assert.deepEqual([published.size, changes], [0, []])
})

test('a learned zone whose TTL becomes 0 goes cold', () => {
  learn('1')
  say('zone1', positive('zone1', ['10.0.0.1'], 0))
  assert.deepEqual(changes, ['default/1 learned', 'default/1 uncacheable'])
})

test('new addresses are published', () => {
  learn('1')
  say('zone1', positive('zone1', ['10.0.0.9']))
  assert.deepEqual(published.get('default/1')?.addresses, ['10.0.0.9'])
})

for (const kind of ['nxdomain', 'nodata'] as const) {
  test(`${kind} withdraws the zone and lets go of its name`, () => {
    learn('1')
    say('zone1', { kind, name: 'zone1', ttlSeconds: 5, nameserver: 'n' })
    assert.deepEqual([withdrawn, changes.at(-1), listeners.size], [['default/1'], `default/1 ${kind}`, 0])
  })
}

test('a zone whose addresses are all denied now is withdrawn', () => {
  learn('1')
  say('zone1', positive('zone1', []))
  assert.equal(changes.at(-1), 'default/1 denied')
})

test('while nameservers fail the stale addresses stay published until they are too old', () => {
  learn('1')
  expiresAtMs = nowMs - 10 * SECOND
  say('zone1', positive('zone1', ['10.0.0.1'], 0, true))
  assert.equal(published.get('default/1')?.staleAtMs, expiresAtMs + OPTIONS.staleMs)
  nowMs = expiresAtMs + OPTIONS.staleMs
  zones.reported(ref('1'), { requests: 1, errors: 0 })
  zones.sweep()
  assert.deepEqual([published.size, changes.at(-1)], [0, 'default/1 stale'])
})

test('a failure with nothing stale left withdraws the zone: its requests get the reason from the cold path', () => {
  learn('1')
  say('zone1', { kind: 'failure', name: 'zone1', cause: 'nameservers_failed', tries: [] })
  assert.equal(changes.at(-1), 'default/1 stale')
})

test('a sweep renews how long the addresses are good', () => {
  learn('1')
  expiresAtMs += 60 * SECOND
  zones.sweep()
  assert.equal(published.get('default/1')?.staleAtMs, expiresAtMs + OPTIONS.staleMs)
})

test('a zone without requests for the idle time goes cold; load reports with requests keep it', () => {
  learn('1')
  learn('2')
  nowMs += OPTIONS.idleMs - 1
  zones.reported(ref('1'), { requests: 1, errors: 0 })
  zones.reported(ref('2'), { requests: 0, errors: 0 })
  nowMs += 1
  expiresAtMs = nowMs
  zones.sweep()
  assert.deepEqual([...published.keys()], ['default/1'])
  assert.equal(changes.at(-1), 'default/2 idle')
})

test('errors make the name be asked again', () => {
  learn('1')
  zones.reported(ref('1'), { requests: 1, errors: 2 })
  assert.deepEqual(refreshed, ['zone1'])
})

test('beyond zonesMax the least recently used zone makes room', () => {
  for (const id of ['1', '2', '3']) {
    learn(id)
    nowMs += SECOND
  }
  nowMs += OPTIONS.busyMs
  zones.reported(ref('1'), { requests: 1, errors: 0 })
  learn('4')
  assert.deepEqual([...published.keys()].sort(), ['default/1', 'default/3', 'default/4'])
})

test('a busy zone is never pushed out', () => {
  for (const id of ['1', '2', '3']) learn(id)
  learn('4')
  assert.deepEqual([...published.keys()].sort(), ['default/1', 'default/2', 'default/3'])
})

test('a scan over names that all resolve learns nothing and pushes nothing out', () => {
  for (const id of ['1', '2', '3']) learn(id)
  nowMs += OPTIONS.busyMs
  for (let i = 0; i < 1000; i += 1) ask(`scan${i}`)
  assert.deepEqual([...published.keys()].sort(), ['default/1', 'default/2', 'default/3'])
})

test('zones that an Envoy brings along are kept while nothing is known, and published once they resolve', () => {
  zones.found([ref('1'), ref('2')])
  assert.deepEqual([published.size, withdrawn, zones.size], [0, [], 2])
  zones.sweep()
  assert.deepEqual(withdrawn, [])
  say('zone1', positive('zone1'))
  say('zone2', { kind: 'nxdomain', name: 'zone2', ttlSeconds: 5, nameserver: 'n' })
  assert.deepEqual([[...published.keys()], withdrawn], [['default/1'], ['default/2']])
})

test('a found zone whose nameservers do not answer is kept for the stale time, and no longer', () => {
  zones.found([ref('1')])
  say('zone1', { kind: 'failure', name: 'zone1', cause: 'timeout', tries: [] })
  assert.deepEqual(withdrawn, [])
  zones.reported(ref('1'), { requests: 1, errors: 0 })
  nowMs += OPTIONS.staleMs
  zones.reported(ref('1'), { requests: 1, errors: 0 })
  zones.sweep()
  assert.deepEqual(withdrawn, ['default/1'])
})

test('a found zone that the rules do not have is withdrawn at once', () => {
  zones.found([{ service: 'gone', id: '1' }, ref('a b')])
  assert.deepEqual([withdrawn, zones.size], [['gone/1', 'default/a b'], 0])
})

test('forgetting all withdraws all', () => {
  for (const id of ['1', '2']) learn(id)
  zones.forgetAll()
  assert.deepEqual([published.size, listeners.size], [0, 0])
})

test('closing lets go of names and withdraws nothing: Envoys keep what they have', () => {
  learn('1')
  zones.close()
  assert.deepEqual([withdrawn, listeners.size, published.size], [[], 0, 1])
})
