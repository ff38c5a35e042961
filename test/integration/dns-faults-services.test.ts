/** The rows of the fault table for ports from SRV: of the records themselves, and of the names that they lead to. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type Answer, areEndpoints } from '../../src/dns/answer.ts'
import type { ResourceRecord } from '../../src/dns/message.ts'
import { addressPolicy, portPolicy } from '../../src/routing/denied-addresses.ts'
import {
  addressesOf,
  type Bench,
  BUDGET_MS,
  settled,
  TIMEOUT_MS,
  timed,
  until,
  withDns,
} from '../support/dns.ts'
import { a, aaaa, cname, nameOf, type Query, type Script, silent, soa, srv } from '../support/nameserver.ts'

const NAME = '_pay._tcp.zone1-pay.game.test'
const HOST = 'a.game.test'
const OTHER = 'b.game.test'

/** Of a name's type, or a CNAME in its place; a name without records does not exist. */
function zone(records: readonly ResourceRecord[]): Script {
  return (query) => {
    const own = records.filter(({ name }) => name === query.name)
    const answers = own.filter(({ type }) => type === query.type || type === 'CNAME')
    query.reply({
      rcode: own.length === 0 ? 3 : 0,
      answers,
      authorities: answers.length === 0 ? [soa('game.test', 17)] : [],
    })
  }
}

const FINE = zone([srv(NAME, HOST, 9001), a(HOST, '10.0.0.1')])
const refusing =
  (rcode: number): Script =>
  (query) =>
    query.reply({ rcode })
/** One script for SRV, another for addresses. */
const split =
  (services: Script, hosts: Script): Script =>
  (query) =>
    (query.type === 'SRV' ? services : hosts)(query)
const asked = ({ ns1 }: Pick<Bench, 'ns1'>): string[] =>
  ns1.queries.map(({ type, name }) => `${type} ${name}`)
const reasonOf = (answer: Answer): string => (answer.kind === 'failure' ? answer.cause : answer.kind)
const withPorts = (ranges: readonly (readonly [number, number])[]) => ({ admitPort: portPolicy(ranges) })

async function facts(answer: Answer | Promise<Answer>): Promise<unknown> {
  const found = await answer
  if (found.kind !== 'positive' || !areEndpoints(found.addresses)) return reasonOf(found)
  return found.addresses.map(({ address, port, priority, weight }) => [
    `${address}:${port}`,
    priority,
    weight,
  ])
}

test('a service is its records and the addresses of their targets, for the least of their TTLs', async () => {
  const records = [
    srv(NAME, HOST, 9001, { priority: 10, weight: 3, ttlSeconds: 40 }),
    srv(NAME, OTHER, 9002, { priority: 20, weight: 1, ttlSeconds: 50 }),
    a(HOST, '10.0.0.1', 30),
    a(OTHER, '10.0.0.2', 45),
  ]
  await withDns([zone(records)], async (bench) => {
    const answer = await bench.dns.lookup(NAME)
    assert.deepEqual(await facts(answer), [
      ['10.0.0.1:9001', 0, 3],
      ['10.0.0.2:9002', 1, 1],
    ])
    assert.equal(answer.kind === 'positive' && answer.ttlSeconds, 30)
    assert.deepEqual(asked(bench), [`SRV ${NAME}`, `A ${HOST}`, `A ${OTHER}`])
  })
})

