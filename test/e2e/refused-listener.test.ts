import assert from 'node:assert/strict'
import { readFileSync, renameSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, suite, test } from 'node:test'
import { parse, stringify } from 'yaml'
import type { Status } from '../../src/status/status.ts'
import { learnedIds } from '../support/fleet.ts'
import { startGateway, type TestGateway } from '../support/gateway.ts'
import { call } from '../support/http.ts'
import { freePort } from '../support/ports.ts'
import { eventually } from '../support/processor.ts'
import { type Receiver, startReceiver } from '../support/receiver.ts'
import { startZoneNameserver, type ZoneNameserver } from '../support/zone-nameserver.ts'

/** Envoy keeps its listener, and so makes keys by the rules before: what is hot must not be found by them. */
const HOSTS = { h1: '127.0.98.1', h2: '127.0.98.2' } as const

suite('a listener that Envoy refuses, and then other rules', () => {
  let gateway: TestGateway
  let nameserver: ZoneNameserver
  let receivers: Receiver[] = []

  before(async () => {
    const port = await freePort(HOSTS.h1)
    receivers = await Promise.all(Object.values(HOSTS).map((host) => startReceiver(host, port)))
    nameserver = await startZoneNameserver(
      Object.fromEntries(Object.entries(HOSTS).map(([id, host]) => [`zone${id}-default.game.test`, [host]])),
    )
    gateway = await startGateway({
      config: {
        rules: { port, id: { query: 'old' } },
        dns: { nameservers: [nameserver.address], search: 'game.test' },
        addresses: { allow: Object.values(HOSTS).map((host) => `${host}/32`) },
      },
    })
  })
  after(async () => {
    await gateway?.stop()
    await nameserver?.close()
    await Promise.all(receivers.map((receiver) => receiver.close()))
  })

  const answerTo = async (query: string): Promise<string> =>
    (await call(gateway.port, { path: `/?${query}`, body: 'x' })).text
  const status = async (): Promise<Status> =>
    (await (await fetch(`http://127.0.0.1:${gateway.httpPort}/api/status`)).json()) as Status
  const save = (file: string, change: (text: string) => string): void => {
    const path = join(gateway.folder, file)
    writeFileSync(`${path}.new`, change(readFileSync(path, 'utf8')))
    renameSync(`${path}.new`, path)
  }
  const areHot = (query: (id: string) => string) => async (): Promise<boolean> => {
    for (const id of Object.keys(HOSTS)) await answerTo(query(id))
    return (await learnedIds(gateway)).size === 2
  }

  test('each request gets to the zone that the rules in force say, and to no other', async () => {
    await eventually(
      'zones are hot',
      areHot((id) => `old=${id}`),
    )
    assert.equal(await answerTo('old=h1&new=h2'), `receiver ${HOSTS.h1}`)
    const shipped = readFileSync(join(gateway.folder, 'envoy/listener.yaml'), 'utf8')
    save('envoy/listener.yaml', (text) => text.replace('stat_prefix: callback', 'stat_prefix: ""'))
    await eventually(
      'Envoy refuses it',
      async () => (await gateway.stat('listener_manager.lds.update_rejected')) > 0,
    )
    save('zonegate.yaml', (text) => {
      const config = parse(text)
      return stringify({ ...config, rules: { ...config.rules, id: { query: 'new' } } })
    })
    await eventually('the rules are taken over', async () => (await status()).config.reloads.accepted > 0)
    await eventually(
      'no zone is found by the rules before',
      async () => (await answerTo('old=h1&new=h2')) === `receiver ${HOSTS.h2}`,
    )
    await eventually('it is told', async () => {
      assert.equal(await answerTo('old=h1&new=h2'), `receiver ${HOSTS.h2}`)
      assert.equal(await answerTo('old=h2&new=h1'), `receiver ${HOSTS.h1}`)
      return (await status()).policy.faults.some((fault) => fault.includes('Envoy refuses'))
    })
    assert.deepEqual([...(await learnedIds(gateway))], [])
    save('envoy/listener.yaml', () => shipped)
    await eventually(
      'zones are hot by the new rules',
      areHot((id) => `new=${id}`),
    )
    assert.equal(await answerTo('old=h1&new=h2'), `receiver ${HOSTS.h2}`)
  })
})
