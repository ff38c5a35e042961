import assert from 'node:assert/strict'
import { readFileSync, renameSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, suite, test } from 'node:test'
import { startGateway, type TestGateway } from '../support/gateway.ts'
import { call } from '../support/http.ts'
import { type Load, startLoad } from '../support/load.ts'
import { freePort } from '../support/ports.ts'
import { eventually } from '../support/processor.ts'
import { type Receiver, startReceiver } from '../support/receiver.ts'
import { startZoneNameserver, type ZoneNameserver } from '../support/zone-nameserver.ts'

/** An operator's own virtual host for one id, saved while that id is hot: Envoy refuses two for one domain. */
const HOST = '127.0.97.1'
const PIN = `  - name: pinned
    domains: ["POST/7"]
    routes: [{ match: { prefix: "/" }, direct_response: { status: 299 } }]
`

suite('an id that the operator has pinned', () => {
  let gateway: TestGateway
  let nameserver: ZoneNameserver
  let receiver: Receiver
  let load: Load
  let routes: string
  let unpinned: string

  before(async () => {
    const port = await freePort(HOST)
    receiver = await startReceiver(HOST, port)
    nameserver = await startZoneNameserver({
      'zone7-default.game.test': [HOST],
      'zone8-default.game.test': [HOST],
    })
    gateway = await startGateway({
      config: {
        rules: { port },
        dns: { nameservers: [nameserver.address], search: 'game.test' },
        addresses: { allow: [`${HOST}/32`] },
      },
    })
    routes = join(gateway.folder, 'envoy/routes.yaml')
    unpinned = readFileSync(routes, 'utf8')
    load = startLoad(gateway.port, 4, ['7', '8'], 5)
  })
  after(async () => {
    await load?.stop()
    await gateway?.stop()
    await nameserver?.close()
    await receiver?.close()
  })

  const statusOf = async (id: string): Promise<number> =>
    (await call(gateway.port, { headers: [['server', id]], body: 'x' })).status
  const isHot = async (id: string): Promise<boolean> => {
    const reply = await fetch(`http://127.0.0.1:${gateway.httpPort}/api/explain?method=POST&path=/&id=${id}`)
    const { envoys } = (await reply.json()) as { envoys: { route: string }[] }
    return envoys.length > 0 && envoys.every(({ route }) => route === 'hot')
  }
  const save = (text: string): void => {
    writeFileSync(`${routes}.new`, text)
    renameSync(`${routes}.new`, routes)
  }
  const outcomes = (): string[] => [...load.outcomes.keys()].sort()
  const explained = async (): Promise<string> =>
    (await fetch(`http://127.0.0.1:${gateway.httpPort}/api/explain?method=POST&path=/&id=7`)).text()

  test("is the operator's at once, while the others stay hot", async () => {
    await eventually('7 is hot', () => isHot('7'))
    await eventually('8 is hot', () => isHot('8'))
    const refused = await gateway.stat('http.callback.rds.zonegate.update_rejected')
    save(unpinned.replace(/ {2}virtual_hosts:\n/, (line) => line + PIN))
    await eventually('7 is pinned', async () => (await statusOf('7')) === 299)
    assert.equal(await statusOf('8'), 200)
    assert.equal(await gateway.stat('http.callback.rds.zonegate.update_rejected'), refused)
    assert.match(
      await explained(),
      /pinned: A virtual host of envoy\/routes\.yaml has the requests of this id\. \(pinned\)/,
    )
    assert.deepEqual((await gateway.status()).policy, {
      reasons: [],
      faults: [],
      pinned: ['POST/7'],
      needsRestart: [],
    })
    assert.deepEqual(outcomes(), ['200', '299 null'])
  })

  test('is hot again once the pin is gone', async () => {
    save(unpinned)
    await eventually('7 is forwarded', async () => (await statusOf('7')) === 200)
    await eventually('7 is hot', async () => {
      const asked = await gateway.stat('cluster.processor.upstream_rq_total')
      return (
        (await statusOf('7')) === 200 && (await gateway.stat('cluster.processor.upstream_rq_total')) === asked
      )
    })
    assert.doesNotMatch(await explained(), /has the requests of this id/)
    assert.deepEqual(outcomes(), ['200', '299 null'])
  })
})