for (const [what, script] of [
  ['the records', split(silent, FINE)],
  ['their targets', split(FINE, silent)],
] as const) {
  test(`1: a nameserver that drops queries for ${what} costs the first request one timeout`, async () => {
    await withDns([script, FINE], async ({ dns, clock }) => {
      const [answer, milliseconds] = await timed(clock, () => dns.lookup(NAME))
      assert.deepEqual(addressesOf(answer), ['10.0.0.1:9001'])
      assert.ok(milliseconds < 2 * TIMEOUT_MS + 50, `${milliseconds} ms`)
    })
  })

  test(`8: ${what} that nobody tells are a failure within one budget, then at once and without a query`, async () => {
    await withDns([script], async (bench) => {
      const { dns, clock, ns1 } = bench
      const [answer, milliseconds] = await timed(clock, () => dns.lookup(NAME))
      assert.equal(answer.kind, 'failure')
      assert.ok(milliseconds < BUDGET_MS + 50, `${milliseconds} ms`)
      const queries = ns1.queries.length
      assert.ok(!(dns.lookup(NAME) instanceof Promise))
      assert.equal(ns1.queries.length, queries)
    })
  })

  test(`9: ${what} that nameservers tell again are fresh within ten seconds`, async () => {
    await withDns([script], async ({ dns, clock, ns1 }) => {
      for (let failures = 0; failures < 3; failures++) {
        assert.equal((await dns.lookup(NAME)).kind, 'failure')
        clock.wind(10_000)
      }
      ns1.script = FINE
      assert.deepEqual(addressesOf(await dns.lookup(NAME)), ['10.0.0.1:9001'])
    })
  })

  test(`6, 7: where ${what} fail, the last endpoints serve stale, and no longer than the bound`, async () => {
    await withDns(
      [FINE],
      async (bench) => {
        const { dns, clock, ns1 } = bench
        await dns.lookup(NAME)
        ns1.script = script
        clock.wind(61_000)
        const stale = await dns.lookup(NAME)
        assert.deepEqual(addressesOf(stale), ['10.0.0.1:9001'])
        assert.ok(stale.kind === 'positive' && stale.stale)
        for (let minute = 0; minute < 9; minute++) {
          clock.wind(60_000)
          await dns.lookup(NAME)
          await settled(bench)
        }
        clock.wind(60_000)
        assert.equal((await dns.lookup(NAME)).kind, 'failure')
      },
      { staleSeconds: 600 },
    )
  })
}

test('5: all nameservers dead, endpoints fresh: answered at once, no query', async () => {
  await withDns([FINE], async ({ dns, clock, ns1 }) => {
    await dns.lookup(NAME)
    await ns1.stop()
    clock.wind(59_000)
    const answer = dns.lookup(NAME)
    assert.ok(!(answer instanceof Promise))
    assert.deepEqual(addressesOf(answer), ['10.0.0.1:9001'])
  })
})

for (const [outcome, rcode] of Object.entries({ FORMERR: 1, SERVFAIL: 2, NOTIMP: 4, REFUSED: 5 })) {
  test(`10: ${outcome} for the records, or for a target, asks the next nameserver`, async () => {
    for (const script of [split(refusing(rcode), FINE), split(FINE, refusing(rcode))])
      await withDns([script, FINE], async ({ dns }) => {
        assert.deepEqual(addressesOf(await dns.lookup(NAME)), ['10.0.0.1:9001'])
        assert.ok((dns.status().nameservers[0]?.outcomes[outcome] ?? 0) > 0)
      })
  })
}

test('11: SERVFAIL for a target: a storm of requests asks once per back-off', async () => {
  await withDns([split(FINE, refusing(2))], async ({ dns, ns1, clock }) => {
    const storm = async (): Promise<void> => {
      const answers = await Promise.all(Array.from({ length: 100 }, () => dns.lookup(NAME)))
      assert.ok(answers.every(({ kind }) => kind === 'failure'))
    }
    await storm()
    const queries = ns1.queries.length
    await storm()
    assert.equal(ns1.queries.length, queries)
    clock.wind(1001)
    await storm()
    assert.ok(ns1.queries.length > queries)
  })
})

test('12, 13: NXDOMAIN for the records is believed for the minimum of the SOA, and takes away what was held', async () => {
  await withDns([zone([])], async ({ dns, ns1, clock }) => {
    assert.equal((await dns.lookup(NAME)).kind, 'nxdomain')
    clock.wind(16_900)
    assert.equal((await dns.lookup(NAME)).kind, 'nxdomain')
    assert.equal(ns1.queries.length, 1)
    clock.wind(200)
    ns1.script = FINE
    assert.deepEqual(addressesOf(await dns.lookup(NAME)), ['10.0.0.1:9001'])
    ns1.script = zone([])
    clock.wind(61_000)
    assert.equal((await dns.lookup(NAME)).kind, 'nxdomain')
  })
})

test('14, 15: a name without SRV records has no endpoints, with a SOA and without', async () => {
  const withoutSoa: Script = (query) => query.reply({ answers: [] })
  for (const [script, ttlSeconds] of [
    [zone([a(NAME, '10.0.0.1')]), 17],
    [withoutSoa, 5],
  ] as const)
    await withDns([script], async ({ dns }) => {
      const answer = await dns.lookup(NAME)
      assert.deepEqual([answer.kind, answer.kind === 'nodata' && answer.ttlSeconds], ['nodata', ttlSeconds])
    })
})

