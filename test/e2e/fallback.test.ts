import assert from 'node:assert/strict'
import { createServer, type Server, type Socket } from 'node:net'
import { join } from 'node:path'
import { after, before, suite, test } from 'node:test'
import { startGateway, type TestGateway } from '../support/gateway.ts'
import { type Call, call } from '../support/http.ts'
import { a, type ScriptedNameserver, startNameserver } from '../support/nameserver.ts'
import { freePort } from '../support/ports.ts'
import { eventually } from '../support/processor.ts'
import { type Receiver, startReceiver } from '../support/receiver.ts'
import { startZoneNameserver, type ZoneNameserver } from '../support/zone-nameserver.ts'

/** Envoy without its processor: it resolves the names of zones itself, by rules with ids in each place. */
const RULES = [
  {
    name: 'pay',
    match: { paths: ['/pay*', '/mail'] },
    services: { mail: { paths: ['/mail'] }, default: {} },
  },
  { name: 'cb', match: { paths: ['/cb/*'] }, id: { path: '/cb/{id}/*' } },
  { name: 'notify', match: { paths: ['/notify'] }, id: [{ header: 'x-zone' }, { query: 'zone' }] },
  {
    name: 'shop',
    match: { hosts: ['12.cb.test', '13.cb.test', 'none.cb.test'] },
    id: { host: '{id}.cb.test' },
  },
  { name: 'web', match: { paths: ['/web'] }, id: [{ query: 'z' }, { cookie: 'zone' }] },
  { name: 'chat', match: { paths: ['/chat'] }, id: [{ json: '/attach/server' }, { form: 'server' }] },
]
const JSON_TYPE: [string, string] = ['content-type', 'application/json']

let nameserver: ZoneNameserver
let gateway: TestGateway
let port: number
const receivers = new Map<string, Receiver>()

suite('a processor that is away', () => {
  before(async () => {
    port = await freePort('127.0.81.1')
    const services = ['pay-default', 'pay-mail', 'cb', 'notify', 'shop', 'web', 'chat']
    const names = ['default', 'mail', 'cb', 'notify', 'shop', 'web', 'chat']
    assert.equal(services.length, names.length)
    const records: Record<string, string[]> = {}
    for (const [index, name] of names.entries()) {
      const host = `127.0.81.${index + 1}`
      receivers.set(name, await startReceiver(host, port))
      records[`zone12-${name}.game.test`] = [host]
    }
    nameserver = await startZoneNameserver(records)
    gateway = await startGateway({
      processor: false,
      config: {
        rules: RULES.map((rule) => ({ ...rule, port })),
        dns: { nameservers: [nameserver.address], search: 'game.test' },
        addresses: { allow: ['127.0.81.0/24'] },
        fallback: { enabled: true },
      },
    })
  })
  after(async () => {
    await gateway?.stop()
    await nameserver?.close()
    for (const receiver of receivers.values()) await receiver.close()
  })

  const reached = async (service: string, request: Call): Promise<void> => {
    const receiver = receivers.get(service)
    const before = receiver?.requests.length ?? 0
    const answer = await call(gateway.port, { body: 'x', ...request })
    assert.equal(answer.status, 200, answer.text)
    assert.equal(receiver?.requests.length, before + 1)
  }

  const CASES: [title: string, service: string, request: Call][] = [
    ['a header', 'default', { path: '/pay', headers: [['server', '12']] }],
    ['a path of another service', 'mail', { path: '/mail', headers: [['server', '12']] }],
    ['a path', 'cb', { path: '/cb/12/a/b?c=d' }],
    ['a query', 'notify', { path: '/notify?zone=12' }],
    ['a header before a query', 'notify', { path: '/notify?zone=13', headers: [['x-zone', '12']] }],
    ['a host with a port', 'shop', { headers: [['host', '12.CB.test:80']] }],
    ['a cookie', 'web', { path: '/web', headers: [['cookie', 'zone=12; other=1']] }],
    ['a query before a cookie', 'web', { path: '/web?z=12' }],
    ['JSON', 'chat', { path: '/chat', headers: [JSON_TYPE], body: '{"attach":{"server":12}}' }],
    [
      'a form',
      'chat',
      {
        path: '/chat',
        headers: [['content-type', 'application/x-www-form-urlencoded']],
        body: 'a=b&server=12',
      },
    ],
  ]
  for (const [title, service, request] of CASES)
    test(`an id in ${title} is resolved by Envoy: 200`, () => reached(service, request))

  test('the access log says so, with the name of the zone', async () => {
    await reached('default', { path: '/pay', headers: [['server', '12']] })
    await eventually('a line of the access log', () =>
      /"path":"fallback".*"zone":"zone12-default.game.test"/.test(gateway.log('envoy')),
    )
  })

  const REFUSED: [title: string, request: Call][] = [
    ['a name that DNS does not have', { path: '/pay', headers: [['server', '99']] }],
  ]
  for (const [title, request] of REFUSED)
    test(`${title}: 502 upstream_unreachable`, async () => {
      const answer = await call(gateway.port, { body: 'x', ...request })
      assert.deepEqual([answer.status, answer.json()['reason']], [502, 'upstream_unreachable'])
    })
})

