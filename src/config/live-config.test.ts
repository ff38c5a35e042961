import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { fileState } from '../watch-file.ts'
import { ConfigError } from './faults.ts'
import { type ConfigOutcome, LiveConfig } from './live-config.ts'
import { type LoadedConfig, parseConfig } from './load.ts'
import type { Config } from './schema.ts'

const loaded = (text: string): LoadedConfig => ({
  config: parseConfig(text, 'z.yaml'),
  source: 'z.yaml',
  isEmpty: false,
})

const portOf = ({ rules }: Config): unknown => rules[0]?.port

/** A live configuration whose file the test reads out when it likes. */
function setUp(start = 'rules: { port: 1 }', file = 'z.yaml', since = fileState(file)) {
  const applied: Config[] = []
  const lines: string[] = []
  const outcomes: ConfigOutcome[] = []
  const readings: ((file: LoadedConfig | Error) => void)[] = []
  const log = (_: unknown, text?: string): void => void lines.push(text ?? '')
  const live = new LiveConfig(file, loaded(start), {
    since,
    load: () =>
      new Promise((resolve, reject) =>
        readings.push((file) => (file instanceof Error ? reject(file) : resolve(file))),
      ),
    apply: (config) => {
      if (portOf(config) === 666) throw new Error('it does not run')
      applied.push(config)
    },
    log: { info: log, warn: log, error: log },
    onRead: (_, outcome) => outcomes.push(outcome),
    date: () => new Date(0),
    onBug: assert.fail,
  })
  const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))
  return { live, applied, lines, outcomes, readings, turn }
}

test('one reading at a time, and one more for all changes meanwhile', async () => {
  const { live, applied, readings, turn } = setUp()
  for (let change = 0; change < 5; change += 1) void live.reload('changed')
  await turn()
  void live.reload('SIGHUP')
  void live.reload('changed')
  await turn()
  assert.equal(readings.length, 1)
  readings[0]?.(loaded('rules: { port: 2 }'))
  await turn()
  assert.equal(readings.length, 2)
  readings[1]?.(loaded('rules: { port: 3 }'))
  await turn()
  assert.deepEqual([readings.length, applied.map(portOf)], [2, [2, 3]])
})

test('a save between the first reading and the start of the watch is read', async (context) => {
  const folder = mkdtempSync(join(tmpdir(), 'zonegate-config-'))
  context.after(() => rmSync(folder, { recursive: true }))
  const file = join(folder, 'z.yaml')
  writeFileSync(file, 'rules: { port: 1 }')
  const since = fileState(file)
  writeFileSync(file, 'rules: { port: 12 }')
  const { live, readings } = setUp('rules: { port: 1 }', file, since)
  context.after(live.watch())
  for (let left = 500; readings.length === 0; left--) {
    assert.ok(left > 0, 'not read')
    await new Promise((done) => setTimeout(done, 10))
  }
})

test('a closed one takes over nothing: neither what is being read, nor a change, nor a signal', async () => {
  for (const outcome of [loaded('rules: { port: 2 }'), new Error('late')]) {
    const { live, applied, lines, readings, turn } = setUp()
    const stop = live.watch()
    const reading = live.reload('SIGHUP')
    await turn()
    stop()
    readings[0]?.(outcome)
    await reading
    await live.reload('SIGHUP')
    assert.deepEqual([applied, lines, readings.length], [[], [], 1])
    assert.deepEqual(live.status().reloads, { accepted: 0, rejected: 0 })
  }
})

test('one that can not run leaves the one before in force, and is told', async () => {
  const { live, readings, turn } = setUp()
  void live.reload('changed')
  await turn()
  readings[0]?.(loaded('rules: { port: 666 }'))
  await turn()
  assert.equal(portOf(live.config), 1)
  assert.deepEqual(live.status().faults, ['it does not run'])
})

test('what needs a restart stays as it was at the start, and is named until the file says so again', async () => {
  const { live, applied, readings, turn } = setUp('rules: { port: 1 }')
  for (const [at, text, needsRestart] of [
    [0, 'rules: { header: other, port: 2 }\nlisten: { http: "127.0.0.1:1" }', ['listen.http']],
    [1, 'rules: { header: other, port: 3 }', []],
  ] as const) {
    void live.reload('changed')
    await turn()
    readings[at]?.(loaded(text))
    await turn()
    assert.deepEqual(live.status().needsRestart, needsRestart)
    assert.deepEqual(applied.at(-1), live.config)
    assert.deepEqual(
      [live.config.rules[0]?.header, portOf(live.config), live.config.listen.http],
      ['other', at + 2, '127.0.0.1:9003'],
    )
  }
})

test("a key that has a counterpart in Envoy's files is told with it", async () => {
  const { live, lines, readings, turn } = setUp()
  void live.reload('changed')
  await turn()
  readings[0]?.(loaded('rules: { methods: [POST, PUT] }\ndns: { budgetMs: 1600, attempts: 1 }'))
  await turn()
  assert.equal(lines.filter((line) => /has a counterpart/.test(line)).length, 1)
})

test('an entry of zones that is gone from the file is no longer in force', async () => {
  const { live, applied, readings, turn } = setUp('rules: { port: 1 }\nzones: { "12": { as: "7" } }')
  void live.reload('changed')
  await turn()
  readings[0]?.(loaded('rules: { port: 1 }'))
  await turn()
  assert.deepEqual(applied.at(-1)?.zones, {})
})

test('a touched file, or one with other comments only, is no reload: nothing counts it, and the log says so', async () => {
  const { live, lines, outcomes, readings, turn } = setUp('rules: { port: 1 }')
  const read = async (file: LoadedConfig | Error): Promise<void> => {
    void live.reload('changed')
    await turn()
    readings.at(-1)?.(file)
    await turn()
  }
  const fault = (message: string): ConfigError => new ConfigError([{ file: 'z.yaml', key: '', message }])
  for (const [file, accepted, rejected, line] of [
    [loaded('rules: { port: 1 } # the same'), 0, 0, /has not changed/],
    [fault('wrong'), 0, 1, /has a fault/],
    [fault('wrong'), 0, 1, /has a fault/],
    [fault('another'), 0, 2, /has a fault/],
    [loaded('rules: { port: 1 }'), 1, 2, /is in force/],
    [loaded('rules: { port: 1 }'), 1, 2, /has not changed/],
    [loaded('rules: { port: 1 }\nlisten: { http: "127.0.0.1:1" }'), 2, 2, /when you restart/],
    [loaded('rules: { port: 2 }\nlisten: { http: "127.0.0.1:1" }'), 3, 2, /when you restart/],
    [new Error('it does not run'), 3, 3, /has a fault/],
    [new Error('it does not run'), 3, 3, /has a fault/],
  ] as const) {
    await read(file)
    assert.deepEqual(live.status().reloads, { accepted, rejected })
    assert.equal(outcomes.filter((each) => 'faults' in each).length, rejected)
    assert.match(lines.at(-1) ?? '', line)
  }
  assert.equal(outcomes.length, readings.length, 'each reading ends, so that held events are recorded')
})