test('12, 15: where no target has an address, that is NODATA, for as long as theirs holds', async () => {
  const records = [srv(NAME, HOST, 9001), srv(NAME, OTHER, 9001), aaaa(OTHER, '2001:db8::1')]
  await withDns([zone(records)], async ({ dns, ns1, clock }) => {
    const answer = await dns.lookup(NAME)
    assert.deepEqual([answer.kind, answer.kind === 'nodata' && answer.ttlSeconds], ['nodata', 17])
    clock.wind(17_100)
    ns1.script = FINE
    assert.deepEqual(addressesOf(await dns.lookup(NAME)), ['10.0.0.1:9001'])
  })
})

test('12: a target without an address costs the others nothing; the next priority comes up', async () => {
  const records = [
    srv(NAME, HOST, 9001, { priority: 1 }),
    srv(NAME, OTHER, 9002, { priority: 2 }),
    a(OTHER, '10.0.0.2'),
  ]
  await withDns([zone(records)], async ({ dns }) =>
    assert.deepEqual(await facts(dns.lookup(NAME)), [['10.0.0.2:9002', 0, 1]]),
  )
})

test('11: a target that fails costs the others nothing, and nothing of what is fresh; it is asked again soon', async () => {
  const records = [
    srv(NAME, HOST, 9001, { priority: 1 }),
    srv(NAME, OTHER, 9002, { priority: 2 }),
    a(HOST, '10.0.0.1'),
    a(OTHER, '10.0.0.2'),
  ]
  const broken: Script = (query) => (query.name === HOST ? query.reply({ rcode: 2 }) : zone(records)(query))
  await withDns([broken], async (bench) => {
    const { dns, ns1, clock } = bench
    assert.deepEqual(await facts(dns.lookup(NAME)), [['10.0.0.2:9002', 0, 1]])
    ns1.script = zone(records)
    clock.wind(2001)
    dns.lookup(NAME)
    await settled(bench)
    const whole = [
      ['10.0.0.1:9001', 0, 1],
      ['10.0.0.2:9002', 1, 1],
    ]
    assert.deepEqual(await facts(dns.lookup(NAME)), whole)
    ns1.script = broken
    clock.wind(50_000)
    dns.lookup(NAME)
    await settled(bench)
    assert.deepEqual(await facts(dns.lookup(NAME)), whole, 'they are fresh')
  })
})

test('16: a target has the addresses of both families', async () => {
  const records = [srv(NAME, HOST, 9001), a(HOST, '10.0.0.1'), aaaa(HOST, '2001:db8::1')]
  await withDns(
    [zone(records)],
    async ({ dns }) =>
      assert.deepEqual(await facts(dns.lookup(NAME)), [
        ['10.0.0.1:9001', 0, 500_000],
        ['2001:db8::1:9001', 0, 500_000],
      ]),
    { family: 'both' },
  )
})

test('17: a nameserver that is lame for the records is passed over', async () => {
  const lame: Script = split((query) => query.reply({ recursionAvailable: false }), FINE)
  await withDns([lame, FINE], async ({ dns }) => {
    assert.deepEqual(addressesOf(await dns.lookup(NAME)), ['10.0.0.1:9001'])
    assert.equal(dns.status().nameservers[0]?.outcomes['lame'], 1)
  })
})

test('18: truncated records are never used: all of them are fetched over TCP', async () => {
  const cut: Script = (query) =>
    query.transport === 'udp' && query.type === 'SRV'
      ? query.reply({ truncated: true, answers: [srv(NAME, OTHER, 9002)] })
      : FINE(query)
  await withDns([cut], async (bench) => {
    assert.deepEqual(addressesOf(await bench.dns.lookup(NAME)), ['10.0.0.1:9001'])
    assert.deepEqual(
      bench.ns1.queries.map(({ type, transport }) => `${type} ${transport}`),
      ['SRV udp', 'SRV tcp', 'A udp'],
    )
  })
})

test('19: truncated records, and TCP hangs up: the next nameserver is asked', async () => {
  const cut: Script = (query) =>
    query.transport === 'udp' ? query.reply({ truncated: true }) : query.hangUp()
  await withDns([cut, FINE], async ({ dns }) =>
    assert.deepEqual(addressesOf(await dns.lookup(NAME)), ['10.0.0.1:9001']),
  )
})

