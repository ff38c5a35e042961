/** What peers can do to the sockets under DNS: TCP streams that are none, errors of a send, strangers, pauses. */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { createSocket, type Socket } from 'node:dgram'
import { subscribe, unsubscribe } from 'node:diagnostics_channel'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import type { DomainName } from '../../src/dns/domain-name.ts'
import { encodeQuery } from '../../src/dns/message.ts'
import { TcpConnections } from '../../src/dns/tcp.ts'
import { createTransport } from '../../src/dns/transport.ts'
import { nodeTimers } from '../../src/timers.ts'
import { addressesOf, BUDGET_MS, TIMEOUT_MS, timed, until, withDns } from '../support/dns.ts'
import { a, always, frame, type Query, type Script, silent, startNameserver } from '../support/nameserver.ts'
import { freePort } from '../support/ports.ts'

const FINE = always('10.0.0.1')
const NAME = 'zone1-default.game.test'
const zone = (at: number): string => `zone${at}-default.game.test`

/** TC over UDP, so that TCP is asked. */
function overTcp(script: Script): Script {
  return (query) => (query.transport === 'tcp' ? script(query) : query.reply({ truncated: true }))
}

const noAnswers: [string, (query: Query) => void][] = [
  ['zero-length frames', (query) => query.sendRaw(Buffer.alloc(4096))],
  ['a frame shorter than a header', (query) => query.sendRaw(frame(Buffer.alloc(11)))],
  ['an answer without its question', (query) => query.reply({ questions: [] })],
  ['an answer to another question', (query) => query.reply({ id: query.message.id ^ 1 })],
  ['random octets', (query) => query.send(Buffer.alloc(500, 0x5a))],
]
for (const [what, script] of noAnswers) {
  test(`${what} over TCP take no longer than a round trip: the next nameserver is asked`, async () => {
    await withDns([overTcp(script), FINE], async ({ dns, clock }) => {
      const [answer, milliseconds] = await timed(clock, () => dns.lookup(NAME))
      assert.deepEqual(addressesOf(answer), ['10.0.0.1'])
      assert.ok(milliseconds < TIMEOUT_MS, `${milliseconds} ms`)
      assert.ok((dns.status().nameservers[0]?.outcomes['malformed'] ?? 0) > 0)
    })
  })
}

test('a stream without end over TCP is ended at once, and what comes of it is not kept', async () => {
  let [sent, closed] = [0, 0]
  const endless: Script = (query) => {
    const zeros = Buffer.alloc(1 << 20)
    for (let megabytes = 0; megabytes < 16; megabytes++) query.sendRaw(zeros)
    sent += 16 * zeros.length
  }
  await withDns([overTcp(endless), FINE], async ({ dns, ns1 }) => {
    const before = process.cpuUsage()
    assert.deepEqual(addressesOf(await dns.lookup(NAME)), ['10.0.0.1'])
    const { user, system } = process.cpuUsage(before)
    assert.ok(
      user + system < 300_000,
      `${user + system} µs of CPU time, of which the nameserver's part is most`,
    )
    closed = ns1.queries.filter(({ transport }) => transport === 'tcp').length
  })
  assert.ok(sent > 0 && closed > 0)
})

for (const frameSize of [3000, 65_535]) {
  test(`an answer of ${frameSize} octets over TCP, cut anywhere, is put together`, async () => {
    const script = overTcp((query) => {
      const whole = query.response({ answers: [a(query.name, '10.0.0.1')], edns: null })
      const octets = frame(Buffer.concat([whole, Buffer.alloc(frameSize - whole.length)]))
      const cuts = [1, 2, 3, 13, 14, 500, 2000, 40_000].filter((at) => at < octets.length)
      const pieces = [0, ...cuts].map((at, index) => octets.subarray(at, cuts[index] ?? octets.length))
      const next = (): void => {
        const piece = pieces.shift()
        if (piece === undefined) return
        query.sendRaw(piece)
        setImmediate(next)
      }
      next()
    })
    await withDns(
      [script],
      async ({ dns }) => assert.deepEqual(addressesOf(await dns.lookup(NAME)), ['10.0.0.1']),
      { timeoutMs: BUDGET_MS },
    )
  })
}

test('a nameserver gets 64 connections at once, and who waits for one gets it', async () => {
  const NAMES = 200
  const held: Query[] = []
  await withDns(
    [overTcp((query) => void held.push(query))],
    async ({ dns, ns1 }) => {
      const answers = Array.from({ length: NAMES }, (_, at) => dns.lookup(zone(at)))
      const ways = (transport: string): number =>
        ns1.queries.filter((query) => query.transport === transport).length
      await until(() => ways('udp') === NAMES && held.length >= 64)
      // As long as it takes to ask over TCP, and more, for whoever doesn't wait.
      for (let at = 0; at < 50; at++) await new Promise((done) => setTimeout(done, 1))
      assert.equal(held.length, 64)
      for (let answered = 0; answered < NAMES; ) {
        await until(() => held.length > 0)
        for (const query of held.splice(0)) {
          answered++
          FINE(query)
        }
      }
      for (const answer of await Promise.all(answers)) assert.deepEqual(addressesOf(answer), ['10.0.0.1'])
      assert.equal(ways('tcp'), NAMES)
    },
    { timeoutMs: 20_000, budgetMs: 20_000 },
  )
})

