/** The rows of the fault table that are about what a response says: lies, broken octets, odd contents. */
import assert from 'node:assert/strict'
import { createSocket } from 'node:dgram'
import { test } from 'node:test'
import type { Answer } from '../../src/dns/answer.ts'
import type { OtherRecord } from '../../src/dns/message.ts'
import { addressPolicy } from '../../src/routing/denied-addresses.ts'
import { addressesOf, BUDGET_MS, settled, TIMEOUT_MS, timed, until, withDns } from '../support/dns.ts'
import {
  a,
  aaaa,
  always,
  cname,
  frame,
  nameOf,
  type Query,
  type Script,
  silent,
  soa,
} from '../support/nameserver.ts'

const FINE = always('10.0.0.1')
const NAME = 'zone1-default.game.test'
const NO_EDNS = { edns: null } as const

/** A response of this many answers, whose octets behind the question are given. */
function rawAnswers(query: Query, answers: number, octets: Buffer): Buffer {
  const head = Buffer.from(query.response(NO_EDNS))
  head.writeUInt16BE(answers, 6)
  return Buffer.concat([head, octets])
}

function hex(...parts: string[]): Buffer {
  return Buffer.from(parts.join('').replaceAll(' ', ''), 'hex')
}

function record(typeCode: number, octets: Buffer): OtherRecord {
  return { name: nameOf(NAME), type: 'other', typeCode, class: 1, ttlSeconds: 300, octets }
}

test('16: NODATA for AAAA costs a zone nothing of its A', async () => {
  const script: Script = (query) =>
    query.reply(
      query.type === 'A' ? { answers: [a(query.name, '10.0.0.1')] } : { authorities: [soa('game.test', 17)] },
    )
  await withDns(
    [script],
    async ({ dns }) => assert.deepEqual(addressesOf(await dns.lookup(NAME)), ['10.0.0.1']),
    { family: 'both' },
  )
})

const failingFamilies: [string, Script][] = [
  ['SERVFAIL', (query) => query.reply({ rcode: 2 })],
  ['silence', () => {}],
]
for (const [fault, failing] of failingFamilies) {
  test(`16: ${fault} for AAAA costs a zone nothing of its A, and no time worth a mention`, async () => {
    const script: Script = (query) => (query.type === 'A' ? FINE(query) : failing(query))
    await withDns(
      [script],
      async ({ dns, clock }) => {
        const [answer, milliseconds] = await timed(clock, () => dns.lookup(NAME))
        assert.deepEqual(addressesOf(answer), ['10.0.0.1'])
        assert.ok(milliseconds < 50 + TIMEOUT_MS, `${milliseconds} ms`)
      },
      { family: 'both', timeoutMs: 700 },
    )
  })
}

const dual: Script = (query) =>
  query.reply({
    answers: [query.type === 'A' ? a(query.name, '10.0.0.1') : aaaa(query.name, '2001:db8::1')],
  })

test('16: both families bring their addresses together', async () => {
  const script: Script = (query) =>
    query.reply({
      answers: [query.type === 'A' ? a(query.name, '10.0.0.1') : aaaa(query.name, '2001:db8::1')],
    })
  await withDns(
    [script],
    async ({ dns }) => assert.deepEqual(addressesOf(await dns.lookup(NAME)), ['10.0.0.1', '2001:db8::1']),
    { family: 'both' },
  )
})

test('16: a family that could not be asked is asked again soon, while the other serves', async () => {
  await withDns(
    [dual],
    async (bench) => {
      const { dns, clock, ns1 } = bench
      ns1.script = (query) => (query.type === 'A' ? query.reply({ rcode: 5 }) : dual(query))
      assert.deepEqual(addressesOf(await dns.lookup(NAME)), ['2001:db8::1'])
      ns1.script = dual
      clock.wind(2000)
      assert.deepEqual(addressesOf(await dns.lookup(NAME)), ['2001:db8::1'])
      await settled(bench)
      assert.deepEqual(addressesOf(await dns.lookup(NAME)), ['10.0.0.1', '2001:db8::1'])
    },
    { family: 'both' },
  )
})

