import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { after, before, suite, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { startGateway, type TestGateway } from '../support/gateway.ts'
import { call } from '../support/http.ts'
import { freePort } from '../support/ports.ts'
import { eventually } from '../support/processor.ts'
import { type Receiver, startReceiver } from '../support/receiver.ts'
import { startZoneNameserver, type ZoneNameserver } from '../support/zone-nameserver.ts'

/** How an operator hears that a processor was away: from Envoy at once, and from the next processor. */
const MAIN = fileURLToPath(new URL('../../src/main.ts', import.meta.url))
const HOST = '127.0.84.1'
const REQUESTS = 20

let nameserver: ZoneNameserver
let receiver: Receiver
let gateway: TestGateway

suite('a processor that was away', () => {
  before(async () => {
    const port = await freePort(HOST)
    receiver = await startReceiver(HOST, port)
    nameserver = await startZoneNameserver({ 'zone1-default.game.test': [HOST] })
    gateway = await startGateway({
      config: {
        rules: { port },
        dns: { nameservers: [nameserver.address], search: 'game.test' },
        addresses: { allow: [`${HOST}/32`] },
        fallback: { enabled: true },
      },
    })
  })
  after(async () => {
    await gateway?.stop()
    await nameserver?.close()
    await receiver?.close()
  })

  const forwarded = (): Promise<number> => gateway.stat('cluster.zones_by_name.upstream_rq_total')
  const status = (...options: string[]): string => {
    const args = [MAIN, 'status', '--server', `http://127.0.0.1:${gateway.httpPort}`, ...options]
    return spawnSync(process.execPath, args, { encoding: 'utf8' }).stdout
  }
  const away = (): number | null => JSON.parse(status('--json')).awayMs

  test('the first one of a folder knows of none before it', () => {
    assert.equal(away(), null)
    assert.doesNotMatch(status(), /no processor ran/)
  })

  test('Envoy counts what it forwards without it, while it is away', async () => {
    assert.equal(await forwarded(), 0)
    await gateway.processor?.stop('SIGKILL')
    for (let at = 0; at < REQUESTS; at++)
      assert.equal((await call(gateway.port, { headers: [['server', '1']], body: 'x' })).status, 200)
    await eventually('all are counted', async () => (await forwarded()) === REQUESTS)
  })

  test('the next one says for how long', async () => {
    const goneMs = performance.now()
    await gateway.startProcessor()
    const awayMs = away() ?? Number.NaN
    assert.ok(awayMs > 0 && awayMs < performance.now() - goneMs + 60_000, `${awayMs} ms`)
    assert.match(
      status(),
      /^no processor ran for .+ before this one\. If Envoy ran, cold requests got 502, or with fallback\.enabled Envoy resolved names itself and counted them: curl -s '127\.0\.0\.1:9901\/stats\?filter=zones_by_name\.upstream_rq_total'$/m,
    )
  })
})
