/** The rows of the fault table that are about nameservers: dead, slow, failing, back again. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { DnsEvent } from '../../src/dns/dns.ts'
import { addressesOf, BUDGET_MS, settled, TIMEOUT_MS, timed, until, withDns } from '../support/dns.ts'
import { a, always, type Query, type Script, silent, soa } from '../support/nameserver.ts'

const FINE = always('10.0.0.1')
const NAME = 'zone1-default.game.test'

function refusing(rcode: number): Script {
  return (query) => query.reply({ rcode })
}

test('1: a nameserver that drops everything costs the first request one timeout, later ones nothing', async () => {
  await withDns([silent, FINE], async (bench) => {
    const { dns, clock, ns1, ns2 } = bench
    const [first, firstMs] = await timed(clock, () => dns.lookup(NAME))
    assert.deepEqual(addressesOf(first), ['10.0.0.1'])
    assert.ok(firstMs >= TIMEOUT_MS - 2 && firstMs < BUDGET_MS / 2, `${firstMs} ms`)

    addressesOf(await dns.lookup('zone2-default.game.test'))
    assert.equal(ns1.queries.length, 1, 'ns1 is penalised')

    ns1.script = FINE
    clock.wind(1000)
    addressesOf(await dns.lookup('zone3-default.game.test'))
    // The probe goes beside, and nobody waits for it.
    await until(() => dns.status().nameservers[0]?.failures === 0)
    assert.equal(ns1.queries.length, 2, 'ns1 is probed beside ns2')
    addressesOf(await dns.lookup('zone4-default.game.test'))
    assert.deepEqual([ns1.queries.length, ns2.queries.length], [3, 3], 'ns1 is first again')
  })
})

test('1: a probe of a nameserver that is still dead keeps nobody waiting', async () => {
  await withDns([silent, FINE], async ({ dns, clock, ns1 }) => {
    await dns.lookup(NAME)
    clock.wind(1000)
    const [, milliseconds] = await timed(clock, () => dns.lookup('zone2-default.game.test'))
    assert.equal(ns1.queries.length, 2)
    assert.ok(milliseconds < TIMEOUT_MS, `${milliseconds} ms`)
  })
})

test('2: a closed port is passed over in a few milliseconds', async () => {
  await withDns([FINE, FINE], async ({ dns, clock, ns1 }) => {
    await ns1.stop()
    const [answer, milliseconds] = await timed(clock, () => dns.lookup(NAME))
    assert.deepEqual(addressesOf(answer), ['10.0.0.1'])
    assert.ok(milliseconds < TIMEOUT_MS, `${milliseconds} ms`)
    assert.equal(dns.status().nameservers[0]?.outcomes['unreachable'], 1)
  })
})

test('3: the late answer of a slow nameserver changes nothing', async () => {
  await withDns([silent, FINE], async ({ dns, clock, ns1 }) => {
    let late = false
    ns1.script = (query) =>
      clock.start(() => {
        query.reply({ answers: [a(query.name, '10.6.6.6')] })
        late = true
      }, TIMEOUT_MS + 20)
    assert.deepEqual(addressesOf(await dns.lookup(NAME)), ['10.0.0.1'])
    await until(() => late)
    assert.deepEqual(addressesOf(await dns.lookup(NAME)), ['10.0.0.1'])
  })
})

test('4: with 30 % of the packets lost every name resolves within the budget, and the tries are counted', async () => {
  let state = 1
  const lossy: Script = (query) => {
    state = (state * 48_271) % 0x7fff_ffff
    if (state % 100 >= 30) FINE(query)
  }
  await withDns(
    [lossy, lossy],
    async ({ dns, clock }) => {
      const names = Array.from({ length: 40 }, (_, at) => `zone${at}-default.game.test`)
      const answers = await Promise.all(
        names.map(async (name) => {
          const [answer, milliseconds] = await timed(clock, () => dns.lookup(name))
          assert.ok(milliseconds < BUDGET_MS + 50, `${milliseconds} ms`)
          return answer
        }),
      )
      for (const answer of answers) assert.deepEqual(addressesOf(answer), ['10.0.0.1'])
      const outcomes = dns.status().nameservers.map((nameserver) => nameserver.outcomes)
      assert.ok(outcomes.some((counts) => (counts['timeout'] ?? 0) > 0))
      assert.ok(outcomes.every((counts) => (counts['NOERROR'] ?? 0) > 0))
    },
    { attempts: 5 },
  )
})

test('5: all nameservers dead, answer fresh: answered at once, no query', async () => {
  await withDns([FINE], async ({ dns, ns1 }) => {
    await dns.lookup(NAME)
    await ns1.stop()
    const answer = dns.lookup(NAME)
    assert.ok(!(answer instanceof Promise))
    assert.deepEqual(addressesOf(answer), ['10.0.0.1'])
    assert.equal(ns1.queries.length, 1)
  })
})

test('6: all nameservers dead, answer expired: the first request gets the stale answer in time, later ones at once', async () => {
  await withDns([FINE], async (bench) => {
    const { dns, clock, ns1 } = bench
    await dns.lookup(NAME)
    ns1.script = silent
    clock.wind(61_000)
    const [first, milliseconds] = await timed(clock, () => dns.lookup(NAME))
    assert.deepEqual(first.kind === 'positive' && [first.addresses, first.stale], [['10.0.0.1'], true])
    assert.ok(milliseconds < BUDGET_MS / 2 + 50, `${milliseconds} ms`)
    await settled(bench)
    const asked = ns1.queries.length
    const second = dns.lookup(NAME)
    assert.ok(!(second instanceof Promise) && second.kind === 'positive' && second.stale)
    assert.equal(ns1.queries.length, asked, 'nothing is asked inside the back-off')
  })
})

test('7: all nameservers dead, answer expired for longer than it may be stale: failure within the budget', async () => {
  await withDns([FINE], async ({ dns, clock, ns1 }) => {
    await dns.lookup(NAME)
    ns1.script = silent
    clock.wind(3_661_000)
    const [answer, milliseconds] = await timed(clock, () => dns.lookup(NAME))
    assert.equal(answer.kind, 'failure')
    assert.ok(milliseconds < BUDGET_MS + 50, `${milliseconds} ms`)
  })
})

test('8: all nameservers dead, never resolved: failure within the budget, then at once and without a query', async () => {
  await withDns([silent, silent], async ({ dns, clock, ns1, ns2 }) => {
    const [answer, milliseconds] = await timed(clock, () => dns.lookup(NAME))
    assert.equal(answer.kind, 'failure')
    assert.deepEqual(
      answer.kind === 'failure' && answer.tries.map((one) => [one.nameserver, one.outcome]),
      [ns1, ns2, ns1, ns2].map(({ address }) => [address, 'timeout']),
    )
    assert.ok(milliseconds < BUDGET_MS + 50, `${milliseconds} ms`)
    const again = dns.lookup(NAME)
    assert.ok(!(again instanceof Promise) && again.kind === 'failure')
    assert.deepEqual([ns1.queries.length, ns2.queries.length], [2, 2])
  })
})

test('8: a timeout of 5 seconds never keeps the other nameservers from being asked within the budget', async () => {
  await withDns(
    [silent, silent, FINE],
    async ({ dns, clock }) => {
      const [answer, milliseconds] = await timed(clock, () => dns.lookup(NAME))
      assert.deepEqual(addressesOf(answer), ['10.0.0.1'])
      assert.ok(milliseconds < BUDGET_MS, `${milliseconds} ms`)
    },
    { timeoutMs: 5000 },
  )
})

test('9: all nameservers dead, then back: fresh within ten seconds', async () => {
  await withDns([silent], async ({ dns, clock, ns1 }) => {
    for (let failures = 0; failures < 4; failures++) {
      assert.equal((await dns.lookup(NAME)).kind, 'failure')
      clock.wind(10_000)
    }
    ns1.script = FINE
    assert.deepEqual(addressesOf(await dns.lookup(NAME)), ['10.0.0.1'])
  })
})

test('9: a stale name in use becomes fresh within ten seconds of its nameserver', async () => {
  await withDns([FINE], async (bench) => {
    const { dns, clock, ns1 } = bench
    await dns.lookup(NAME)
    ns1.script = refusing(2)
    clock.wind(61_000)
    assert.equal((await dns.lookup(NAME)).kind, 'positive')
    ns1.script = always('10.0.0.2')
    clock.wind(10_000)
    dns.lookup(NAME)
    await settled(bench)
    assert.deepEqual(addressesOf(await dns.lookup(NAME)), ['10.0.0.2'])
  })
})

for (const [outcome, rcode] of Object.entries({ FORMERR: 1, SERVFAIL: 2, NOTIMP: 4, REFUSED: 5 })) {
  test(`10: ${outcome} asks the next nameserver`, async () => {
    await withDns([refusing(rcode), FINE], async ({ dns }) => {
      assert.deepEqual(addressesOf(await dns.lookup(NAME)), ['10.0.0.1'])
      assert.ok((dns.status().nameservers[0]?.outcomes[outcome] ?? 0) > 0)
    })
  })
}

test('10: a refusal without a question counts as one', async () => {
  await withDns(
    [(query) => query.reply({ rcode: 5, questions: [], edns: null }), FINE],
    async ({ dns, clock }) => {
      const [answer, milliseconds] = await timed(clock, () => dns.lookup(NAME))
      assert.deepEqual(addressesOf(answer), ['10.0.0.1'])
      assert.ok(milliseconds < TIMEOUT_MS, `${milliseconds} ms`)
    },
  )
})

test('11: SERVFAIL from all: a storm of requests asks each nameserver once per back-off', async () => {
  await withDns(
    [FINE, FINE],
    async ({ dns, clock, ns1, ns2 }) => {
      await dns.lookup('zone2-default.game.test')
      await dns.lookup('zone3-default.game.test')
      assert.deepEqual([ns1.queries.length, ns2.queries.length], [1, 1], 'both are known to take EDNS')
      ns1.script = ns2.script = refusing(2)
      const storm = async (): Promise<void> => {
        for (let wave = 0; wave < 10; wave++) {
          const answers = await Promise.all(Array.from({ length: 100 }, () => dns.lookup(NAME)))
          assert.ok(answers.every(({ kind }) => kind === 'failure'))
        }
      }
      await storm()
      assert.deepEqual([ns1.queries.length, ns2.queries.length], [2, 2])
      clock.wind(1000)
      await storm()
      assert.deepEqual([ns1.queries.length, ns2.queries.length], [3, 3])
      clock.wind(1000)
      await storm()
      assert.deepEqual([ns1.queries.length, ns2.queries.length], [3, 3], 'the back-off has grown')
    },
    { rotate: true },
  )
})

test('11: SERVFAIL from all, a stale answer held: it serves', async () => {
  await withDns([FINE], async ({ dns, clock, ns1 }) => {
    await dns.lookup(NAME)
    ns1.script = refusing(2)
    clock.wind(61_000)
    for (let count = 0; count < 50; count++)
      assert.deepEqual(addressesOf(await dns.lookup(NAME)), ['10.0.0.1'])
    assert.equal(ns1.queries.length, 2)
  })
})

test('38: a nameserver that answers EDNS with FORMERR is asked without, from then on at once', async () => {
  const old: Script = (query) => {
    if (query.message.edns !== null) query.reply({ rcode: 1, edns: null })
    else FINE(query)
  }
  await withDns([old], async ({ dns, ns1, events }) => {
    assert.deepEqual(addressesOf(await dns.lookup(NAME)), ['10.0.0.1'])
    assert.equal(ns1.queries.length, 2)
    assert.deepEqual(addressesOf(await dns.lookup('zone2-default.game.test')), ['10.0.0.1'])
    assert.equal(ns1.queries.length, 3)
    assert.equal(dns.status().nameservers[0]?.edns, false)
    assert.equal(events.filter(({ kind }) => kind === 'edns_unsupported').length, 1)
  })
})

const UNKNOWN: Script = (query) => query.reply({ rcode: 3, authorities: [soa('test', 30)] })

for (const [what, script] of [
  ['NXDOMAIN', UNKNOWN],
  ['NODATA', ((query) => query.reply({ authorities: [soa('test', 30)] })) satisfies Script],
] as const) {
  test(`1: a lost packet to the nameserver that knows the zones, ${what} from the next: no name in use is withdrawn`, async () => {
    await withDns([FINE, script], async (bench) => {
      const { dns, clock, ns1 } = bench
      const told: string[] = []
      for (let at = 0; at < 100; at++) dns.keep(`zone${at}.game.test`, ({ kind }) => told.push(kind))
      await until(() => told.length === 100)
      let isLost = false
      ns1.script = (query) => {
        if (isLost) FINE(query)
        isLost = true
      }
      clock.wind(46_000)
      await until(() => ns1.queries.length > 200)
      await settled(bench)
      assert.deepEqual(new Set(told), new Set(['positive']))
      assert.equal(told.length, 100)
    })
  })
}

test('1: a request for a name in use has its addresses, though a packet was lost and the next nameserver denies it', async () => {
  await withDns([FINE, UNKNOWN], async ({ dns, clock, ns1, ns2 }) => {
    await dns.lookup(NAME)
    clock.wind(61_000)
    ns1.script = silent
    setTimeout(() => (ns1.script = FINE), TIMEOUT_MS / 2)
    const [answer, milliseconds] = await timed(clock, () => dns.lookup(NAME))
    assert.deepEqual([answer.kind, ns2.queries.length], ['positive', 1])
    assert.ok(milliseconds < BUDGET_MS)
  })
})

test('1: while the first nameserver is dead, the word of the next one counts', async () => {
  await withDns([FINE, UNKNOWN], async ({ dns, clock, ns1 }) => {
    await dns.lookup(NAME)
    clock.wind(61_000)
    await ns1.stop()
    assert.equal((await dns.lookup(NAME)).kind, 'nxdomain')
  })
})

test('1: with rotate all nameservers are equal: none is asked again', async () => {
  await withDns(
    [FINE, UNKNOWN],
    async ({ dns, clock, ns1, ns2 }) => {
      await dns.lookup(NAME)
      clock.wind(61_000)
      assert.equal((await dns.lookup(NAME)).kind, 'nxdomain')
      assert.deepEqual([ns1.queries.length, ns2.queries.length], [1, 1])
    },
    { rotate: true },
  )
})

test('12: a name that nobody uses is not asked for twice because a fallback denies it', async () => {
  await withDns([silent, silent], async ({ dns, ns1, ns2 }) => {
    let askedBefore = 0
    ns2.script = (query) => {
      askedBefore = ns1.queries.length
      UNKNOWN(query)
    }
    assert.equal((await dns.lookup(NAME)).kind, 'nxdomain')
    assert.deepEqual([ns1.queries.length, ns2.queries.length], [askedBefore, 1])
  })
})

const withEdns = ({ message }: Query): boolean => message.edns !== null
const intolerant: [string, Script][] = [
  ['drops it', () => {}],
  ['says SERVFAIL', (query) => query.reply({ rcode: 2, edns: null })],
  ['says NOTIMP', (query) => query.reply({ rcode: 4, edns: null })],
  ['counts an OPT that it leaves out', (query) => query.send(countingOpt(query))],
  [
    'sends half an answer',
    (query) => query.send(query.response({ answers: [a(NAME, '10.6.6.6')] }).subarray(0, -15)),
  ],
]
function countingOpt(query: Query): Buffer {
  const octets = query.response({ answers: [a(query.name, '10.0.0.1')], edns: null })
  octets.writeUInt16BE(1, 10)
  return octets
}
for (const [what, script] of intolerant) {
  test(`38: a nameserver that takes no EDNS (it ${what}) is asked without, and after a while with it again`, async () => {
    const old: Script = (query) => (withEdns(query) ? script(query) : FINE(query))
    await withDns([old], async ({ dns, clock, ns1, events }) => {
      const unsupported = (): number => events.filter(({ kind }) => kind === 'edns_unsupported').length
      let names = 0
      const lookup = async (): Promise<readonly boolean[]> => {
        const before = ns1.queries.length
        const [answer, milliseconds] = await timed(clock, () =>
          dns.lookup(`zone${names++}-default.game.test`),
        )
        assert.deepEqual(addressesOf(answer), ['10.0.0.1'])
        assert.ok(milliseconds < BUDGET_MS, `${milliseconds} ms`)
        return ns1.queries.slice(before).map(withEdns)
      }
      assert.deepEqual(await lookup(), [true, false])
      if (unsupported() === 0) assert.deepEqual(await lookup(), [true, false], 'once may be a lost packet')
      assert.deepEqual([await lookup(), unsupported()], [[false], 1])
      assert.equal(dns.status().nameservers[0]?.edns, false)
      clock.wind(15 * 60_000)
      assert.deepEqual([await lookup(), await lookup(), unsupported()], [[true, false], [false], 1])
      ns1.script = FINE
      clock.wind(15 * 60_000)
      assert.deepEqual([await lookup(), await lookup()], [[true], [true]])
      assert.equal(dns.status().nameservers[0]?.edns, true)
    })
  })
}

test('38: a nameserver that drops EDNS is found out with one attempt, and behind a probe, too', async () => {
  const dropping: Script = (query) => (withEdns(query) ? undefined : FINE(query))
  await withDns(
    [dropping],
    async ({ dns }) => assert.deepEqual(addressesOf(await dns.lookup(NAME)), ['10.0.0.1']),
    { attempts: 1 },
  )
  await withDns([dropping, always('10.0.0.2')], async ({ dns, clock, ns1 }) => {
    for (let at = 0; at < 2; at++) {
      assert.deepEqual(addressesOf(await dns.lookup(`zone${at}-x.game.test`)), ['10.0.0.2'])
      clock.wind(1000)
      await dns.lookup(`zone${at}-y.game.test`)
      await until(() => dns.status().nameservers[0]?.failures === 0)
    }
    const asked = ns1.queries.length
    assert.deepEqual(addressesOf(await dns.lookup(NAME)), ['10.0.0.1'])
    assert.deepEqual(ns1.queries.slice(asked).map(withEdns), [false])
  })
})

test('38: FORMERR once, or FORMERR with EDNS and without, switches nothing off', async () => {
  await withDns([FINE], async ({ dns, clock, ns1 }) => {
    addressesOf(await dns.lookup(NAME))
    let once = true
    ns1.script = (query) => {
      if (once) query.reply({ rcode: 1 })
      else FINE(query)
      once = false
    }
    addressesOf(await dns.lookup('zone2-default.game.test'))
    assert.deepEqual(ns1.queries.map(withEdns), [true, true, false])
    addressesOf(await dns.lookup('zone3-default.game.test'))
    clock.wind(3 * 60_000)
    for (const rcode of [1, 2, 5]) {
      ns1.script = (query) => query.reply({ rcode: withEdns(query) ? 1 : rcode })
      assert.equal((await dns.lookup(`zone4${rcode}-default.game.test`)).kind, 'failure')
    }
    ns1.script = FINE
    addressesOf(await dns.lookup('zone5-default.game.test'))
    assert.equal(ns1.queries.at(-1)?.message.edns !== null, true)
  })
})

test('38: a lost packet of a nameserver that takes EDNS costs it no EDNS', async () => {
  await withDns([FINE], async ({ dns, ns1 }) => {
    addressesOf(await dns.lookup(NAME))
    let lost = false
    ns1.script = (query) => {
      if (lost) FINE(query)
      lost = true
    }
    addressesOf(await dns.lookup('zone2-default.game.test'))
    assert.deepEqual(ns1.queries.map(withEdns), [true, true, true])
  })
})

test('11: a nameserver whose EDNS nobody has seen is asked once with it and once without, where all say SERVFAIL', async () => {
  await withDns([refusing(2)], async ({ dns, ns1 }) => {
    await Promise.all(Array.from({ length: 100 }, () => dns.lookup(NAME)))
    await Promise.all(Array.from({ length: 100 }, () => dns.lookup(NAME)))
    assert.deepEqual(ns1.queries.map(withEdns), [true, false])
  })
})

test('an exception in a probe, for which nobody waits, ends nothing, and the nameserver is probed again', async () => {
  let broken = false
  const events: DnsEvent[] = []
  const onEvent = (event: DnsEvent): void => {
    events.push(event)
    if (broken && event.kind === 'query' && event.try.nameserver.endsWith(`:${port}`))
      throw new Error('a bug')
  }
  let port = 0
  await withDns(
    [silent, FINE],
    async ({ dns, clock, ns1 }) => {
      port = ns1.port
      await dns.lookup(NAME)
      ns1.script = FINE
      broken = true
      clock.wind(1000)
      addressesOf(await dns.lookup('zone2-default.game.test'))
      await until(() => events.some(({ kind }) => kind === 'bug'))
      broken = false
      clock.wind(10_000)
      addressesOf(await dns.lookup('zone3-default.game.test'))
      await until(() => dns.status().nameservers[0]?.failures === 0)
    },
    {},
    { onEvent },
  )
})

test('40: a thousand concurrent misses of one name are one query', async () => {
  await withDns([FINE], async ({ dns, ns1 }) => {
    const answers = await Promise.all(Array.from({ length: 1000 }, () => dns.lookup(NAME)))
    assert.ok(answers.every(({ kind }) => kind === 'positive'))
    assert.equal(ns1.queries.length, 1)
  })
})

test('41: a scan of unknown ids is bounded in memory and in flight, and leaves the names in use alone', async () => {
  const known = 'zone1-default.game.test'
  const script: Script = (query) => (query.name === known ? FINE(query) : query.reply({ rcode: 3 }))
  await withDns(
    [script],
    async ({ dns, ns1 }) => {
      await dns.lookup(known)
      dns.lookup(known)
      let overloaded = 0
      for (let wave = 0; wave < 20; wave++) {
        const answers = Array.from({ length: 100 }, (_, at) =>
          dns.lookup(`zone${wave}x${at}-default.game.test`),
        )
        for (const answer of answers) {
          if (answer instanceof Promise) continue
          assert.equal(answer.kind === 'failure' && answer.cause, 'overloaded')
          overloaded++
        }
        assert.ok(dns.status().queriesInFlight <= 64)
        await Promise.all(answers)
      }
      assert.ok(overloaded > 0)
      assert.ok(dns.status().names <= 100, `${dns.status().names} names`)
      const asked = ns1.queries.length
      assert.ok(!(dns.lookup(known) instanceof Promise), 'still cached')
      assert.equal(ns1.queries.length, asked)
    },
    { cacheEntriesMax: 100, queriesInFlightMax: 64 },
  )
})

test('41: with all places taken by unknown ids a name in use is still asked again', async () => {
  const known = 'zone1-default.game.test'
  const script: Script = (query) => (query.name === known ? FINE(query) : undefined)
  await withDns(
    [script],
    async ({ dns, clock }) => {
      await dns.lookup(known)
      clock.wind(61_000)
      const scan = Array.from({ length: 50 }, (_, at) => dns.lookup(`zone9${at}-default.game.test`))
      const answer = await dns.lookup(known)
      assert.deepEqual(answer.kind === 'positive' && answer.stale, false)
      await Promise.all(scan)
    },
    { queriesInFlightMax: 16 },
  )
})

test('42: a name whose query hangs keeps no other name waiting', async () => {
  const script: Script = (query) => (query.name.startsWith('zone1-') ? undefined : FINE(query))
  await withDns([script], async ({ dns, clock }) => {
    const hanging = dns.lookup(NAME)
    const [answer, milliseconds] = await timed(clock, () => dns.lookup('zone2-default.game.test'))
    assert.deepEqual(addressesOf(answer), ['10.0.0.1'])
    assert.ok(milliseconds < TIMEOUT_MS, `${milliseconds} ms`)
    assert.equal((await hanging).kind, 'failure')
  })
})

test('44: a caller that went away leaves the query to others and to the cache', async () => {
  const slow: Script = (query) => setTimeout(() => FINE(query), 20)
  await withDns([slow], async (bench) => {
    const { dns, ns1 } = bench
    void dns.lookup(NAME)
    await settled(bench)
    const answer = dns.lookup(NAME)
    assert.ok(!(answer instanceof Promise))
    assert.equal(ns1.queries.length, 1)
  })
})

test('46: duplicate answers and an answer after the timeout are ignored, and nothing is left behind', async () => {
  let late = false
  const twice: Script = (query) => {
    FINE(query)
    query.reply({ answers: [a(query.name, '10.6.6.6')] })
    setTimeout(() => {
      query.reply({ answers: [a(query.name, '10.6.6.7')] })
      late = true
    }, 30)
  }
  await withDns([twice], async ({ dns }) => {
    assert.deepEqual(addressesOf(await dns.lookup(NAME)), ['10.0.0.1'])
    await until(() => late)
    assert.deepEqual(addressesOf(await dns.lookup(NAME)), ['10.0.0.1'])
    assert.equal(dns.status().queriesInFlight, 0)
  })
})
