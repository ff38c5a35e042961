import assert from 'node:assert/strict'
import { test } from 'node:test'
import { worldOf } from '../../test/support/worlds.ts'
import type { Addresses } from '../dns/answer.ts'
import { type Move, moveOf, type Outcome, outcomeOf, outcomeText } from './outcome.ts'

const HEAD = { method: 'POST', path: '/', authority: '', headers: { server: ['7'] } }
const NAME = 'zone7-default.game.test'

const forwarded = (addresses: Addresses, port = 8101, name = NAME): Promise<Outcome> =>
  outcomeOf(HEAD, {
    ...worldOf({ rules: { port, host: name.replace('7', '{id}').replace('game.test', '{search}') } }),
    answerOf: async () => ({ kind: 'positive', name, addresses, denied: [], ttlSeconds: 1, stale: false }),
  })
const refused: Outcome = { result: 'refuse', reason: 'name_not_found', status: 502 }
const unknown: Outcome = { result: 'unknown', name: NAME, why: 'timeout' }
const at = (weight: number, port = 8101, address = '10.0.0.1') => ({ address, port, priority: 0, weight })

const MOVES: readonly [title: string, before: Outcome, after: Outcome, move: Move | null][] = [
  ['the same', await forwarded(['10.0.0.1']), await forwarded(['10.0.0.1']), null],
  [
    'another order',
    await forwarded(['10.0.0.1', '10.0.0.2']),
    await forwarded(['10.0.0.2', '10.0.0.1']),
    null,
  ],
  [
    'another name',
    await forwarded(['10.0.0.1']),
    await forwarded(['10.0.0.1'], 8101, 'z7.game.test'),
    'name',
  ],
  ['another address', await forwarded(['10.0.0.1']), await forwarded(['10.0.0.2']), 'address'],
  ['an address more', await forwarded(['10.0.0.1']), await forwarded(['10.0.0.1', '10.0.0.2']), 'address'],
  ['another port', await forwarded(['10.0.0.1']), await forwarded(['10.0.0.1'], 9000), 'port'],
  ['the same port, from SRV', await forwarded(['10.0.0.1']), await forwarded([at(5)]), null],
  [
    'weights in the same proportion',
    await forwarded([at(5), at(10, 2)]),
    await forwarded([at(1), at(2, 2)]),
    null,
  ],
  ['other weights', await forwarded([at(1), at(1, 2)]), await forwarded([at(3), at(1, 2)]), 'weights'],
  [
    'other numbers in the SRV records, in the same order and proportion',
    await forwarded([{ ...at(2), srv: { target: 'h.test', priority: 0, weight: 2 } }]),
    await forwarded([{ ...at(4), srv: { target: 'h.test', priority: 9, weight: 4 } }]),
    null,
  ],
  ['refused', await forwarded(['10.0.0.1']), refused, 'refused'],
  ['forwarded', refused, await forwarded(['10.0.0.1']), 'forwarded'],
  ['another reason', refused, { ...refused, reason: 'no_address' }, 'reason'],
  ['refused as before', refused, refused, null],
  ['no answer', await forwarded(['10.0.0.1']), unknown, 'unknown'],
  ['no answer, as before', unknown, unknown, null],
]
for (const [title, before, after, move] of MOVES)
  test(`${title}: ${move ?? 'no move'}`, () => assert.equal(moveOf(before, after), move))

test('an outcome is one line', async () => {
  assert.equal(
    outcomeText(await forwarded(['10.0.0.2', '10.0.0.1'])),
    `${NAME} at 10.0.0.1:8101, 10.0.0.2:8101`,
  )
  assert.equal(
    outcomeText(await forwarded([at(3), at(1, 2)])),
    `${NAME} at 10.0.0.1:2 (priority 0, weight 1), 10.0.0.1:8101 (priority 0, weight 3)`,
  )
  const srv = (priority: number, weight: number) => ({ srv: { target: 'h.test', priority, weight } })
  assert.equal(
    outcomeText(
      await forwarded([
        { ...at(2), ...srv(10, 20) },
        { ...at(1, 2), priority: 1, ...srv(30, 50) },
      ]),
    ),
    `${NAME} at 10.0.0.1:8101 (priority 10, weight 20), 10.0.0.1:2 (priority 30, weight 50)`,
  )
  assert.equal(outcomeText(refused), '502 name_not_found')
  assert.equal(outcomeText(unknown), `unknown: no answer for ${NAME} (timeout)`)
})
