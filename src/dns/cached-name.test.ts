import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Addresses, Answer, FailedAnswer, NegativeAnswer, PositiveAnswer } from './answer.ts'
import { CachedName } from './cached-name.ts'

const name = 'zone1.test'
const positive = (ttlSeconds: number): PositiveAnswer => ({
  kind: 'positive',
  name,
  addresses: ['10.0.0.1'],
  denied: [],
  ttlSeconds,
  stale: false,
})
const nxdomain = (ttlSeconds: number): NegativeAnswer => ({
  kind: 'nxdomain',
  name,
  ttlSeconds,
  nameserver: 'a:53',
})
const failure: FailedAnswer = { kind: 'failure', name, cause: 'timeout', tries: [] }
const cachedName = (random = 0): CachedName =>
  new CachedName(name, { staleSeconds: 100, random: () => random })
/** Kind, seconds left, staleness. */
const told = (answer: Answer | null): string => {
  if (answer === null) return 'nothing'
  if (answer.kind === 'failure') return 'failure'
  return `${answer.kind} ${answer.ttlSeconds}${answer.kind === 'positive' && answer.stale ? ' stale' : ''}`
}

test('a new name says nothing, is not in use and was never learned', () => {
  const cached = cachedName()
  assert.equal(told(cached.answerAt(0)), 'nothing')
  assert.equal(told(cached.staleAt(0)), 'nothing')
  assert.deepEqual([cached.isInUse(0), cached.expiresAtMs, cached.isBackingOff(0)], [false, null, false])
  assert.equal(cached.learnedAtMs, Number.NEGATIVE_INFINITY)
})

test('the seconds that are told are those that are left, and end with the lifetime', () => {
  const cached = cachedName()
  cached.update(positive(10), 5000)
  assert.equal(cached.expiresAtMs, 15_000)
  assert.deepEqual(
    [5000, 5001, 6000, 14_001, 14_999, 15_000].map((atMs) => told(cached.answerAt(atMs))),
    ['positive 10', 'positive 10', 'positive 9', 'positive 1', 'positive 1', 'nothing'],
  )
})

test('what is stale is told to be so, for a second at least, until it is too old', () => {
  const cached = cachedName()
  cached.update(positive(10), 0)
  assert.equal(told(cached.staleAt(10_000)), 'positive 1 stale')
  assert.equal(told(cached.staleAt(109_999)), 'positive 1 stale')
  assert.equal(told(cached.staleAt(110_000)), 'nothing')
})

for (const [random, dueMs] of [
  [0, 75_000],
  [1, 90_000],
] as const) {
  test(`an answer in use is due for a refresh after ${dueMs / 1000} % of its lifetime where the dice say ${random}`, () => {
    const cached = cachedName(random)
    cached.update(positive(100), 0)
    assert.equal(cached.isRefreshDue(dueMs - 1), false)
    assert.equal(cached.isRefreshDue(dueMs), true)
  })
}

test('a negative answer is not refreshed ahead of its end', () => {
  const cached = cachedName()
  cached.update(nxdomain(30), 0)
  assert.deepEqual([cached.isRefreshDue(29_999), cached.isRefreshDue(30_000)], [false, true])
})

test('back-off doubles from one to two seconds, to half of ten, and ends with an answer', () => {
  const cached = cachedName()
  const waits: number[] = []
  for (let count = 0; count < 6; count++) {
    cached.update(failure, 0)
    waits.push(cached.nextRefreshAtMs())
  }
  assert.deepEqual(waits, [1000, 2000, 4000, 5000, 5000, 5000])
  const late = cachedName(1)
  late.update(failure, 0)
  assert.equal(late.nextRefreshAtMs(), 2000)
  cached.update(positive(10), 0)
  cached.update(failure, 0)
  assert.equal(cached.nextRefreshAtMs(), 1000)
})

test('a failure is told while it backs off; a little later a nameserver is asked first', () => {
  const cached = cachedName()
  cached.update(failure, 0)
  assert.deepEqual([cached.isBackingOff(999), cached.isBackingOff(1000)], [true, false])
  assert.deepEqual([told(cached.answerAt(999)), told(cached.answerAt(1000))], ['failure', 'nothing'])
})

test('with addresses at hand a failure makes them stale at once, till ten seconds past the back-off', () => {
  const cached = cachedName()
  cached.update(positive(10), 0)
  cached.update(failure, 20_000)
  assert.equal(told(cached.answerAt(20_000)), 'positive 1 stale')
  assert.equal(told(cached.answerAt(30_999)), 'positive 1 stale')
  assert.equal(told(cached.answerAt(31_000)), 'nothing')
})

