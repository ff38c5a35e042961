import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Answer } from '../dns/answer.ts'
import type { ZoneStatus } from '../status/status.ts'
import { Answers, answersInForce, turnsAt } from './answers.ts'

const answer = (name: string): Answer => ({ kind: 'nodata', name, ttlSeconds: 1, nameserver: 'a:53' })

test('each name is asked for once, in its turn; what is known is not', async () => {
  let nowMs = 0
  const asked: [name: string, atMs: number][] = []
  const turn = turnsAt(
    10,
    () => nowMs,
    async (milliseconds) => {
      nowMs += milliseconds
    },
  )
  const answers = new Answers(
    new Map([['known.test', answer('known.test')]]),
    async (name) => {
      asked.push([name, nowMs])
      return answer(name)
    },
    turn,
  )
  for (const name of ['a.test', 'known.test', 'b.test', 'a.test', 'c.test']) await answers.of(name)
  assert.deepEqual(asked, [
    ['a.test', 0],
    ['b.test', 100],
    ['c.test', 200],
  ])
  assert.equal(answers.asked, 3)
})

test('a status has the answers of its zones, but for those that DNS is not asked for', () => {
  const zone = (state: ZoneStatus['state'], addresses: readonly string[]): ZoneStatus =>
    ({ name: `${state}.test`, state, addresses }) as unknown as ZoneStatus
  const known = answersInForce([
    zone('fresh', ['10.0.0.1']),
    zone('stale', ['10.0.0.2']),
    zone('denied', []),
    zone('pinned', ['10.0.0.3']),
    zone('maintenance', []),
    zone('failed', []),
  ])
  assert.deepEqual([...known.keys()], ['fresh.test', 'stale.test', 'denied.test'])
})
