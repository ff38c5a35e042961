import assert from 'node:assert/strict'
import { test } from 'node:test'
import { rulesOf } from '../config/rules.ts'
import { configSchema } from '../config/schema.ts'
import type { Rules } from '../routing/rules.ts'
import { canShareRoutes, withEarlier, type ZoneOfKey, zonesOfKeys, zonesOfKeysIn } from './zone-of-key.ts'

// What Envoy makes of the script: test/e2e/odd-requests.test.ts, for each place of an id.

const parsed = (rules: unknown, learned: object = { sharedRoutes: true }): Rules =>
  rulesOf(configSchema.parse({ rules, learned }))
const mayShare = (rules: unknown): boolean[] => parsed(rules).map(canShareRoutes)
const script = (rules: Rules): string => {
  const [plugin] = zonesOfKeys(rules) as unknown as [
    { extension: { typed_config: { source_code: { inline_string: string } } } },
  ]
  return plugin.extension.typed_config.source_code.inline_string
}

test('rules share routes if they are told to, or beyond 5,000 zones', () => {
  const isShared = (learned: object): boolean => zonesOfKeys(parsed({}, learned)).length > 0
  assert.equal(isShared({}), false)
  assert.equal(isShared({ zonesMax: 5000 }), false)
  assert.equal(isShared({ zonesMax: 5001 }), true)
  assert.equal(isShared({ sharedRoutes: true }), true)
  assert.equal(isShared({ zonesMax: 5001, sharedRoutes: false }), false)
})

test('each place of an id has a fixed length in front of it', () => {
  assert.match(script(parsed({ id: { header: 'server' } })), /\["\/"\] = 1 [\s\S]*"default\/" \.\./)
  assert.match(script(parsed({ id: { path: '/cb/{id}/*' } })), /\[":"\] = 5 /)
  assert.match(script(parsed({ id: { host: 'z{id}.cb.test' } })), /\["@"\] = 2 /)
  assert.match(script(parsed({ id: { cookie: 'zone' } })), /\[";"\] = 6 /)
  const list = [{ name: 'a', id: [{ cookie: 'z' }, { query: 'z' }, { header: 'z' }, { json: '/z' }] }]
  assert.match(script(parsed(list)), /\{ \[";"\] = 3, \["\/"\] = 1 \}/)
})

test('an id with a letter behind it, or in one of two places with different texts in front: its rule shares nothing', () => {
  assert.deepEqual(mayShare({ id: { path: '/cb/{id}/*' } }), [true])
  assert.deepEqual(mayShare({ id: { path: '/cb/{id}-x/*' } }), [false])
  assert.deepEqual(mayShare({ id: { host: '{id}x.cb.test' } }), [false])
  const paths = (second: string) => [{ name: 'a', id: [{ path: '/a/{id}/*' }, { path: second }] }]
  assert.deepEqual(mayShare(paths('/b/{id}/*')), [true])
  assert.deepEqual(mayShare(paths('/bb/{id}/*')), [false])
  assert.deepEqual(zonesOfKeys(parsed(paths('/bb/{id}/*'))), [])
})

test('a script has a name of its own, which another rule does not change', () => {
  const names = (rules: unknown): string[] =>
    zonesOfKeys(parsed(rules)).map(({ extension }) => extension.name)
  const rule = (name: string, path: string) => ({ name, match: { paths: [`/${name}*`] }, id: { path } })
  const [a] = names([rule('a', '/a/{id}/*')])
  assert.deepEqual(names([rule('a', '/a/{id}/*'), rule('b', '/b/{id}/*')])[0], a)
  assert.notEqual(names([rule('a', '/ab/{id}/*')])[0], a)
  assert.notEqual(names([{ ...rule('a', '/a/{id}/*'), services: { other: {} } }])[0], a)
  assert.notEqual(names({ id: { path: '/a/{id}/*' } })[0], a)
})

test('earlier scripts stay, a few of them', () => {
  const plugin = (name: string): ZoneOfKey => ({
    extension: { name: `zonegate.zone_of_key.${name}`, typed_config: {} },
  })
  const names = (plugins: readonly ZoneOfKey[]): string =>
    plugins.map(({ extension }) => extension.name.slice(-1)).join('')
  const rendered = (plugins: readonly ZoneOfKey[]): string =>
    JSON.stringify({
      resources: [{ cluster_specifier_plugins: [...plugins, { extension: { name: 'own' } }] }],
    })
  let text = rendered([])
  for (const name of 'abcdefghijkk') text = rendered(withEarlier([plugin(name)], zonesOfKeysIn(text)))
  assert.equal(names(zonesOfKeysIn(text)), 'kjihgfedc')
  assert.deepEqual(zonesOfKeysIn('resources: []'), [])
})