test('16: a family that is slow at the first request is there at the next', async () => {
  const slow: Script = (query) => void setTimeout(() => dual(query), query.type === 'A' ? 300 : 0)
  await withDns(
    [slow],
    async (bench) => {
      const { dns, clock } = bench
      assert.deepEqual(addressesOf(await dns.lookup(NAME)), ['2001:db8::1'])
      clock.wind(2000)
      await dns.lookup(NAME)
      await settled(bench)
      assert.deepEqual(addressesOf(await dns.lookup(NAME)), ['10.0.0.1', '2001:db8::1'])
    },
    { family: 'both', timeoutMs: 700 },
  )
})

test('16: a refresh that loses one family keeps both until their TTL ends', async () => {
  await withDns(
    [dual],
    async (bench) => {
      const { dns, clock, ns1 } = bench
      const told: Answer[] = []
      dns.keep(NAME, (answer) => told.push(answer))
      await until(() => told.length === 1)
      ns1.script = (query) => (query.type === 'A' ? query.reply({ rcode: 5 }) : dual(query))
      clock.wind(46_000)
      await until(() => ns1.queries.length === 4)
      await settled(bench)
      assert.deepEqual(addressesOf(await dns.lookup(NAME)), ['10.0.0.1', '2001:db8::1'])
      ns1.script = dual
      clock.wind(2000)
      await until(() => ns1.queries.length === 6)
      await settled(bench)
      clock.wind(20_000)
      assert.deepEqual(addressesOf(await dns.lookup(NAME)), ['10.0.0.1', '2001:db8::1'])
      assert.equal(told.length, 1, 'nobody was told of a change')
    },
    { family: 'both' },
  )
})

test('16: NODATA in one family and a failure in the other is a failure, not an absence', async () => {
  const script: Script = (query) =>
    query.reply(query.type === 'A' ? { authorities: [soa('game.test', 17)] } : { rcode: 2 })
  await withDns([script], async ({ dns }) => assert.equal((await dns.lookup(NAME)).kind, 'failure'), {
    family: 'both',
  })
})

const lame: [string, Script][] = [
  ['no recursion, not authoritative, nothing', (query) => query.reply({ recursionAvailable: false })],
  [
    'a referral',
    (query) => query.reply({ authorities: [{ ...record(2, hex('00')), name: nameOf('test') }] }),
  ],
]
for (const [what, script] of lame) {
  test(`17: a lame nameserver (${what}) is passed over`, async () => {
    await withDns([script, FINE], async ({ dns }) => {
      assert.deepEqual(addressesOf(await dns.lookup(NAME)), ['10.0.0.1'])
      assert.equal(dns.status().nameservers[0]?.outcomes['lame'], 1)
    })
  })
}

test('18: a truncated answer is never used: the whole one is fetched over TCP', async () => {
  const all = Array.from({ length: 30 }, (_, at) => `10.0.0.${at + 1}`)
  const script: Script = (query) => {
    if (query.transport === 'tcp') always(...all)(query)
    else query.send(query.response({ truncated: true, answers: [a(query.name, '10.6.6.6')] }).subarray(0, -9))
  }
  await withDns([script], async ({ dns, ns1 }) => {
    assert.deepEqual(addressesOf(await dns.lookup(NAME)), [...all].sort())
    assert.deepEqual(
      ns1.queries.map(({ transport }) => transport),
      ['udp', 'tcp'],
    )
  })
})

const brokenTcp: [string, Script][] = [
  ['is refused', (query) => query.hangUp()],
  ['hangs', () => {}],
  [
    'closes early',
    (query) => {
      query.sendRaw(frame(query.response()).subarray(0, 9))
      setTimeout(query.hangUp, 5)
    },
  ],
  ['promises more than it sends', (query) => query.sendRaw(Buffer.concat([hex('ffff'), query.response()]))],
  ['sends a length of zero again and again', (query) => query.sendRaw(Buffer.alloc(4096))],
  ['is truncated as well', (query) => query.reply({ truncated: true })],
]
for (const [what, overTcp] of brokenTcp) {
  test(`19, 20: where TCP ${what} the next nameserver answers, within the budget`, async () => {
    const script: Script = (query) =>
      query.transport === 'tcp' ? overTcp(query) : query.reply({ truncated: true })
    await withDns([script, FINE], async ({ dns, clock }) => {
      const [answer, milliseconds] = await timed(clock, () => dns.lookup(NAME))
      assert.deepEqual(addressesOf(answer), ['10.0.0.1'])
      assert.ok(milliseconds < BUDGET_MS, `${milliseconds} ms`)
    })
  })
}

