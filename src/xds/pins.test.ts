import assert from 'node:assert/strict'
import { test } from 'node:test'
import { pinOf, pinsOf } from './pins.ts'
import type { RoutingRules } from './routing-rules.ts'

const rulesFor = (...methods: string[]): Pick<RoutingRules, 'rules'> => ({
  rules: [
    {
      prefix: '',
      methods,
      domains: (id) => methods.map((method) => `${method}/${id}`),
      services: [],
      unusual: [],
      knownHeaders: () => ({}),
    },
  ],
})

test("an operator's virtual host has the ids of its domains, in any case and with wildcards, and that of its name", () => {
  const table: [domain: string, id: string, has: boolean][] = [
    ['POST/7', '7', true],
    ['post/7', '7', true],
    ['PUT/7', '7', true],
    ['GET/7', '7', false],
    ['POST/7', '77', false],
    ['POST/7*', '77', true],
    ['POST/7*', '7', false],
    ['*/7', '7', true],
    ['*T/77', '77', true],
    ['POST/*', '1', true],
    ['*', '7', false],
    ['shop.test', '7', false],
  ]
  for (const [domain, id, has] of table) {
    const pins = pinsOf({ virtual_hosts: [{ name: 'own', domains: [domain] }] })
    assert.equal(
      pinOf(pins, id, `zonegate/${id}`, rulesFor('POST', 'PUT')),
      has ? 'own' : undefined,
      `${domain} ${id}`,
    )
  }
  const named = pinsOf({ virtual_hosts: [{ name: 'zonegate/cold', domains: ['*'] }] })
  assert.equal(pinOf(named, 'cold', 'zonegate/cold', rulesFor('POST')), 'zonegate/cold')
})