const LIES: Readonly<Record<string, (query: Query) => Buffer>> = {
  '21: another id': (query) => query.response({ id: (query.message.id + 1) % 0x10000 }),
  '23: another name': (query) =>
    query.response({
      questions: [{ name: nameOf('_pay._tcp.zone2-pay.game.test'), type: 33, class: 1 }],
      answers: [srv(NAME, OTHER, 9002)],
    }),
  '23: another type': (query) =>
    query.response({ questions: [{ name: query.name, type: 1, class: 1 }], answers: [a(NAME, '10.9.9.9')] }),
  '24: the query itself': (query) => query.response({ response: false }),
}
for (const [lie, octetsOf] of Object.entries(LIES)) {
  test(`${lie} is ignored where records are asked for`, async () => {
    const script = split((query) => {
      query.send(octetsOf(query))
      FINE(query)
    }, FINE)
    await withDns([script], async ({ dns, ns1 }) => {
      assert.deepEqual(addressesOf(await dns.lookup(NAME)), ['10.0.0.1:9001'])
      assert.equal(ns1.queries.length, 2)
    })
  })
}

function rawRecord(...rdata: number[]): Script {
  return (query) => {
    const name = nameOf(query.name)
    const octets = Buffer.from(rdata)
    query.reply({ answers: [{ name, type: 'other', typeCode: 33, class: 1, ttlSeconds: 300, octets }] })
  }
}
const MALFORMED: Readonly<Record<string, Script>> = {
  '27: no RDATA': rawRecord(),
  '27: RDATA that ends in the port': rawRecord(0, 1, 0, 1, 35),
  '27: RDATA without a target': rawRecord(0, 1, 0, 1, 35, 40),
  '27: octets behind the target': rawRecord(0, 1, 0, 1, 35, 40, 1, 97, 0, 0),
  '28: a target that points to itself': rawRecord(0, 1, 0, 1, 35, 40, 0xc0, 66),
  '28: a label of 64 octets': rawRecord(0, 1, 0, 1, 35, 40, 64, ...new Array(64).fill(97), 0),
}
for (const [what, script] of Object.entries(MALFORMED)) {
  test(`${what}: the message is rejected, and the next nameserver asked`, async () => {
    await withDns([split(script, FINE), FINE], async ({ dns }) => {
      assert.deepEqual(addressesOf(await dns.lookup(NAME)), ['10.0.0.1:9001'])
      assert.ok((dns.status().nameservers[0]?.outcomes['malformed'] ?? 0) > 0)
    })
  })
}

test('30: CNAMEs without end, at the records and at a target, are a failure within the budget', async () => {
  const loop = (query: Query): void =>
    query.reply({ answers: [cname(query.name, OTHER), cname(OTHER, query.name)] })
  for (const script of [split(loop, FINE), split(FINE, loop)])
    await withDns([script], async ({ dns, clock }) => {
      const [answer, milliseconds] = await timed(clock, () => dns.lookup(NAME))
      assert.equal(answer.kind, 'failure')
      assert.ok(milliseconds < BUDGET_MS, `${milliseconds} ms`)
    })
})

test('30, 31: CNAMEs at the records and at a target are followed, in the answer or by one more query', async () => {
  const real = '_pay._tcp.other.test'
  const records = [
    cname(NAME, real),
    srv(real, 'alias.game.test', 9001),
    cname('alias.game.test', HOST),
    a(HOST, '10.0.0.1'),
  ]
  const whole: Script = (query) => query.reply({ answers: records.slice(query.type === 'SRV' ? 0 : 2) })
  for (const script of [whole, zone(records)])
    await withDns([script], async ({ dns }) =>
      assert.deepEqual(addressesOf(await dns.lookup(NAME)), ['10.0.0.1:9001']),
    )
})

test('30: a target that is a service again leads nowhere, and is not asked for', async () => {
  await withDns([zone([srv(NAME, NAME, 9001), srv(NAME, '_web._tcp.game.test', 9001)])], async (bench) => {
    assert.equal((await bench.dns.lookup(NAME)).kind, 'nodata')
    assert.deepEqual(asked(bench), [`SRV ${NAME}`])
  })
})

