import assert from 'node:assert/strict'
import { after, before, suite, test } from 'node:test'
import type { ResourceRecord } from '../../src/dns/message.ts'
import type { Explained } from '../../src/status/explain.ts'
import { startGateway, type TestGateway } from '../support/gateway.ts'
import { call, type Reply } from '../support/http.ts'
import { startLoad } from '../support/load.ts'
import { a, type ScriptedNameserver, soa, srv, startNameserver } from '../support/nameserver.ts'
import { freePort } from '../support/ports.ts'
import { eventually } from '../support/processor.ts'
import { type Receiver, startReceiver } from '../support/receiver.ts'

/** Ports, priorities and weights from SRV, on the cold path and on the hot one. */
const HOST = '127.0.72.1'
const TARGET = 'host.game.test'
const name = (id: string): string => `_pay._tcp.zone${id}-pay.game.test`

suite('ports from SRV', () => {
  let gateway: TestGateway
  let nameserver: ScriptedNameserver
  /** By port; each says its port. */
  const receivers = new Map<number, Receiver>()
  const ports: number[] = []
  const records = new Map<string, readonly ResourceRecord[]>()

  const receive = async (port: number): Promise<void> => {
    const answerPort = (_: unknown, response: { end(text: string): void }): void => response.end(String(port))
    receivers.set(port, await startReceiver(HOST, port, answerPort))
  }
  const send = (id: string): Promise<Reply> =>
    call(gateway.port, { headers: [['server', id]], path: '/', body: 'x' })
  const portOf = async (id: string): Promise<number> => {
    const { status, text } = await send(id)
    assert.equal(status, 200, text)
    return Number(text)
  }
  const reasonOf = async (id: string): Promise<unknown> => {
    const { status, json } = await send(id)
    return [status, json()['reason']]
  }
  const asked = (): Promise<number> => gateway.stat('cluster.processor.upstream_rq_total')
  /** The zone's requests come to the processor no more. */
  const becomesHot = (id: string): Promise<void> =>
    eventually(`zone ${id} is hot`, async () => {
      const before = await asked()
      await Promise.all(Array.from({ length: 4 }, () => send(id)))
      return (await asked()) === before
    })
  const counted = async (requests: number, id: string): Promise<Map<number, number>> => {
    const counts = new Map<number, number>()
    for (let count = 0; count < requests; count++) {
      const port = await portOf(id)
      counts.set(port, (counts.get(port) ?? 0) + 1)
    }
    return counts
  }
  const port = (at: number): number => ports[at] ?? 0

  before(async () => {
    for (let count = 0; count < 4; count++) ports.push(await freePort(HOST))
    for (const each of ports) await receive(each)
    nameserver = await startNameserver((query) => {
      const own = records.get(query.name) ?? (query.name === TARGET ? [a(TARGET, HOST, 1)] : [])
      query.reply({
        rcode: own.length === 0 ? 3 : 0,
        answers: own.filter(({ type }) => type === query.type),
        authorities: own.length === 0 ? [soa('game.test', 1)] : [],
      })
    })
    gateway = await startGateway({
      config: {
        rules: { port: 'srv', services: { pay: {} } },
        dns: {
          nameservers: [nameserver.address],
          search: 'game.test',
          ttlSeconds: { min: 1, max: 1 },
          timeoutMs: 2000,
        },
        addresses: { allow: ['127.0.72.0/24'], ports },
      },
      concurrency: 1,
    })
  })
  after(async () => {
    await gateway?.stop()
    await nameserver?.stop()
    await Promise.all([...receivers.values()].map((receiver) => receiver.close()))
  })

  test('two zones on one host have their own ports, at the first request and inside Envoy', async () => {
    for (const [at, id] of ['1', '2'].entries()) records.set(name(id), [srv(name(id), TARGET, port(at))])
    for (const [at, id] of ['1', '2'].entries()) {
      assert.equal(await portOf(id), port(at))
      await becomesHot(id)
      assert.equal(await portOf(id), port(at))
    }
  })

  test('a zone of whom DNS says that it is not there, offers nothing, or has a port that is denied, is refused with a reason', async () => {
    records.set(name('3'), [srv(name('3'), '.', 0)])
    records.set(name('4'), [srv(name('4'), TARGET, gateway.adminPort)])
    records.set(name('5'), [srv(name('5'), 'absent.game.test', port(0))])
    assert.deepEqual(await reasonOf('3'), [502, 'service_not_offered'])
    assert.deepEqual(await reasonOf('4'), [502, 'address_denied'])
    assert.deepEqual(await reasonOf('5'), [502, 'no_address'])
    assert.deepEqual(await reasonOf('99'), [502, 'name_not_found'])
  })

  test('requests are shared by weight, cold and hot', async () => {
    records.set(name('6'), [
      srv(name('6'), TARGET, port(0), { weight: 3, ttlSeconds: 0 }),
      srv(name('6'), TARGET, port(1), { weight: 1, ttlSeconds: 0 }),
    ])
    const share = async (): Promise<number> => (await counted(80, '6')).get(port(1)) ?? 0
    const cold = await share() // TTL 0: each is an answer of its own, so chance decides. 20 of 80, and 6 deviations
    assert.ok(cold > 0 && cold < 44, `${cold} of 80 cold`)
    records.set(name('6'), [
      srv(name('6'), TARGET, port(0), { weight: 3 }),
      srv(name('6'), TARGET, port(1), { weight: 1 }),
    ])
    await becomesHot('6')
    const hot = await share()
    assert.ok(hot >= 17 && hot <= 23, `${hot} of 80 hot`)
  })

  test('0 requests fail when the port changes under load, and then all go to the new one', async () => {
    const load = startLoad(gateway.port, 8, ['1'])
    try {
      await eventually('the load is on', () => (load.outcomes.get('200') ?? 0) > 50)
      records.set(name('1'), [srv(name('1'), TARGET, port(2))])
      await eventually('the new port is used', async () => (await portOf('1')) === port(2))
      assert.deepEqual([...load.outcomes.keys()], ['200'])
    } finally {
      await load.stop()
    }
    assert.deepEqual([...(await counted(20, '1')).keys()], [port(2)])
  })

  test('the lowest priority has all requests; where it refuses, those of a hot zone go to the next one and none fails', async () => {
    records.set(name('7'), [
      srv(name('7'), TARGET, port(3), { priority: 10 }),
      srv(name('7'), TARGET, port(0), { priority: 20 }),
    ])
    assert.equal(await portOf('7'), port(3))
    await becomesHot('7')
    assert.deepEqual([...(await counted(20, '7')).keys()], [port(3)])
    const load = startLoad(gateway.port, 4, ['7'])
    try {
      await eventually('the load is on', () => (load.outcomes.get('200') ?? 0) > 50)
      await receivers.get(port(3))?.close()
      await eventually('the next priority is used', async () => (await portOf('7')) === port(0))
      await counted(20, '7')
      // What was sent to a receiver that ended is not sent again: at most one on each connection.
      const { 200: _, ...failed } = Object.fromEntries(load.outcomes)
      assert.deepEqual(
        Object.keys(failed).filter((outcome) => outcome !== '502 upstream_reset'),
        [],
      )
    } finally {
      await load.stop()
    }
    assert.deepEqual([...(await counted(20, '7')).keys()], [port(0)])
    records.set(name('8'), [
      srv(name('8'), TARGET, port(3), { priority: 10 }),
      srv(name('8'), TARGET, port(0), { priority: 20 }),
    ])
    assert.deepEqual(await reasonOf('8'), [502, 'upstream_unreachable'], 'the processor sees no connections')
    await receive(port(3))
    await eventually('the first priority is back', async () => (await portOf('7')) === port(3))
  })

  test('status and explain show ports, priorities, weights and targets', async () => {
    const { zones } = await gateway.status()
    const zone = zones.find(({ id }) => id === '7')
    assert.deepEqual(zone?.addresses, [`${HOST}:${port(3)}`, `${HOST}:${port(0)}`])
    assert.deepEqual(
      zone?.endpoints?.map(({ priority, srv }) => [priority, srv]),
      [
        [0, { target: TARGET, priority: 10, weight: 1 }],
        [1, { target: TARGET, priority: 20, weight: 1 }],
      ],
    )
    const response = await fetch(`http://127.0.0.1:${gateway.httpPort}/api/explain?id=7`)
    const { steps } = (await response.json()) as Explained
    const said = steps.map(({ text }) => text).join('\n')
    assert.match(said, new RegExp(`forward to ${HOST}:${port(3)}$`, 'm'))
    assert.match(said, new RegExp(`${HOST}:${port(0)} \\(${TARGET}, priority 20, weight 1\\)`))
    assert.match(said, /asked for SRV over udp: NOERROR/)
  })
})
