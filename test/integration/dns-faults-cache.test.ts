/** The rows of the fault table that are about time: lifetimes, refreshes, changes of resolv.conf. */
import assert from 'node:assert/strict'
import { createSocket } from 'node:dgram'
import { mkdirSync, mkdtempSync, renameSync, rmSync, symlinkSync, unlinkSync, writeFileSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { networkInterfaces, tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import type { Answer } from '../../src/dns/answer.ts'
import type { Dns, DnsSeams } from '../../src/dns/dns.ts'
import { addressesOf, type Bench, BUDGET_MS, settled, timed, until, withDns } from '../support/dns.ts'
import {
  a,
  always,
  cname,
  type Query,
  type Script,
  type ScriptedNameserver,
  silent,
  soa,
  startNameserver,
} from '../support/nameserver.ts'

const FINE = always('10.0.0.1')
const NAME = 'zone1-default.game.test'

/** As often as a look at resolv.conf reads, and more: after it, what was to be seen has been, on the slowest machine. */
async function looked({ clock }: Bench, path: string): Promise<void> {
  await clock.wentOff()
  for (let look = 0; look < 5; look++) await readFile(path).catch(() => undefined)
}

const negatives: [string, 'nxdomain' | 'nodata', Script, number][] = [
  [
    '12: NXDOMAIN, SOA minimum 17',
    'nxdomain',
    (query) => query.reply({ rcode: 3, authorities: [soa('game.test', 17)] }),
    17,
  ],
  [
    '12: NXDOMAIN, SOA TTL 9 below its minimum',
    'nxdomain',
    (query) => query.reply({ rcode: 3, authorities: [soa('game.test', 17, 9)] }),
    9,
  ],
  [
    '12: NXDOMAIN, SOA minimum beyond the cap',
    'nxdomain',
    (query) => query.reply({ rcode: 3, authorities: [soa('game.test', 7200)] }),
    30,
  ],
  ['14: NXDOMAIN without SOA', 'nxdomain', (query) => query.reply({ rcode: 3 }), 5],
  [
    '14: NXDOMAIN with the SOA of another zone',
    'nxdomain',
    (query) => query.reply({ rcode: 3, authorities: [soa('other.test', 17)] }),
    5,
  ],
  ['14: NODATA without SOA', 'nodata', (query) => query.reply(), 5],
  [
    '15: NODATA, SOA minimum 17',
    'nodata',
    (query) => query.reply({ authorities: [soa('game.test', 17)] }),
    17,
  ],
]
for (const [what, kind, script, ttlSeconds] of negatives) {
  test(`${what}: one query in ${ttlSeconds} s`, async () => {
    await withDns([script], async ({ dns, clock, ns1 }) => {
      const first = await dns.lookup(NAME)
      assert.deepEqual(first, { kind, name: NAME, ttlSeconds, nameserver: ns1.address })
      clock.wind(ttlSeconds * 1000 - 500)
      assert.equal((await dns.lookup(NAME)).kind, kind)
      assert.equal(ns1.queries.length, 1)
      clock.wind(501)
      assert.equal((await dns.lookup(NAME)).kind, kind)
      assert.equal(ns1.queries.length, 2)
    })
  })
}

for (const [kind, rcode] of [
  ['nxdomain', 3],
  ['nodata', 0],
] as const) {
  test(`13: ${kind} while a stale answer is held: the stale answer is dropped`, async () => {
    await withDns([FINE], async ({ dns, clock, ns1 }) => {
      await dns.lookup(NAME)
      clock.wind(61_000)
      ns1.script = (query) => query.reply({ rcode, authorities: [soa('game.test', 17)] })
      assert.equal((await dns.lookup(NAME)).kind, kind)
      ns1.script = silent
      clock.wind(18_000)
      assert.equal((await dns.lookup(NAME)).kind, 'failure')
    })
  })
}

for (const [kind, rcode] of [
  ['NXDOMAIN', 3],
  ['NODATA', 0],
] as const) {
  test(`13: a name in use that has ${kind} for 6 s is back within two seconds, whatever its SOA says`, async () => {
    await withDns([FINE], async ({ dns, clock, ns1 }) => {
      await dns.lookup(NAME)
      clock.wind(61_000)
      const wind = clock.now() + 6000
      ns1.script = (query) =>
        clock.now() < wind ? query.reply({ rcode, authorities: [soa('game.test', 30)] }) : FINE(query)
      for (let seconds = 0; seconds < 6; seconds++) {
        assert.notEqual((await dns.lookup(NAME)).kind, 'positive')
        clock.wind(1000)
      }
      clock.wind(1000)
      assert.equal((await dns.lookup(NAME)).kind, 'positive')
      assert.ok(ns1.queries.length <= 9, `${ns1.queries.length} queries`)
    })
  })
}

test('13: a kept name that is gone is asked again within two seconds by itself', async () => {
  await withDns([FINE], async (bench) => {
    const { dns, clock, ns1 } = bench
    const told: string[] = []
    dns.keep(NAME, ({ kind }) => told.push(kind))
    await until(() => told.length === 1)
    ns1.script = (query) => query.reply({ rcode: 3, authorities: [soa('game.test', 30)] })
    clock.wind(46_000)
    await until(() => told.length === 2)
    ns1.script = FINE
    clock.wind(2000)
    await settled(bench)
    assert.deepEqual(told, ['positive', 'nxdomain', 'positive'])
  })
})

test('39: a name in use is asked again before its TTL ends, and has its new addresses without a wait', async () => {
  await withDns([FINE], async (bench) => {
    const { dns, clock, ns1 } = bench
    await dns.lookup(NAME)
    ns1.script = always('10.0.0.2')
    clock.wind(44_000)
    assert.deepEqual(addressesOf(await dns.lookup(NAME)), ['10.0.0.1'])
    assert.equal(ns1.queries.length, 1, 'not yet')
    clock.wind(2000)
    const answer = dns.lookup(NAME)
    assert.ok(!(answer instanceof Promise))
    await until(() => ns1.queries.length === 2)
    await settled(bench)
    assert.deepEqual(addressesOf(await dns.lookup(NAME)), ['10.0.0.2'])
  })
})

test('39: a name that nobody asks for is not asked again', async () => {
  await withDns([FINE], async (bench) => {
    const { dns, clock, ns1 } = bench
    await dns.lookup(NAME)
    clock.wind(600_000)
    await settled(bench)
    assert.equal(ns1.queries.length, 1)
  })
})

test('39: a kept name is refreshed by itself, and tells only changes', async () => {
  await withDns([FINE], async (bench) => {
    const { dns, clock, ns1 } = bench
    const told: Answer[] = []
    const kept = dns.keep(NAME, (answer) => told.push(answer))
    await until(() => told.length === 1)
    assert.deepEqual(addressesOf(told[0] as Answer), ['10.0.0.1'])

    clock.wind(46_000)
    await until(() => ns1.queries.length === 2)
    await settled(bench)
    assert.equal(told.length, 1, 'the same addresses')

    ns1.script = always('10.0.0.2', '10.0.0.1')
    clock.wind(46_000)
    await until(() => told.length === 2)
    assert.deepEqual(addressesOf(told[1] as Answer), ['10.0.0.1', '10.0.0.2'])
    assert.deepEqual(addressesOf(kept?.current() as Answer), ['10.0.0.1', '10.0.0.2'])
    assert.ok((kept?.expiresAtMs() ?? 0) > clock.now() + 59_000)

    ns1.script = (query) => query.reply({ rcode: 3, authorities: [soa('game.test', 17)] })
    clock.wind(46_000)
    await until(() => told.length === 3)
    assert.equal(told[2]?.kind, 'nxdomain')

    kept?.release()
    ns1.script = FINE
    clock.wind(100_000)
    await settled(bench)
    assert.equal(told.length, 3)
    assert.equal(ns1.queries.length, 4)
  })
})

test('39: a kept name whose nameservers die goes stale, then fails, and comes back', async () => {
  await withDns(
    [FINE],
    async (bench) => {
      const { dns, clock, ns1 } = bench
      const told: string[] = []
      dns.keep(NAME, (answer) =>
        told.push(answer.kind === 'positive' && answer.stale ? 'stale' : answer.kind),
      )
      await until(() => told.length === 1)
      ns1.script = (query) => query.reply({ rcode: 2 })
      const wind = async (milliseconds: number): Promise<void> => {
        clock.wind(milliseconds)
        await settled(bench)
      }
      for (let seconds = 0; seconds < 90; seconds += 5) await wind(5000)
      assert.deepEqual(told, ['positive', 'stale', 'failure'])
      ns1.script = FINE
      await wind(10_000)
      await until(() => told.length === 4)
      assert.equal(told[3], 'positive')
    },
    { staleSeconds: 20 },
  )
})

test('39: kept names outlive any scan', async () => {
  await withDns(
    [FINE],
    async ({ dns }) => {
      const kept = dns.keep(NAME, () => {})
      await until(() => kept?.current() !== null)
      for (let at = 0; at < 200; at++) await dns.lookup(`zone${at}x-default.game.test`)
      assert.ok(!(dns.lookup(NAME) instanceof Promise))
      assert.equal(dns.status().names, 33)
      assert.equal(dns.cached(NAME)?.kept, true)
      assert.equal(dns.status().namesKept, 1)
    },
    { cacheEntriesMax: 32 },
  )
})

test('48: a name in trouble is asked for again, once a second at most', async () => {
  await withDns([FINE], async (bench) => {
    const { dns, clock, ns1 } = bench
    await dns.lookup(NAME)
    dns.refresh(NAME)
    await settled(bench)
    assert.equal(ns1.queries.length, 1)
    ns1.script = always('10.0.0.2')
    clock.wind(1000)
    dns.refresh(NAME)
    dns.refresh(NAME)
    await until(() => ns1.queries.length === 2)
    await settled(bench)
    assert.deepEqual(addressesOf(await dns.lookup(NAME)), ['10.0.0.2'])
    dns.refresh('zone2-default.game.test')
    await settled(bench)
    assert.equal(ns1.queries.length, 2, 'a name that is not cached is not asked for')
  })
})

test('45: a jump of the wall clock expires nothing', async (context) => {
  await withDns([FINE], async ({ dns, ns1 }) => {
    await dns.lookup(NAME)
    context.mock.method(Date, 'now', () => 4_000_000_000_000)
    assert.ok(!(dns.lookup(NAME) instanceof Promise))
    assert.equal(ns1.queries.length, 1)
  })
})

/** Two nameservers on one port of two addresses, and a resolv.conf to name them. */
async function withResolvConf(
  test: (
    bench: Bench & { one: ScriptedNameserver; two: ScriptedNameserver },
    files: { directory: string; path: string },
  ) => Promise<void>,
  text: string,
  seams: Partial<DnsSeams> = {},
): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), 'zonegate-resolv-conf-'))
  const path = join(directory, 'resolv.conf')
  const one = await startNameserver(always('10.0.0.1'), '127.0.0.1')
  const two = await startNameserver(always('10.0.0.2'), '127.0.0.2', one.port)
  writeFileSync(path, text)
  try {
    await withDns(
      [],
      (bench) => test({ ...bench, one, two }, { directory, path }),
      { resolvConf: path, nameservers: null, search: null },
      { nameserverPort: one.port, ...seams },
    )
  } finally {
    rmSync(directory, { recursive: true })
    await Promise.all([one.stop(), two.stop()])
  }
}