test('32: addresses that come along, and SRV records of other names, are never used', async () => {
  const script = split(
    (query) =>
      query.reply({
        answers: [
          srv(NAME, HOST, 9001),
          srv('_pay._tcp.zone2-pay.game.test', OTHER, 9002),
          a(NAME, '10.9.9.1'),
        ],
        additionals: [a(HOST, '10.9.9.2'), srv(NAME, OTHER, 9003)],
      }),
    FINE,
  )
  await withDns([script], async ({ dns }) =>
    assert.deepEqual(addressesOf(await dns.lookup(NAME)), ['10.0.0.1:9001']),
  )
})

for (const [what, records] of [
  ['the records', [srv(NAME, HOST, 9001, { ttlSeconds: 0 }), a(HOST, '10.0.0.1')]],
  ['a target', [srv(NAME, HOST, 9001), a(HOST, '10.0.0.1', 0)]],
  [
    'the records, with the top bit set',
    [srv(NAME, HOST, 9001, { ttlSeconds: 0x8000_0001 }), a(HOST, '10.0.0.1')],
  ],
] as const) {
  test(`33, 34: TTL 0 of ${what}: each request asks`, async () => {
    await withDns([zone(records)], async ({ dns, ns1 }) => {
      const answer = await dns.lookup(NAME)
      assert.deepEqual(addressesOf(answer), ['10.0.0.1:9001'])
      assert.equal(answer.kind === 'positive' && answer.ttlSeconds, 0)
      const queries = ns1.queries.length
      await dns.lookup(NAME)
      assert.ok(ns1.queries.length > queries)
    })
  })
}

test('35: the least TTL counts, of the records, their alias and the targets’', async () => {
  const real = '_pay._tcp.other.test'
  const records = [cname(NAME, real, 11), srv(real, HOST, 9001), a(HOST, '10.0.0.1')]
  await withDns(
    [(query) => query.reply({ answers: records.slice(query.type === 'SRV' ? 0 : 2) })],
    async ({ dns }) => {
      const answer = await dns.lookup(NAME)
      assert.equal(answer.kind === 'positive' && answer.ttlSeconds, 11)
    },
  )
})

test('36: of 300 records the same 16 are kept each time, those of the lowest priority, and that is said', async () => {
  const many = Array.from({ length: 300 }, (_, at) =>
    srv(NAME, `h${at}.game.test`, 9001, { priority: 300 - at }),
  )
  const script: Script = (query) =>
    query.transport === 'udp' && query.type === 'SRV'
      ? query.reply({ truncated: true })
      : query.reply({ answers: query.type === 'SRV' ? many : [a(query.name, '10.0.0.1')] })
  await withDns([script], async ({ dns, ns1, events }) => {
    await dns.lookup(NAME)
    const names = new Set(ns1.queries.filter(({ type }) => type === 'A').map(({ name }) => name))
    assert.deepEqual(
      [...names].sort(),
      Array.from({ length: 16 }, (_, at) => `h${284 + at}.game.test`).sort(),
    )
    const capped = events.find(({ kind }) => kind === 'addresses_capped')
    assert.deepEqual(capped, { kind: 'addresses_capped', name: NAME, found: 300, kept: 16 })
  })
})

test('37: denied addresses of a target are no endpoints, wherever the target is', async () => {
  const records = [
    srv(NAME, HOST, 9001),
    srv(NAME, 'elsewhere.example', 9002),
    a(HOST, '127.0.0.1'),
    a('elsewhere.example', '169.254.169.254'),
  ]
  await withDns(
    [zone(records)],
    async ({ dns }) => {
      const answer = await dns.lookup(NAME)
      assert.ok(answer.kind === 'positive')
      assert.deepEqual(answer.addresses, [])
      assert.deepEqual([...answer.denied].sort(), ['127.0.0.1:9001', '169.254.169.254:9002'])
    },
    {},
    { admit: addressPolicy([]) },
  )
})

test('37: a target outside of the search domain is as good as any', async () => {
  await withDns(
    [zone([srv(NAME, 'elsewhere.example', 9001), a('elsewhere.example', '10.0.0.9')])],
    async ({ dns }) => assert.deepEqual(addressesOf(await dns.lookup(NAME)), ['10.0.0.9:9001']),
  )
})