test('20: an answer over TCP octet by octet is put together', async () => {
  const script: Script = (query) => {
    if (query.transport === 'udp') return query.reply({ truncated: true })
    const octets = frame(query.response({ answers: [a(query.name, '10.0.0.1')] }))
    let at = 0
    const next = (): void => {
      query.sendRaw(octets.subarray(at, ++at))
      if (at < octets.length) setImmediate(next)
    }
    next()
  }
  await withDns(
    [script],
    async ({ dns }) => assert.deepEqual(addressesOf(await dns.lookup(NAME)), ['10.0.0.1']),
    {
      timeoutMs: 800,
    },
  )
})

test('20: use-vc asks over TCP alone', async () => {
  await withDns(
    [FINE],
    async ({ dns, ns1 }) => {
      assert.deepEqual(addressesOf(await dns.lookup(NAME)), ['10.0.0.1'])
      assert.deepEqual(
        ns1.queries.map(({ transport }) => transport),
        ['tcp'],
      )
    },
    {},
    { environment: { RES_OPTIONS: 'use-vc' } },
  )
})

const lies: [string, (query: Query) => void][] = [
  [
    '21: a wrong id',
    (query) => query.reply({ id: query.message.id ^ 1, answers: [a(query.name, '10.6.6.6')] }),
  ],
  ['23: another name', (query) => query.reply(lie(query, { name: nameOf('zone2-default.game.test') }))],
  ['23: another type', (query) => query.reply(lie(query, { type: 28 }))],
  ['23: another class', (query) => query.reply(lie(query, { class: 3 }))],
  [
    '23: two questions',
    (query) =>
      query.reply({ ...lie(query, {}), questions: [...query.message.questions, ...query.message.questions] }),
  ],
  [
    '23: no question and an answer',
    (query) => query.reply({ questions: [], answers: [a(query.name, '10.6.6.6')] }),
  ],
  ['24: the query itself', (query) => query.reply({ response: false })],
  ['24: another opcode', (query) => query.reply({ opcode: 4, answers: [a(query.name, '10.6.6.6')] })],
  ['26: three octets', (query) => query.send(hex('0102 03'))],
  ['26: nothing', (query) => query.send(Buffer.alloc(0))],
  [
    '26: random octets',
    (query) => query.send(Buffer.from(Array.from({ length: 90 }, (_, at) => (at * 73 + 11) & 0xff))),
  ],
]
for (const [what, tell] of lies) {
  test(`${what} is ignored: the answer behind it counts`, async () => {
    const script: Script = (query) => {
      tell(query)
      setTimeout(() => FINE(query), 10)
    }
    await withDns([script], async ({ dns, ns1 }) => {
      assert.deepEqual(addressesOf(await dns.lookup(NAME)), ['10.0.0.1'])
      assert.equal(ns1.queries.length, 1)
    })
  })
}

function lie(query: Query, question: object): object {
  const [asked] = query.message.questions
  return { questions: [{ ...asked, ...question }], answers: [a(query.name, '10.6.6.6')] }
}

for (const host of ['127.0.0.1', '127.0.0.2']) {
  test(`22: the right id from another socket (${host}) is ignored`, async () => {
    const impostor = createSocket('udp4')
    await new Promise<void>((resolve) => impostor.bind(0, host, resolve))
    const script: Script = (query) => {
      const forged = query.response({ answers: [a(query.name, '10.6.6.6')] })
      impostor.send(forged, query.from?.port, query.from?.address)
      setTimeout(() => FINE(query), 10)
    }
    try {
      await withDns([script], async ({ dns }) =>
        assert.deepEqual(addressesOf(await dns.lookup(NAME)), ['10.0.0.1']),
      )
    } finally {
      impostor.close()
    }
  })
}

