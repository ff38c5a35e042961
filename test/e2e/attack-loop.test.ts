import assert from 'node:assert/strict'
import { connect as connectHttp2 } from 'node:http2'
import { connect, createServer, type Server } from 'node:net'
import { after, before, suite, test } from 'node:test'
import { startGateway, type TestGateway } from '../support/gateway.ts'
import { call } from '../support/http.ts'
import { freePort } from '../support/ports.ts'
import { eventually } from '../support/processor.ts'
import { type Receiver, startReceiver } from '../support/receiver.ts'
import { startZoneNameserver, type ZoneNameserver } from '../support/zone-nameserver.ts'

/** A zone's name that leads back to the gateway, through a balancer whose address the gateway does not know. */
let gateway: TestGateway
let nameserver: ZoneNameserver
let balancer: Server
let zone: Receiver

suite('a zone that is the gateway itself', () => {
  before(async () => {
    const port = await freePort('127.0.67.1')
    zone = await startReceiver('127.0.67.2', port)
    nameserver = await startZoneNameserver({
      'zone1-default.game.test': ['127.0.67.1'],
      'zone2-default.game.test': ['127.0.67.2'],
    })
    gateway = await startGateway({
      config: {
        rules: { port },
        dns: { nameservers: [nameserver.address], search: 'game.test' },
        addresses: { allow: ['127.0.67.0/24'] },
      },
    })
    balancer = createServer((client) => {
      const upstream = connect(gateway.port, '127.0.0.1')
      client.on('error', () => upstream.destroy())
      upstream.on('error', () => client.destroy())
      client.pipe(upstream).pipe(client)
    })
    await new Promise<void>((done) => balancer.listen(port, '127.0.67.1', done))
  })
  after(async () => {
    await gateway?.stop()
    await nameserver?.close()
    await zone?.close()
    balancer?.close()
  })

  const received = () => gateway.stat('http.callback.downstream_rq_total')
  const post = (id: string, ...headers: [string, string][]) =>
    call(gateway.port, { headers: [['server', id], ...headers], body: 'x' })

  test('it is 502 loop_detected after one turn, cold and learned', async () => {
    const oneTurn = async (): Promise<void> => {
      const before = await received()
      const answer = await post('1')
      assert.deepEqual([answer.status, answer.json()['reason']], [502, 'loop_detected'])
      assert.equal((await received()) - before, 2, 'once from the client, once from the gateway')
    }
    await oneTurn()
    await eventually('the zone is learned', async () => {
      await oneTurn()
      return /"path":"hot".*"zone":"zone1-default/.test(gateway.log('envoy'))
    })
    await oneTurn()
  })

  test('a client that forges the mark is refused itself, and nobody else', async () => {
    const tricks: [string, string][][] = [
      [['x-zonegate-route', 'POST/1']],
      [['x-zonegate-route', 'POST/2']],
      [['X-Zonegate-Route', '']],
      [
        ['x-zonegate-route', 'POST/2'],
        ['x-zonegate-route', '127.0.67.2:80'],
      ],
    ]
    for (const headers of tricks) {
      const answer = await post('2', ...headers)
      assert.deepEqual([answer.status, answer.json()['reason']], [502, 'loop_detected'])
    }
    assert.deepEqual(zone.requests, [])
    assert.equal((await post('2')).status, 200)
  })

  test('over HTTP/2 as well', async () => {
    const session = connectHttp2(`http://127.0.0.1:${gateway.port}`)
    const stream = session.request({
      ':method': 'POST',
      ':path': '/',
      server: '2',
      'x-zonegate-route': ['POST/2', 'a'],
    })
    stream.end('x')
    const status = await new Promise((done) => stream.once('response', (headers) => done(headers[':status'])))
    session.destroy()
    assert.equal(status, 502)
  })

  test("no client's header of ours or Envoy's reaches the zone, over HTTP/1.1 and HTTP/2", async () => {
    const forged = {
      'x-envoy-internal': 'true',
      'x-envoy-original-dst-host': '127.0.0.1:1',
      'x-envoy-whatever': '1',
      'x-zonegate-reason': 'forged',
      'x-forwarded-host': 'evil.test',
    }
    const seen = zone.requests.length
    const twice = Object.entries(forged).flatMap(([name, value]): [string, string][] => [
      [name, value],
      [name, `${value}2`],
    ])
    assert.equal((await post('2', ...twice)).status, 200)
    const session = connectHttp2(`http://127.0.0.1:${gateway.port}`)
    const stream = session.request({
      ':method': 'POST',
      ':path': '/',
      server: '2',
      ':authority': 'callback.test',
      ...forged,
    })
    stream.end('x')
    await new Promise((done) => stream.once('response', done))
    session.destroy()
    const requests = zone.requests.slice(seen)
    assert.equal(requests.length, 2)
    for (const { headers } of requests) {
      assert.equal(headers['x-forwarded-host'], 'callback.test')
      assert.equal(headers['x-zonegate-route'], 'POST/2')
      const others = Object.keys(headers).filter((name) => /^x-(envoy|zonegate)-/.test(name))
      assert.deepEqual(others, ['x-zonegate-route'])
    }
  })
})
