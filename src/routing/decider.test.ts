import assert from 'node:assert/strict'
import { test } from 'node:test'
import { rulesOf } from '../config/rules.ts'
import { configSchema } from '../config/schema.ts'
import type { Answer } from '../dns/answer.ts'
import { createDecider, type Decider, type Decision } from './decision.ts'
import { STATUS_OF_REASON } from './reject-reason.ts'
import type { RequestHead } from './rules.ts'

const ADDRESSES = ['10.0.0.1', '10.0.0.2', '10.0.0.3']
const answer = (name: string): Answer => ({
  kind: 'positive',
  name,
  addresses: ADDRESSES,
  denied: [],
  ttlSeconds: 5,
  stale: false,
})
const headWith = (id: string): RequestHead => ({
  method: 'POST',
  path: '/',
  authority: 'cb.test',
  headers: { server: [id] },
})
const decider = (lookup: (name: string) => Answer | Promise<Answer>): Decider =>
  createDecider(rulesOf(configSchema.parse({})), () => 's.test', lookup)
const head = headWith('1')
const addressOf = (decision: Decision): string =>
  decision.kind === 'forward' ? decision.authority : decision.reason

test('requests for one zone go to each of its addresses in turn', () => {
  const decide = decider(answer)
  const chosen = Array.from({ length: 6 }, () => addressOf(decide(head) as Decision))
  assert.deepEqual(new Set(chosen.slice(0, 3)).size, 3)
  assert.deepEqual(chosen.slice(3), chosen.slice(0, 3))
})

test('zones that are asked in turn each go round their own addresses', () => {
  const addresses = new Map<string, string[]>()
  const decide = decider((name) => {
    const known = addresses.get(name) ?? ['10.0.0.1', '10.0.0.2']
    addresses.set(name, known)
    return { kind: 'positive', name, addresses: known, denied: [], ttlSeconds: 5, stale: false }
  })
  const chosen = new Map<string, string[]>()
  for (let round = 0; round < 4; round++)
    for (const id of ['1', '2'])
      chosen.set(id, [...(chosen.get(id) ?? []), addressOf(decide(headWith(id)) as Decision)])
  for (const [, authorities] of chosen)
    assert.deepEqual(authorities, ['10.0.0.1:8101', '10.0.0.2:8101', '10.0.0.1:8101', '10.0.0.2:8101'])
})

test('the first request of each answer goes to a random address where weights matter: a quarter of them where one of four parts says so', () => {
  let seed = 1
  const random = (): number => {
    seed = (seed * 48_271) % 0x7fff_ffff // Park and Miller
    return seed / 0x7fff_ffff
  }
  const decide = createDecider(
    rulesOf(configSchema.parse({})),
    () => 's.test',
    (name) => ({
      kind: 'positive',
      name,
      addresses: [
        { address: '10.0.0.1', port: 9001, priority: 0, weight: 3 },
        { address: '10.0.0.2', port: 9002, priority: 0, weight: 1 },
      ],
      denied: [],
      ttlSeconds: 5,
      stale: false,
    }),
    { random },
  )
  const chosen = Array.from({ length: 2000 }, () => addressOf(decide(head) as Decision))
  const few = chosen.filter((authority) => authority === '10.0.0.2:9002').length
  assert.ok(few > 430 && few < 570, `${few} of 2,000`)
})

test('requests that waited for one answer go to different addresses, too', async () => {
  const decide = decider(async (name) => answer(name))
  const decisions = await Promise.all([decide(head), decide(head), decide(head)])
  assert.equal(new Set(decisions.map(addressOf)).size, 3)
})

test('the search domain is the one in force at the request', () => {
  let search = 'a.test'
  const names: string[] = []
  const decide = createDecider(
    rulesOf(configSchema.parse({})),
    () => search,
    (name) => {
      names.push(name)
      return answer(name)
    },
  )
  decide(head)
  search = 'b.test'
  decide(head)
  assert.deepEqual(names, ['zone1-default.a.test', 'zone1-default.b.test'])
})

test('404 is for rules, 405 for methods, 403 for ids, 503 for maintenance, 502 for all else that is not the caller’s fault', () => {
  const { no_rule, method_not_allowed, maintenance, ...others } = STATUS_OF_REASON
  assert.deepEqual([no_rule, method_not_allowed, maintenance], [404, 405, 503])
  for (const [reason, status] of Object.entries(others))
    assert.equal(status, /^(?:id|server_header)_/.test(reason) ? 403 : 502, reason)
})
