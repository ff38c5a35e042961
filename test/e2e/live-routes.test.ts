import assert from 'node:assert/strict'
import { readFileSync, renameSync, writeFileSync } from 'node:fs'
import { createServer, type Server } from 'node:http'
import { join } from 'node:path'
import { after, before, suite, test } from 'node:test'
import { startGateway, type TestGateway } from '../support/gateway.ts'
import { call } from '../support/http.ts'
import { freePort } from '../support/ports.ts'
import { startZoneNameserver, type ZoneNameserver } from '../support/zone-nameserver.ts'

/** An operator tunes `envoy/routes.yaml` while requests flow: a save is live within seconds, a broken file is not. */
let gateway: TestGateway
let nameserver: ZoneNameserver
let slow: Server
let routes: string

suite('live routes', () => {
  before(async () => {
    const port = await freePort('127.0.64.1')
    slow = createServer((_, response) => void setTimeout(() => response.end('slow'), 2000))
    await new Promise<void>((done) => slow.listen(port, '127.0.64.1', done))
    nameserver = await startZoneNameserver({
      'zone1-default.game.test': ['127.0.64.1'],
      'zone2-default.game.test': ['127.0.64.2'],
    })
    const dns = { nameservers: [nameserver.address], search: 'game.test' }
    gateway = await startGateway({
      config: { rules: { port }, dns, addresses: { allow: ['127.0.64.0/24'] }, learned: { enabled: false } },
      timeoutsAsShipped: true,
    })
    routes = join(gateway.folder, 'envoy/routes.yaml')
  })
  after(async () => {
    await gateway?.stop()
    await nameserver?.close()
    slow?.close()
    slow?.closeAllConnections()
  })

  const edit = (from: string | RegExp, to: string): string => {
    const text = readFileSync(routes, 'utf8')
    const changed = text.replace(from, to)
    assert.notEqual(changed, text, 'the edit changes something')
    return changed
  }
  const statusOf = async (id: string): Promise<number> =>
    (await call(gateway.port, { headers: [['server', id]], body: 'x' })).status
  const until = async (wanted: string, probe: () => Promise<string>): Promise<void> => {
    const deadline = performance.now() + 60_000
    let seen = ''
    while (performance.now() < deadline) {
      seen = await probe()
      if (seen === wanted) return
      await new Promise((tick) => setTimeout(tick, 100))
    }
    assert.equal(seen, wanted)
  }
  const attempts = async (): Promise<string> => {
    const before = await gateway.stat('cluster.zones.upstream_rq_retry')
    await statusOf('2')
    return String((await gateway.stat('cluster.zones.upstream_rq_retry')) - before)
  }

  test('before: a zone of 2 s is too slow, a dead one is tried twice', async () => {
    assert.equal(await statusOf('1'), 504)
    assert.equal(await attempts(), '1')
  })

  test('a longer per_try_timeout, saved in place, is live within seconds', async () => {
    writeFileSync(routes, edit('per_try_timeout: 0.5s', 'per_try_timeout: 20s'))
    await until('200', async () => String(await statusOf('1')))
  })

  test('num_retries 3, saved by rename, is live within seconds', async () => {
    writeFileSync(`${routes}.new`, edit('num_retries: 1', 'num_retries: 3'))
    renameSync(`${routes}.new`, routes)
    await until('3', attempts)
  })

  test('a file that cannot be read changes nothing, and never gets to Envoy', async () => {
    const good = readFileSync(routes, 'utf8')
    const faults = async (): Promise<readonly string[]> => (await gateway.status()).policy.faults
    const before = await gateway.stat('http.callback.rds.zonegate.update_attempt')
    for (const [broken, fault] of [
      ['resources: [', /routes\.yaml:1:13: /],
      [good.replace('num_retries: 3', 'num_retries: many'), /num_retries: expected a whole number/],
      [good.replace('{ path: cold }', '&a { path: *a }'), /expected no alias to a node around it/],
      ['\u0000\u0001', /routes\.yaml:1:1: /],
    ] as const) {
      writeFileSync(routes, broken)
      await until('said', async () => (fault.test(String(await faults())) ? 'said' : String(await faults())))
      assert.equal(await attempts(), '3')
      assert.equal(await statusOf('1'), 200)
    }
    assert.equal(await gateway.stat('http.callback.rds.zonegate.update_attempt'), before)
    writeFileSync(routes, good.replace('num_retries: 3', 'num_retries: 2'))
    await until('2', attempts)
  })
})
