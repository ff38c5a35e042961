/** What names that are not in use may cost the nameservers: dns.unknownNames. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Answer } from '../../src/dns/answer.ts'
import type { Dns } from '../../src/dns/dns.ts'
import { until, withDns as withDnsBy } from '../support/dns.ts'
import { a, type Script, silent } from '../support/nameserver.ts'

/** Slow, so that the moments that a test itself takes earn nothing. */
const LIMIT = { queriesPerSecond: 1, queriesBurst: 40 }
/** A quarter of the burst is for retries. */
const NEW_AT_ONCE = 30
const KNOWN = 'zone1-default.game.test'
const wildcard: Script = (query) => query.reply({ answers: [a(query.name, '10.0.0.1', 60)] })
const onlyKnown: Script = (query) => (query.name === KNOWN ? wildcard(query) : query.reply({ rcode: 3 }))

/** Patient: a query that a busy machine answers late is not sent twice. */
const withDns: typeof withDnsBy = (scripts, run, options) =>
  withDnsBy(scripts, run, { timeoutMs: 10_000, budgetMs: 20_000, ...options })

let scans = 0
/** So many new names at once. */
async function scan(dns: Dns, count: number): Promise<Answer[]> {
  scans += 1
  return Promise.all(Array.from({ length: count }, (_, at) => dns.lookup(`x${scans}y${at}.game.test`)))
}

const limited = (answers: readonly Answer[]): number =>
  answers.filter((answer) => answer.kind === 'failure' && answer.cause === 'rate_limited').length

for (const [kind, script] of [
  ['NXDOMAIN', onlyKnown],
  ['wildcard DNS', wildcard],
] as const) {
  test(`${kind}: a scan costs nameservers the burst less the retries' part, then so many a second`, async () => {
    await withDns(
      [script],
      async ({ dns, ns1, clock }) => {
        const answers = await scan(dns, 200)
        assert.equal(ns1.queries.length, NEW_AT_ONCE)
        assert.equal(limited(answers), 200 - NEW_AT_ONCE)
        assert.equal(dns.status().lookups.rateLimited, 200 - NEW_AT_ONCE)
        clock.wind(10_000)
        await scan(dns, 200)
        assert.equal(ns1.queries.length, NEW_AT_ONCE + 10)
      },
      { unknownNames: LIMIT },
    )
  })
}

test('a name in use is asked again ahead of its TTL, and when that is over, whatever a scan does', async () => {
  await withDns(
    [onlyKnown],
    async ({ dns, ns1, clock }) => {
      await dns.lookup(KNOWN)
      for (let minute = 0; minute < 5; minute++) {
        await scan(dns, 100)
        clock.wind(minute % 2 === 0 ? 61_000 : 59_000)
        await scan(dns, 100)
        const before = ns1.queries.filter(({ name }) => name === KNOWN).length
        assert.equal((await dns.lookup(KNOWN)).kind, 'positive')
        await until(() => dns.status().queriesInFlight === 0)
        assert.equal(ns1.queries.filter(({ name }) => name === KNOWN).length, before + 1)
      }
    },
    { unknownNames: LIMIT },
  )
})

test('names that are kept, a hot set found again after a restart, are resolved while a scan has used up all', async () => {
  await withDns(
    [wildcard],
    async ({ dns, ns1 }) => {
      await scan(dns, 200)
      const told: string[] = []
      for (let at = 0; at < 100; at++) dns.keep(`hot${at}.game.test`, ({ kind }) => told.push(kind))
      // A request may come before the refresh queue gets to its name.
      assert.equal((await dns.lookup('hot99.game.test')).kind, 'positive')
      await until(() => told.length === 100)
      assert.ok(told.every((kind) => kind === 'positive'))
      assert.equal(ns1.queries.filter(({ name }) => !name.startsWith('hot')).length, NEW_AT_ONCE)
    },
    { unknownNames: LIMIT },
  )
})

test('a zone whose TTL is 0 is in use from its second request on', async () => {
  const uncached: Script = (query) => query.reply({ answers: [a(query.name, '10.0.0.1', 0)] })
  await withDns(
    [uncached],
    async ({ dns, ns1 }) => {
      await dns.lookup(KNOWN)
      await scan(dns, 200)
      const before = ns1.queries.length
      for (let count = 1; count <= 50; count++) {
        assert.equal((await dns.lookup(KNOWN)).kind, 'positive')
        assert.equal(ns1.queries.length, before + count)
      }
    },
    { unknownNames: LIMIT },
  )
})

test('a zone that had addresses a moment ago is in use still: no scan keeps it from coming back', async () => {
  let isGone = false
  const script: Script = (query) => (isGone ? query.reply({ rcode: 3 }) : onlyKnown(query))
  await withDns(
    [script],
    async ({ dns, clock }) => {
      await dns.lookup(KNOWN)
      clock.wind(61_000)
      isGone = true
      assert.equal((await dns.lookup(KNOWN)).kind, 'nxdomain')
      await scan(dns, 200)
      isGone = false
      clock.wind(2000)
      assert.equal((await dns.lookup(KNOWN)).kind, 'positive')
    },
    { unknownNames: LIMIT },
  )
})

