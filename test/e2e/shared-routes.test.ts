import assert from 'node:assert/strict'
import { after, before, suite, test } from 'node:test'
import { startGateway, type TestGateway } from '../support/gateway.ts'
import { call, type Reply } from '../support/http.ts'
import { type Load, startLoad } from '../support/load.ts'
import { freePort } from '../support/ports.ts'
import { eventually } from '../support/processor.ts'
import { type Receiver, startReceiver } from '../support/receiver.ts'
import { startZoneNameserver, type ZoneNameserver } from '../support/zone-nameserver.ts'

const isProof = (name: string): boolean => name.startsWith('.proof')

/** Zones whose routes stand in virtual hosts of many ids: what the caller and the operator see is as with one for each id. */
const IDS = Array.from({ length: 300 }, (_, index) => (index % 2 === 0 ? `${index + 1}` : `s${index + 1}`))
const ASKED = 'http.callback.ext_proc.streams_started'
const UPDATES = 'http.callback.rds.vhds.zonegate.config_reload'
const LEARNED = { sharedRoutes: true }

suite('zones that share virtual hosts', () => {
  const hosts = ['127.0.95.1', '127.0.95.2'] as const
  let gateway: TestGateway
  let nameserver: ZoneNameserver
  let receivers: Receiver[]
  let load: Load

  before(async () => {
    const port = await freePort(hosts[0])
    receivers = await Promise.all(hosts.map((host) => startReceiver(host, port)))
    nameserver = await startZoneNameserver({
      ...Object.fromEntries(
        IDS.flatMap((id, index) =>
          ['default', 'main'].map((name) => [`zone${id}-${name}.game.test`, [hosts[index % 2] ?? '']]),
        ),
      ),
      'zone1-mail.game.test': [hosts[1]],
    })
    gateway = await startGateway({
      config: {
        rules: { port, methods: ['POST', 'PUT'], idPattern: '[A-Za-z0-9]+' },
        dns: {
          nameservers: [nameserver.address],
          search: 'game.test',
          unknownNames: { queriesPerSecond: 100_000, queriesBurst: 100_000 },
        },
        addresses: { allow: ['127.0.95.0/24'] },
        learned: LEARNED,
      },
    })
    load = startLoad(gateway.port, 8, IDS)
  })
  after(async () => {
    await load?.stop()
    await gateway?.stop()
    await nameserver?.close()
    for (const receiver of receivers ?? []) await receiver.close()
  })

  const ask = (id: string, more: object = {}): Promise<Reply> =>
    call(gateway.port, { headers: [['server', id]], body: 'x', ...more })
  const askedBy = async (what: () => Promise<unknown>): Promise<number> => {
    const before = await gateway.stat(ASKED)
    await what()
    return (await gateway.stat(ASKED)) - before
  }
  const allHot = (): Promise<void> =>
    eventually('no request asks', async () => {
      const sent = load.durationsMs.length + IDS.length
      return (await askedBy(() => eventually('all were sent', () => load.durationsMs.length > sent))) === 0
    })
  const virtualHosts = async (): Promise<string[]> => {
    const dump = await fetch(
      `http://127.0.0.1:${gateway.adminPort}/config_dump?resource=dynamic_route_configs`,
    )
    return [...(await dump.text()).matchAll(/"name": "zonegate\/([^"]*)"/g)].map(([, name = '']) => name)
  }
  const learned = async (): Promise<string[]> =>
    (await virtualHosts()).filter((name) => name !== 'cold' && !isProof(name))

  test('all become hot, and no request fails', async () => {
    await allHot()
    assert.deepEqual([...load.outcomes.keys()], ['200'])
    const names = await learned()
    assert.ok(names.length <= 128 && names.every((name) => name.startsWith('~')), `${names}`)
  })

  test('each request comes to its own zone, whatever its method and the case of its id', async () => {
    await load.stop()
    const asked = await askedBy(async () => {
      for (const [index, id] of IDS.entries())
        assert.match((await ask(id)).text, new RegExp(`receiver ${hosts[index % 2]}`))
      assert.equal((await ask('1', { method: 'PUT' })).status, 200)
      assert.equal((await ask('S2')).status, 200)
    })
    assert.equal(asked, 0)
    load = startLoad(gateway.port, 8, IDS)
  })

  test('the access log has the name of the zone, and Envoy counts for each by itself', async () => {
    await ask('3', { path: '/here' })
    await eventually('the line is written', () => gateway.log('envoy').includes('"uri":"/here"'))
    const line =
      gateway
        .log('envoy')
        .split('\n')
        .find((each) => each.includes('"uri":"/here"')) ?? ''
    const { zone, path, key } = JSON.parse(line) as Record<string, string>
    assert.deepEqual([zone, path, key], ['zone3-default.game.test', 'hot', 'POST/3'])
    assert.ok((await gateway.stat('cluster.default/3.upstream_rq_2xx')) > 0)
  })

  test('an id with another service learned has a virtual host of its own', async () => {
    await eventually('both are hot', async () => {
      const replies = await Promise.all([ask('1', { path: '/mail' }), ask('1')])
      assert.deepEqual(
        replies.map(({ text }) => text),
        [`receiver ${hosts[1]}`, `receiver ${hosts[0]}`],
      )
      return (await learned()).includes('1')
    })
    await allHot()
    assert.deepEqual([...load.outcomes.keys()], ['200'])
  })

  test('the setting is live, and no request fails', async () => {
    await gateway.configure('learned', { sharedRoutes: false })
    await eventually(
      'each has its own',
      async () => (await learned()).filter((name) => !name.startsWith('~')).length === IDS.length,
    )
    await allHot()
    await gateway.configure('learned', LEARNED)
    await eventually(
      'they share',
      async () => (await learned()).filter((name) => name.startsWith('~')).length > 50,
    )
    await allHot()
    assert.deepEqual([...load.outcomes.keys()], ['200'])
  })

  test('a killed processor costs no request, and the next one sends nothing anew', async () => {
    await gateway.processor?.stop('SIGKILL')
    const sent = load.durationsMs.length + IDS.length
    await eventually('all were sent', () => load.durationsMs.length > sent)
    const updates = await gateway.stat(UPDATES)
    await gateway.startProcessor()
    await eventually(
      'it is connected',
      async () => (await gateway.stat('control_plane.connected_state')) === 1,
    )
    // A processor that starts asks Envoy whether it accepts the file's routes (src/xds/proof.ts): the proof comes, and it goes.
    await eventually(
      'the proof is gone again',
      async () => (await gateway.stat(UPDATES)) - updates >= 2 && !(await virtualHosts()).some(isProof),
    )
    await allHot()
    assert.equal((await gateway.stat(UPDATES)) - updates, 2)
    assert.deepEqual([...load.outcomes.keys()], ['200'])
  })

  test('a service with another name fails no request', async () => {
    await gateway.configure('rules', { services: { main: {} } })
    await eventually(
      'it is in use',
      async () => (await gateway.stat(`cluster.main/${IDS[0]}.upstream_rq_2xx`)) > 0,
    )
    await allHot()
    assert.deepEqual([...load.outcomes.keys()], ['200'])
  })
})
