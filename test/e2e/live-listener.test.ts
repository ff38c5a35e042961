import assert from 'node:assert/strict'
import { readFileSync, renameSync, writeFileSync } from 'node:fs'
import { createServer, type Server } from 'node:http'
import { join } from 'node:path'
import { after, before, suite, test } from 'node:test'
import { parse, stringify } from 'yaml'
import { learnedIds } from '../support/fleet.ts'
import { startGateway, type TestGateway } from '../support/gateway.ts'
import { call, type Reply } from '../support/http.ts'
import { type Load, startLoadOf } from '../support/load.ts'
import { freePort } from '../support/ports.ts'
import { eventually } from '../support/processor.ts'
import { startZoneNameserver, type ZoneNameserver } from '../support/zone-nameserver.ts'

/** The listener and the rules are changed while requests are under way: no one fails, and each change is in force on both paths. */
const HOST = '127.0.97.1'
const HOT = ['h1', 'h2', 'h3']
const UNKNOWN = 'gone'
/** Longer than Envoy takes to tell all connections of a listener that was replaced to close. */
const SLOW_MS = 8000

suite('a listener that is changed under load', () => {
  let gateway: TestGateway
  let nameserver: ZoneNameserver
  let receiver: Server
  let load: Load
  let header = 'server'

  before(async () => {
    const port = await freePort(HOST)
    receiver = createServer((request, response) => {
      request.resume()
      const answer = (): void => void response.end(String(request.headers['x_under'] ?? 'none'))
      request.on('end', () => (request.url === '/slow' ? setTimeout(answer, SLOW_MS) : answer()))
    })
    await new Promise<void>((done) => receiver.listen(port, HOST, done))
    nameserver = await startZoneNameserver(
      Object.fromEntries(HOT.map((id) => [`zone${id}-default.game.test`, [HOST]])),
    )
    gateway = await startGateway({
      config: {
        rules: { port },
        dns: { nameservers: [nameserver.address], search: 'game.test' },
        addresses: { allow: [`${HOST}/32`] },
      },
      edit: { 'routes.yaml': (text) => text.replace('per_try_timeout: 0.5s', 'per_try_timeout: 30s') },
    })
    // Both headers: whichever rules are in force have one.
    load = startLoadOf((id) => send(id), 8, HOT, 5)
    await eventually('zones are hot', async () => (await learnedIds(gateway)).size >= HOT.length)
  })
  after(async () => {
    await load?.stop()
    await gateway?.stop()
    await nameserver?.close()
    receiver?.closeAllConnections()
    receiver?.close()
  })

  const send = (id: string, method = 'POST', path = '/'): Promise<Reply> =>
    call(gateway.port, {
      method,
      path,
      headers: [
        ['server', id],
        ['x-zone', id],
      ],
      body: 'x',
    })
  const failures = (): Record<string, number> =>
    Object.fromEntries([...load.outcomes].filter(([outcome]) => outcome !== '200'))
  const listener = (): string => join(gateway.folder, 'envoy/listener.yaml')
  const save = (text: string): void => {
    writeFileSync(`${listener()}.new`, text)
    renameSync(`${listener()}.new`, listener())
  }
  const title = async (): Promise<string> => String((await send(UNKNOWN)).json()['title'])
  const rules = async (values: object): Promise<void> => {
    const file = join(gateway.folder, 'zonegate.yaml')
    const config = parse(readFileSync(file, 'utf8'))
    writeFileSync(`${file}.new`, stringify({ ...config, rules: { ...config.rules, ...values } }))
    renameSync(`${file}.new`, file)
  }
  const isHot = async (id: string): Promise<boolean> => {
    const asked = (): Promise<number> => gateway.stat('cluster.processor.upstream_rq_total')
    const before = await asked()
    await send(id)
    return (await asked()) === before
  }

  test('a saved listener.yaml is live, and a request that was under way for long is answered', async () => {
    const shipped = readFileSync(listener(), 'utf8')
    const slow = send('h1', 'POST', '/slow')
    for (let count = 1; count <= 5; count++) {
      save(shipped.replace('The zone is not in DNS', `Unknown ${count}`))
      await eventually(`${count} is in force`, async () => (await title()) === `Unknown ${count}`)
    }
    save(shipped)
    await eventually('it is as shipped', async () => (await title()) === 'The zone is not in DNS')
    assert.equal((await slow).status, 200)
    assert.deepEqual(failures(), {})
    assert.deepEqual((await gateway.status()).policy.needsRestart, [])
  })

  test('a listener.yaml that can not be rendered changes nothing, and is told with its place', async () => {
    const shipped = readFileSync(listener(), 'utf8')
    const written = readFileSync(join(gateway.folder, 'run/listener.yaml'), 'utf8')
    save(shipped.replace('ext_proc.v3.ExternalProcessor', 'other.v3.Other').replace('not in DNS', 'anywhere'))
    await eventually('it is said', async () =>
      /envoy\/listener\.yaml:\d+:\d+: http_filters: expected/.test(
        (await gateway.status()).policy.faults.join(),
      ),
    )
    assert.equal(readFileSync(join(gateway.folder, 'run/listener.yaml'), 'utf8'), written)
    assert.equal(await title(), 'The zone is not in DNS')
    save(shipped)
    await eventually('it is sound', async () => (await gateway.status()).policy.faults.length === 0)
  })

  test('a listener.yaml that only Envoy refuses changes nothing, and is told within seconds', async () => {
    const shipped = readFileSync(listener(), 'utf8')
    // Envoy wants some text there.
    save(shipped.replace('stat_prefix: callback', 'stat_prefix: ""').replace('not in DNS', 'anywhere'))
    await eventually('it is said', async () => {
      for (let asks = 0; asks < 5; asks++) assert.equal(await title(), 'The zone is not in DNS')
      return /refuses envoy\/listener\.yaml and keeps/.test((await gateway.status()).policy.faults.join())
    })
    save(shipped)
    await eventually('all is well', async () => {
      await title()
      return (await gateway.status()).policy.faults.length === 0
    })
    assert.deepEqual(failures(), {})
  })

  test('other methods, and another header with the id, are in force on both paths without a restart', async () => {
    for (let round = 0; round < 2; round++) {
      await rules({ methods: ['POST', 'PUT'] })
      await eventually('PUT is forwarded', async () => (await send('h1', 'PUT')).status === 200)
      await rules({ methods: ['POST'] })
      await eventually('PUT is refused', async () => (await send('h1', 'PUT')).status === 405)
      assert.equal((await send('h1', 'PUT')).headers['allow'], 'POST')

      header = header === 'server' ? 'x-zone' : 'server'
      await rules({ header })
      await eventually('a request without the new header is refused', async () => {
        const old = header === 'server' ? 'x-zone' : 'server'
        const reply = await call(gateway.port, { headers: [[old, 'h1']], body: 'x' })
        return reply.status === 403 && reply.json()['reason'] === 'server_header_missing'
      })
      await eventually('its zone is hot', () => isHotQuietly('h1'))
      const twice = await call(gateway.port, {
        headers: [
          [header, 'h1'],
          [header, 'h2'],
        ],
        body: 'x',
      })
      assert.equal(twice.json()['reason'], 'server_header_invalid')
    }
    const { config, policy } = await gateway.status()
    assert.deepEqual([...config.needsRestart, ...policy.needsRestart, ...policy.faults], [])
    assert.deepEqual(failures(), {})
  })
  /** Others ask meanwhile: several looks. */
  const isHotQuietly = async (id: string): Promise<boolean> => {
    for (let look = 0; look < 5; look++) if (await isHot(id)) return true
    return false
  }
})
