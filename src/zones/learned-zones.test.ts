import assert from 'node:assert/strict'
import { beforeEach, test } from 'node:test'
import type { Answer } from '../dns/answer.ts'
import {
  LearnedZones,
  type LearnedZonesSeams,
  type PublishedZone,
  type ZoneChange,
  type ZonePlace,
} from './learned-zones.ts'

const SECOND = 1000
const OPTIONS = { zonesMax: 3, idleMs: 600 * SECOND, staleMs: 3600 * SECOND, busyMs: 10 * SECOND }

/** A DNS of names with answers, as `keep` shows them; the clock is the test's. */
let nowMs: number
let answers: Map<string, Answer | null>
let listeners: Map<string, (answer: Answer) => void>
let expiresAtMs: number
let published: Map<string, PublishedZone>
let withdrawn: string[]
let answered: Set<string>
let changes: string[]
let refreshed: string[]
let zones: LearnedZones
let seams: LearnedZonesSeams
let unproven: string[]

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
  answered = new Set()
  changes = []
  refreshed = []
  unproven = []
  seams = {
    now: () => nowMs,
    resolveRef: ({ service, id }) =>
      service === 'default' && /^\w+$/.test(id) ? { name: `zone${id}`, port: 8101, isAnswered: false } : null,
    dns: {
      keep: (name, onChange, inUse) => {
        if (!inUse) unproven.push(name)
        listeners.set(name, onChange)
        return {
          name,
          current: () => answers.get(name) ?? null,
          expiresAtMs: () => expiresAtMs,
          release: () => {
            if (listeners.get(name) === onChange) listeners.delete(name)
          },
        }
      },
      refresh: (name) => void refreshed.push(name),
    },
    publish: (zone) => void published.set(keyOf(zone), zone),
    publishAnswered: (zone) => void answered.add(keyOf(zone)),
    withdraw: (zone) => {
      published.delete(keyOf(zone))
      answered.delete(keyOf(zone))
      withdrawn.push(keyOf(zone))
    },
    onChange: (zone, change: ZoneChange) => void changes.push(`${keyOf(zone)} ${change}`),
  }
  zones = new LearnedZones(OPTIONS, seams)
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

/** All zones at once. */
function takeOver(next: LearnedZones, before: LearnedZones): void {
  next.takeOver(before, false)
  while (next.takeOverStep());
}