const ONE = 'search one.test\nnameserver 127.0.0.1\n'
const TWO = 'search two.test\nnameserver 127.0.0.2\n'

/** Under neither search domain: one that is in use stays. */
const OTHER = 'zone1-default.other.test'

async function untilSecond({ dns }: Bench): Promise<void> {
  await until(() => dns.searchDomain() === 'two.test')
  assert.deepEqual(addressesOf(await dns.lookup(OTHER)), ['10.0.0.2'])
}

/** So often was a resolv.conf taken. */
function loaded({ events }: Bench): number {
  return events.filter(({ kind }) => kind === 'resolv_conf_loaded').length
}

test('43: another search domain in front, as a VPN puts one: the old one stays, with one warning, the rest is taken', async () => {
  await withResolvConf(async (bench, { path }) => {
    const { dns, events } = bench
    replaceFile(path, 'search vpn.test one.test\nnameserver 127.0.0.2\n')
    await until(() => loaded(bench) === 2)
    assert.deepEqual([dns.searchDomain(), dns.status().searchOffered], ['one.test', 'vpn.test'])
    assert.deepEqual(addressesOf(await dns.lookup('zone1-default.one.test')), ['10.0.0.2'])
    replaceFile(path, 'search vpn.test one.test\nnameserver 127.0.0.1\n')
    await until(() => loaded(bench) === 3)
    assert.deepEqual(
      events.filter(({ kind }) => kind === 'search_domain_kept'),
      [{ kind: 'search_domain_kept', path, search: 'one.test', offered: 'vpn.test' }],
    )
    replaceFile(path, ONE)
    await until(() => loaded(bench) === 4)
    assert.deepEqual([dns.searchDomain(), dns.status().searchOffered], ['one.test', null])
  }, ONE)
})