test('37: a port that is denied, or 0, is no endpoint, and its target is not asked for', async () => {
  const records = [srv(NAME, HOST, 22), srv(NAME, OTHER, 0), a(HOST, '10.0.0.1'), a(OTHER, '10.0.0.2')]
  await withDns(
    [zone(records)],
    async (bench) => {
      const answer = await bench.dns.lookup(NAME)
      assert.ok(answer.kind === 'positive')
      assert.deepEqual(answer.addresses, [])
      assert.deepEqual(answer.denied, [`${HOST}:22`, `${OTHER}:0`])
      assert.deepEqual(asked(bench), [`SRV ${NAME}`])
    },
    {},
    withPorts([[1024, 65_535]]),
  )
})

test('37: one denied port leaves the others', async () => {
  const records = [
    srv(NAME, HOST, 22, { priority: 0 }),
    srv(NAME, HOST, 9001, { priority: 1 }),
    a(HOST, '10.0.0.1'),
  ]
  await withDns(
    [zone(records)],
    async ({ dns }) => assert.deepEqual(await facts(dns.lookup(NAME)), [['10.0.0.1:9001', 0, 1]]),
    {},
    withPorts([[9000, 9001]]),
  )
})

test('a target that reads as an address is none, and is not asked for', async () => {
  await withDns([zone([srv(NAME, '10.0.0.1', 9001), a('10.0.0.1', '10.0.0.1')])], async (bench) => {
    assert.equal((await bench.dns.lookup(NAME)).kind, 'nodata')
    assert.deepEqual(asked(bench), [`SRV ${NAME}`])
  })
})

test('the target "." alone says that the service is not offered; beside others it counts for nothing', async () => {
  await withDns([zone([srv(NAME, '.', 0)])], async (bench) => {
    const answer = await bench.dns.lookup(NAME)
    assert.ok(answer.kind === 'nodata' && answer.notOffered)
    assert.deepEqual(asked(bench), [`SRV ${NAME}`])
  })
  await withDns([zone([srv(NAME, '.', 0), srv(NAME, HOST, 9001), a(HOST, '10.0.0.1')])], async ({ dns }) =>
    assert.deepEqual(addressesOf(await dns.lookup(NAME)), ['10.0.0.1:9001']),
  )
})

test('39: a kept service is refreshed by itself, its targets with it, and tells each change once', async () => {
  const records = (port: number, address: string, priority = 0): Script =>
    zone([srv(NAME, HOST, port, { priority }), a(HOST, address)])
  await withDns([records(9001, '10.0.0.1')], async (bench) => {
    const { dns, clock, ns1 } = bench
    const told: string[] = []
    const kept = dns.keep(NAME, (answer) => void told.push(addressesOf(answer).join()))
    await settled(bench)
    for (const script of [
      records(9001, '10.0.0.1', 5), // the same to whoever sends requests
      records(9002, '10.0.0.1'),
      records(9002, '10.0.0.2'),
    ]) {
      ns1.script = script
      clock.wind(59_000)
      await settled(bench)
    }
    assert.deepEqual(told, ['10.0.0.1:9001', '10.0.0.1:9002', '10.0.0.2:9002'])
    kept?.release()
  })
})

test('40: a thousand misses are one query for the records, and one for each target', async () => {
  const name = (at: number): string => `_pay._tcp.zone${at}-pay.game.test`
  const script: Script = (query) =>
    query.reply({ answers: query.type === 'SRV' ? [srv(query.name, HOST, 9001)] : [a(HOST, '10.0.0.1')] })
  await withDns([script], async (bench) => {
    const { dns, ns1 } = bench
    await Promise.all(Array.from({ length: 1000 }, () => dns.lookup(NAME)))
    assert.deepEqual(asked(bench), [`SRV ${NAME}`, `A ${HOST}`])
    await Promise.all(Array.from({ length: 100 }, (_, at) => dns.lookup(name(at))))
    assert.equal(ns1.queries.filter(({ type }) => type === 'A').length, 1, 'one host, many zones')
  })
})

test('41: with room for one query a service resolves, and others are turned away meanwhile', async () => {
  await withDns(
    [FINE],
    async ({ dns }) => {
      const first = dns.lookup(NAME)
      assert.equal(reasonOf(await dns.lookup('_pay._tcp.zone2-pay.game.test')), 'overloaded')
      assert.deepEqual(addressesOf(await first), ['10.0.0.1:9001'])
      assert.equal(dns.status().queriesInFlight, 0)
    },
    { queriesInFlightMax: 1 },
  )
})

