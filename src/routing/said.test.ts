import assert from 'node:assert/strict'
import { test } from 'node:test'
import { rulesOf } from '../config/rules.ts'
import { configSchema } from '../config/schema.ts'
import { saidEntries } from '../config/zones.ts'
import type { Answer } from '../dns/answer.ts'
import { createDecider, type Decision } from './decision.ts'
import { addressPolicy } from './denied-addresses.ts'
import { isZone, servicesOf, zoneOf, zoneOfRef } from './rules.ts'
import { NOTHING_SAID, type SaidEntry, type SaidOfZones, saidOfZones } from './said.ts'

const RULES = [
  { name: 'pay', match: { paths: ['/pay/*'] }, services: { fast: { paths: ['/pay/f'] }, slow: {} } },
  { name: 'chat', port: 9000 },
]
const config = configSchema.parse({ rules: RULES })
const rules = rulesOf(config)

const entriesOf = (zones: object): SaidEntry[] =>
  saidEntries(configSchema.parse({ rules: RULES, zones }).zones)
const saidBy = (zones: object, pins: SaidEntry[] = []): SaidOfZones =>
  saidOfZones([...entriesOf(zones), ...pins], rules.flatMap(servicesOf), addressPolicy([]))
const pin = (key: string, address: string): SaidEntry => {
  const [entry] = entriesOf({ [key]: { addresses: ['10.0.0.1'] } })
  assert.ok(entry)
  const by = { who: 'ada', because: 'x', untilMs: 1 }
  return { ...entry, says: { kind: 'pinned', addresses: [{ address, port: null }], by } }
}
const headOf = (id: string, path: string) => ({
  method: 'POST',
  path,
  authority: 'cb.test',
  headers: { server: [id] },
})

/** Where a request goes: to an address, or why to none. Of names, only what DNS knows is there. */
const goes = (said: SaidOfZones, id: string, path = '/', inDns: readonly string[] = []): string => {
  const asked: string[] = []
  const lookup = (name: string): Answer => {
    asked.push(name)
    return inDns.includes(name)
      ? { kind: 'positive', name, addresses: ['10.1.1.1'], denied: [], ttlSeconds: 5, stale: false }
      : { kind: 'nxdomain', name, ttlSeconds: 5, nameserver: 'n' }
  }
  const decide = createDecider(rules, () => 's.test', lookup, { said: () => said })
  const made = decide(headOf(id, path)) as Decision
  return [made.kind === 'forward' ? made.authority : made.reason, ...asked].join(' ')
}

