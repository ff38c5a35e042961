import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { AnswerWithTries } from './address-resolver.ts'
import type { Answer } from './answer.ts'
import { CachingResolver } from './caching-resolver.ts'
import { type DomainName, parseDomainName } from './domain-name.ts'

const domain = (text: string): DomainName => parseDomainName(text) as DomainName
const positive = (name: string): Answer => ({
  kind: 'positive',
  name,
  addresses: ['10.0.0.1'],
  denied: [],
  ttlSeconds: 60,
  stale: false,
})

function cachingResolver(resolve: (name: string) => Promise<AnswerWithTries>) {
  let nowMs = 0
  const bugs: unknown[] = []
  const resolver = new CachingResolver(
    {
      budgetMs: 1500,
      cacheEntriesMax: 100,
      queriesInFlightMax: 10,
      queriesPerName: 1,
      unknownNames: { queriesPerSecond: 1, queriesBurst: 40 },
      staleSeconds: 60,
      random: () => 0,
    },
    { now: () => nowMs, start: () => ({ cancel: () => undefined }) },
    resolve,
    (error) => bugs.push(error),
  )
  return { resolver, bugs, wind: (ms: number) => (nowMs += ms) }
}

test('an exception over one name is that name’s failure: nobody waits for ever, and it is asked for again', async () => {
  let broken = true
  const { resolver, bugs, wind } = cachingResolver(async (name) => {
    if (broken && name === 'bad.test') throw new Error('a bug')
    return { answer: positive(name), tries: [] }
  })
  const [bad, good] = await Promise.all([resolver.lookup('bad.test'), resolver.lookup('good.test')])
  assert.deepEqual([bad.kind, good.kind, bugs.length], ['failure', 'positive', 1])
  assert.equal(resolver.queriesInFlight, 0)
  broken = false
  wind(20_000)
  assert.equal((await resolver.lookup('bad.test')).kind, 'positive')
})

test('an exception in a refresh, for which nobody waits, ends nothing', async () => {
  const { resolver, bugs } = cachingResolver(async () => {
    throw new Error('a bug')
  })
  resolver.pin(domain('kept.test'), true)
  resolver.refreshNow('kept.test')
  await new Promise((resolve) => setImmediate(resolve))
  assert.equal(bugs.length, 1)
  assert.equal(resolver.queriesInFlight, 0)
})

test('an exception of who keeps a name does not cost those who wait their answer', async () => {
  const { resolver, bugs } = cachingResolver(async (name) => ({ answer: positive(name), tries: [] }))
  resolver.onLearned = () => {
    throw new Error('a bug')
  }
  assert.equal((await resolver.lookup('zone1.test')).kind, 'positive')
  assert.equal(bugs.length, 1)
})

test('one name that is flushed is asked for again, the others are not', async () => {
  let asked = 0
  const { resolver } = cachingResolver(async (name) => {
    asked += 1
    return { answer: positive(name), tries: [] }
  })
  await Promise.all([resolver.lookup('a.test'), resolver.lookup('b.test')])
  resolver.flush('a.test')
  assert.ok(!(resolver.lookup('b.test') instanceof Promise))
  assert.ok(resolver.lookup('a.test') instanceof Promise)
  assert.equal(asked, 3)
  resolver.flush()
  assert.ok(resolver.lookup('b.test') instanceof Promise)
})

test('each lookup is counted once, by how it was answered', async () => {
  const { resolver } = cachingResolver(async (name) => ({ answer: positive(name), tries: [] }))
  assert.deepEqual(new Set(Object.values(resolver.counts)), new Set([0]))
  await resolver.lookup('a.test')
  resolver.lookup('a.test')
  const { waited, fresh, stale, backedOff, overloaded, rateLimited } = resolver.counts
  assert.deepEqual([waited, fresh, stale, backedOff, overloaded, rateLimited], [1, 1, 0, 0, 0, 0])
})
