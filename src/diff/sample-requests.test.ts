import assert from 'node:assert/strict'
import { test } from 'node:test'
import { worldOf } from '../../test/support/worlds.ts'
import { samplesOf } from './sample-requests.ts'

type Raw = Readonly<Record<string, unknown>>
const textsOf = (service: string, before: Raw, after: Raw = before): string[] =>
  samplesOf({ service, id: '7' }, worldOf({ rules: before }).rules, worldOf({ rules: after }).rules)
    .map(({ text }) => text)
    .sort()

test('a service with paths has these, and the other one every path that either set of rules names', () => {
  assert.deepEqual(textsOf('mail', {}), ['POST /mail'])
  const pay = { services: { mail: { paths: ['/mail'] }, pay: { paths: ['/pay'] }, default: {} } }
  assert.deepEqual(textsOf('default', {}, pay), ['POST /any-other-path', 'POST /pay'])
})

test('each method and each place of an id is a kind of its own', () => {
  const rule = {
    methods: ['POST', 'GET'],
    id: [{ query: 'zone' }, { path: '/cb/{id}' }],
    services: { all: {} },
  }
  assert.deepEqual(textsOf('all', rule), [
    'GET /any-other-path?zone=ID',
    'GET /cb/ID',
    'POST /any-other-path?zone=ID',
    'POST /cb/ID',
  ])
})

test('of a prefix, itself and what goes on; hosts as rules name them', () => {
  const rule = {
    name: 'pay',
    match: { paths: ['/pay/*'], hosts: ['a.test', 'b.test'] },
    services: { pay: {} },
  }
  assert.deepEqual(textsOf('pay', rule), [
    'POST a.test/pay/',
    'POST a.test/pay/any-other-path',
    'POST b.test/pay/',
    'POST b.test/pay/any-other-path',
  ])
})

test('a service that the rules in force do not have has none', () => {
  assert.deepEqual(textsOf('pay', {}), [])
})
