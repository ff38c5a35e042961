import assert from 'node:assert/strict'
import { after, before, suite, test } from 'node:test'
import { startGateway, type TestGateway } from '../support/gateway.ts'
import { call } from '../support/http.ts'
import { freePort } from '../support/ports.ts'
import { eventually } from '../support/processor.ts'
import { type Receiver, startReceiver } from '../support/receiver.ts'
import { startZoneNameserver, type ZoneNameserver } from '../support/zone-nameserver.ts'

/**
 * DNS sends zones to addresses that no zone may have: the first fence is the processor's deny list, the second Envoy's,
 * tried with the first one switched off. A receiver listens on a denied address and must stay alone.
 */
const DENIED: Readonly<Record<string, readonly string[]>> = {
  loopback: ['127.0.66.1'],
  'this-host': ['0.0.0.0'],
  metadata: ['169.254.169.254'],
  multicast: ['224.0.0.1'],
  loopback6: ['::1'],
  mapped: ['::ffff:127.0.66.1'],
  compatible: ['::127.0.66.1'],
  nat64: ['64:ff9b::a9fe:a9fe'],
  'link-local6': ['fe80::1'],
}
const ALL = ['0.0.0.0/0', '::/0']

let nameserver: ZoneNameserver
let bait: Receiver
let port: number

const gatewayWith = (allow: readonly string[], envoyAllow: readonly string[]): Promise<TestGateway> =>
  startGateway({
    config: {
      rules: { port },
      dns: { nameservers: [nameserver.address], search: 'game.test', family: 'both' },
      addresses: { allow },
      learned: { enabled: false },
    },
    envoyAllow,
  })

suite('denied addresses', () => {
  before(async () => {
    port = await freePort('127.0.66.1')
    bait = await startReceiver('127.0.66.1', port)
    const records = Object.entries(DENIED).map(([id, addresses]) => [
      `zone${id}-default.game.test`,
      addresses,
    ])
    nameserver = await startZoneNameserver(Object.fromEntries(records), {
      'zonealias-default.game.test': 'zoneloopback-default.game.test',
    })
  })
  after(async () => {
    await nameserver?.close()
    await bait?.close()
  })

  const refusesAll = async (gateway: TestGateway, details: RegExp): Promise<void> => {
    for (const id of [...Object.keys(DENIED), 'alias']) {
      const answer = await call(gateway.port, { headers: [['server', id]], body: 'x' })
      assert.deepEqual([id, answer.status, answer.json()['reason']], [id, 502, 'address_denied'])
      assert.equal(answer.headers['x-zonegate-reason'], 'address_denied')
    }
    assert.deepEqual(bait.requests, [])
    await eventually(`Envoy logs ${details}`, () => details.test(gateway.log('envoy')))
  }

  test("the processor's fence alone refuses each, in an answer, behind a CNAME, inside IPv6", async () => {
    const gateway = await gatewayWith([], ALL)
    try {
      await refusesAll(gateway, /"details":"address_denied"/)
    } finally {
      await gateway.stop()
    }
  })

  test("Envoy's fence alone refuses each, and dials nobody", async () => {
    const gateway = await gatewayWith(ALL, [])
    try {
      await refusesAll(gateway, /"details":"rbac_access_denied/)
      assert.equal(await gateway.stat('cluster.zones.upstream_cx_total'), 0)
    } finally {
      await gateway.stop()
    }
  })

  test('with neither, the zone on loopback is reached', async () => {
    const gateway = await gatewayWith(ALL, ALL)
    try {
      for (const id of ['loopback', 'alias']) {
        const answer = await call(gateway.port, { headers: [['server', id]], body: 'x' })
        assert.equal(answer.status, 200, answer.text)
      }
      assert.equal(bait.requests.length, 2)
    } finally {
      await gateway.stop()
    }
  })
})
