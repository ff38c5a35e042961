import assert from 'node:assert/strict'
import { readFileSync, renameSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, suite, test } from 'node:test'
import { parse, stringify } from 'yaml'
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
  const save = (file: string, change: (text: string) => string): void => {
    const path = join(gateway.folder, file)
    writeFileSync(`${path}.new`, change(readFileSync(path, 'utf8')))
    renameSync(`${path}.new`, path)
  }
  const areHot = (query: (id: string) => string) => async (): Promise<boolean> => {
    for (const id of Object.keys(HOSTS)) await answerTo(query(id))
    return (await learnedIds(gateway)).size === 2
  }

  const faults = async (): Promise<string> => (await gateway.status()).policy.faults.join('\n')
  const REFUSED = /^Envoy zonegate-envoy refuses envoy\/listener\.yaml/
  const faulty = (text: string): string => text.replace('stat_prefix: callback', 'stat_prefix: ""')

  test('an operator sees it within seconds, in log, status and history, without any request', async () => {
    const shipped = readFileSync(join(gateway.folder, 'envoy/listener.yaml'), 'utf8')
    save('envoy/listener.yaml', faulty)
    await eventually('status says so', async () => REFUSED.test(await faults()))
    await eventually('the log, too', () => /Envoy's listener has not changed/.test(gateway.log('processor')))
    const history = await (await fetch(`http://127.0.0.1:${gateway.httpPort}/api/history`)).text()
    assert.match(history, /"envoy_files_fault".*refuses envoy\/listener\.yaml/)
    assert.equal(await gateway.stat('http.callback.downstream_rq_total'), 0)

    await gateway.processor?.stop('SIGKILL')
    await gateway.startProcessor()
    await eventually('a new processor says so, too', async () => REFUSED.test(await faults()))

    save('envoy/listener.yaml', () => shipped)
    await eventually('all is well', async () => (await faults()) === '')
  })

  test('an Envoy that starts with a listener that it refuses', async () => {
    const shipped = readFileSync(join(gateway.folder, 'envoy/listener.yaml'), 'utf8')
    save('envoy/listener.yaml', faulty)
    await eventually('status says so', async () => REFUSED.test(await faults()))
    await gateway.envoy.stop('SIGKILL')
    await gateway.startEnvoy()
    await assert.rejects(answerTo('old=h1'))
    await eventually('status says so again', async () => REFUSED.test(await faults()))
    save('envoy/listener.yaml', (text) => text.replace('stat_prefix: ""', 'stat_prefix: other'))
    await eventually(
      'another one is in force',
      async () => (await answerTo('old=h1').catch(() => '')) === `receiver ${HOSTS.h1}`,
    )
    assert.equal(await faults(), '')
    save('envoy/listener.yaml', () => shipped)
  })

  test('each request gets to the zone that the rules in force say, and to no other', async () => {
    await eventually(
      'zones are hot',
      areHot((id) => `old=${id}`),
    )
    assert.equal(await answerTo('old=h1&new=h2'), `receiver ${HOSTS.h1}`)
    const shipped = readFileSync(join(gateway.folder, 'envoy/listener.yaml'), 'utf8')
    save('envoy/listener.yaml', faulty)
    await eventually(
      'Envoy refuses it',
      async () => (await gateway.stat('listener_manager.lds.update_rejected')) > 0,
    )
    save('zonegate.yaml', (text) => {
      const config = parse(text)
      return stringify({ ...config, rules: { ...config.rules, id: { query: 'new' } } })
    })
    await eventually(
      'the rules are taken over',
      async () => (await gateway.status()).config.reloads.accepted > 0,
    )
    await eventually(
      'no zone is found by the rules before',
      async () => (await answerTo('old=h1&new=h2')) === `receiver ${HOSTS.h2}`,
    )
    await eventually('it is told', async () => {
      assert.equal(await answerTo('old=h1&new=h2'), `receiver ${HOSTS.h2}`)
      assert.equal(await answerTo('old=h2&new=h1'), `receiver ${HOSTS.h1}`)
      return (await gateway.status()).policy.faults.some((fault) =>
        fault.includes('refuses envoy/listener.yaml'),
      )
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
