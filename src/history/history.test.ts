import assert from 'node:assert/strict'
import {
  appendFileSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, suite, test } from 'node:test'
import type { HistoryEvent } from './event.ts'
import { History } from './history.ts'
import { collect, isSameZone, readHistory } from './read-history.ts'

const MIB = 1024 * 1024
const folder = mkdtempSync(join(tmpdir(), 'zonegate-history-'))
after(() => rmSync(folder, { recursive: true, force: true }))

function setUp(options: { bytes?: number; path?: string | null } = {}) {
  const clock = { wallMs: 1_000_000, monotonicMs: 0 }
  const lines: string[] = []
  const log = (_: object, text: string): void => void lines.push(text)
  const history = new History(
    { bytes: MIB, path: null, ...options },
    {
      date: () => clock.wallMs,
      now: () => clock.monotonicMs,
      log: { info: log, error: log },
      onBug: (error) => assert.fail(String(error)),
    },
  )
  return { history, clock, lines }
}

const moved = (name: string, address: string, before: string | null = null): HistoryEvent => ({
  kind: 'answer',
  name,
  result: 'positive',
  addresses: [address],
  ttlSeconds: 30,
  before: before === null ? null : { result: 'positive', addresses: [before] },
})
const FAILING: HistoryEvent = {
  kind: 'nameserver_failing',
  nameserver: '10.0.0.2:53',
  outcome: 'timeout',
}
const namesOf = (zone: string): string[] => [`zone${zone}.game.test`]
const everything = { kinds: [], limit: 1_000_000 }

suite('a history', () => {
  test('is in the order in which things happened, with the time on the wall, though that was set back', async () => {
    const { history, clock } = setUp()
    for (const wallMs of [3000, 1000, 2000]) {
      clock.wallMs = wallMs
      history.record(FAILING)
    }
    const { events } = await readHistory(history, everything, namesOf)
    assert.deepEqual(
      events.map(({ seq, at }) => [seq, at]),
      [
        [1, 3000],
        [2, 1000],
        [3, 2000],
      ],
    )
    const since = await readHistory(history, { ...everything, since: 1500, until: 2500 }, namesOf)
    assert.deepEqual(
      since.events.map(({ seq }) => seq),
      [3],
    )
    history.close()
  })

  test('of a zone has its own events, and the answers of the names that it has or had', async () => {
    const { history } = setUp()
    history.record(moved('zone12.game.test', '10.0.0.1'))
    history.record(moved('zone13.game.test', '10.0.0.1'))
    history.record(moved('old12.game.test', '10.0.0.1'))
    history.record({ kind: 'learned', zone: 'mail/12', name: 'old12.game.test', why: 'learned' })
    history.record({ kind: 'learned', zone: 'mail/112', name: 'zone112.game.test', why: 'learned' })
    const { events } = await readHistory(history, { ...everything, zone: '12' }, namesOf)
    assert.deepEqual(
      events.map(({ seq }) => seq),
      [1, 3, 4],
    )
    history.record({ kind: 'learned', zone: 'mail/ab', name: 'oldab.game.test', why: 'learned' })
    history.record(moved('oldab.game.test', '10.0.0.1'))
    const upper = await readHistory(history, { ...everything, zone: 'mail/AB' }, namesOf)
    assert.deepEqual(
      upper.events.map(({ seq }) => seq),
      [6, 7],
    )
    assert.equal(isSameZone('mail/12', 'MAIL/12'), true)
    assert.equal(isSameZone('mail/12', 'pay/12'), false)
    history.close()
  })

  test('stays within its bytes over 100,000 changes, which push out no change of the gateway', async () => {
    const { history } = setUp({ bytes: 2 * MIB })
    history.record(FAILING)
    const before = process.memoryUsage().arrayBuffers
    for (let change = 0; change < 100_000; change += 1)
      history.record(moved(`zone${change}.game.test`, `10.0.${change % 256}.1`, '10.9.9.9'))
    const { bytes, events, oldestAt } = history.status()
    assert.ok(bytes <= 2 * MIB, `${bytes}`)
    assert.ok(process.memoryUsage().arrayBuffers - before < 3 * MIB)
    assert.ok(events > 4000, `${events}`)
    assert.equal(oldestAt, 1_000_000)
    const page = await readHistory(history, { ...everything, limit: 10 }, namesOf)
    assert.deepEqual([page.events.at(-1)?.seq, page.leftOut], [100_001, events - 10])
    const { events: gateway } = await collect(history, { lanes: ['gateway'] }, () => true)
    assert.deepEqual(
      gateway.map(({ seq }) => seq),
      [1],
    )
    history.close()
  })

  test('says that something made room once something did, of that lane', async () => {
    const { history, clock } = setUp({ bytes: 64 * 1024 })
    history.record(FAILING)
    history.record(moved('zone0.game.test', '10.0.0.1'))
    const completeSince = async () => (await readHistory(history, everything, namesOf)).completeSince
    assert.equal(await completeSince(), null)
    clock.wallMs = 2_000_000
    for (let change = 0; change < 1000; change += 1)
      history.record(moved(`zone${change}.game.test`, '10.0.0.1'))
    assert.equal(await completeSince(), new Date(2_000_000).toISOString())
    assert.equal(history.completeSince('gateway'), null)
    history.close()
  })

  test('keeps of an event that is too long what has room, and says that it is cut', async () => {
    const { history } = setUp()
    const changes = Array.from({ length: 500 }, (_, at) => ({ key: `zones.${at}`, after: 'x'.repeat(500) }))
    history.record({ kind: 'config', file: 'zonegate.yaml', changes })
    history.record({ kind: 'config_refused', file: 'zonegate.yaml', faults: ['y'.repeat(200_000)] })
    const { events } = await readHistory(history, everything, namesOf)
    assert.deepEqual(
      events.map(({ kind, cut }) => [kind, cut]),
      [
        ['config', true],
        ['config_refused', true],
      ],
    )
    assert.match(events[0]?.text ?? '', /zones\.0 \(too long to keep\)/)
    history.close()
  })
})

