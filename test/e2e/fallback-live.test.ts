import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, suite, test } from 'node:test'
import { startGateway, type TestGateway } from '../support/gateway.ts'
import { call } from '../support/http.ts'
import { freePort } from '../support/ports.ts'
import { eventually } from '../support/processor.ts'
import { type Receiver, startReceiver } from '../support/receiver.ts'
import { startZoneNameserver, type ZoneNameserver } from '../support/zone-nameserver.ts'

/** What is saved while the processor runs is what Envoy does by itself when that one is killed, without a start of its own. */
let first: ZoneNameserver
let second: ZoneNameserver
let gateway: TestGateway
let here: Receiver
let there: Receiver
let port: number

suite('the fallback follows what is saved', () => {
  before(async () => {
    port = await freePort('127.0.82.1')
    here = await startReceiver('127.0.82.1', port)
    there = await startReceiver('127.0.83.1', port)
    first = await startZoneNameserver({
      'zone1-default.game.test': ['127.0.82.1'],
      'zone1-mail.game.test': ['127.0.83.1'],
      'zone2-default.game.test': ['127.0.83.1'],
      'zone1-default.other.test': ['127.0.83.1'],
      'server1.game.test': ['127.0.83.1'],
    })
    second = await startZoneNameserver({ 'zone1-default.game.test': ['127.0.83.1'] })
    gateway = await startGateway({
      config: {
        rules: { port },
        dns: { nameservers: [first.address], search: 'game.test' },
        addresses: { allow: ['127.0.82.0/24'] },
        fallback: { enabled: true },
      },
    })
  })
  after(async () => {
    await gateway?.stop()
    await first?.close()
    await second?.close()
    await here?.close()
    await there?.close()
  })

  const ask = async (id: string, path = '/pay') => {
    const answer = await call(gateway.port, { path, headers: [['server', id]], body: 'x' })
    return answer.status === 200 ? answer.text : `${answer.status} ${answer.json()['reason']}`
  }
  /** What Envoy answers by itself once it does what was saved. */
  const alone = async (title: string, request: () => Promise<string>, expected: string): Promise<void> => {
    await gateway.processor?.stop('SIGKILL')
    try {
      await eventually(`${title}: ${expected}`, async () => (await request()) === expected)
    } finally {
      await gateway.startProcessor()
    }
  }
  const routes = (): string => readFileSync(join(gateway.folder, 'run/routes.yaml'), 'utf8')
  /** Saves it, and waits until Envoy has the routes that follow are there to be read, and Envoy has their cluster. */
  const save = async (part: string, values: Readonly<Record<string, unknown>>): Promise<void> => {
    const before = routes()
    await gateway.configure(part, values)
    await eventually('the routes are others', () => routes() !== before)
    // The routes it reads by itself.
    const [cluster = ''] = /zones_by_name\.\w+/.exec(routes()) ?? []
    await eventually('Envoy has their cluster', async () => {
      const clusters = await fetch(
        `http://127.0.0.1:${gateway.adminPort}/config_dump?resource=dynamic_active_clusters`,
      )
      return (await clusters.text()).includes(cluster)
    })
  }
  const HERE = 'receiver 127.0.82.1'
  const THERE = 'receiver 127.0.83.1'

  test('as it starts', () => alone('a zone', () => ask('1'), HERE))

  test('addresses.allow', async () => {
    await alone('an address that is denied', () => ask('2'), '502 upstream_unreachable')
    await save('addresses', { allow: ['127.0.82.0/24', '127.0.83.0/24'] })
    await alone('an address that is allowed now', () => ask('2'), THERE)
  })

  test('services', async () => {
    await alone('a service', () => ask('1', '/mail'), THERE)
    await save('rules', { services: { default: {} } })
    await alone('a path of no service', () => ask('1', '/mail'), HERE)
  })

  test('rules', async () => {
    await save('rules', { host: 'server{id}.{search}' })
    await alone('another pattern of names', () => ask('1'), THERE)
    await save('rules', { host: 'zone{id}-{service}.{search}', idPattern: '^[2-9]$' })
    await alone('an id of no zone', () => ask('1'), '502 processor_unavailable')
    await save('rules', { idPattern: '^[0-9]$' })
    await alone('an id again', () => ask('1'), HERE)
  })

  test('the search domain', async () => {
    await save('dns', { search: 'other.test' })
    await alone('another domain', () => ask('1'), THERE)
    await save('dns', { search: 'game.test' })
  })

  test('nameservers', async () => {
    await save('dns', { nameservers: [second.address] })
    await alone('another nameserver', () => ask('1'), THERE)
  })

  test('fallback.enabled', async () => {
    await save('fallback', { enabled: false })
    await alone('without it', () => ask('1'), '502 processor_unavailable')
    await save('fallback', { enabled: true })
    await alone('with it', () => ask('1'), THERE)
  })
})
