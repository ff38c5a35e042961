import assert from 'node:assert/strict'
import { suite, test } from 'node:test'
import { rulesOf } from '../config/rules.ts'
import { configSchema } from '../config/schema.ts'
import type { HistoryEvent } from '../history/event.ts'
import { History } from '../history/history.ts'
import { SaidNow } from '../processor/said-now.ts'
import { type ExplainedThen, explainThen, type PathThen } from './explain-then.ts'
import { describedRequest } from './request-description.ts'

const NAME = 'zone12-default.game.test'

type Asked = {
  id?: string
  at?: number
  path?: PathThen | undefined
  rules?: object
  zones?: object
  fallback?: boolean
}

/**
 * By the configuration of 100. Zone 12 has an address from 200 on and is learned at 300; zone 99 is not in DNS until 450. Zones 21 and
 * 22 are learned at 600; at 610 DNS loses the first and fails for the second. The processor stops at 700.
 */
async function explained({
  id = '12',
  at = 400,
  path,
  rules = {},
  zones = {},
  fallback = false,
}: Asked = {}): Promise<ExplainedThen> {
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
  const record = (ms: number, event: HistoryEvent): void => {
    clock.ms = ms
    history.record(event)
  }
  const about = { version: '1', awayMs: null, fallback, file: 'z.yaml', search: 'game.test' }
  const absent = { result: 'nxdomain', addresses: [], ttlSeconds: 5, nameserver: 'n' } as const
  const found = (address: string) => ({ result: 'positive', addresses: [address] }) as const
  record(100, { kind: 'started', config: {}, ...about })
  record(200, { kind: 'answer', name: NAME, ...found('10.0.0.1'), before: null })
  record(300, { kind: 'learned', zone: 'default/12', name: NAME, why: 'learned' })
  record(350, { kind: 'answer', name: NAME.replace('12', '99'), ...absent, before: null })
  record(360, { kind: 'refused', zone: 'default/98', reason: 'name_not_found', requestId: 'r', leftOut: 0 })
  record(450, { kind: 'answer', name: NAME.replace('12', '99'), ...found('10.0.0.9'), before: absent })
  for (const [own, change] of [
    ['21', absent],
    ['22', { result: 'failure', addresses: [], cause: 'timeout' }],
  ] as const) {
    const name = NAME.replace('12', own)
    record(550, { kind: 'answer', name, ...found(`10.0.0.${own}`), before: null })
    record(600, { kind: 'learned', zone: `default/${own}`, name, why: 'learned' })
    record(610, { kind: 'answer', name, ...change, before: found(`10.0.0.${own}`) })
  }
  record(700, { kind: 'stopped', why: 'SIGTERM' })
  const config = configSchema.parse({ rules, zones })
  const world = {
    rules: rulesOf(config),
    said: new SaidNow(config, rulesOf(config), { entries: () => [] }).now(),
    search: 'game.test',
    staleMs: id === '22' ? 1000 : 0,
  }
  return explainThen(describedRequest({ ids: [id] }), at, { history, world: () => world }, path)
}
const textOf = ({ steps }: ExplainedThen): string =>
  steps.map(({ step, text }) => `${step} ${text}`).join('\n')