suite('what may keep Envoy from an answer while the processor is away', () => {
  let first: ScriptedNameserver
  let second: ScriptedNameserver
  let zone: Receiver
  let deaf: Server | undefined
  const held = new Set<Socket>()
  before(async () => {
    port = await freePort('127.0.90.1')
    zone = await startReceiver('127.0.90.1', port)
    first = await startNameserver((query) => {
      if (query.name.startsWith('zonefailing')) query.reply({ rcode: 2 })
    })
    second = await startNameserver((query) => query.reply({ answers: [a(query.name, '127.0.90.1', 30)] }))
    gateway = await startGateway({
      processor: false,
      config: {
        rules: { port },
        dns: { nameservers: [first.address, second.address], search: 'game.test', budgetMs: 8000 },
        addresses: { allow: ['127.0.90.0/24'] },
        fallback: { enabled: true },
      },
      edit: { 'envoy.yaml': (text) => text.replace('max_requests: 4096', 'max_requests: 1') },
    })
  })
  after(async () => {
    await gateway?.stop()
    for (const socket of held) socket.destroy()
    deaf?.close()
    await first?.stop()
    await second?.stop()
    await zone?.close()
  })
  const ask = async (id: string): Promise<string> => {
    const answer = await call(gateway.port, { path: '/pay', headers: [['server', id]], body: 'x' })
    return answer.status === 200 ? '200' : `${answer.status} ${answer.json()['reason']}`
  }

  test('the first nameserver is silent: 200 by the second', async () =>
    assert.equal(await ask('silent'), '200'))
  test('the first nameserver answers SERVFAIL: 200 by the second', async () =>
    assert.equal(await ask('failing'), '200'))

  test('while as many wait for the processor as may, the rest is refused: a flood is none of DNS queries', async () => {
    // One that takes connections, and is silent.
    const server = createServer((socket) => held.add(socket.on('error', () => undefined)))
    deaf = server
    await new Promise<void>((done) => server.listen(join(gateway.folder, 'run/processor.sock'), done))
    // One of Envoy's own streams, or this request, takes the one place.
    const waiting = ask('known')
    await eventually(
      'one is with the processor',
      async () => (await gateway.stat('cluster.processor.upstream_rq_active')) >= 1,
    )
    for (let turn = 0; turn < 5; turn += 1) assert.equal(await ask('known'), '502 processor_unavailable')
    await waiting
  })
})

test('more names than dns.cacheEntriesMax, while the processor is away: 503 too_many_addresses', async () => {
  // None of its names is over and done with: each keeps its place.
  const asked = new Set<string>()
  const silent = await startNameserver((query) => void asked.add(query.name))
  const small = await startGateway({
    processor: false,
    config: {
      dns: { nameservers: [silent.address], search: 'game.test', cacheEntriesMax: 16 },
      fallback: { enabled: true },
    },
  })
  try {
    const ask = async (id: string): Promise<string> => {
      const answer = await call(small.port, { headers: [['server', id]], body: 'x' })
      return `${answer.status} ${answer.json()['reason']}`
    }
    const waiting = Array.from({ length: 20 }, (_, at) => ask(`a${at}`))
    await eventually('they have all places', () => asked.size >= 16)
    assert.equal(await ask('one-more'), '503 too_many_addresses')
    await Promise.all(waiting)
  } finally {
    await small.stop()
    await silent.stop()
  }
})
