/** The public entry `zonegate/dns`: its options, and the look-up in the shape of Node's. */
import assert from 'node:assert/strict'
import type { LookupAddress } from 'node:dns'
import { test } from 'node:test'
import { promisify } from 'node:util'
import { createResolver, type DnsEvent, type Resolver, type ResolverOptions } from '../../src/dns/index.ts'
import { a, aaaa, type Script, startNameserver } from '../support/nameserver.ts'

/** As `dgram` calls it. */
type LookupOfDgram = (
  name: string,
  family: number,
  callback: (error: Error | null, address: string) => void,
) => void

const script: Script = (query) => {
  if (query.name.startsWith('gone')) query.reply({ rcode: 3 })
  else if (query.name.startsWith('silent')) return
  else if (query.name.startsWith('broken')) query.reply({ rcode: 2 })
  else if (query.name.startsWith('zone6') || query.type === 'AAAA')
    query.reply({ answers: query.type === 'AAAA' ? [aaaa(query.name, '::1')] : [] })
  else query.reply({ answers: [a(query.name, '10.0.0.1'), a(query.name, '127.0.0.1')] })
}

async function withResolver(
  options: ResolverOptions,
  use: (resolver: Resolver, queries: () => number) => Promise<void>,
): Promise<void> {
  const nameserver = await startNameserver(script)
  const given = { nameservers: [nameserver.address], family: 'ipv4', attempts: 1, ...options } as const
  const resolver = createResolver(given)
  try {
    await use(resolver, () => nameserver.queries.length)
  } finally {
    resolver.close()
    await nameserver.stop()
  }
}

function nodeLookup({ nodeLookup }: Resolver, name: string, family = 0): Promise<LookupAddress[]> {
  return new Promise((resolve, reject) => {
    nodeLookup(name, { all: true, family }, (error, addresses) => {
      if (error !== null) reject(error)
      else resolve(addresses as LookupAddress[])
    })
  })
}

test('a second look-up comes from the cache, at once', async () => {
  await withResolver({ ttlSeconds: { min: 1, max: 60 } }, async (resolver, queries) => {
    const first = await resolver.lookup('zone1.test')
    const second = resolver.lookup('zone1.test')
    assert.ok(!(second instanceof Promise) && first.kind === 'positive')
    assert.equal(queries(), 1)
    assert.equal(resolver.flush(), 1)
    await resolver.lookup('zone1.test')
    assert.equal(queries(), 2)
  })
})

test('an address that is not admitted is denied', async () => {
  await withResolver({ admit: (address) => !address.startsWith('127.') }, async (resolver) => {
    const answer = await resolver.lookup('zone1.test')
    assert.ok(answer.kind === 'positive')
    assert.deepEqual([answer.addresses, answer.denied], [['10.0.0.1'], ['127.0.0.1']])
  })
})

test('nodeLookup has the shape of dns.lookup: one address or all, of a family, literals, and error codes', async () => {
  await withResolver({}, async (resolver) => {
    const all = await nodeLookup(resolver, 'zone1.test')
    assert.deepEqual(all.map(({ address }) => address).sort(), ['10.0.0.1', '127.0.0.1'])
    assert.ok(all.every(({ family }) => family === 4))
    assert.deepEqual(await nodeLookup(resolver, '::1'), [{ address: '::1', family: 6 }])
    await assert.rejects(nodeLookup(resolver, 'zone1.test', 6), { code: 'ENOTFOUND' })
    await assert.rejects(nodeLookup(resolver, 'gone.test'), { code: 'ENOTFOUND', hostname: 'gone.test' })
    await assert.rejects(nodeLookup(resolver, 'no name'), { code: 'ENOTFOUND' })
    await assert.rejects(nodeLookup(resolver, 'broken.test'), { code: 'EAI_AGAIN' })
    const one = promisify(resolver.nodeLookup) as (name: string, options: object) => Promise<string>
    assert.match(await one('zone1.test', {}), /^1[02]/)
    const withoutOptions = promisify(resolver.nodeLookup) as unknown as (name: string) => Promise<string>
    assert.match(await withoutOptions('zone1.test'), /^1[02]/)
  })
})