suite('a request whose zone was learned before its end', () => {
  for (const path of ['cold', 'hot', 'fallback'] as const)
    test(`is ${path} if its log line says so`, async () => {
      const then = await explained({ path })
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
    textOf(await explained({ path: 'cold', rules: { upstream: { tls: {} } } })),
    /tls .*does not check the zone's certificate/,
  )
  assert.doesNotMatch(textOf(await explained({ path: 'cold' })), /certificate/)
})

suite('an id that was not in DNS', () => {
  const zones = { '*': { fallback: '12' } }
  test('goes to the fallback, through the processor, however hot that zone was', async () => {
    const then = await explained({ id: '99', zones })
    assert.deepEqual(then.decision, { result: 'forward', addresses: ['10.0.0.1:8101'], path: 'cold' })
    assert.deepEqual(then.zone, { service: 'default', id: '12', name: NAME })
    assert.match(textOf(then), /zones "99" is not in DNS; zones\.\* sends its requests to "12"/)
  })
  test('is refused without a fallback', async () => {
    const { decision, zone } = await explained({ id: '99' })
    assert.equal(decision.result === 'refuse' && decision.reason, 'name_not_found')
    assert.equal(zone?.id, '99')
  })
  test('is explained by its refusal alone where the history has no answer', async () => {
    const then = await explained({ id: '98' })
    assert.equal(then.decision.result === 'refuse' && then.decision.reason, 'name_not_found')
    assert.match(textOf(then), /^refused /m)
    assert.doesNotMatch(textOf(then), /has no answer/)
    assert.match(textOf(await explained({ id: '97' })), /has no answer/)
  })
  test('goes to its own zone once it has an address', async () => {
    const { decision } = await explained({ id: '99', at: 500, zones })
    assert.deepEqual(decision, { result: 'forward', addresses: ['10.0.0.9:8101'], path: 'cold' })
  })
  test('is refused if the fallback is not in DNS either', async () => {
    const { decision } = await explained({ id: '99', zones: { '*': { fallback: '99' } } })
    assert.equal(decision.result === 'refuse' && decision.reason, 'name_not_found')
  })
})

/** Where a request goes, in few words. */
function goes({ decision }: ExplainedThen): string {
  if (decision.result === 'unknown') return 'unknown'
  if (decision.result === 'refuse') return decision.reason
  return [decision.path, ...decision.addresses].join(' ')
}

suite('a request by each path, for each state of its zone', () => {
  const SAID = {
    '5': { addresses: ['10.0.0.5'] },
    '6': { as: '12' },
    '7': { maintenance: 'moving' },
  }
  const ELSEWHERE = { '*': { fallback: '12' } }
  const none = 'fallback'
  /** `hot`, `cold` and `fallback` are paths in a log line. `away`: no line, and no processor. */
  const TABLE = [
    { zone: 'resolved', id: '12', hot: 'hot 10.0.0.1:8101', cold: 'cold 10.0.0.1:8101', away: 'learned' },
    {
      zone: 'not in DNS any more',
      id: '21',
      hot: 'hot 10.0.0.21:8101',
      cold: 'name_not_found',
      coldElsewhere: 'cold 10.0.0.1:8101',
      away: 'learned',
    },
    {
      zone: 'never in DNS',
      id: '99',
      at: 440,
      hot: 'hot',
      cold: 'name_not_found',
      coldElsewhere: 'cold 10.0.0.1:8101',
    },
    { zone: 'without an answer', id: '97', hot: 'hot', cold: 'unknown', away: 'asks' },
    {
      zone: 'with failing nameservers',
      id: '22',
      hot: 'hot 10.0.0.22:8101',
      cold: 'cold 10.0.0.22:8101',
      away: 'learned',
    },
    { zone: 'pinned', id: '5', hot: 'hot 10.0.0.5:8101', cold: 'cold 10.0.0.5:8101', away: 'asks' },
    { zone: 'merged', id: '6', hot: 'hot 10.0.0.1:8101', cold: 'cold 10.0.0.1:8101', away: 'asks' },
    { zone: 'in maintenance', id: '7', hot: 'maintenance', cold: 'maintenance', away: 'asks' },
  ]
  for (const { zone, id, at = 650, hot, cold, coldElsewhere = cold, away } of TABLE)
    for (const isElsewhere of [false, true])
      for (const fallback of [false, true]) {
        const zones = { ...SAID, ...(isElsewhere && ELSEWHERE) }
        const told = async (asked: Asked): Promise<string> =>
          goes(await explained({ id, zones, fallback, ...asked }))
        const settings = `zones."*".fallback ${isElsewhere}, fallback.enabled ${fallback}`
        test(`${zone}, ${settings}`, async () => {
          assert.equal(await told({ at, path: 'hot' }), hot)
          assert.equal(await told({ at, path: 'cold' }), isElsewhere ? coldElsewhere : cold)
          assert.equal(await told({ at, path: 'fallback' }), none)
          if (away === undefined) return
          const asks = fallback ? none : 'processor_unavailable'
          assert.equal(await told({ at: 750 }), away === 'learned' ? hot : asks)
          // A request that the processor decided right before its end.
          assert.equal(await told({ at: 750, path: 'cold' }), isElsewhere ? coldElsewhere : cold)
        })
      }
})
