import assert from 'node:assert/strict'
import { test } from 'node:test'
import { rulesOf } from '../config/rules.ts'
import { configSchema } from '../config/schema.ts'
import type { Answer } from '../dns/answer.ts'
import { createDecider, type Decider } from './decider.ts'
import type { Decision } from './decision.ts'
import { STATUS_OF_REASON } from './reject-reason.ts'

const ADDRESSES = ['10.0.0.1', '10.0.0.2', '10.0.0.3']
const answer = (name: string): Answer => ({
  kind: 'positive',
  name,
  addresses: ADDRESSES,
  denied: [],
  ttlSeconds: 5,
  stale: false,
})
const decider = (lookup: (name: string) => Answer | Promise<Answer>): Decider =>
  createDecider(rulesOf(configSchema.parse({})), () => 's.test', lookup)
const head = { method: 'POST', path: '/', ids: ['1'] }
const addressOf = (decision: Decision): string =>
  decision.kind === 'forward' ? decision.authority : decision.reason

test('requests for one zone go to each of its addresses in turn', () => {
  const decide = decider(answer)
  const chosen = Array.from({ length: 6 }, () => addressOf(decide(head) as Decision))
  assert.deepEqual(new Set(chosen.slice(0, 3)).size, 3)
  assert.deepEqual(chosen.slice(3), chosen.slice(0, 3))
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

test('405 is for methods, 403 for ids, 502 for all that is not the caller’s fault', () => {
  const { method_not_allowed, server_header_missing, server_header_invalid, ...others } = STATUS_OF_REASON
  assert.deepEqual([method_not_allowed, server_header_missing, server_header_invalid], [405, 403, 403])
  assert.deepEqual([...new Set(Object.values(others))], [502])
})
