import assert from 'node:assert/strict'
import { after, before, suite, test } from 'node:test'
import { learnedIds } from '../support/fleet.ts'
import { startGateway, type TestGateway } from '../support/gateway.ts'
import { call } from '../support/http.ts'
import { startLoad } from '../support/load.ts'
import { a, type ScriptedNameserver, startNameserver } from '../support/nameserver.ts'
import { freePort } from '../support/ports.ts'
import { eventually } from '../support/processor.ts'
import { type Receiver, startReceiver } from '../support/receiver.ts'

/** The processor is killed under load, and stays away for a while. */
const HOST = '127.0.84.1'
const KNOWN = Array.from({ length: 100 }, (_, index) => `known${index}`)
const NEVER_SEEN = 1000
const CONNECTIONS = 20
/** Longer in a trial of one's own: the tests of this file take so much longer. */
const AWAY_MS = Number(process.env['ZONEGATE_TEST_AWAY_MS'] ?? 3000)

let nameserver: ScriptedNameserver
let receiver: Receiver
let gateway: TestGateway

suite('the processor is killed (-9) under load', () => {
  before(async () => {
    const port = await freePort(HOST)
    receiver = await startReceiver(HOST, port, (request, response) => {
      request.resume()
      response.end('ok')
    })
    nameserver = await startNameserver((query) =>
      query.reply({ answers: query.type === 'A' ? [a(query.name, HOST, 30)] : [] }),
    )
    gateway = await startGateway({
      config: {
        rules: { port },
        dns: {
          nameservers: [nameserver.address],
          search: 'game.test',
          unknownNames: { queriesPerSecond: 100_000, queriesBurst: 100_000 },
        },
        addresses: { allow: [`${HOST}/32`] },
        fallback: { enabled: true },
      },
    })
    for (let round = 0; round < 2; round += 1)
      for (const id of KNOWN)
        assert.equal((await call(gateway.port, { headers: [['server', id]], body: 'x' })).status, 200)
    await eventually(
      'the known ones are learned',
      async () => (await learnedIds(gateway)).size >= KNOWN.length,
    )
  })
  after(async () => {
    await gateway?.stop()
    await nameserver?.stop()
    await receiver?.close()
  })

  let seen = 0
  /** Ids in turn: a known one, and one that nobody has asked for yet. */
  const ids = (): string[] => {
    const from = seen
    seen += NEVER_SEEN
    return Array.from({ length: NEVER_SEEN }, (_, index) => [
      KNOWN[index % KNOWN.length] ?? '',
      `new${from + index}`,
    ]).flat()
  }
  const underLoad = async (): Promise<Map<string, number>> => {
    const load = startLoad(gateway.port, CONNECTIONS, ids())
    const answered = (): number => [...load.outcomes.values()].reduce((sum, count) => sum + count, 0)
    await eventually('the load runs', () => answered() > 100)
    const killedAtMs = performance.now()
    await gateway.processor?.stop('SIGKILL')
    await eventually(
      'the processor was away',
      () => performance.now() - killedAtMs > AWAY_MS,
      AWAY_MS + 60_000,
    )
    await eventually('all were asked for', () => answered() > 2 * NEVER_SEEN)
    await gateway.startProcessor()
    const asked = await gateway.stat('cluster.processor.upstream_rq_completed')
    await eventually('it is asked again', async () => {
      await call(gateway.port, {
        headers: [['server', `back${performance.now()}`.replace('.', '')]],
        body: 'x',
      })
      return (await gateway.stat('cluster.processor.upstream_rq_completed')) > asked + 50
    })
    await load.stop()
    return load.outcomes
  }

  test('a service of a known zone that is not learned itself is resolved by Envoy', async () => {
    await gateway.processor?.stop('SIGKILL')
    const request = { path: '/mail', headers: [['server', 'known0']] as const, body: 'x' }
    const answer = await call(gateway.port, request)
    assert.equal(answer.status, 200, answer.text)
    await gateway.startProcessor()
  })

  test('known and never-seen zones: 0 fail', async () => {
    const outcomes = await underLoad()
    assert.deepEqual([...outcomes.keys()], ['200'], JSON.stringify([...outcomes]))
    assert.ok((await gateway.stat('cluster.zones_by_name.upstream_rq_completed')) >= NEVER_SEEN / 2)
  })

  test('without the fallback never-seen ones are 502', async () => {
    await gateway.configure('fallback', { enabled: false })
    // The routes and the listener are two files: killed in between, what can't be decided is 502 for another reason.
    await eventually('Envoy has routes and a listener without it', async () => {
      const dump = await (await fetch(`http://127.0.0.1:${gateway.adminPort}/config_dump`)).text()
      return !/failure_mode_allow|fallback_zone/.test(dump)
    })
    const outcomes = await underLoad()
    assert.deepEqual([...outcomes.keys()].sort(), ['200', '502 processor_unavailable'])
  })
})
