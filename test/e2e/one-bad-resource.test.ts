import assert from 'node:assert/strict'
import { readFileSync, renameSync, writeFileSync } from 'node:fs'
import { Agent } from 'node:http'
import { join } from 'node:path'
import { after, before, suite, test } from 'node:test'
import { learnedIds } from '../support/fleet.ts'
import { startGateway, type TestGateway } from '../support/gateway.ts'
import { call } from '../support/http.ts'
import { freePort } from '../support/ports.ts'
import { eventually } from '../support/processor.ts'
import { type Receiver, startReceiver } from '../support/receiver.ts'
import { startZoneNameserver, type ZoneNameserver } from '../support/zone-nameserver.ts'

/**
 * An Envoy whose own routes have a virtual host for one id, of which the processor's file knows nothing: it refuses the learned
 * one of the same domain, and no other.
 */
/** A thousand zones are in src/xds/rollout.test.ts. */
const ZONES = 250
const PINNED = '7'
const IDS = Array.from({ length: ZONES }, (_, index) => String(index + 1))
const CONNECTIONS = 32
const FOUND_WITHIN_MS = 150_000
const PIN = `  - name: pinned
    domains: ["POST/${PINNED}"]
    routes: [{ match: { prefix: "/" }, direct_response: { status: 299 } }]
`

suite(`one bad resource among ${ZONES}`, () => {
  let gateway: TestGateway
  let nameserver: ZoneNameserver
  let receiver: Receiver
  let shared: string
  /** The Envoy's own, in the folder that it watches. */
  let routes: string
  const agent = new Agent({ keepAlive: true, maxSockets: CONNECTIONS })

  before(async () => {
    const host = '127.0.93.1'
    const port = await freePort(host)
    receiver = await startReceiver(host, port)
    nameserver = await startZoneNameserver(
      Object.fromEntries(IDS.map((id) => [`zone${id}-default.game.test`, [host]])),
    )
    gateway = await startGateway({
      config: {
        rules: { port },
        dns: {
          nameservers: [nameserver.address],
          search: 'game.test',
          unknownNames: { queriesPerSecond: 100_000, queriesBurst: 100_000 },
        },
        addresses: { allow: [`${host}/32`] },
      },
    })
    shared = join(gateway.folder, 'envoy/routes.yaml')
    routes = join(gateway.folder, 'run/own-routes.yaml')
  })
  after(async () => {
    agent.destroy()
    await gateway?.stop()
    await nameserver?.close()
    await receiver?.close()
  })

  const statusOf = async (id: string): Promise<number> =>
    (await call(gateway.port, { headers: [['server', id]], body: 'x', agent })).status
  const ask = async (ids: readonly string[]): Promise<number[]> => {
    const statuses: number[] = []
    const left = [...ids]
    const line = async (): Promise<void> => {
      for (let id = left.pop(); id !== undefined; id = left.pop()) statuses.push(await statusOf(id))
    }
    await Promise.all(Array.from({ length: CONNECTIONS }, line))
    return statuses
  }
  const linesOf = (text: RegExp): string[] =>
    gateway
      .log('processor')
      .split('\n')
      .filter((line) => text.test(line))

  const save = (text: string): void => {
    writeFileSync(`${routes}.new`, text)
    renameSync(`${routes}.new`, routes)
  }

  test('all zones are hot', async () => {
    for (let round = 0; round < 2; round++) assert.deepEqual([...new Set(await ask(IDS))], [200])
    await eventually('they are hot', async () => (await learnedIds(gateway)).size === ZONES)
  })

  test('an Envoy that starts with the pin has all others, and the log names the one', async () => {
    const unpinned = readFileSync(shared, 'utf8')
    await gateway.envoy.stop('SIGKILL')
    const bootstrap = join(gateway.folder, 'run/listener.yaml')
    const own = readFileSync(bootstrap, 'utf8').replace('run/routes.yaml', 'run/own-routes.yaml')
    writeFileSync(bootstrap, own)
    save(unpinned.replace(/ {2}virtual_hosts:\n/, (line) => line + PIN))
    await gateway.startEnvoy()
    // Found by halves, each of which waits for Envoy's answer: a busy machine takes a minute.
    await eventually(
      'all others are hot',
      async () => (await learnedIds(gateway)).size === ZONES - 1,
      FOUND_WITHIN_MS,
    )
    assert.equal(await statusOf(PINNED), 299)
    const asked = await gateway.stat('cluster.processor.upstream_rq_total')
    assert.deepEqual([...new Set(await ask(IDS.filter((id) => id !== PINNED)))], [200])
    assert.equal(await gateway.stat('cluster.processor.upstream_rq_total'), asked)
    await eventually('the log names it', () => linesOf(/an Envoy refuses a resource/).length > 0)
    const names = linesOf(/an Envoy refuses a resource/).map((line) => JSON.parse(line).name)
    assert.deepEqual(names, [`zonegate/${PINNED}`])
    assert.ok(linesOf(/an Envoy refused resources/).length < 30)
    const explained = await fetch(`http://127.0.0.1:${gateway.httpPort}/api/explain?id=${PINNED}`)
    assert.match(
      await explained.text(),
      /refused_by_envoy: It is learned, and this Envoy refuses .*domain.*POST\/7/i,
    )
  })

  test('once the pin is gone, that zone is hot, too', async () => {
    save(readFileSync(routes, 'utf8').replace(PIN, ''))
    // What was refused is tried again at once when the processor's file is saved, else within a minute.
    writeFileSync(shared, `${readFileSync(shared, 'utf8')}# saved\n`)
    await eventually('it is forwarded again', async () => (await statusOf(PINNED)) === 200)
    await eventually('it is hot', async () => {
      const asked = await gateway.stat('cluster.processor.upstream_rq_total')
      await statusOf(PINNED)
      return (await gateway.stat('cluster.processor.upstream_rq_total')) === asked
    })
    assert.equal((await learnedIds(gateway)).size, ZONES)
  })
})
