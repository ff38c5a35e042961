import assert from 'node:assert/strict'
import { test } from 'node:test'
import { worldOf as worldWithoutDns } from '../../test/support/worlds.ts'
import type { Answer } from '../dns/answer.ts'
import type { World } from './outcome.ts'
import { diffZones, type ZoneDiff } from './zones.ts'

type Raw = Readonly<Record<string, unknown>>
const worldOf = (raw: Raw): World => ({
  ...worldWithoutDns(raw),
  answerOf: async (name): Promise<Answer> => ({
    kind: 'positive',
    name,
    addresses: ['10.0.0.1'],
    denied: [],
    ttlSeconds: 5,
    stale: false,
  }),
})
const ruleOf = (idPattern: string): Raw => ({
  rules: { idPattern, services: { mail: { paths: ['/mail'] }, default: {} } },
})
const diff = (before: Raw, after: Raw, ...ids: string[]): Promise<ZoneDiff[]> =>
  diffZones(
    ids.map((id) => ({ service: 'mail', id, requestsPerSecond: 1, route: 'cold' })),
    { before: worldOf(before), after: worldOf(after), coldAfter: () => null },
  )
const WIDE = ruleOf('^[0-9]+$')
const NARROW = ruleOf('^1$')
const WITHOUT = { rules: { services: { default: {} } } }

test('a zone in use that the saved rules no longer have would be forwarded again by the rules before', async () => {
  for (const saved of [NARROW, WITHOUT]) {
    const found = await diff(saved, WIDE, '7')
    assert.deepEqual(
      found.map(({ id }) => id),
      ['7'],
    )
  }
})

test('the samples of a zone that the rules in force lack are not those of its service', async () => {
  const found = await diff(NARROW, { rules: { ...(WIDE['rules'] as Raw), header: 'x-zone' } }, '7', '1')
  assert.deepEqual(
    found.map(({ id, changes }) => [id, changes.map(({ change }) => change)]),
    [
      ['7', ['forwarded']],
      ['1', ['refused']],
    ],
  )
})

test('a zone that neither rules have does not change', async () => {
  assert.deepEqual(await diff(NARROW, NARROW, '7'), [])
  assert.deepEqual(await diff(WITHOUT, WITHOUT, '7'), [])
})