/** A whole sweep. */
function sweep(zones: LearnedZones): void {
  while (zones.sweepStep());
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

test('a zone with TTL 0 stays cold, too, while its last addresses serve stale', () => {
  answers.set('zone1', positive('zone1', ['10.0.0.1'], 0, true))
  ask('1')
  ask('1')
  assert.deepEqual([published.size, changes], [0, []])
  zones.found([{ service: 'default', id: '1' }])
  assert.deepEqual([published.size, changes], [0, ['default/1 adopted', 'default/1 uncacheable']])
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
  say('zone1', positive('zone1', ['10.0.0.1'], 1, true))
  assert.equal(published.get('default/1')?.staleAtMs, expiresAtMs + OPTIONS.staleMs)
  nowMs = expiresAtMs + OPTIONS.staleMs
  zones.reported(ref('1'), { requests: 1, errors: 0 })
  sweep(zones)
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
  sweep(zones)
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
  sweep(zones)
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
  sweep(zones)
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
  sweep(zones)
  assert.deepEqual(withdrawn, ['default/1'])
})

test('a found zone that the rules do not have is withdrawn at once', () => {
  zones.found([{ service: 'gone', id: '1' }, ref('a b')])
  assert.deepEqual([withdrawn, zones.size], [['gone/1', 'default/a b'], 0])
})

test('forgetting all withdraws all', () => {
  for (const id of ['1', '2']) learn(id)
  zones.forgetAll('renamed')
  assert.deepEqual([published.size, listeners.size], [0, 0])
})

test('closing lets go of names and withdraws nothing: Envoys keep what they have', () => {
  learn('1')
  zones.close()
  assert.deepEqual([withdrawn, listeners.size, published.size], [[], 0, 1])
})

test('zones that Envoys bring along are bounded by zonesMax, and only DNS shows that their names are in use', () => {
  for (let envoy = 0; envoy < 50; envoy += 1)
    zones.found(Array.from({ length: 10 }, (_, at) => ref(`e${envoy}z${at}`)))
  assert.equal(zones.size, OPTIONS.zonesMax)
  assert.equal(withdrawn.length, 500 - OPTIONS.zonesMax)
  assert.deepEqual(
    [changes.at(-1), unproven],
    ['default/e49z9 evicted', ['zonee0z0', 'zonee0z1', 'zonee0z2']],
  )
})

test('a closed set refuses everything and holds nothing', () => {
  learn('1')
  ask('2')
  zones.close()
  published.clear()
  const told = [changes.length, withdrawn.length]
  learn('2')
  learn('3')
  zones.found([ref('4')])
  zones.reported(ref('1'), { requests: 1, errors: 1 })
  sweep(zones)
  zones.forgetAll('renamed')
  assert.deepEqual([zones.size, listeners.size, published.size, refreshed], [0, 0, 0, []])
  assert.deepEqual([changes.length, withdrawn.length], told)
})

const successor = (changed: Partial<LearnedZonesSeams> = {}, options = OPTIONS): LearnedZones => {
  const next = new LearnedZones(options, { ...seams, ...changed })
  takeOver(next, zones)
  return next
}

test('the second request of a zone learns it, though the set that saw the first one was replaced in between', () => {
  answers.set('zone1', positive('zone1'))
  ask('1')
  const next = successor({ resolveRef: () => ({ name: 'zone1', port: 9000, isAnswered: false }) })
  zones.used(ref('1'), positive('zone1')) // who waited for DNS meanwhile and still knows the old set
  assert.deepEqual([published.size, zones.size], [0, 0])
  next.used(ref('1'), positive('zone1'))
  assert.equal(published.get('default/1')?.port, 9000)
})

test('a set that takes over publishes with its own ports, and the old one holds no name', () => {
  learn('1')
  learn('2')
  const next = successor({ resolveRef: ({ id }) => ({ name: `zone${id}`, port: 9000, isAnswered: false }) })
  assert.deepEqual(
    [...published.values()].map(({ port }) => port),
    [9000, 9000],
  )
  assert.deepEqual([zones.size, next.size, listeners.size, withdrawn], [0, 2, 2, []])
})

test('a zone with another name, or another port and addresses that are not known, is taken back at once and soon learned again', () => {
  learn('1')
  learn('2')
  answers.delete('zone2')
  const next = successor({
    resolveRef: ({ id }) => ({ name: id === '1' ? 'other' : 'zone2', port: 9000, isAnswered: false }),
  })
  assert.deepEqual([withdrawn.sort(), next.size], [['default/1', 'default/2'], 0])
  answers.set('other', positive('other', ['10.0.0.7']))
  next.used(ref('1'), positive('other'))
  assert.deepEqual(published.get('default/1')?.addresses, ['10.0.0.7'])
})

test('the most recently used zones are taken over, with when that was', () => {
  for (const id of ['1', '2', '3']) learn(id)
  nowMs += OPTIONS.idleMs - 1
  zones.reported(ref('1'), { requests: 1, errors: 0 })
  const next = successor({}, { ...OPTIONS, zonesMax: 2 })
  assert.deepEqual(withdrawn, ['default/2'])
  nowMs += 1
  sweep(next)
  assert.deepEqual(
    [...next.zones()].map(({ id }) => id),
    ['1'],
  )
})

test('why a zone is not learned: not asked for, asked for once, no room', () => {
  const why = (id: string): string | null => zones.whyNot(ref(id))
  assert.equal(why('1'), 'not_asked')
  ask('1')
  assert.equal(why('1'), 'asked_once')
  ask('1')
  assert.equal(why('1'), null)
  ask('9')
  nowMs += OPTIONS.idleMs
  assert.equal(why('9'), 'not_asked')
  sweep(zones)
  for (const id of ['2', '3', '4']) learn(id)
  assert.equal(why('9'), 'zones_max')
  ask('9')
  ask('9')
  assert.equal(why('9'), 'zones_max')
  nowMs += OPTIONS.busyMs
  assert.equal(why('9'), 'asked_once')
})

test('a zone that is asked for again and again, each time after too many others, has no room', () => {
  const ids = Array.from({ length: OPTIONS.zonesMax * 2 + 1 }, (_, index) => `n${index}`)
  for (let round = 0; round < 3; round += 1) {
    for (const id of ids) ask(id)
    nowMs += SECOND
  }
  assert.equal(zones.size, 0)
  assert.equal(zones.whyNot(ref('n0')), 'zones_max')
  nowMs += OPTIONS.idleMs
  assert.equal(zones.whyNot(ref('n0')), 'not_asked')
})

/** Where zone 1 goes, in place of what the test's rules say. */
const place = (given: Partial<ZonePlace>): ZonePlace => ({
  name: 'zone1',
  port: 8101,
  isAnswered: false,
  ...given,
})
const pinnedTo = (address: string, untilMs = Number.POSITIVE_INFINITY): Partial<ZonePlace> => ({
  pinned: { answer: positive('zone1', [address]), untilMs },
})
let said: Partial<ZonePlace>
const withSaid = (given: Partial<ZonePlace>): void => {
  said = given
  zones = new LearnedZones(OPTIONS, { ...seams, resolveRef: () => place(said) })
}

test('a pinned zone is learned with its addresses and without an end, and DNS is not asked', () => {
  withSaid(pinnedTo('10.9.9.9'))
  ask('1')
  ask('1')
  assert.deepEqual(published.get('default/1')?.addresses, ['10.9.9.9'])
  assert.equal(published.get('default/1')?.staleAtMs, Number.POSITIVE_INFINITY)
  zones.reported(ref('1'), { requests: 1, errors: 1 })
  assert.deepEqual([listeners.size, refreshed], [0, []])
})

test('a pin for a time is good for Envoys as long as addresses of DNS are past theirs', () => {
  withSaid(pinnedTo('10.9.9.9', nowMs + 5 * SECOND))
  ask('1')
  ask('1')
  assert.equal(published.get('default/1')?.staleAtMs, nowMs + 5 * SECOND + OPTIONS.staleMs)
})

test('a learned zone that is pinned has the new addresses at once, and nothing is withdrawn', () => {
  withSaid({})
  learn('1')
  said = pinnedTo('10.9.9.9')
  zones.placed(ref('1'))
  assert.deepEqual(published.get('default/1')?.addresses, ['10.9.9.9'])
  said = pinnedTo('10.9.9.8')
  zones.placed(ref('1'))
  assert.deepEqual(published.get('default/1')?.addresses, ['10.9.9.8'])
  assert.deepEqual([withdrawn, listeners.size, zones.size], [[], 0, 1])
})

test('once the pin is over DNS counts: what it knows at once, else the next request asks', () => {
  withSaid(pinnedTo('10.9.9.9'))
  ask('1')
  ask('1')
  answers.set('zone1', positive('zone1', ['10.0.0.7']))
  said = {}
  zones.placed(ref('1'))
  assert.deepEqual([published.get('default/1')?.addresses, withdrawn], [['10.0.0.7'], []])
  said = pinnedTo('10.9.9.9')
  zones.placed(ref('1'))
  answers.clear()
  said = {}
  zones.placed(ref('1'))
  assert.deepEqual([withdrawn, zones.size], [['default/1'], 0])
  zones.used(ref('1'), positive('zone1')) // it is known to be in use
  assert.equal(zones.size, 1)
})

test('a pin to denied addresses takes the zone back', () => {
  withSaid({})
  learn('1')
  said = { pinned: { answer: positive('zone1', []), untilMs: Number.POSITIVE_INFINITY } }
  zones.placed(ref('1'))
  assert.deepEqual([withdrawn, changes.at(-1)], [['default/1'], 'default/1 denied'])
})

test('a zone in maintenance is learned at its second request, answered by Envoys, and idle as others are', () => {
  withSaid({ isAnswered: true })
  zones.used(ref('1'), null)
  zones.used(ref('1'), null)
  assert.deepEqual([[...answered], published.size, listeners.size], [['default/1'], 0, 0])
  nowMs += OPTIONS.idleMs
  sweep(zones)
  assert.deepEqual([withdrawn, changes.at(-1)], [['default/1'], 'default/1 idle'])
})

test('a zone that goes into maintenance, or out of it, or is merged, is taken back and learned at its next request', () => {
  for (const next of [{ isAnswered: true }, {}, { name: 'zone2' }]) {
    zones = new LearnedZones(OPTIONS, {
      ...seams,
      resolveRef: () => place(next.isAnswered ? {} : { isAnswered: true }),
    })
    learn('1')
    withdrawn = []
    const after = new LearnedZones(OPTIONS, { ...seams, resolveRef: () => place(next) })
    answers.set('zone2', positive('zone2'))
    takeOver(after, zones)
    assert.deepEqual([withdrawn, after.size], [['default/1'], 0])
    after.used(ref('1'), next.isAnswered ? null : positive('zone1'))
    assert.equal(after.size, 1)
  }
})

test('a sweep of many zones is done in steps, and reaches each zone that was there, also those used meanwhile', () => {
  zones = new LearnedZones({ ...OPTIONS, zonesMax: 1000 }, seams)
  const ids = Array.from({ length: 1000 }, (_, index) => `${index}`)
  for (const id of ids) {
    answers.set(`zone${id}`, positive(`zone${id}`))
    for (const _ of [1, 2]) ask(id)
  }
  published.clear()
  assert.equal(zones.sweepStep(), true)
  const first = published.size
  assert.ok(first > 0 && first <= 300, `${first}`)
  ask('0')
  ask('999')
  zones.used(ref('500'), positive('zone500'))
  for (let steps = 0; zones.sweepStep(); steps++) assert.ok(steps < 10)
  assert.deepEqual([...published.keys()].sort(), ids.map((id) => `default/${id}`).sort())
})

/** Some zones are taken over, the others wait. */
const pending = (
  options = OPTIONS,
  changed: Partial<LearnedZonesSeams> = {},
  samePlaces = false,
): LearnedZones => {
  zones = new LearnedZones({ ...OPTIONS, zonesMax: 100 }, seams)
  for (let id = 0; id < 100; id++) {
    nowMs += 1
    learn(`${id}`)
  }
  published.clear()
  withdrawn = []
  changes = []
  const next = new LearnedZones(options, { ...seams, ...changed })
  next.takeOver(zones, samePlaces)
  return next
}
const finish = (next: LearnedZones): void => {
  while (next.takeOverStep());
}
const MANY = { ...OPTIONS, zonesMax: 100 }
const on9000 = {
  resolveRef: ({ id }: { id: string }) => ({ name: `zone${id}`, port: 9000, isAnswered: false }),
}

test('many zones are taken over in steps; all count, and all are listed meanwhile', () => {
  const next = pending(MANY, on9000)
  assert.deepEqual([zones.size, next.size, [...next.zones()].length, published.size], [0, 100, 100, 0])
  assert.equal(next.takeOverStep(), true)
  assert.ok(published.size > 0 && published.size < 100, `${published.size}`)
  assert.deepEqual([next.size, new Set([...next.zones()].map(({ id }) => id)).size], [100, 100])
  finish(next)
  assert.deepEqual([next.size, published.size, withdrawn, listeners.size], [100, 100, [], 100])
  assert.ok([...published.values()].every(({ port }) => port === 9000))
})

test('a zone that is used, reported, placed or found before its turn is taken over then', () => {
  for (const touch of [
    (next: LearnedZones) => next.used(ref('70'), positive('zone70')),
    (next: LearnedZones) => next.reported(ref('70'), { requests: 1, errors: 0 }),
    (next: LearnedZones) => next.placed(ref('70')),
    (next: LearnedZones) => next.found([ref('70')]),
  ]) {
    const next = pending(MANY, on9000)
    touch(next)
    assert.equal(published.get('default/70')?.port, 9000)
    finish(next)
    assert.deepEqual([next.size, published.size, withdrawn], [100, 100, []])
    next.close()
  }
})

test('a load report of an unused zone takes over nothing, nor does a look at the zone', () => {
  const next = pending(MANY, on9000)
  next.reported(ref('70'), { requests: 0, errors: 0 })
  assert.equal(next.whyNot(ref('70')), null)
  assert.equal(published.size, 0)
})

test('what DNS says meanwhile of a zone that waits is not lost', () => {
  const next = pending(MANY)
  answers.set('zone70', { kind: 'nxdomain', name: 'zone70', ttlSeconds: 5, nameserver: 'a:53' } as Answer)
  listeners.get('zone70')?.(answers.get('zone70') as Answer)
  finish(next)
  assert.deepEqual([withdrawn, next.size], [['default/70'], 99])
})

test('fewer zones fit than before: those used least go, not those used meanwhile', () => {
  const next = pending({ ...OPTIONS, zonesMax: 40 })
  next.used(ref('5'), positive('zone5'))
  finish(next)
  assert.deepEqual([next.size, withdrawn.length], [40, 60])
  assert.equal(next.whyNot(ref('5')), null)
  assert.equal(next.whyNot(ref('99')), null)
  assert.equal(withdrawn.includes('default/6'), true)
})

test('fewer zones fit than before, and Envoys report all of them before their turn: the rest goes all the same', () => {
  const next = pending({ ...OPTIONS, zonesMax: 40 })
  for (let id = 0; id < 100; id++) next.reported(ref(`${id}`), { requests: 1, errors: 0 })
  finish(next)
  assert.deepEqual([next.size, withdrawn.length], [40, 60])
})

test('zones that are taken over keep their order: a zone used meanwhile is the last to go, and keeps no other one in', () => {
  const next = pending(MANY)
  nowMs += MANY.busyMs
  next.used(ref('0'), positive('zone0'))
  finish(next)
  assert.deepEqual(
    [...next.zones()].map(({ id }) => id),
    [...Array.from({ length: 99 }, (_, at) => `${at + 1}`), '0'],
  )
  for (const _ of [1, 2]) next.used(ref('new'), positive('zonenew'))
  assert.deepEqual([next.whyNot(ref('new')), withdrawn], [null, ['default/1']])
})

test('a zone with another name is withdrawn at once, and one that is pinned now is published at once', () => {
  const next = pending(MANY, {
    resolveRef: ({ id }) => ({
      name: id === '90' ? 'other' : `zone${id}`,
      port: 8101,
      isAnswered: false,
      ...(id === '91' && { pinned: { answer: positive('zone91', ['10.9.9.9']), untilMs: nowMs + 1e6 } }),
    }),
  })
  assert.deepEqual(withdrawn, ['default/90'])
  assert.deepEqual(published.get('default/91')?.addresses, ['10.9.9.9'])
  assert.equal(published.size, 1)
  finish(next)
  assert.equal(next.size, 99)
})

test('no zone is looked at when requests go where they went', () => {
  let looked = 0
  const { resolveRef } = seams
  const counting = {
    resolveRef: (zone: { service: string; id: string }) => {
      looked += 1
      return resolveRef(zone)
    },
  }
  const next = pending(MANY, counting, true)
  assert.deepEqual([looked, next.size], [0, 100])
  finish(next)
  assert.deepEqual([looked, next.size, withdrawn], [100, 100, []])
})

test('zones that wait go on in the next configuration but one, can be forgotten, and are released at the end', () => {
  const next = pending(MANY)
  next.takeOverStep()
  const after = new LearnedZones(MANY, { ...seams, ...on9000 })
  after.takeOver(next, false)
  assert.deepEqual([next.size, after.size], [0, 100])
  after.takeOverStep()
  after.forgetAll('rekeyed')
  assert.deepEqual([after.size, withdrawn.length, listeners.size], [0, 100, 0])
  const last = pending(MANY)
  last.takeOverStep()
  last.close()
  assert.deepEqual([last.size, listeners.size, withdrawn], [0, 0, []])
})
