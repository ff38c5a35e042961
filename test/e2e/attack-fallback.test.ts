import assert from 'node:assert/strict'
import { after, before, suite, test } from 'node:test'
import { startGateway, type TestGateway } from '../support/gateway.ts'
import { call } from '../support/http.ts'
import { a, type ScriptedNameserver, startNameserver } from '../support/nameserver.ts'
import { freePort } from '../support/ports.ts'
import { eventually } from '../support/processor.ts'
import { type Receiver, startReceiver } from '../support/receiver.ts'
import { startZoneNameserver, type ZoneNameserver } from '../support/zone-nameserver.ts'

/**
 * The processor is away, and DNS sends zones to addresses that no zone may have, or out of the search domain. A receiver listens on
 * a denied address and must stay alone.
 */
const DENIED: Readonly<Record<string, readonly string[]>> = {
  loopback: ['127.0.86.1'],
  'this-host': ['0.0.0.0'],
  metadata: ['169.254.169.254'],
  multicast: ['224.0.0.1'],
  loopback6: ['::1'],
  mapped: ['::ffff:127.0.86.1'],
  compatible: ['::127.0.86.1'],
  nat64: ['64:ff9b::a9fe:a9fe'],
  'link-local6': ['fe80::1'],
  // Nobody listens on the first one, which is allowed.
  second: ['127.0.87.9', '127.0.86.1'],
  'second-mapped': ['127.0.87.9', '::ffff:127.0.86.1'],
}
/** What c-ares puts behind a name that is not there, unless it is told not to: the system's search domain. */
const SYSTEM_SEARCH = 'elsewhere.test'

let nameserver: ZoneNameserver
let bait: Receiver
let zone: Receiver
let gateway: TestGateway
let port: number

suite('DNS answers while the processor is away', () => {
  before(async () => {
    port = await freePort('127.0.86.1')
    bait = await startReceiver('127.0.86.1', port)
    zone = await startReceiver('127.0.87.1', port)
    const records = Object.entries(DENIED).map(([id, addresses]) => [
      `zone${id}-default.game.test`,
      addresses,
    ])
    nameserver = await startZoneNameserver(
      {
        ...Object.fromEntries(records),
        'zone1-default.game.test': ['127.0.87.1'],
        [`zone99-default.game.test.${SYSTEM_SEARCH}`]: ['127.0.87.1'],
      },
      { 'zonealias-default.game.test': 'zoneloopback-default.game.test' },
    )
    const before = process.env['LOCALDOMAIN']
    process.env['LOCALDOMAIN'] = SYSTEM_SEARCH
    try {
      gateway = await startGateway({
        processor: false,
        config: {
          rules: { port },
          dns: { nameservers: [nameserver.address], search: 'game.test', family: 'both' },
          addresses: { allow: ['127.0.87.0/24'] },
          fallback: { enabled: true },
        },
      })
    } finally {
      if (before === undefined) delete process.env['LOCALDOMAIN']
      else process.env['LOCALDOMAIN'] = before
    }
  })
  after(async () => {
    await gateway?.stop()
    await nameserver?.close()
    await Promise.all([bait?.close(), zone?.close()])
  })

  const ask = (id: string) => call(gateway.port, { headers: [['server', id]], body: 'x' })

  test('a zone with an allowed address is reached', async () => {
    assert.equal((await ask('1')).status, 200)
  })

  for (const id of [...Object.keys(DENIED), 'alias'])
    test(`a denied address is never dialled: ${id}`, async () => {
      const answer = await ask(id)
      assert.deepEqual([answer.status, bait.requests.length], [502, 0], answer.text)
      assert.equal(await bait.connections(), 0)
    })

  test('a name that is not there is not looked for in the search domain of the system', async () => {
    const answer = await ask('99')
    assert.deepEqual([answer.status, answer.json()['reason']], [502, 'upstream_unreachable'])
  })
})

suite('a flood of unknown zones while the processor is away', () => {
  let silent: ScriptedNameserver
  /** Of each name, how often it was asked for. */
  const names = new Map<string, number>()
  before(async () => {
    port = await freePort('127.0.88.1')
    zone = await startReceiver('127.0.88.1', port)
    silent = await startNameserver((query) => {
      names.set(query.name, (names.get(query.name) ?? 0) + 1)
      if (query.name.startsWith('zoneok')) query.reply({ answers: [a(query.name, '127.0.88.1', 30)] })
      if (query.name.startsWith('zonegone')) query.reply({ rcode: 3 })
    })
    gateway = await startGateway({
      processor: false,
      config: {
        rules: { port },
        dns: {
          nameservers: [silent.address],
          search: 'game.test',
          budgetMs: 1500,
          queriesInFlightMax: 8,
          cacheEntriesMax: 16,
        },
        addresses: { allow: ['127.0.88.0/24'] },
        fallback: { enabled: true },
      },
    })
  })
  after(async () => {
    await gateway?.stop()
    await silent?.stop()
    await zone?.close()
  })

  const ask = async (id: string): Promise<string> => {
    const answer = await call(gateway.port, { headers: [['server', id]], body: 'x' })
    return answer.status === 200 ? '200' : `${answer.status} ${answer.json()['reason']}`
  }

  const asked = (prefix: string): [name: string, times: number][] =>
    [...names].filter(([name]) => name.startsWith(prefix))

  test('names that are not there are asked for once each, and hold their places for some seconds; the rest is refused', async () => {
    const answers: string[] = []
    for (let index = 0; index < 100; index += 1) answers.push(await ask(`gone${index}`))
    const looked = answers.filter((answer) => answer === '502 upstream_unreachable').length
    assert.ok(looked > 0, answers.join())
    assert.equal(
      answers.filter((answer) => answer === '503 too_many_addresses').length,
      100 - looked,
      answers.join(),
    )
    await eventually('another is found', async () => (await ask('ok')) === '200')
    const gone = asked('zonegone')
    assert.ok(gone.length > 0)
    assert.deepEqual(
      gone.filter(([, times]) => times > 1),
      [],
    )
  })

  test('at most dns.queriesInFlightMax names are asked for at once, the rest is refused', async () => {
    const answers = await Promise.all(Array.from({ length: 60 }, (_, index) => ask(`silent${index}`)))
    const count = asked('zonesilent').length
    assert.ok(count > 0 && count <= 10, `${count} names`)
    assert.ok(!answers.includes('200'), answers.join())
  })

  test('names that no nameserver answers for hold their places for some seconds', async () => {
    for (let round = 0; round < 4; round += 1)
      await Promise.all(Array.from({ length: 8 }, (_, index) => ask(`silent${round}x${index}`)))
    let turn = 0
    await eventually('another is found', async () => {
      turn += 1
      return (await ask(`okafter${turn}`)) === '200'
    })
  })

  test('at most dns.cacheEntriesMax names are kept, and the rest is refused', async () => {
    const answers: string[] = []
    for (let index = 0; index < 40; index += 1) answers.push(await ask(`ok${index}`))
    const reached = answers.filter((answer) => answer === '200').length
    assert.ok(reached > 0 && reached <= 16, answers.join())
  })
})