test('43: another search domain in place of one with zones in use: the old one stays until the new one is asked for', async () => {
  await withResolvConf(async (bench, { path }) => {
    const { dns } = bench
    await dns.lookup('zone1-default.one.test')
    writeFileSync(path, TWO)
    await until(() => loaded(bench) === 2)
    assert.deepEqual([dns.searchDomain(), dns.status().searchOffered], ['one.test', 'two.test'])
    dns.takeSearchDomain()
    assert.deepEqual([dns.searchDomain(), dns.status().searchOffered], ['two.test', null])
    const last = bench.events.findLast((event) => event.kind === 'resolv_conf_loaded')
    assert.equal(last?.search, 'two.test')
    dns.takeSearchDomain()
    assert.equal(loaded(bench), 3, 'nothing was offered')
  }, ONE)
})

test('43: a search domain that none of the names that are asked for has is no loss', async () => {
  await withResolvConf(async (bench, { path }) => {
    bench.one.script = (query) => query.reply({ rcode: 3 })
    assert.equal((await bench.dns.lookup('zone1-default.one.test')).kind, 'nxdomain')
    writeFileSync(path, TWO)
    await untilSecond(bench)
  }, ONE)
})

test('43: a search domain that zones can not be named with is not taken, and named', async () => {
  await withResolvConf(
    async (bench, { path }) => {
      const { dns, events } = bench
      replaceFile(path, 'search corp_dmz.example\nnameserver 127.0.0.2\n')
      await until(() => loaded(bench) === 2)
      assert.deepEqual([dns.searchDomain(), dns.status().searchOffered], ['one.test', null])
      assert.deepEqual(
        events.filter(({ kind }) => kind === 'resolv_conf_kept'),
        [
          {
            kind: 'resolv_conf_kept',
            path,
            reason: 'its search domain corp_dmz.example makes no host name',
          },
        ],
      )
      dns.takeSearchDomain()
      assert.equal(dns.searchDomain(), 'one.test')
    },
    ONE,
    { searchFault: (domain) => (domain.includes('_') ? 'makes no host name' : null) },
  )
})