test('25: a flood of wrong ids moves no timer', async () => {
  let flood: NodeJS.Timeout | undefined
  const script: Script = (query) => {
    let sent = 0
    flood = setInterval(() => {
      for (let count = 0; count < 20; count++) {
        const wrong = (query.message.id + 1 + (sent++ % 0xffff)) & 0xffff
        query.reply({ id: wrong, answers: [a(query.name, '10.6.6.6')] })
      }
    }, 2)
  }
  try {
    await withDns([script, FINE], async ({ dns, clock }) => {
      const [answer, milliseconds] = await timed(clock, () => dns.lookup(NAME))
      assert.deepEqual(addressesOf(answer), ['10.0.0.1'])
      assert.ok(milliseconds < BUDGET_MS, `${milliseconds} ms`)
    })
  } finally {
    clearInterval(flood)
  }
})

const owner = 'c00c'
const malformed: [string, (query: Query) => Buffer][] = [
  ...[0, 3, 5].map((length): [string, (query: Query) => Buffer] => [
    `27: an A record of ${length} octets`,
    (query) => query.response({ answers: [a(query.name, '10.0.0.2'), record(1, Buffer.alloc(length, 9))] }),
  ]),
  [
    '27: RDATA cut off',
    (query) => query.response({ ...NO_EDNS, answers: [a(query.name, '10.6.6.6')] }).subarray(0, -1),
  ],
  [
    '27: RDLENGTH past the end',
    (query) => rawAnswers(query, 1, hex(owner, '0001 0001 0000012c ffff 0a060606')),
  ],
  [
    '28: a name that points to itself',
    (query) => rawAnswers(query, 1, hex(selfPointer(query), '0001 0001 0000012c 0004 0a060606')),
  ],
  [
    '28: a name that points forward',
    (query) => rawAnswers(query, 1, hex('c0ff', '0001 0001 0000012c 0004 0a060606')),
  ],
  [
    '28: a name that points into the header',
    (query) => rawAnswers(query, 1, hex('c002', '0001 0001 0000012c 0004 0a060606')),
  ],
  [
    '28: a label of 64 octets',
    (query) => rawAnswers(query, 1, hex('40', '61'.repeat(64), '00', '0001 0001 0000012c 0004 0a060606')),
  ],
  [
    '28: a name of 257 octets',
    (query) =>
      rawAnswers(query, 1, hex(`3f${'61'.repeat(63)}`.repeat(4), '00', '0001 0001 0000012c 0004 0a060606')),
  ],
  [
    '29: counts of 65,535',
    (query) => {
      const octets = Buffer.from(query.response(NO_EDNS))
      octets.fill(0xff, 6, 12)
      return octets
    },
  ],
]
function selfPointer(query: Query): string {
  return (0xc000 | query.response(NO_EDNS).length).toString(16)
}

for (const [what, respond] of malformed) {
  test(`${what}: the response is rejected whole, the next nameserver answers at once`, async () => {
    await withDns([(query) => query.send(respond(query)), FINE], async ({ dns, clock }) => {
      const [answer, milliseconds] = await timed(clock, () => dns.lookup(NAME))
      assert.deepEqual(addressesOf(answer), ['10.0.0.1'])
      assert.ok(milliseconds < TIMEOUT_MS, `${milliseconds} ms`)
      assert.equal(dns.status().nameservers[0]?.outcomes['malformed'], 2, 'with EDNS and without')
    })
  })
}

test('29: a header of counts and nothing else is no answer', async () => {
  const script: Script = (query) => {
    const octets = Buffer.alloc(12, 0xff)
    octets.writeUInt16BE(query.message.id, 0)
    query.send(octets)
  }
  await withDns([script, FINE], async ({ dns }) => {
    assert.deepEqual(addressesOf(await dns.lookup(NAME)), ['10.0.0.1'])
  })
})