suite('a history with a file', () => {
  test('is there again after a restart, and goes on counting; half a line is read over', async () => {
    const path = join(folder, 'restart.jsonl')
    const { history } = setUp({ path })
    history.record(FAILING)
    history.record(moved('zone12.game.test', '10.0.0.1'))
    history.close()
    appendFileSync(path, '{"seq":3,"at":1,"kind":"sto')
    assert.equal(statSync(path).mode & 0o777, 0o600)
    const { history: next } = setUp({ path })
    next.record(moved('zone12.game.test', '10.0.0.2', '10.0.0.1'))
    next.close()
    const { history: last } = setUp({ path })
    const { events } = await readHistory(last, everything, namesOf)
    assert.deepEqual(
      events.map(({ seq, kind }) => [seq, kind]),
      [
        [1, 'nameserver_failing'],
        [2, 'answer'],
        [3, 'answer'],
      ],
    )
    last.close()
  })

  test('reads over records that it can not tell, which would fail each page', async () => {
    const path = join(folder, 'hostile.jsonl')
    const records = [
      { seq: 1, at: 1, kind: 'answer', name: 'zone12.game.test' },
      { seq: 2, at: 1e300, kind: 'stopped', why: 'SIGTERM' },
      { seq: 3, at: 1, kind: 'learned', zone: 12, name: 'zone12.game.test', why: 'learned' },
      { seq: 4, at: 1, kind: 'config', file: 'zonegate.yaml', changes: [null] },
      { seq: Number.MAX_SAFE_INTEGER, at: 1, kind: 'stopped', why: 'SIGTERM' },
      { seq: 5, at: 1, kind: 'stopped', why: 'SIGTERM' },
    ]
    writeFileSync(path, records.map((record) => `${JSON.stringify(record)}\n`).join(''))
    const { history } = setUp({ path })
    history.record(moved('zone12.game.test', '10.0.0.1'))
    for (const zone of [undefined, '12']) {
      const { events } = await readHistory(history, { ...everything, zone }, namesOf)
      assert.deepEqual(
        events.map(({ seq }) => seq),
        zone === undefined ? [5, 6] : [6],
      )
    }
    history.close()
  })

  test('writes by itself, and takes no more room than twice its bytes, with the gateway in each file', async () => {
    const path = join(folder, 'rotated.jsonl')
    const { history } = setUp({ path })
    history.record(FAILING)
    for (let turn = 0; turn < 20; turn += 1) {
      for (let change = 0; change < 500; change += 1)
        history.record(moved(`z${change}.game.test`, '10.0.0.1'))
      await until(
        () => readFileSync(path, 'utf8').includes(`"seq":${(turn + 1) * 500 + 1},`) || rotated(path),
      )
    }
    history.close()
    const octets = statSync(path).size + statSync(`${path}.1`).size
    assert.ok(octets < 2 * MIB, `${octets}`)
    const { history: next } = setUp({ path })
    const { events } = await readHistory(next, { ...everything, kinds: ['nameserver_failing'] }, namesOf)
    assert.equal(events.length, 1)
    next.close()
  })

  test('loses what can not be written and nothing else: it is told once, and once it is over', async () => {
    const place = join(folder, 'gone')
    const path = join(place, 'history.jsonl')
    const { history, lines } = setUp({ path })
    history.record(FAILING)
    await until(() => history.status().fault !== null)
    assert.match(history.status().fault ?? '', /history\.jsonl: can't be written \(ENOENT\)/)
    const { events } = await readHistory(history, everything, namesOf)
    assert.equal(events.length, 1)
    mkdirSync(place)
    await until(() => history.status().fault === null)
    history.close()
    assert.equal(lines.length, 2)
    assert.match(readFileSync(path, 'utf8'), /nameserver_failing/)
  })

  test('a file that is no history is read over, and kept', async () => {
    const path = join(folder, 'other.txt')
    writeFileSync(path, 'not JSON\n{"seq":"1"}\n[]\nnull\n\u0000\u0001')
    const { history } = setUp({ path })
    history.record(FAILING)
    history.close()
    assert.match(readFileSync(path, 'utf8'), /^not JSON\n/)
    const { history: next } = setUp({ path })
    assert.equal(next.status().events, 1)
    next.close()
  })

  test('a full disk costs nothing but its lines', async () => {
    const { history, lines } = setUp({ path: '/dev/full' })
    for (let change = 0; change < 20_000; change += 1)
      history.record(moved(`z${change}.game.test`, '10.0.0.1'))
    await until(() => history.status().fault !== null)
    assert.match(history.status().fault ?? '', /can't be written \(ENOSPC\)/)
    assert.ok(history.status().events > 1000)
    history.close()
    assert.equal(history.status().lost, 20_000)
    assert.equal(lines.length, 1)
  })
})

function rotated(path: string): boolean {
  try {
    return statSync(`${path}.1`).size > 0
  } catch {
    return false
  }
}

async function until(isSo: () => boolean): Promise<void> {
  const deadlineMs = performance.now() + 60_000
  for (;;) {
    try {
      if (isSo()) return
    } catch {}
    if (performance.now() > deadlineMs) assert.fail('not within a minute')
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}