test('43: a Dns that takes over from another keeps the search domain', async () => {
  await withResolvConf(
    async ({ dns }) => {
      assert.deepEqual([dns.searchDomain(), dns.status().searchOffered], ['game.test', 'one.test'])
    },
    ONE,
    { searchBefore: 'game.test' },
  )
})

test('43: resolv.conf written in place is taken over', async () => {
  await withResolvConf(async (bench, { path }) => {
    assert.equal(bench.dns.searchDomain(), 'one.test')
    assert.deepEqual(addressesOf(await bench.dns.lookup(OTHER)), ['10.0.0.1'])
    writeFileSync(path, TWO)
    await untilSecond(bench)
  }, ONE)
})

test('43: resolv.conf replaced by rename is taken over', async () => {
  await withResolvConf(async (bench, { directory, path }) => {
    await looked(bench, path)
    writeFileSync(join(directory, 'new'), TWO)
    renameSync(join(directory, 'new'), path)
    await untilSecond(bench)
  }, ONE)
})

test('43: a swapped symlink elsewhere is seen by the poll', async () => {
  await withResolvConf(async (bench, { directory, path }) => {
    const elsewhere = join(directory, 'elsewhere')
    const swap = (target: string): void => {
      symlinkSync(target, join(elsewhere, 'next'))
      renameSync(join(elsewhere, 'next'), join(elsewhere, 'current'))
    }
    mkdirSync(elsewhere)
    writeFileSync(join(elsewhere, 'one'), ONE)
    writeFileSync(join(elsewhere, 'two'), TWO)
    swap('two')
    unlinkSync(path)
    symlinkSync(join(elsewhere, 'current'), path)
    await untilSecond(bench)
    bench.clock.wind(2000)
    await looked(bench, path)

    swap('one')
    await looked(bench, path)
    assert.equal(bench.dns.searchDomain(), 'two.test', 'nothing happened in its own directory')
    bench.clock.wind(2000)
    await until(() => bench.dns.searchDomain() === 'one.test')
  }, ONE)
})

/** At once: a file that is written in place is empty for a moment, which is a fault of its own. */
function replaceFile(path: string, text: string): void {
  writeFileSync(`${path}.new`, text)
  renameSync(`${path}.new`, path)
}

