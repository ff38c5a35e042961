import assert from 'node:assert/strict'
import { test } from 'node:test'
import { fieldChanges } from './field-changes.ts'

const routes = (seconds: number, ...names: string[]): object => ({
  virtual_hosts: [{ name: 'cold', routes: names.map((name) => ({ name, route: { timeout: { seconds } } })) }],
})

test('a change has the path of its field, and a duration as text', () => {
  assert.deepEqual(fieldChanges(routes(2, 'forward'), routes(5, 'forward'), ''), [
    { field: 'virtual_hosts[cold].routes[forward].route.timeout', before: '2s', after: '5s' },
  ])
})

test('an added route is one change, and a route that only moves adds none', () => {
  const changes = fieldChanges(routes(2, 'forward'), routes(2, 'first', 'forward'), '')
  assert.deepEqual(
    changes.map(({ field, before }) => [field, before]),
    [['virtual_hosts[cold].routes[first]', null]],
  )
})

test('routes in another order are a change', () => {
  assert.deepEqual(
    fieldChanges(routes(2, 'a', 'b'), routes(2, 'b', 'a'), '').map(({ field }) => field),
    ['virtual_hosts[cold].routes'],
  )
})

test('octets are one value, and a long text is cut', () => {
  const [change] = fieldChanges({ value: Buffer.from('a') }, { value: Buffer.from('b'.repeat(500)) }, 'x')
  assert.equal(change?.field, 'x.value')
  assert.ok((change?.after?.length ?? 0) <= 121)
})
