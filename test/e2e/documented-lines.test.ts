import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { createServer, type Server } from 'node:http'
import { after, before, suite, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { startGateway, type TestGateway } from '../support/gateway.ts'
import { call, rawCall } from '../support/http.ts'
import { freePort } from '../support/ports.ts'
import { eventually } from '../support/processor.ts'
import { startZoneNameserver, type ZoneNameserver } from '../support/zone-nameserver.ts'

/** Lines that docs/tuning.md offers for receivers of another kind: they hold on both paths. */
const TUNING = readFileSync(fileURLToPath(new URL('../../docs/tuning.md', import.meta.url)), 'utf8')

suite('lines for other receivers', () => {
  let gateway: TestGateway
  let nameserver: ZoneNameserver
  let zone: Server
  let connections = 0
  let requests = 0
  let encoding: string | undefined

  before(async () => {
    const port = await freePort('127.0.78.1')
    zone = createServer((request, response) => {
      requests += 1
      encoding = request.headers['transfer-encoding']
      request.resume().on('end', () => response.end('ok'))
    })
    zone.on('connection', () => {
      connections += 1
    })
    await new Promise<void>((done) => zone.listen(port, '127.0.78.1', done))
    nameserver = await startZoneNameserver({
      'zone1-default.game.test': ['127.0.78.1'],
      'zone1-mail.game.test': ['127.0.78.1'],
    })
    const [streamed] = /^ {16}- predicate:\n.*?SkipFilter.*?\n/ms.exec(TUNING) ?? assert.fail('no such block')
    gateway = await startGateway({
      config: {
        rules: { port },
        dns: { nameservers: [nameserver.address], search: 'game.test' },
        addresses: { allow: ['127.0.78.1/32'] },
      },
      edit: {
        'clusters.yaml': (text) =>
          text.replace('idle_timeout: 1s }', 'idle_timeout: 1s, max_requests_per_connection: 1 }'),
        'listener.yaml': (text) => text.replace('                matchers:\n', (line) => line + streamed),
      },
    })
  })
  after(async () => {
    await gateway?.stop()
    await nameserver?.close()
    zone?.close()
    zone?.closeAllConnections()
  })

  /** What each zone's service is by now. */
  const isLearned = (service: string) => async (): Promise<boolean> =>
    (await gateway.stat(`cluster.${service}/1.upstream_rq_total`).catch(() => 0)) > 0

  test('max_requests_per_connection: 1 has a connection for each request, cold and hot', async () => {
    await eventually('the zone is learned', async () => {
      await call(gateway.port, { headers: [['server', '1']], body: 'x' })
      return isLearned('default')()
    })
    for (let count = 0; count < 5; count++)
      await call(gateway.port, { headers: [['server', '1']], body: 'x' })
    assert.ok(requests > 6, `${requests} requests`)
    assert.equal(connections, requests)
  })

  test("one service's chunked bodies are streamed, cold and hot, and only its own", async () => {
    const send = (path: string): Promise<string> =>
      rawCall(
        gateway.port,
        `POST ${path} HTTP/1.1\r\nhost: x\r\nserver: 1\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n`,
        100,
      )
    const encodingAt = async (path: string): Promise<string | undefined> => {
      assert.match(await send(path), /^HTTP\/1\.1 200 /)
      return encoding
    }
    assert.equal(await encodingAt('/mail'), 'chunked')
    await eventually('mail is learned', async () => {
      await call(gateway.port, { path: '/mail', headers: [['server', '1']], body: 'x' })
      return isLearned('mail')()
    })
    assert.deepEqual(
      [await encodingAt('/mail'), await encodingAt('/mail?x=1'), await encodingAt('/other')],
      ['chunked', 'chunked', undefined],
    )
  })
})