const notTaken: [string, (path: string) => void, RegExp][] = [
  ['emptied', (path) => writeFileSync(path, ''), /^it is empty$/],
  [
    'made unreadable',
    (path) => {
      unlinkSync(path)
      mkdirSync(path)
    },
    /^it can't be read \(EISDIR\)$/,
  ],
  ['removed', (path) => unlinkSync(path), /^it can't be read \(ENOENT\)$/],
  ['replaced by binary', (path) => replaceFile(path, 'nameserver 127.0.0.2\0'), /^it is not a text file$/],
  [
    'left with no usable nameserver',
    (path) => replaceFile(path, 'nameserver nonsense\n'),
    /^no nameserver in it is an IP address$/,
  ],
  [
    'left without any nameserver',
    (path) => replaceFile(path, 'search one.test\n'),
    /^it has no nameserver line$/,
  ],
]
for (const [what, change, reason] of notTaken) {
  test(`43: resolv.conf ${what}: the old nameservers hold, with one warning; a good file is taken later`, async () => {
    await withResolvConf(async (bench, { path }) => {
      const { dns, clock, events } = bench
      await looked(bench, path)
      change(path)
      const kept = () => events.filter((event) => event.kind === 'resolv_conf_kept')
      await until(() => kept().length > 0)
      clock.wind(2000)
      await looked(bench, path)
      assert.equal(kept().length, 1)
      assert.match(kept()[0]?.reason ?? '', reason)
      assert.deepEqual(addressesOf(await dns.lookup(OTHER)), ['10.0.0.1'])

      rmSync(path, { recursive: true, force: true })
      writeFileSync(path, TWO)
      clock.wind(2000)
      await untilSecond(bench)
    }, ONE)
  })
}

test('43: names that failed are asked for again at once by new nameservers', async () => {
  await withResolvConf(async (bench, { path }) => {
    const { dns } = bench
    assert.equal((await dns.lookup(OTHER)).kind, 'failure')
    writeFileSync(path, TWO)
    await untilSecond(bench)
  }, 'search one.test\nnameserver 127.0.0.3\n')
})

test('43: what a removed nameserver said is not kept, be it addresses or that there are none', async () => {
  await withResolvConf(async (bench, { path }) => {
    const { dns, one } = bench
    one.script = (query) => (query.name.startsWith('gone') ? query.reply({ rcode: 3 }) : FINE(query))
    assert.deepEqual(addressesOf(await dns.lookup(NAME)), ['10.0.0.1'])
    assert.equal((await dns.lookup('gone.game.test')).kind, 'nxdomain')
    writeFileSync(path, 'search one.test\nnameserver 127.0.0.2\n')
    await until(() => dns.nameservers()[0]?.startsWith('127.0.0.2') === true)
    assert.deepEqual(addressesOf(await dns.lookup(NAME)), ['10.0.0.2'])
    assert.deepEqual(addressesOf(await dns.lookup('gone.game.test')), ['10.0.0.2'])
  }, ONE)
})

test('43: another option alone costs no query: what the same nameservers said holds', async () => {
  await withResolvConf(async (bench, { path }) => {
    const { dns, one, events } = bench
    await dns.lookup(NAME)
    writeFileSync(path, `${ONE}options timeout:3\n`)
    await until(() => events.filter(({ kind }) => kind === 'resolv_conf_loaded').length === 2)
    assert.ok(!(dns.lookup(NAME) instanceof Promise))
    assert.equal(one.queries.length, 1)
  }, ONE)
})

test('43: what waits for a nameserver that is taken out of resolv.conf is asked of the new ones at once', async () => {
  await withResolvConf(async (bench, { path }) => {
    const { dns, clock, events, one } = bench
    let late: Query | null = null
    one.script = (query) => {
      late = query
    }
    const asked = dns.lookup('zone1-default.one.test')
    await until(() => late !== null)
    const [answer, milliseconds] = await timed(clock, () => {
      writeFileSync(path, TWO)
      return asked
    })
    assert.deepEqual(addressesOf(answer), ['10.0.0.2'])
    assert.ok(milliseconds < BUDGET_MS / 2, `${milliseconds} ms`)
    const judged = events.filter(({ kind }) => kind === 'nameserver_failing')
    assert.deepEqual(judged, [], 'who was taken out is not judged')
    assert.deepEqual(addressesOf(await dns.lookup('zone1-default.one.test')), ['10.0.0.2'], 'no back-off')
  }, ONE)
})

test('43: an answer and an alias of a nameserver that was taken out in the meantime are not kept', async () => {
  await withResolvConf(async (bench, { path }) => {
    const { dns, one, two } = bench
    const held: Query[] = []
    one.script = (query) => {
      if (query.name.startsWith('alias')) held.push(query)
      else query.reply({ answers: [cname(query.name, 'alias.test')] })
    }
    const asked = dns.lookup('zone1-default.one.test')
    await until(() => held.length === 1)
    two.script = (query) =>
      query.reply({ answers: [a(query.name, query.name.startsWith('alias') ? '10.6.6.6' : '10.0.0.2')] })
    writeFileSync(path, TWO)
    assert.deepEqual(addressesOf(await asked), ['10.0.0.2'])
  }, ONE)
})

test('43: a name whose nameserver fails while another one is added is asked of that one', async () => {
  await withResolvConf(async (bench, { path }) => {
    const { dns, one } = bench
    let asks = 0
    one.script = () => {
      asks++
    }
    const asked = dns.lookup('zone1-default.one.test')
    await until(() => asks === 1)
    writeFileSync(path, `${TWO}nameserver 127.0.0.1\n`)
    assert.deepEqual(addressesOf(await asked), ['10.0.0.2'])
  }, ONE)
})

test('43: options no-reload: changes are not looked for', async () => {
  await withResolvConf(async (bench, { path }) => {
    writeFileSync(path, TWO)
    await looked(bench, path)
    bench.clock.wind(5000)
    await looked(bench, path)
    assert.equal(bench.dns.searchDomain(), 'one.test')
  }, `${ONE}options no-reload\n`)
})

const loopback6 = Object.entries(networkInterfaces()).find(([, addresses]) =>
  addresses?.some(({ address }) => address === '::1'),
)?.[0]
test('47: IPv6 nameservers, with a scope id too', {
  skip: loopback6 === undefined && 'no IPv6 here',
}, async () => {
  const ipv6 = await startNameserver(FINE, '::1')
  try {
    for (const host of ['::1', `::1%${loopback6}`]) {
      await withDns(
        [],
        async ({ dns }) => {
          assert.deepEqual(dns.nameservers(), [`[${host}]:${ipv6.port}`])
          assert.deepEqual(addressesOf(await dns.lookup(NAME)), ['10.0.0.1'])
        },
        { nameservers: [`[${host}]:${ipv6.port}`] },
      )
    }
  } finally {
    await ipv6.stop()
  }
})

test('a flushed name is asked for again, and serves stale while its nameservers fail', async () => {
  await withDns([FINE], async ({ dns, ns1 }) => {
    await dns.lookup(NAME)
    assert.deepEqual([dns.flush(NAME), dns.flush('nobody.asked.test')], [1, 0])
    const asked = dns.lookup(NAME)
    assert.ok(asked instanceof Promise)
    await asked
    assert.equal(ns1.queries.length, 2)
    ns1.script = silent
    dns.flush()
    const answer = await dns.lookup(NAME)
    assert.ok(answer.kind === 'positive' && answer.stale)
  })
})

/** Answers each query when the test says so. */
function held(addresses: readonly string[] = ['10.0.0.1']): { script: Script; answer: () => void } {
  const waiting: Query[] = []
  return {
    script: (query) => void waiting.push(query),
    answer: () => {
      const query = waiting.shift()
      assert.ok(query !== undefined, 'nothing was asked')
      always(...addresses)(query)
    },
  }
}

for (const [what, flush] of [
  ['the name', (dns: Dns) => dns.flush('Zone1-Default.game.test.')],
  ['everything', (dns: Dns) => dns.flush()],
] as const) {
  test(`what was asked before a flush of ${what} is told to who waits for it, and is not kept`, async () => {
    const before = held(['10.0.0.1'])
    await withDns(
      [before.script],
      async ({ dns, ns1 }) => {
        const asked = dns.lookup(NAME)
        await until(() => ns1.queries.length === 1)
        flush(dns)
        ns1.script = always('10.0.0.2')
        const afterwards = dns.lookup(NAME)
        assert.deepEqual(addressesOf(await afterwards), ['10.0.0.2'])
        before.answer()
        assert.deepEqual(addressesOf(await asked), ['10.0.0.1'])
        assert.deepEqual(addressesOf(await dns.lookup(NAME)), ['10.0.0.2'])
        assert.deepEqual([ns1.queries.length, dns.status().queriesInFlight], [2, 0])
      },
      { timeoutMs: 10_000, budgetMs: 20_000 },
    )
  })
}

test('a kept name that is flushed during its refresh has what is asked for afterwards', async () => {
  const before = held(['10.0.0.1'])
  await withDns(
    [before.script],
    async (bench) => {
      const { dns, ns1 } = bench
      const kept = dns.keep(NAME, () => {})
      await until(() => ns1.queries.length === 1)
      dns.flush()
      ns1.script = always('10.0.0.2')
      await until(() => ns1.queries.length === 2)
      before.answer()
      await settled(bench)
      assert.deepEqual(addressesOf(kept?.current() as Answer), ['10.0.0.2'])
    },
    { timeoutMs: 10_000, budgetMs: 20_000 },
  )
})

test('a name has one query at a time, and its answer is kept, though the cache is full of names in flight', async () => {
  const used = Array.from({ length: 800 }, (_, at) => `used${at}.game.test`)
  const script: Script = (query) => (query.name.startsWith('silent') ? undefined : FINE(query))
  await withDns(
    [script],
    async ({ dns, ns1 }) => {
      for (const name of used) await dns.lookup(name)
      for (const name of used) await dns.lookup(name)
      const hanging = Array.from({ length: 210 }, (_, at) => dns.lookup(`silent${at}.game.test`))
      await until(() => ns1.queries.length === 1010)
      await Promise.all(Array.from({ length: 50 }, () => dns.lookup(NAME)))
      for (let count = 0; count < 50; count++) await dns.lookup(NAME)
      assert.equal(ns1.queries.filter(({ name }) => name === NAME).length, 1)
      dns.close()
      await Promise.all(hanging)
    },
    { cacheEntriesMax: 1000, timeoutMs: 10_000, budgetMs: 20_000 },
  )
})

test('names in flight leave no more in the cache than it may hold', async () => {
  const script: Script = (query) => (query.name.startsWith('silent') ? undefined : FINE(query))
  await withDns(
    [script],
    async (bench) => {
      const { dns } = bench
      const hanging = Array.from({ length: 200 }, (_, at) => dns.lookup(`silent${at}.game.test`))
      for (let at = 0; at < 100; at++) await dns.lookup(`zone${at}.game.test`)
      await Promise.all(hanging)
      assert.equal(dns.status().names, 16)
    },
    { cacheEntriesMax: 16 },
  )
})

test('a name that is released twice stays with others who keep it', async () => {
  await withDns([FINE], async (bench) => {
    const { dns, clock, ns1 } = bench
    const first = dns.keep(NAME, () => {})
    first?.release()
    const second = dns.keep(NAME, () => {})
    first?.release()
    await settled(bench)
    clock.wind(46_000)
    await until(() => ns1.queries.length === 2)
    second?.release()
    second?.release()
    assert.equal(dns.status().namesKept, 0)
  })
})

test('a kept name whose TTL becomes 0, and is something again, is told', async () => {
  await withDns([FINE], async (bench) => {
    const { dns, clock, ns1 } = bench
    const told: number[] = []
    dns.keep(NAME, (answer) => told.push(answer.kind === 'positive' ? answer.ttlSeconds : -1))
    await until(() => told.length === 1)
    ns1.script = (query) => query.reply({ answers: [a(query.name, '10.0.0.1', 0)] })
    clock.wind(46_000)
    await until(() => told.length === 2)
    ns1.script = FINE
    clock.wind(1000)
    await until(() => told.length === 3)
    await settled(bench)
    assert.deepEqual(told, [60, 0, 60])
  })
})

test('an exception of one who keeps a name costs the others nothing', async () => {
  await withDns([FINE], async ({ dns, events }) => {
    let told = 0
    dns.keep(NAME, () => {
      throw new Error('a bug')
    })
    dns.keep(NAME, () => (told += 1))
    await until(() => told === 1)
    assert.equal(events.filter(({ kind }) => kind === 'bug').length, 1)
  })
})

test('a closed Dns asks, keeps and tells nothing', async () => {
  const before = held()
  await withDns(
    [before.script],
    async ({ dns, clock, ns1 }) => {
      const told: Answer[] = []
      const kept = dns.keep(NAME, (answer) => told.push(answer))
      const asked = dns.lookup('zone2-default.game.test')
      await until(() => ns1.queries.length === 2)
      dns.close()
      assert.equal((await asked).kind, 'failure')
      assert.equal((await dns.lookup(NAME)).kind, 'failure')
      assert.equal((await dns.explain(NAME)).answer.kind, 'failure')
      assert.equal(
        dns.keep('zone3-default.game.test', () => {}),
        null,
      )
      dns.refresh(NAME)
      dns.flush()
      kept?.release()
      clock.wind(60_000)
      await clock.wentOff()
      const { names, namesKept, queriesInFlight } = dns.status()
      assert.deepEqual([names, namesKept, queriesInFlight, clock.timersRunning], [0, 0, 0, 0])
      assert.deepEqual([told, ns1.queries.length], [[], 2])
    },
    { timeoutMs: 10_000, budgetMs: 20_000 },
  )
})

test('an explanation asks past the cache, and tells every try', async () => {
  await withDns([(query) => query.reply({ rcode: 2 }), FINE], async ({ dns, ns1, ns2 }) => {
    const { answer, tries, cached } = await dns.explain(NAME)
    assert.deepEqual(addressesOf(answer), ['10.0.0.1'])
    assert.deepEqual(
      tries.map(({ nameserver, outcome, type, transport }) => [nameserver, outcome, type, transport]),
      [
        [ns1.address, 'SERVFAIL', 'A', 'udp'],
        [ns1.address, 'SERVFAIL', 'A', 'udp'], // without EDNS
        [ns2.address, 'NOERROR', 'A', 'udp'],
      ],
    )
    assert.equal(cached, null)
    assert.equal(dns.status().names, 0)
  })
})

test('a name is found in any spelling; what is no name is a failure', async () => {
  await withDns([FINE], async ({ dns, ns1 }) => {
    await dns.lookup('Zone1-Default.GAME.test.')
    await dns.lookup(NAME)
    assert.equal(ns1.queries.length, 1)
    for (const text of [
      '',
      '.',
      'a..b',
      `${'a'.repeat(64)}.test`,
      `${'a.'.repeat(127)}b`,
      'ä.test',
      'a b.test',
    ]) {
      const answer = await dns.lookup(text)
      assert.equal(answer.kind === 'failure' && answer.cause, 'invalid_name', text)
    }
    assert.equal(ns1.queries.length, 1)
  })
})

test('addresses are shuffled at each refresh', async () => {
  const all = Array.from({ length: 8 }, (_, at) => `10.0.0.${at}`)
  await withDns(
    [always(...all)],
    async ({ dns, clock }) => {
      const orders = new Set<string>()
      for (let refresh = 0; refresh < 5; refresh++) {
        const answer = await dns.lookup(NAME)
        orders.add(answer.kind === 'positive' ? answer.addresses.join() : '')
        clock.wind(61_000)
      }
      assert.ok(orders.size > 1)
    },
    {},
    { random: Math.random },
  )
})

test('a closed Dns leaves no port open, though another query might have shared it', async () => {
  await withDns([FINE], async ({ dns, clock }) => {
    await dns.lookup(NAME)
    dns.close()
    assert.equal(clock.timersRunning, 0)
  })
})

test('a closed Dns leaves no port open that another one has taken the place of', async () => {
  await withDns([FINE], async ({ dns, clock }) => {
    await dns.lookup(NAME)
    clock.wind(10)
    const asked = dns.lookup('zone2-default.game.test')
    dns.close()
    assert.equal(clock.timersRunning, 0)
    await asked
  })
})

test('no query waits on a port that could not be opened', async () => {
  await withDns(
    [],
    async ({ dns }) => {
      for (const name of [NAME, 'zone2-default.game.test', 'zone3-default.game.test']) {
        const answer = await dns.lookup(name)
        const outcomes = answer.kind === 'failure' ? answer.tries.map(({ outcome }) => outcome) : []
        assert.deepEqual(outcomes, ['unreachable'], name)
      }
    },
    // A socket may not be connected to the address of everybody.
    { nameservers: ['255.255.255.255:53'] },
  )
})

test('a closed Dns ends its queries and leaves no timer behind', async () => {
  await withDns([silent], async ({ dns, clock, ns1 }) => {
    const answer = Promise.resolve(dns.lookup(NAME))
    dns.keep('zone2-default.game.test', () => {})
    await until(() => ns1.queries.length === 2)
    dns.close()
    assert.equal((await answer).kind, 'failure')
    assert.equal(clock.timersRunning, 0)
  })
})

test('rotate spreads queries over the nameservers', async () => {
  await withDns(
    [FINE, FINE],
    async ({ dns, ns1, ns2 }) => {
      for (let at = 0; at < 10; at++) await dns.lookup(`zone${at}-default.game.test`)
      assert.deepEqual([ns1.queries.length, ns2.queries.length], [5, 5])
    },
    { rotate: true },
  )
})

test('a query asks with RD and EDNS 1232 and an id of its own, and 10 ms later from another port', async () => {
  await withDns([FINE], async ({ dns, clock, ns1 }) => {
    for (let at = 0; at < 8; at++) {
      await dns.lookup(`zone${at}-default.game.test`)
      clock.wind(10)
    }
    // Two may be given the same one by chance.
    assert.ok(new Set(ns1.queries.map(({ from }) => from?.port)).size > 6)
    assert.ok(new Set(ns1.queries.map(({ message }) => message.id)).size > 1)
    for (const { message } of ns1.queries) {
      assert.ok(message.recursionDesired)
      assert.equal(message.edns?.udpPayloadOctets, 1232)
    }
  })
})

test('queries one after another share a port within 10 ms', async () => {
  await withDns([FINE], async ({ dns, ns1 }) => {
    for (let at = 0; at < 100; at++) await dns.lookup(`zone${at}-default.game.test`)
    assert.ok(new Set(ns1.queries.map(({ from }) => from?.port)).size < 100)
  })
})

test('a port is closed 10 ms after it was opened, and not before an answer that is waited for', async () => {
  await withDns([FINE, silent], async ({ dns, clock, ns1 }) => {
    await dns.lookup('zone1-default.game.test')
    const port = ns1.queries[0]?.from?.port
    assert.equal(await isFree(port), false)
    clock.wind(10)
    await clock.wentOff()
    assert.equal(await isFree(port), true)
    const asked = dns.lookup('zone2-default.game.test')
    clock.wind(10)
    assert.equal((await asked).kind, 'positive')
    assert.equal(ns1.queries.length, 2)
  })
})

function isFree(port: number | undefined): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = createSocket('udp4').on('error', () => resolve(false))
    socket.bind(port, '127.0.0.1', () => socket.close(() => resolve(true)))
  })
}