test("nodeLookup finds an address of the family that a socket of Node's dgram asks for", async () => {
  await withResolver({ family: 'both' }, async (resolver) => {
    const lookup = promisify(resolver.nodeLookup as unknown as LookupOfDgram)
    assert.match(await lookup('zone1.test', 4), /^1[02]/)
    assert.equal(await lookup('zone6.test', 6), '::1')
  })
})

test('nodeLookup denies a literal address that is not admitted, however it is written', async () => {
  const denied = ['127.0.0.1', '::1', 'fe80::1']
  await withResolver({ admit: (address) => !denied.includes(address) }, async (resolver) => {
    for (const literal of ['127.0.0.1', '0:0::0:1', 'FE80::1%lo'])
      await assert.rejects(nodeLookup(resolver, literal), { code: 'ENOTFOUND' }, literal)
    assert.deepEqual(await nodeLookup(resolver, '10.0.0.1'), [{ address: '10.0.0.1', family: 4 }])
  })
})

test('an exception of onEvent is uncaught, and costs no look-up', async () => {
  const caught: unknown[] = []
  const listeners = process.listeners('uncaughtException')
  process.removeAllListeners('uncaughtException').on('uncaughtException', (error) => caught.push(error))
  const fault = new Error('of onEvent')
  const onEvent = (): never => {
    throw fault
  }
  try {
    await withResolver({ onEvent, queriesInFlightMax: 1 }, async (resolver) => {
      for (const name of ['zone1.test', 'zone2.test'])
        assert.equal((await resolver.lookup(name)).kind, 'positive')
    })
    assert.ok(caught.length > 0 && caught.every((error) => error === fault))
  } finally {
    process.removeAllListeners('uncaughtException')
    for (const listener of listeners) process.on('uncaughtException', listener)
  }
})

test('close ends look-ups in flight, and later ones fail', async () => {
  await withResolver({}, async (resolver, queries) => {
    const waiting = resolver.lookup('silent.test')
    while (queries() === 0) await new Promise((done) => setTimeout(done, 2))
    resolver.close()
    assert.equal((await waiting).kind, 'failure')
    assert.equal((await resolver.lookup('zone1.test')).kind, 'failure')
    assert.equal(
      resolver.keep('zone1.test', () => undefined),
      null,
    )
  })
})

test('a name that is kept is resolved without a look-up, and an exception of its callback is an event', async () => {
  const bug = new Error('a bug')
  const bugs: unknown[] = []
  const onEvent = (event: DnsEvent): void => {
    if (event.kind === 'bug') bugs.push(event.error)
  }
  await withResolver({ ttlSeconds: { min: 1, max: 60 }, onEvent }, async (resolver, queries) => {
    const kept = resolver.keep('zone1.test', () => {
      throw bug
    })
    while (bugs.length === 0) await new Promise((done) => setTimeout(done, 2))
    assert.deepEqual([bugs, kept?.current()?.kind, queries()], [[bug], 'positive', 1])
    assert.ok(!(resolver.lookup('zone1.test') instanceof Promise))
    kept?.release()
  })
})

const wrong: [ResolverOptions, RegExp][] = [
  [{ budgetMs: 0 }, /^RangeError: budgetMs must be a number from 1 to 2147483647, not 0$/],
  [{ staleSeconds: Number.NaN }, /^RangeError: staleSeconds must be/],
  [{ ttlSeconds: { min: 60, max: 5 } }, /^RangeError: ttlSeconds\.max must be a number from 60/],
  [{ staleSeconds: '60' as never }, /^RangeError: staleSeconds must be a number/],
  [{ family: 'IPv4' as never }, /^RangeError: family must be ipv4 or ipv6 or both, not IPv4$/],
  [{ nameservers: [] }, /^RangeError: nameservers must name one at least$/],
  [{ nameservers: ['127.0.0.1:0'] }, /^Error: expected address:port of a nameserver/],
  [{ nameservers: ['[::1]:65536'] }, /^Error: expected address:port of a nameserver/],
  [{ nameservers: ['ns.test'] }, /^Error: expected address:port of a nameserver, not "ns\.test"$/],
]
for (const [options, fault] of wrong)
  test(`an option that can't be used is refused: ${Object.keys(options)}`, () => {
    assert.throws(() => createResolver(options), fault)
  })