const chains: [string, Script][] = [
  ['a loop of CNAMEs', (query) => query.reply({ answers: [cname(NAME, 'b.test'), cname('b.test', NAME)] })],
  [
    'a chain of 20 CNAMEs',
    (query) => {
      const link = (at: number): string => (at === 0 ? NAME : `c${at}.test`)
      const links = Array.from({ length: 20 }, (_, at) => cname(link(at), link(at + 1)))
      query.reply({ answers: [...links, a(link(20), '10.6.6.6')] })
    },
  ],
  [
    'CNAMEs that never end, one each time',
    (query) => query.reply({ answers: [cname(query.name, `x${query.name}`)] }),
  ],
]
for (const [what, script] of chains) {
  test(`30: ${what} fails within the budget`, async () => {
    await withDns([script], async ({ dns, clock, ns1 }) => {
      const [answer, milliseconds] = await timed(clock, () => dns.lookup(NAME))
      assert.equal(answer.kind, 'failure')
      assert.ok(milliseconds < BUDGET_MS, `${milliseconds} ms`)
      assert.ok(ns1.queries.length <= 2)
    })
  })
}

test('30: eight CNAMEs are followed, in any order', async () => {
  const script: Script = (query) => {
    const link = (at: number): string => (at === 0 ? NAME : `c${at}.test`)
    const links = Array.from({ length: 8 }, (_, at) => cname(link(at), link(at + 1)))
    query.reply({ answers: [a(link(8), '10.0.0.1'), ...links.reverse()] })
  }
  await withDns([script], async ({ dns }) =>
    assert.deepEqual(addressesOf(await dns.lookup(NAME)), ['10.0.0.1']),
  )
})

test('31: a CNAME without its address is asked for once more, then given up', async () => {
  const script: Script = (query) =>
    query.name === NAME ? query.reply({ answers: [cname(NAME, 'target.test', 20)] }) : FINE(query)
  await withDns([script], async ({ dns, ns1 }) => {
    const answer = await dns.lookup(NAME)
    assert.deepEqual(addressesOf(answer), ['10.0.0.1'])
    assert.equal(answer.kind === 'positive' && answer.ttlSeconds, 20)
    assert.deepEqual(
      ns1.queries.map(({ name }) => name),
      [NAME, 'target.test'],
    )
  })
})

test('31: a CNAME whose target has no address is NODATA', async () => {
  const script: Script = (query) =>
    query.reply({ answers: [cname(NAME, 'target.test', 20)], authorities: [soa('test', 17)] })
  await withDns([script], async ({ dns, ns1 }) => {
    const answer = await dns.lookup(NAME)
    assert.deepEqual([answer.kind, answer.kind === 'nodata' && answer.ttlSeconds], ['nodata', 17])
    assert.equal(ns1.queries.length, 1)
  })
})

test('32: addresses of other names are never used', async () => {
  const script: Script = (query) =>
    query.reply({
      answers: [a(query.name, '10.0.0.1'), a('other.test', '10.6.6.6')],
      additionals: [a(query.name, '10.6.6.7'), a('ns.test', '10.6.6.8')],
    })
  await withDns([script], async ({ dns }) =>
    assert.deepEqual(addressesOf(await dns.lookup(NAME)), ['10.0.0.1']),
  )
})

test('32: an answer of other names alone is none', async () => {
  const script: Script = (query) =>
    query.reply({ answers: [a('other.test', '10.6.6.6')], additionals: [a(query.name, '10.6.6.7')] })
  await withDns([script, FINE], async ({ dns }) =>
    assert.deepEqual(addressesOf(await dns.lookup(NAME)), ['10.0.0.1']),
  )
})

