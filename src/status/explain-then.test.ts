import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import { rulesOf } from '../config/rules.ts'
import { configSchema } from '../config/schema.ts'
import { History } from '../history/history.ts'
import { NOTHING_SAID } from '../routing/said.ts'
import { type ExplainedThen, explainThen, type PathThen } from './explain-then.ts'
import { describedRequest } from './request-description.ts'

const NAME = 'zone12-default.game.test'

/** Zone 12 is learned at 300, by the configuration of 100. */
async function explained(path?: PathThen, rules: object = {}, fallback = false): Promise<ExplainedThen> {
  const clock = { ms: 100 }
  const log = (): void => undefined
  const history = new History(
    { bytes: 1024 * 1024, path: null },
    {
      date: () => clock.ms,
      now: () => clock.ms,
      log: { info: log, error: log },
      onBug: (error) => assert.fail(String(error)),
    },
  )
  const about = { version: '1', awayMs: null, fallback, file: 'z.yaml', search: 'game.test' }
  history.record({ kind: 'started', config: {}, ...about })
  clock.ms = 200
  history.record({
    kind: 'answer',
    name: NAME,
    result: 'positive',
    addresses: ['10.0.0.1'],
    before: null,
  })
  clock.ms = 300
  history.record({ kind: 'learned', zone: 'default/12', name: NAME, why: 'learned' })
  const world = {
    rules: rulesOf(configSchema.parse({ rules })),
    said: NOTHING_SAID,
    search: 'game.test',
    staleMs: 0,
  }
  return explainThen(describedRequest({ ids: ['12'] }), 400, { history, world: () => world }, path)
}
const textOf = ({ steps }: ExplainedThen): string =>
  steps.map(({ step, text }) => `${step} ${text}`).join('\n')

suite('a request whose zone was learned before its end', () => {
  for (const path of ['cold', 'hot', 'fallback'] as const)
    test(`is ${path} if its log line says so`, async () => {
      const then = await explained(path)
      assert.equal(then.decision.result === 'forward' && then.decision.path, path)
      assert.equal(/by itself \(hot\)/.test(textOf(then)), path === 'hot')
    })
  test('is hot if nobody says how it went', async () => {
    const { decision } = await explained()
    assert.equal(decision.result === 'forward' && decision.path, 'hot')
  })
})

test('that the certificate of a zone behind TLS is not looked at is said, and of no other', async () => {
  assert.match(
    textOf(await explained('cold', { upstream: { tls: {} } })),
    /tls .*certificate is not looked at/,
  )
  assert.doesNotMatch(textOf(await explained('cold')), /certificate/)
})
