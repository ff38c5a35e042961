import assert from 'node:assert/strict'
import { describe, it } from 'node:test'

const { filterZones, sortZones, zoneView } = await import(new URL('zone-list.js', import.meta.url).href)

interface View {
  readonly id: string
}

function zone(id: string, change: object = {}): View {
  return zoneView({
    service: 'default',
    id,
    name: `zone${id}-default.game.test`,
    state: 'fresh',
    addresses: [`10.0.0.${id}`],
    expiresAt: 1000,
    route: 'hot',
    envoys: ['edge'],
    requestsPerSecond: 0,
    history: [],
    errors: 0,
    ...change,
  })
}

const ids = (zones: readonly View[]): string[] => zones.map(({ id }) => id)

describe('the order of zones', () => {
  const cases: readonly (readonly [column: string, direction: string, zones: View[], wanted: string[]])[] = [
    ['id', 'ascending', [zone('10'), zone('9'), zone('100')], ['9', '10', '100']],
    ['id', 'ascending', [zone('a10'), zone('a9'), zone('7')], ['7', 'a9', 'a10']],
    ['id', 'descending', [zone('10'), zone('9'), zone('100')], ['100', '10', '9']],
    [
      'addresses',
      'ascending',
      [zone('1', { addresses: ['10.0.0.10'] }), zone('2', { addresses: ['10.0.0.9'] })],
      ['2', '1'],
    ],
    ['addresses', 'ascending', [zone('1'), zone('2', { addresses: [] })], ['2', '1']],
    [
      'state',
      'ascending',
      [zone('1'), zone('2', { state: 'stale' }), zone('3', { state: 'failed' })],
      ['3', '2', '1'],
    ],
    [
      'ttl',
      'ascending',
      [zone('1', { expiresAt: 9 }), zone('2', { expiresAt: 8 }), zone('3', { expiresAt: null })],
      ['3', '2', '1'],
    ],
    [
      'rate',
      'descending',
      [zone('1', { requestsPerSecond: 0.5 }), zone('2', { requestsPerSecond: 30 })],
      ['2', '1'],
    ],
    [
      'errors',
      'descending',
      [zone('1', { errors: 1 }), zone('2', { errors: 2 }), zone('3')],
      ['2', '1', '3'],
    ],
    ['rate', 'descending', [zone('3'), zone('1'), zone('2')], ['1', '2', '3']],
  ]
  for (const [key, direction, zones, wanted] of cases) {
    it(`by ${key}, ${direction}: ${ids(zones)} is ${wanted}`, () =>
      assert.deepEqual(ids(sortZones(zones, { key, direction })), wanted))
  }
})

describe('a search', () => {
  const zones = [
    zone('1'),
    zone('12', { state: 'stale', service: 'mail', name: 'zone12-mail.game.test' }),
    zone('3', { route: 'cold', errors: 2 }),
    zone('4', { state: 'nxdomain', route: 'cold', addresses: [] }),
    zone('5', { state: 'uncached', route: 'cold' }),
  ]
  const cases: readonly (readonly [search: string, show: string, wanted: string[]])[] = [
    ['', 'all', ['1', '12', '3', '4', '5']],
    ['uncached', 'all', ['5']],
    ['ZONE1', 'all', ['1', '12']],
    ['mail stale', 'all', ['12']],
    ['10.0.0.3', 'all', ['3']],
    ['nowhere', 'all', []],
    ['', 'hot', ['1', '12']],
    ['', 'cold', ['3', '4', '5']],
    ['', 'stale', ['12']],
    ['', 'unresolved', ['4']],
    ['', 'errors', ['3']],
    ['zone4', 'unresolved', ['4']],
    ['zone1', 'unresolved', []],
  ]
  for (const [search, show, wanted] of cases) {
    it(`for "${search}" among ${show} finds ${wanted.join(', ') || 'nothing'}`, () =>
      assert.deepEqual(ids(filterZones(zones, { search, show })), wanted))
  }
})
