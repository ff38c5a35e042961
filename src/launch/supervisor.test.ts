import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type Part, startPart } from './instance.ts'
import { FAILURES_MAX, NotYet, supervise } from './supervisor.ts'

/** A part that really runs and ends: of its own accord, or when it is told. */
const partOf = (script: string): Part =>
  startPart('part', process.execPath, ['-e', script], { cwd: '.', output: 'inherit' })
const lasting = (): Part => partOf('setInterval(() => {}, 1000)')
const never = new Promise<never>(() => undefined)

test('a part that ends again and again is given up with its last reason, after growing pauses', async () => {
  const pauses: number[] = []
  const said: string[] = []
  let starts = 0
  const failure = await supervise(partOf('process.exit(3)'), {
    start: async () => {
      starts += 1
      return partOf('process.exit(3)')
    },
    say: (text) => said.push(text),
    stopped: never,
    now: () => 0,
    sleep: async (ms) => void pauses.push(ms),
  })
  assert.equal(failure, `part failed ${FAILURES_MAX} times in a row, the last time: exit code 3`)
  assert.equal(starts, FAILURES_MAX - 1)
  assert.deepEqual(pauses, [200, 400, 800, 1600, 3200, 5000, 5000, 5000, 5000])
  assert.equal(said[0], 'part ended by itself: exit code 3; restarting it')
})

test('a part that does not start is given up as well', async () => {
  const failure = await supervise(partOf(''), {
    start: () => Promise.reject(new Error('part did not start: exit code 1')),
    say: () => undefined,
    stopped: never,
    now: () => 0,
    sleep: async () => undefined,
  })
  assert.match(failure, /^part failed 10 times in a row, the last time: part did not start: exit code 1$/)
})

test('a part that someone kills is started again at once, however often', async () => {
  const pauses = new Set<number>()
  const stop = Promise.withResolvers<void>()
  let rounds = 0
  const part = lasting()
  void supervise(part, {
    start: async () => {
      const next = lasting()
      rounds += 1
      if (rounds === 2 * FAILURES_MAX) stop.resolve()
      next.process.kill('SIGKILL')
      return next
    },
    say: () => undefined,
    stopped: stop.promise,
    now: () => 0,
    sleep: async (ms) => void pauses.add(ms),
  })
  part.process.kill('SIGKILL')
  await stop.promise
  assert.deepEqual([...pauses], [100])
})

test('a fault that the operator must correct is reported once, and does not count as a failure', async () => {
  const said: string[] = []
  const stop = Promise.withResolvers<void>()
  let tries = 0
  const part = partOf('')
  void supervise(part, {
    start: async () => {
      tries += 1
      if (tries === 3 * FAILURES_MAX) stop.resolve()
      throw new NotYet('a fault in a file')
    },
    say: (text) => said.push(text),
    stopped: stop.promise,
    now: () => 0,
    sleep: async () => undefined,
  })
  await stop.promise
  assert.deepEqual(said.slice(1), ['a fault in a file'])
})

test('once the launcher stops, it restarts nothing', async () => {
  const stop = Promise.withResolvers<void>()
  const part = lasting()
  let settled = false
  void supervise(part, {
    start: () => assert.fail('it was started again'),
    say: () => assert.fail('something was said'),
    stopped: stop.promise,
    now: () => 0,
    sleep: async () => undefined,
  }).finally(() => {
    settled = true
  })
  stop.resolve()
  await part.stop()
  await new Promise((resolve) => setImmediate(resolve))
  assert.equal(settled, false)
})