const slowTcp: [string, Script][] = [
  ['silent', silent],
  [
    'octet by octet',
    (query) => dribble(query, frame(query.response({ answers: [a(query.name, '10.0.0.1')] }))),
  ],
  ['octets of a frame that never ends', (query) => dribble(query, Buffer.alloc(65_537, 0xff))],
  ['closed after a while', (query) => setTimeout(() => query.hangUp(), TIMEOUT_MS / 2)],
]
function dribble(query: Query, octets: Buffer): void {
  let at = 0
  const timer = setInterval(() => {
    query.sendRaw(octets.subarray(at, ++at))
    if (at >= 40) clearInterval(timer)
  }, 25)
}
for (const [what, script] of slowTcp) {
  for (const nameservers of [1, 2, 3]) {
    test(`the budget bounds TCP, too: ${what}, ${nameservers} nameservers`, async () => {
      const scripts = Array.from({ length: nameservers }, () => overTcp(script))
      await withDns(
        scripts,
        async ({ dns, clock, nameservers: all }) => {
          const [answer, milliseconds] = await timed(clock, () => dns.lookup(NAME))
          assert.equal(answer.kind, 'failure')
          assert.ok(milliseconds <= BUDGET_MS + 50, `${milliseconds} ms`)
          for (const { queries } of all) assert.ok(queries.length > 0, 'each gets its turn')
        },
        { timeoutMs: 5000 },
      )
    })
  }
}

test('a nameserver that answers late and then cut leaves the next one its turn', async () => {
  const script: Script = (query) => {
    if (query.transport === 'udp') setTimeout(() => query.reply({ truncated: true }), BUDGET_MS / 2 - 50)
  }
  await withDns(
    [script, FINE],
    async ({ dns, clock }) => {
      const [answer, milliseconds] = await timed(clock, () => dns.lookup(NAME))
      assert.deepEqual(addressesOf(answer), ['10.0.0.1'])
      assert.ok(milliseconds < BUDGET_MS, `${milliseconds} ms`)
    },
    { timeoutMs: 5000 },
  )
})

for (const family of ['ipv4', 'both'] as const) {
  test(`every name fails at once at a closed port, however many are asked together (${family})`, async () => {
    const port = await freePort()
    for (const names of [1, 2, 3, 4, 8, 64]) {
      await withDns(
        [],
        async ({ dns, clock }) => {
          const [answers, milliseconds] = await timed(clock, () =>
            Promise.all(Array.from({ length: names }, (_, at) => dns.lookup(zone(at)))),
          )
          for (const answer of answers) assert.equal(answer.kind, 'failure')
          assert.ok(milliseconds < 100, `${names} names: ${milliseconds} ms`)
        },
        { nameservers: [`127.0.0.1:${port}`], timeoutMs: 700, family },
      )
    }
  })
}

test('a network without a route to the nameserver fails a name at once', async () => {
  await withDns(
    [],
    async ({ dns, clock }) => {
      // Nobody may send to it without asking for that (EACCES): an error of the system, as ENETUNREACH is.
      const [answer, milliseconds] = await timed(clock, () => dns.lookup(NAME))
      assert.equal(answer.kind, 'failure')
      assert.ok(milliseconds < 100, `${milliseconds} ms`)
    },
    { nameservers: ['255.255.255.255:53'], timeoutMs: 700 },
  )
})

const questionless: [string, object][] = [
  ['REFUSED', { rcode: 5 }],
  ['FORMERR', { rcode: 1 }],
  ['SERVFAIL, cut', { rcode: 2, truncated: true }],
]
for (const [what, fields] of questionless) {
  test(`an error without a question (${what}) for each query of a port costs one query by another, and no name its answer`, async () => {
    const NAMES = 50
    await withDns(
      [silent],
      async ({ dns, ns1 }) => {
        const first = new Set<number | undefined>()
        ns1.script = (query) => {
          if (ns1.queries.length > NAMES) {
            FINE(query)
            return
          }
          first.add(query.from?.port)
          query.reply({ ...fields, questions: [], edns: null })
        }
        const answers = await Promise.all(Array.from({ length: NAMES }, (_, at) => dns.lookup(zone(at))))
        for (const answer of answers) assert.deepEqual(addressesOf(answer), ['10.0.0.1'])
        assert.equal(ns1.queries.length, 2 * NAMES)
        const ports = new Set(ns1.queries.slice(NAMES).map(({ from }) => from?.port))
        assert.equal(ports.size, NAMES, 'a port for each')
        assert.ok(![...ports].some((port) => first.has(port)), 'and none of those before')
        assert.deepEqual(
          dns.status().nameservers.map(({ failures, edns }) => ({ failures, edns })),
          [{ failures: 0, edns: true }],
        )
      },
      { timeoutMs: BUDGET_MS, queriesInFlightMax: 256 },
    )
  })
}

