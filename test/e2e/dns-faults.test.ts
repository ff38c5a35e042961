import assert from 'node:assert/strict'
import { after, before, beforeEach, suite, test } from 'node:test'
import { startGateway, type TestGateway } from '../support/gateway.ts'
import { call, type Reply } from '../support/http.ts'
import {
  a,
  always,
  type Script,
  type ScriptedNameserver,
  silent,
  soa,
  startNameserver,
} from '../support/nameserver.ts'
import { freePort } from '../support/ports.ts'
import { eventually } from '../support/processor.ts'
import { type Receiver, startReceiver } from '../support/receiver.ts'

/**
 * What a caller sees through Envoy of DNS faults; numbered as in the table of faults. Two scripted nameservers, a TTL of one
 * second, and a name of its own for each test.
 */
/** Long, as a nameserver of this process is silent for a tenth of a second now and then. */
const TIMEOUT_MS = 1000
const BUDGET_MS = 6000
const STALE_SECONDS = 8
const HOST = '127.0.67.1'
const OTHER_HOST = '127.0.67.2'

let gateway: TestGateway
let receivers: Receiver[]
let port: number
let ns1: ScriptedNameserver
let ns2: ScriptedNameserver
let names = 0
let id: string

/** Answers that are over after a second. */
const briefly =
  (...addresses: string[]): Script =>
  (query) =>
    query.reply({ answers: addresses.map((address) => a(query.name, address, 1)) })
const learning = { enabled: false } // each request asks DNS' cache

