/**
 * What whoever is not on the path has to guess to forge an answer (RFC 5452): an id and a port, both new each time. That
 * an answer with another of either counts for nothing is in `dns-faults-messages`, rows 21 to 25; when ports are shared in
 * `dns-faults-cache`.
 */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { withDns } from '../support/dns.ts'
import { always } from '../support/nameserver.ts'

const MANY = 100
const nameOf = (at: number): string => `zone${at}-default.game.test`

test("a query's id says nothing about the next one's", async () => {
  await withDns([always('10.0.0.1')], async ({ dns, ns1 }) => {
    for (let at = 0; at < MANY; at++) await dns.lookup(nameOf(at))
    const ids = ns1.queries.map(({ message }) => message.id)
    const steps = new Set(ids.slice(1).map((id, at) => (id - (ids[at] ?? 0)) & 0xffff))
    assert.ok(steps.size > MANY / 2, `${steps.size} different steps: ${ids.join()}`)
    assert.ok(Math.max(...ids) - Math.min(...ids) > 0x4000, ids.join())
  })
})

test('each query that is alone in its 10 ms has a port of its own', async () => {
  await withDns([always('10.0.0.1')], async ({ dns, clock, ns1 }) => {
    for (let at = 0; at < MANY; at++) {
      await dns.lookup(nameOf(at))
      clock.wind(10)
    }
    const { size } = new Set(ns1.queries.map(({ from }) => from?.port))
    assert.ok(size > MANY / 2, `${size} ports of ${MANY} queries`)
  })
})