const CASES: [what: string, zones: object, pins: SaidEntry[], id: string, path: string, expected: string][] =
  [
    ['nothing', { 8: { addresses: ['10.0.0.8'] } }, [], '7', '/', 'name_not_found zone7-chat.s.test'],
    [
      'pinned, with the port of each service',
      { 7: { addresses: ['10.0.0.7'] } },
      [],
      '7',
      '/',
      '10.0.0.7:9000',
    ],
    ['pinned to a port', { 7: { addresses: ['10.0.0.7:1'] } }, [], '7', '/', '10.0.0.7:1'],
    ['pinned, whatever the case', { ab: { addresses: ['10.0.0.7'] } }, [], 'AB', '/', '10.0.0.7:9000'],
    ['pinned as a list', { '6, 7-9': { addresses: ['10.0.0.7'] } }, [], '9', '/', '10.0.0.7:9000'],
    [
      'a range does not have ids that look like its numbers',
      { '6-9': { addresses: ['10.0.0.7'] } },
      [],
      '07',
      '/',
      'name_not_found zone07-chat.s.test',
    ],
    [
      'a rule, for all its services',
      { 'pay/7': { addresses: ['10.0.0.7'] }, 7: { addresses: ['10.0.0.8'] } },
      [],
      '7',
      '/pay/f',
      '10.0.0.7:8101',
    ],
    [
      'a rule, and no other',
      { 'pay/7': { addresses: ['10.0.0.7'] }, 7: { addresses: ['10.0.0.8'] } },
      [],
      '7',
      '/',
      '10.0.0.8:9000',
    ],
    [
      'a service before its rule',
      { 'pay.fast/7': { addresses: ['10.0.0.9'] }, 'pay/7': { addresses: ['10.0.0.7'] } },
      [],
      '7',
      '/pay/f',
      '10.0.0.9:8101',
    ],
    [
      'a pin by command before all of zones',
      { 'pay.fast/7': { addresses: ['10.0.0.9'] } },
      [pin('7', '10.0.0.1')],
      '7',
      '/pay/f',
      '10.0.0.1:8101',
    ],
    [
      'a pin by command before a maintenance',
      { 7: { maintenance: 'x' } },
      [pin('7', '10.0.0.1')],
      '7',
      '/',
      '10.0.0.1:9000',
    ],
    ['in maintenance', { 7: { maintenance: 'x' } }, [], '7', '/', 'maintenance'],
    ['merged', { 7: { as: '8' } }, [], '7', '/', '10.1.1.1:9000 zone8-chat.s.test'],
    [
      'merged by a range that has the other in it',
      { '7-8': { as: '8' } },
      [],
      '8',
      '/',
      '10.1.1.1:9000 zone8-chat.s.test',
    ],
    [
      'merged into one in maintenance',
      { 7: { as: '8' }, 8: { maintenance: 'x' } },
      [],
      '7',
      '/',
      'maintenance',
    ],
    ['merged into a pinned one', { 7: { as: '8' } }, [pin('8', '10.0.0.1')], '7', '/', '10.0.0.1:9000'],
    [
      'not in DNS',
      { '*': { fallback: '8' } },
      [],
      '7',
      '/',
      '10.1.1.1:9000 zone7-chat.s.test zone8-chat.s.test',
    ],
    [
      'not in DNS, nor is the other',
      { '*': { fallback: '9' } },
      [],
      '7',
      '/',
      'name_not_found zone7-chat.s.test zone9-chat.s.test',
    ],
    [
      'not in DNS, and the other is pinned',
      { '*': { fallback: '9' }, 9: { addresses: ['10.0.0.9'] } },
      [],
      '7',
      '/',
      '10.0.0.9:9000 zone7-chat.s.test',
    ],
    [
      'not in DNS, of another service',
      { 'pay/*': { fallback: '8' } },
      [],
      '7',
      '/',
      'name_not_found zone7-chat.s.test',
    ],
  ]
for (const [what, zones, pins, id, path, expected] of CASES)
  test(`what is said of a zone: ${what}`, () =>
    assert.equal(goes(saidBy(zones, pins), id, path, ['zone8-chat.s.test']), expected))

test('what fails in DNS goes to no fallback: only a name that is not there does', () => {
  const said = saidBy({ '*': { fallback: '8' } })
  for (const answer of [
    { kind: 'nodata', name: 'n', ttlSeconds: 5, nameserver: 'n' },
    { kind: 'failure', name: 'n', cause: 'timeout', tries: [] },
  ] as const) {
    const decide = createDecider(
      rules,
      () => 's.test',
      () => answer,
      { said: () => said },
    )
    assert.equal((decide(headOf('7', '/')) as Decision).zone?.id, '7')
  }
})

test('a denied address is not used, whoever pinned it', () => {
  const zones = [pin('7', '169.254.169.254'), pin('8', '127.0.0.1')]
  for (const id of ['7', '8']) assert.equal(goes(saidBy({}, zones), id), 'address_denied')
})

test('a zone is merged into an id of its rule, or it is no zone', () => {
  for (const id of ['a.b', '', '-', 'evil.example', 'x'.repeat(41), 'a/b']) {
    const entry: SaidEntry = { key: 'zones.7', place: null, ids: ['7'], says: { kind: 'merged', as: id } }
    const said = saidOfZones([entry], rules.flatMap(servicesOf), () => true)
    const outcome = zoneOf(headOf('7', '/'), rules, 's.test', said)
    assert.ok(!isZone(outcome), JSON.stringify(outcome))
    assert.equal(outcome.reason, 'server_header_invalid')
    assert.equal(zoneOfRef('chat', '7', rules, 's.test', said), null)
  }
})

test('the ids that are merged into another', () => {
  const chat = rules.flatMap(servicesOf).find(({ name }) => name === 'chat')
  assert.ok(chat)
  const said = saidBy({ '1-3': { as: '3' }, 'chat/5': { as: '3' }, 'pay/6': { as: '3' } })
  assert.deepEqual(said.mergedInto(chat, '3').sort(), ['1', '2', '5'])
  assert.deepEqual(NOTHING_SAID.mergedInto(chat, '3'), [])
})