for (const [row, ttl] of [
  ['33: TTL 0', 0],
  ['34: a TTL with the top bit set', 0x8000_0001],
] as const) {
  test(`${row} serves those who waited, and nobody after them`, async () => {
    await withDns([always()], async ({ dns, ns1 }) => {
      ns1.script = (query) => setTimeout(() => query.reply({ answers: [a(query.name, '10.0.0.1', ttl)] }), 5)
      const answers = await Promise.all([dns.lookup(NAME), dns.lookup(NAME)])
      for (const answer of answers) {
        assert.deepEqual(addressesOf(answer), ['10.0.0.1'])
        assert.equal(answer.kind === 'positive' && answer.ttlSeconds, 0)
      }
      assert.equal(ns1.queries.length, 1)
      // Operators see what the last ones were given.
      const { answer, secondsLeft } = dns.cached(NAME) ?? {}
      assert.deepEqual([answer, secondsLeft], [answers[0], null])
      const asked = dns.lookup(NAME)
      assert.ok(asked instanceof Promise)
      await asked
    })
  })

  test(`${row} serves on while the nameservers fail, and is nobody's as soon as they answer`, async () => {
    await withDns([always()], async ({ dns, clock, ns1 }) => {
      const uncached: Script = (query) => query.reply({ answers: [a(query.name, '10.0.0.1', ttl)] })
      ns1.script = uncached
      await dns.lookup(NAME)
      ns1.script = (query) => query.reply({ rcode: 2 })
      for (let seconds = 0; seconds < 60; seconds += 5) {
        const answer = await dns.lookup(NAME)
        assert.deepEqual(addressesOf(answer), ['10.0.0.1'])
        assert.ok(answer.kind === 'positive' && answer.stale && answer.ttlSeconds === 0)
        clock.wind(5000)
      }
      assert.ok((await dns.explain(NAME)).cached !== null)
      ns1.script = silent
      clock.wind(60_000)
      const [answer, milliseconds] = await timed(clock, () => dns.lookup(NAME))
      assert.deepEqual(addressesOf(answer), ['10.0.0.1'])
      assert.ok(milliseconds <= BUDGET_MS / 2 + 50, `${milliseconds} ms`)
      ns1.script = (query) => query.reply({ answers: [a(query.name, '10.0.0.2', ttl)] })
      clock.wind(60_000)
      assert.deepEqual(addressesOf(await dns.lookup(NAME)), ['10.0.0.2'])
    })
  })
}

test('35: the least TTL of the chain and the addresses counts', async () => {
  const script: Script = (query) =>
    query.reply({ answers: [cname(NAME, 'target.test', 5), a('target.test', '10.0.0.1', 300)] })
  await withDns([script], async ({ dns, clock }) => {
    const answer = await dns.lookup(NAME)
    assert.equal(answer.kind === 'positive' && answer.ttlSeconds, 5)
    clock.wind(5001)
    assert.ok(dns.lookup(NAME) instanceof Promise)
  })
})

test('36: of 500 addresses the same 32 are kept each time, and that is said', async () => {
  const all = Array.from({ length: 500 }, (_, at) => `10.0.${at >> 8}.${at & 255}`)
  let turn = 0
  const script: Script = (query) => {
    if (query.transport === 'udp') return query.reply({ truncated: true })
    const first = 100 * turn++
    always(...all.slice(first), ...all.slice(0, first))(query)
  }
  await withDns([script], async ({ dns, clock, events }) => {
    const first = addressesOf(await dns.lookup(NAME))
    assert.equal(first.length, 32)
    clock.wind(61_000)
    assert.deepEqual(addressesOf(await dns.lookup(NAME)), first)
    const capped = events.filter(({ kind }) => kind === 'addresses_capped')
    assert.deepEqual(capped[0], { kind: 'addresses_capped', name: NAME, found: 500, kept: 32 })
  })
})

const denied = ['127.0.0.1', '169.254.169.254', '0.0.0.0', '224.0.0.1', '255.255.255.255']
const deniedIpv6 = ['::1', 'fe80::1', 'fd00:ec2::254', '::ffff:127.0.0.1']
test('37: denied addresses are no addresses', async () => {
  const script: Script = (query) =>
    query.reply({
      answers:
        query.type === 'A'
          ? denied.map((address) => a(query.name, address))
          : deniedIpv6.map((address) => aaaa(query.name, address)),
    })
  await withDns(
    [script],
    async ({ dns }) => {
      const answer = await dns.lookup(NAME)
      assert.deepEqual(addressesOf(answer), [])
      const said = answer.kind === 'positive' ? answer.denied : []
      assert.deepEqual([...said].sort(), [...denied, ...deniedIpv6].sort())
    },
    { family: 'both' },
    { admit: addressPolicy([]) },
  )
})

test('37: one denied address leaves the others', async () => {
  await withDns(
    [always('127.0.0.1', '10.0.0.1')],
    async ({ dns }) => assert.deepEqual(addressesOf(await dns.lookup(NAME)), ['10.0.0.1']),
    {},
    { admit: addressPolicy([]) },
  )
})