test('41: a service that had no room for its targets is not held to fail', async () => {
  const hosts = [HOST, OTHER]
  const records = hosts.flatMap((host, at) => [srv(NAME, host, 9001 + at), a(host, `10.0.0.${at}`)])
  await withDns(
    [zone(records)],
    async ({ dns }) =>
      assert.equal(addressesOf(await dns.lookup(NAME)).length, 1, 'the one that there was room for'),
    { queriesInFlightMax: 1 },
  )
})

test('41: queries for targets are paid for as the service is, and an unpaid one says nothing about it', async () => {
  const script: Script = (query) =>
    query.reply({
      answers:
        query.type === 'SRV'
          ? [srv(query.name, `h.${query.name}`.replaceAll('_', 'x'), 9001)]
          : [a(query.name, '10.0.0.1')],
    })
  const name = (at: number): string => `_pay._tcp.zone${at}-pay.game.test`
  await withDns(
    [script],
    async (bench) => {
      const { dns, ns1, clock } = bench
      const answers = await Promise.all(Array.from({ length: 60 }, (_, at) => dns.lookup(name(at))))
      assert.ok(ns1.queries.length <= 40, `${ns1.queries.length} queries`)
      const served = answers.findIndex(({ kind }) => kind === 'positive')
      assert.ok(served >= 0 && answers.some((answer) => reasonOf(answer) === 'rate_limited'))
      clock.wind(61_000)
      const again = await dns.lookup(name(served))
      assert.deepEqual(addressesOf(again), ['10.0.0.1:9001'], 'a service in use is not counted')
    },
    { unknownNames: { queriesPerSecond: 1, queriesBurst: 40 }, timeoutMs: 10_000, budgetMs: 20_000 },
  )
})

test('42: a target whose query hangs keeps no other service waiting', async () => {
  const script = split(
    (query) => query.reply({ answers: [srv(query.name, query.name === NAME ? HOST : OTHER, 9001)] }),
    (query) => (query.name === HOST ? undefined : query.reply({ answers: [a(query.name, '10.0.0.2')] })),
  )
  await withDns([script], async ({ dns, clock }) => {
    const hanging = dns.lookup(NAME)
    const [answer, milliseconds] = await timed(clock, () => dns.lookup('_pay._tcp.zone2-pay.game.test'))
    assert.deepEqual(addressesOf(answer), ['10.0.0.2:9001'])
    assert.ok(milliseconds < TIMEOUT_MS, `${milliseconds} ms`)
    assert.equal((await hanging).kind, 'failure')
  })
})

test('48: a service in trouble is asked for again, its targets too, though they are fresh', async () => {
  await withDns([FINE], async (bench) => {
    const { dns, ns1, clock } = bench
    await dns.lookup(NAME)
    ns1.script = zone([srv(NAME, HOST, 9001), a(HOST, '10.0.0.2')])
    clock.wind(1001)
    dns.refresh(NAME)
    await settled(bench)
    assert.deepEqual(addressesOf(await dns.lookup(NAME)), ['10.0.0.2:9001'])
  })
})

test('a flushed service is asked for again, its targets too', async () => {
  await withDns([FINE], async ({ dns, ns1 }) => {
    await dns.lookup(NAME)
    ns1.script = zone([srv(NAME, HOST, 9001), a(HOST, '10.0.0.2')])
    dns.flush(NAME)
    assert.deepEqual(addressesOf(await dns.lookup(NAME)), ['10.0.0.2:9001'])
  })
})

test('an explanation asks past the cache for records and targets, and tells every try', async () => {
  await withDns([FINE], async ({ dns, ns1 }) => {
    await dns.lookup(NAME)
    ns1.script = zone([srv(NAME, HOST, 9002), a(HOST, '10.0.0.2')])
    const { answer, cached, tries } = await dns.explain(NAME)
    assert.deepEqual(addressesOf(answer), ['10.0.0.2:9002'])
    assert.deepEqual(cached && addressesOf(cached), ['10.0.0.1:9001'])
    assert.deepEqual(
      tries.map(({ type, outcome }) => `${type} ${outcome}`),
      ['SRV NOERROR', 'A NOERROR'],
    )
  })
})

test('a closed Dns ends a service’s queries and leaves no timer behind', async () => {
  await withDns([split(FINE, silent)], async ({ dns, clock, ns1 }) => {
    const answer = dns.lookup(NAME)
    await until(() => ns1.queries.length === 2)
    dns.close()
    assert.equal((await answer).kind, 'failure')
    await until(() => clock.timersRunning === 0)
  })
})