test('queries that overlap share a port for 10 ms after it was opened, later ones get another', async () => {
  await withDns([silent], async ({ dns, clock, ns1 }) => {
    const asked = [dns.lookup('zone1-default.game.test'), dns.lookup('zone2-default.game.test')]
    clock.wind(10)
    asked.push(dns.lookup('zone3-default.game.test'))
    await until(() => ns1.queries.length >= 3)
    const portOf = (id: number): number | undefined =>
      ns1.queries.find(({ name }) => name.startsWith(`zone${id}-`))?.from?.port
    assert.equal(portOf(1), portOf(2))
    assert.notEqual(portOf(1), portOf(3))
    dns.close()
    await Promise.all(asked)
  })
})

test('a port is given up after 128 queries', async () => {
  await withDns([silent], async ({ dns, ns1 }) => {
    const asked = Array.from({ length: 129 }, (_, id) => dns.lookup(`zone${id}-default.game.test`))
    await until(() => ns1.queries.length >= 129)
    assert.ok(new Set(ns1.queries.map(({ from }) => from?.port)).size >= 2)
    dns.close()
    await Promise.all(asked)
  })
})

test('an answer past its lifetime is expired until someone asks; once a nameserver has failed for it, it is stale', async () => {
  await withDns(
    [(query) => query.reply({ answers: [a(query.name, '10.0.0.1', 5)] })],
    async ({ dns, clock, ns1 }) => {
      const expired = (): boolean | undefined => dns.cached(NAME)?.expired
      await dns.lookup(NAME)
      assert.equal(expired(), false)
      clock.wind(6000)
      assert.equal(expired(), true)
      ns1.script = (query) => query.reply({ rcode: 2 })
      await dns.lookup(NAME)
      assert.equal(expired(), false)
    },
  )
})