test('a negative answer that is over costs as a new name does', async () => {
  await withDns(
    [onlyKnown],
    async ({ dns, ns1, clock }) => {
      const names = Array.from({ length: 25 }, (_, at) => `gone${at}.game.test`)
      await Promise.all(names.map((name) => dns.lookup(name)))
      clock.wind(5500)
      for (let round = 0; round < 5; round++) {
        clock.wind(5500) // the negative TTL without SOA is 5 s
        await Promise.all(names.map((name) => dns.lookup(name)))
        await Promise.all(names.map((name) => dns.lookup(name)))
      }
      assert.equal(ns1.queries.length, 6 * 25)
      clock.wind(1000)
      assert.ok(!(dns.lookup('gone1.game.test') instanceof Promise), 'still believed: costs nothing')
    },
    { unknownNames: { ...LIMIT, queriesPerSecond: 10 } },
  )
})

test('A and AAAA are two queries', async () => {
  await withDns(
    [onlyKnown],
    async ({ dns, ns1 }) => {
      await scan(dns, 200)
      assert.equal(ns1.queries.length, NEW_AT_ONCE)
    },
    { unknownNames: LIMIT, family: 'both' },
  )
})

test('retries count: with all nameservers silent, all queries stay within the limit', async () => {
  const startedMs = performance.now()
  await withDns(
    [silent, silent],
    async ({ dns, nameservers }) => {
      const waves: Promise<Answer[]>[] = []
      for (let wave = 0; wave < 20; wave++) {
        waves.push(scan(dns, 20))
        await new Promise((resolve) => setTimeout(resolve, 20))
      }
      await Promise.all(waves)
      const seconds = (performance.now() - startedMs) / 1000
      const seen = nameservers.reduce((sum, { queries }) => sum + queries.length, 0)
      const allowed = LIMIT.queriesBurst + LIMIT.queriesPerSecond * seconds
      assert.ok(seen <= allowed, `${seen} queries, ${allowed} allowed`)
      assert.ok(seen > NEW_AT_ONCE)
    },
    { unknownNames: LIMIT, timeoutMs: 50, budgetMs: 400 },
  )
})

test('retries have a part of the burst to themselves: a new zone gets its second nameserver during a scan', async () => {
  const refusing: Script = (query) => query.reply({ rcode: 5 })
  await withDns(
    [refusing, wildcard],
    async ({ dns }) => {
      const answers = await scan(dns, 36)
      // 30 may begin; 10 of them have a second query to spend, the rest have none.
      assert.equal(answers.filter(({ kind }) => kind === 'positive').length, 10)
      assert.equal(limited(answers), 26)
    },
    { unknownNames: LIMIT },
  )
})

test('a new zone whose second try could not be paid for has not failed: it is asked for as soon as there is room', async () => {
  const refusing: Script = (query) => query.reply({ rcode: 5 })
  await withDns(
    [refusing, wildcard],
    async ({ dns, clock }) => {
      const answers = await scan(dns, 36)
      const unpaid = answers.filter((answer) => answer.kind === 'failure' && answer.tries.length > 0)
      assert.equal(unpaid.length, 20)
      assert.equal(dns.status().names, 10, 'they take no place in the cache')
      clock.wind(500)
      assert.equal(limited([await dns.lookup(unpaid[0]?.name ?? '')]), 1, 'and are not backed off')
      clock.wind(100_000)
      assert.equal((await dns.lookup(unpaid[0]?.name ?? '')).kind, 'positive')
      assert.equal(dns.status().lookups.backedOff, 0)
    },
    { unknownNames: LIMIT },
  )
})

test('a zone that somebody keeps from now on is resolved, though a query for it was not paid for', async () => {
  const refusing: Script = (query) => query.reply({ rcode: 5 })
  await withDns(
    [refusing, wildcard],
    async ({ dns }) => {
      const scanned = scan(dns, 29)
      const asked = dns.lookup(KNOWN)
      const kept = dns.keep(KNOWN, () => undefined)
      await scanned
      assert.equal(limited([await asked]), 1)
      await until(() => kept?.current()?.kind === 'positive')
    },
    { unknownNames: LIMIT },
  )
})

test('what was turned away is forgotten: it is asked for as soon as there is room, and takes no place in the cache', async () => {
  await withDns(
    [wildcard],
    async ({ dns, clock }) => {
      await scan(dns, 200)
      assert.equal(dns.status().names, NEW_AT_ONCE)
      assert.equal(limited([await dns.lookup(KNOWN)]), 1)
      clock.wind(2000)
      assert.equal((await dns.lookup(KNOWN)).kind, 'positive')
    },
    { unknownNames: LIMIT },
  )
})

test("an operator's explanation asks, whatever is left", async () => {
  await withDns(
    [wildcard],
    async ({ dns }) => {
      await scan(dns, 200)
      assert.equal((await dns.explain('new.game.test')).answer.kind, 'positive')
    },
    { unknownNames: LIMIT },
  )
})

test('names that nobody has asked for yet are paid for as unknown ones, after requests; names in use go on beside them', async () => {
  await withDns(
    [onlyKnown],
    async ({ dns, ns1, clock }) => {
      await dns.lookup(KNOWN)
      const before = ns1.queries.length
      for (let at = 0; at < 100; at++) dns.keep(`brought${at}.game.test`, () => undefined, false)
      await until(() => ns1.queries.length === before + LIMIT.queriesBurst / 2 - 1)
      // The other half is left for requests, but for what retries live on.
      const answers = await scan(dns, 20)
      assert.equal(20 - limited(answers), NEW_AT_ONCE - LIMIT.queriesBurst / 2)
      const asked = ns1.queries.length
      dns.keep(KNOWN, () => undefined)
      clock.wind(61_000)
      await until(() => ns1.queries.slice(asked).some(({ name }) => name === KNOWN))
    },
    { unknownNames: LIMIT },
  )
})