suite('DNS faults, through Envoy', () => {
  before(async () => {
    port = await freePort(HOST)
    receivers = await Promise.all([HOST, OTHER_HOST].map((host) => startReceiver(host, port)))
    ns1 = await startNameserver(briefly(HOST))
    ns2 = await startNameserver(briefly(HOST))
    gateway = await startGateway({
      config: {
        rules: { port },
        dns: {
          nameservers: [ns1.address, ns2.address],
          search: 'game.test',
          timeoutMs: TIMEOUT_MS,
          attempts: 1,
          budgetMs: BUDGET_MS,
          ttlSeconds: { min: 1, max: 60 },
          staleSeconds: STALE_SECONDS,
        },
        learned: learning,
        addresses: { allow: ['127.0.67.0/24'] },
      },
    })
  })
  after(async () => {
    await gateway?.stop()
    await Promise.all([ns1?.stop(), ns2?.stop(), ...(receivers ?? []).map((receiver) => receiver.close())])
  })
  beforeEach(async () => {
    ns1.script = briefly(HOST)
    ns2.script = briefly(HOST)
    names += 1
    id = `f${names}`
    // Both nameservers are healthy again before the next fault: a penalty ends with a good answer.
    for (let i = 0; i < 20; i += 1) {
      const before = ns1.queries.length
      await ask(`warm${names}x${i}`)
      if (ns1.queries.length > before) break
      await tick(300)
    }
  })

  const tick = (ms: number): Promise<void> => new Promise((done) => setTimeout(done, ms))
  const ask = (zone = id): Promise<Reply> => call(gateway.port, { headers: [['server', zone]], body: 'x' })
  const outcome = async (zone = id): Promise<string> => {
    const reply = await ask(zone)
    return reply.status === 200 ? reply.text : `${reply.status} ${reply.json()['reason']}`
  }
  const timed = async (zone = id): Promise<{ outcome: string; ms: number }> => {
    const started = performance.now()
    return { outcome: await outcome(zone), ms: performance.now() - started }
  }
  const asked = (server: ScriptedNameserver, zone = id): number =>
    server.queries.filter(({ name }) => name.includes(`zone${zone}-`)).length
  const OK = `receiver ${HOST}`

  test('1: the first nameserver drops everything: forwarded after one timeout, afterwards it costs nothing', async () => {
    ns1.script = silent
    const first = await timed()
    assert.equal(first.outcome, OK)
    assert.ok(first.ms < 2 * TIMEOUT_MS, `${first.ms} ms`)
    const next = await timed(`${id}b`)
    assert.equal(next.outcome, OK)
    assert.ok(next.ms < TIMEOUT_MS, `${next.ms} ms`)
  })

  test('5: all dead, the answer fresh: forwarded, no query sent', async () => {
    ns1.script = ns2.script = always(HOST)
    assert.equal(await outcome(), OK)
    ns1.script = ns2.script = silent
    const before = asked(ns1) + asked(ns2)
    assert.equal(await outcome(), OK)
    assert.equal(asked(ns1) + asked(ns2), before)
  })

  test('6, 7: all dead, the answer expired: forwarded from stale, and 502 once it is too old', async () => {
    assert.equal(await outcome(), OK)
    ns1.script = ns2.script = silent
    await tick(1200)
    const stale = await timed()
    assert.equal(stale.outcome, OK)
    assert.ok(stale.ms < BUDGET_MS, `${stale.ms} ms`)
    await tick(STALE_SECONDS * 1000 + 200)
    assert.equal(await outcome(), '502 nameservers_failed')
  })

  for (const rcode of [2, 5, 4, 1]) {
    test(`10: RCODE ${rcode} of the first nameserver: the second is asked`, async () => {
      ns1.script = (query) => query.reply({ rcode, edns: null })
      assert.equal(await outcome(), OK)
      assert.ok(asked(ns2) > 0)
    })
  }

  test('12: NXDOMAIN: 502, and one query for the time that the SOA says', async () => {
    ns1.script = ns2.script = (query) => query.reply({ rcode: 3, authorities: [soa('game.test', 17)] })
    for (let i = 0; i < 5; i += 1) assert.equal(await outcome(), '502 name_not_found')
    assert.equal(asked(ns1) + asked(ns2), 1)
  })

  test('13: NXDOMAIN while an answer is held: 502, the answer is dropped', async () => {
    assert.equal(await outcome(), OK)
    ns1.script = ns2.script = (query) => query.reply({ rcode: 3, authorities: [soa('game.test', 1)] })
    await tick(1200)
    assert.equal(await outcome(), '502 name_not_found')
  })

  test('15: NODATA: 502 with a reason of its own', async () => {
    ns1.script = ns2.script = (query) => query.reply({ authorities: [soa('game.test', 5)] })
    assert.equal(await outcome(), '502 no_address')
  })

  test('18: a truncated answer is asked again over TCP', async () => {
    ns1.script = (query) => {
      if (query.transport === 'udp') query.reply({ truncated: true, answers: [a(query.name, OTHER_HOST)] })
      else query.reply({ answers: [a(query.name, HOST)] })
    }
    assert.equal(await outcome(), OK)
    assert.ok(ns1.queries.some(({ transport, name }) => transport === 'tcp' && name.includes(id)))
  })

  test('25: a flood of wrong ids does not extend the timer', async () => {
    // Until the end: a timer that it moved would last longer than Envoy waits, and that is 504.
    const floods = new Set<NodeJS.Timeout>()
    ns1.script = ns2.script = (query) => {
      const wrong = query.response({
        id: (query.message.id + 1) & 0xffff,
        answers: [a(query.name, OTHER_HOST)],
      })
      floods.add(setInterval(() => query.send(wrong), 2))
    }
    const seen = await outcome()
    for (const flood of floods) clearInterval(flood)
    assert.equal(seen, '502 nameservers_failed')
  })

  for (const address of ['127.0.0.1', '169.254.169.254', '0.0.0.0', '224.0.0.1', '255.255.255.255']) {
    test(`37: ${address} is never connected to`, async () => {
      ns1.script = ns2.script = always(address)
      assert.equal(await outcome(), '502 address_denied')
    })
  }

  test('37: of several addresses the denied are left out', async () => {
    ns1.script = ns2.script = always('127.0.0.1', HOST, '169.254.169.254')
    for (let i = 0; i < 4; i += 1) assert.equal(await outcome(), OK)
  })

  test('39: addresses change: the new ones are used within the TTL, no request fails', async () => {
    assert.equal(await outcome(), OK)
    ns1.script = ns2.script = briefly(OTHER_HOST)
    const deadline = performance.now() + 30_000
    let seen = ''
    while (seen !== `receiver ${OTHER_HOST}` && performance.now() < deadline) {
      seen = await outcome()
      assert.match(seen, /^receiver /)
      await tick(20)
    }
    assert.equal(seen, `receiver ${OTHER_HOST}`)
  })

  test('40: 200 concurrent first requests of one zone: one query', async () => {
    ns1.script = (query) => void setTimeout(() => query.reply({ answers: [a(query.name, HOST)] }), 50)
    const outcomes = await Promise.all(Array.from({ length: 200 }, () => outcome()))
    assert.deepEqual([...new Set(outcomes)], [OK])
    // A nameserver that failed a moment ago may be probed with it beside.
    assert.ok(asked(ns1) <= 1 && asked(ns2) <= 1, `${asked(ns1)} and ${asked(ns2)} queries`)
  })
})

test('more names at once than dns.queriesInFlightMax: 502 resolver_overloaded, and the first goes its way', async () => {
  const nameserver = await startNameserver(silent)
  const small = await startGateway({
    config: {
      dns: { nameservers: [nameserver.address], search: 'game.test', queriesInFlightMax: 1, budgetMs: 3000 },
      learned: learning,
    },
  })
  try {
    const reasonOf = async (zone: string): Promise<unknown> =>
      (await call(small.port, { headers: [['server', zone]] })).json()['reason']
    const first = reasonOf('1')
    await eventually('the nameserver is asked', () => nameserver.queries.length > 0)
    assert.equal(await reasonOf('2'), 'resolver_overloaded')
    assert.equal(await first, 'nameservers_failed')
  } finally {
    await small.stop()
    await nameserver.stop()
  }
})