test('an error without a question that comes by the other port as well is one', async () => {
  await withDns([(query) => query.reply({ rcode: 5, questions: [], edns: null }), FINE], async (bench) => {
    const [answer, milliseconds] = await timed(bench.clock, () => bench.dns.lookup(NAME))
    assert.deepEqual(addressesOf(answer), ['10.0.0.1'])
    assert.ok(milliseconds < TIMEOUT_MS, `${milliseconds} ms`)
    assert.equal(bench.ns1.queries.length, 2)
  })
})

test('what a stranger sends to a port before its socket is connected is not an answer', async () => {
  const nameserver = await startNameserver((query) => setTimeout(() => FINE(query), 20))
  const query = encodeQuery(4711, NAME as DomainName, 'A', false)
  const forged = Buffer.from(query)
  forged[2] = 0x80
  const stranger = createSocket({
    type: 'udp4',
    lookup: (host: string, _options: unknown, callback: (...found: unknown[]) => void) =>
      callback(null, host, 4),
  } as Parameters<typeof createSocket>[0])
  await new Promise<void>((done) => stranger.bind(0, '127.0.0.1', done))
  let told = 0
  // Node tells of each new socket; bound, it takes what anybody sends.
  const onSocket = (message: unknown): void => {
    const { socket } = message as { socket: Socket }
    socket.once('listening', () => {
      told++
      stranger.send(forged, socket.address().port, '127.0.0.1')
    })
  }
  subscribe('udp.socket', onSocket)
  const timers = nodeTimers(
    () => performance.now(),
    (error) => assert.fail(error as Error),
  )
  const onBug = (error: unknown): never => assert.fail(error as Error)
  const transport = createTransport(timers, new TcpConnections(onBug), onBug)
  const sent = {
    protocol: 'udp' as const,
    nameserver: { host: nameserver.host, port: nameserver.port, text: nameserver.address },
    octets: query,
    deadlineMs: performance.now() + 20_000,
    signal: new AbortController().signal,
    ownPort: false,
  }
  try {
    const reply = await transport.send(sent, (one) => one)
    assert.equal(told, 1)
    assert.ok(typeof reply !== 'string' && reply.length > forged.length, 'the nameserver is heard')
  } finally {
    unsubscribe('udp.socket', onSocket)
    transport.close()
    stranger.close()
    await nameserver.stop()
  }
})

/** So long a busy machine may take from the queries to the stop. */
const STOPPED_TIMEOUT_MS = 1500

/** A process of its own that looks up one name and prints what came of it. */
const ASKER = `
import { createDns } from ${JSON.stringify(fileURLToPath(new URL('../../src/dns/dns.ts', import.meta.url)))}
const [nameserver, transport, names] = process.argv.slice(1)
const environment = transport === 'tcp' ? { RES_OPTIONS: 'use-vc' } : {}
const events = []
const dns = createDns(
  { resolvConf: '/nonexistent', nameservers: [nameserver], search: 'game.test', budgetMs: 8000, timeoutMs: ${STOPPED_TIMEOUT_MS},
    attempts: 1, rotate: false, family: 'ipv4', ttlSeconds: { min: 5, max: 60 }, staleSeconds: 3600,
    negativeTtlSecondsMax: 30, cacheEntriesMax: 1000, queriesInFlightMax: 256,
    unknownNames: { queriesPerSecond: 1e5, queriesBurst: 1e5 } },
  { now: () => performance.now(), environment, admit: () => true, admitPort: () => true, onEvent: ({ kind }) => events.push(kind) },
)
const asked = Array.from({ length: Number(names) }, (_, at) => dns.lookup('zone' + at + '-default.game.test'))
const answers = (await Promise.all(asked)).map(({ kind }) => kind)
const [{ outcomes, failures }] = dns.status().nameservers
process.stdout.write(JSON.stringify({ kinds: [...new Set(answers)], outcomes, failures, failing: events.includes('nameserver_failing') }))
dns.close()
`
for (const [transport, names] of [
  ['udp', 1],
  ['udp', 100],
  ['tcp', 8],
] as const) {
  test(`answers that came while the process was stopped are read before anything times out (${transport}, ${names} names)`, async () => {
    const waiting: Query[] = []
    const nameserver = await startNameserver((query) => waiting.push(query))
    const asker = spawn(
      process.execPath,
      ['--input-type=module', '-e', ASKER, nameserver.address, transport, String(names)],
      { stdio: ['ignore', 'pipe', 'inherit'] },
    )
    try {
      const output = asker.stdout.setEncoding('utf8').toArray()
      await until(() => waiting.length === names)
      asker.kill('SIGSTOP')
      await new Promise((done) => setTimeout(done, 20))
      for (const query of waiting) FINE(query)
      await new Promise((done) => setTimeout(done, STOPPED_TIMEOUT_MS + 200))
      asker.kill('SIGCONT')
      assert.deepEqual(JSON.parse((await output).join('')), {
        kinds: ['positive'],
        outcomes: { NOERROR: names },
        failures: 0,
        failing: false,
      })
    } finally {
      asker.kill('SIGKILL')
      await nameserver.stop()
    }
  })
}
