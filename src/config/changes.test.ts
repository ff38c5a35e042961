import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import { changesOf, withoutSecrets } from './changes.ts'

suite('what differs between two configurations', () => {
  test('is told by key, with the value before and after; a list as one', () => {
    const before = { dns: { budgetMs: 400, nameservers: ['a'] }, rules: [{ port: 1 }], same: 1 }
    const after = { dns: { budgetMs: 500, nameservers: ['a', 'b'] }, rules: [{ port: 2 }], same: 1 }
    assert.deepEqual(changesOf(before, after), [
      { key: 'dns.budgetMs', before: 400, after: 500 },
      { key: 'dns.nameservers', before: ['a'], after: ['a', 'b'] },
      { key: 'rules', before: [{ port: 1 }], after: [{ port: 2 }] },
    ])
  })

  test('is what is gone, too, and what was not there', () => {
    const before = { zones: { 12: { as: '7' } } }
    const after = { zones: { 13: { as: '8' } } }
    assert.deepEqual(changesOf(before, after), [
      { key: 'zones.12', before: { as: '7' }, after: undefined },
      { key: 'zones.13', before: undefined, after: { as: '8' } },
    ])
    assert.deepEqual(
      changesOf({}, { constructor: 1 }).map(({ key }) => key),
      ['constructor'],
    )
  })

  test('holds no secret', () => {
    const listen = { http: 'h', httpToken: 'a'.repeat(16) }
    assert.deepEqual(changesOf({ listen: { ...listen, httpToken: null } }, { listen }), [
      { key: 'listen.httpToken', before: null, after: '(secret)' },
    ])
    assert.deepEqual(withoutSecrets({ listen }), { listen: { http: 'h', httpToken: '(secret)' } })
  })
})