test('a failure does not end what is fresh, nor a negative answer that still holds', () => {
  const cached = cachedName()
  cached.update(positive(10), 0)
  cached.update(failure, 5000)
  assert.equal(told(cached.answerAt(5000)), 'positive 5')
  const negative = cachedName()
  negative.update(nxdomain(10), 6000)
  negative.update(failure, 7000)
  assert.equal(told(negative.answerAt(7000)), 'nxdomain 9')
  negative.update(failure, 16_000)
  assert.deepEqual([told(negative.answerAt(16_000)), negative.expiresAtMs], ['failure', null])
})

test('addresses with TTL 0 are never fresh, and serve stale while nameservers fail', () => {
  const cached = cachedName()
  cached.update(positive(10), 0)
  cached.update(positive(0), 1000)
  assert.deepEqual(
    [told(cached.answerAt(1000)), told(cached.uncached), cached.isInUse(1000)],
    ['nothing', 'positive 0', true],
  )
  cached.update(failure, 2000)
  assert.deepEqual(
    [told(cached.answerAt(2000)), told(cached.uncached), cached.isInUse(2000)],
    ['positive 0 stale', 'nothing', true],
  )
  assert.deepEqual(
    [told(cached.staleAt(100_999)), told(cached.staleAt(101_000))],
    ['positive 0 stale', 'nothing'],
  )
})

for (const [random, seconds] of [
  [0, 1],
  [1, 2],
] as const) {
  test(`a name in use that is gone is asked for again after ${seconds} s, for a minute, where the dice say ${random}`, () => {
    const cached = cachedName(random)
    cached.update(positive(10), 0)
    let atMs = 5000
    for (; atMs < 65_000; atMs += seconds * 1000) {
      cached.update(nxdomain(30), atMs)
      assert.deepEqual(
        [told(cached.answerAt(atMs + seconds * 1000 - 1)), told(cached.answerAt(atMs + seconds * 1000))],
        ['nxdomain 1', 'nothing'],
      )
      assert.ok(cached.isInUse(atMs))
    }
    cached.update(nxdomain(30), atMs)
    assert.deepEqual([told(cached.answerAt(atMs)), cached.isInUse(atMs)], ['nxdomain 30', false])
  })
}

test('a SOA that says less than a second is believed for a name in use, too', () => {
  const cached = cachedName()
  cached.update(positive(10), 0)
  cached.update(nxdomain(0), 5000)
  assert.equal(told(cached.answerAt(5000)), 'nothing')
})

test('a name that is kept is in use, though it never had addresses; one that is not kept is not', () => {
  for (const [isKept, expiresAtMs] of [
    [true, 1000],
    [false, 30_000],
  ] as const) {
    const cached = cachedName()
    cached.update(nxdomain(30), 0, isKept)
    assert.deepEqual([cached.isInUse(0), cached.expiresAtMs], [isKept, expiresAtMs])
  }
})

test('one family does not take the place of both while they are fresh; alone it serves, and the other is asked again soon', () => {
  const incomplete: PositiveAnswer = { ...positive(10), addresses: ['::1'], incomplete: true }
  const addresses = (answer: Answer | null): Addresses =>
    answer?.kind === 'positive' ? answer.addresses : []
  const cached = cachedName()
  cached.update(positive(10), 0)
  cached.update(incomplete, 8000)
  assert.deepEqual(
    [addresses(cached.answerAt(8000)), cached.nextRefreshAtMs(), cached.expiresAtMs],
    [['10.0.0.1'], 9000, 10_000],
  )
  cached.update(incomplete, 10_000)
  assert.deepEqual(
    [addresses(cached.answerAt(10_000)), cached.nextRefreshAtMs(), cached.expiresAtMs],
    [['::1'], 12_000, 20_000],
    'the back-off grows',
  )
  cached.update(positive(10), 12_000)
  assert.deepEqual([addresses(cached.answerAt(12_000)), cached.nextRefreshAtMs()], [['10.0.0.1'], 19_500])
})

test('what was expired by hand is asked for first, and may still go stale', () => {
  const cached = cachedName()
  cached.update(positive(10), 0)
  cached.update(failure, 1000)
  cached.expire(2000)
  assert.equal(told(cached.answerAt(2000)), 'nothing')
  assert.deepEqual(
    [cached.isRefreshDue(2000), cached.expiresAtMs, cached.isBackingOff(1500)],
    [true, 2000, false],
  )
  assert.equal(told(cached.staleAt(2000)), 'positive 1 stale')
  cached.expire(9000)
  assert.equal(cached.expiresAtMs, 2000)
})

test('new nameservers end a back-off', () => {
  const cached = cachedName()
  cached.update(failure, 0)
  cached.update(failure, 0)
  cached.endBackoff()
  assert.equal(told(cached.answerAt(1)), 'nothing')
  cached.update(failure, 0)
  assert.equal(cached.nextRefreshAtMs(), 1000)
})
