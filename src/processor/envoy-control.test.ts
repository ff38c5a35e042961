import assert from 'node:assert/strict'
import { test } from 'node:test'
import { routingRules } from '../../test/support/zone-policy.ts'
import { Catalog } from '../xds/catalog.ts'
import { policyFor } from './envoy-control.ts'

test('once no zone may be learned, clusters drain as long as a request may take to arrive', () => {
  const drainOf = (cold: object): number =>
    new Catalog(policyFor({ kind: 'cold only', reasons: [], cold }), routingRules([]), '').drainMs
  assert.equal(drainOf({ requestTimeoutMs: 90_000 }), 90_000)
  assert.equal(drainOf({}), 3_600_000)
})
