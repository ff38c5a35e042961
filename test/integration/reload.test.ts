import assert from 'node:assert/strict'
import {
  chmodSync,
  mkdirSync,
  readFileSync,
  renameSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import { after, before, beforeEach, test } from 'node:test'
import { parse, stringify } from 'yaml'
import { eventually, startProcessorAlone, type TestProcessor } from '../support/processor.ts'

/** A configuration that is changed while the processor runs: taken over whole, or not at all. */
let processor: TestProcessor
let file: string
/** As it was at the start. */
let original: Record<string, Record<string, unknown>>

before(async () => {
  processor = await startProcessorAlone()
  file = join(processor.folder, 'zonegate.yaml')
  original = parse(readFileSync(file, 'utf8'))
})
after(() => processor?.stop())

const MOMENT = new Int32Array(new SharedArrayBuffer(4))

interface Reloads {
  accepted: number
  rejected: number
}
const config = async () => (await processor.ask('/api/status')).json().config
const reloads = async (): Promise<Reloads> => (await config()).reloads
const text = (changes: Record<string, Record<string, unknown>>): string => {
  const merged = structuredClone(original)
  for (const [section, values] of Object.entries(changes)) merged[section] = { ...merged[section], ...values }
  return stringify(merged)
}
const reason = async (query: string): Promise<string> =>
  (await processor.ask(`/api/explain?${query}`)).json().decision.reason

let before_: Reloads
beforeEach(async () => {
  before_ = await reloads()
})
const accepted = (): Promise<void> =>
  eventually('the change is taken over', async () => (await reloads()).accepted > before_.accepted)
const rejected = (): Promise<void> =>
  eventually('the change is refused', async () => (await reloads()).rejected > before_.rejected)

test('saved in place: the rules are others, live', async () => {
  assert.equal(await reason('id=1&method=PUT'), 'method_not_allowed')
  writeFileSync(file, text({ rules: { methods: ['POST', 'PUT'] } }))
  await accepted()
  assert.equal(await reason('id=1&method=PUT'), 'nameservers_failed')
})

test('saved by rename', async () => {
  writeFileSync(`${file}.new`, text({ rules: { idPattern: '^[0-9]+$' } }))
  renameSync(`${file}.new`, file)
  await accepted()
  assert.equal(await reason('id=abc'), 'server_header_invalid')
})

test('saved by a symlink swap, as a mounted ConfigMap is', async () => {
  for (const [version, search] of [
    ['v1', 'one.test'],
    ['v2', 'two.test'],
  ] as const) {
    mkdirSync(join(processor.folder, version))
    writeFileSync(join(processor.folder, version, 'zonegate.yaml'), text({ dns: { search } }))
  }
  const swap = (version: string): void => {
    symlinkSync(version, join(processor.folder, 'data.new'))
    renameSync(join(processor.folder, 'data.new'), join(processor.folder, 'data'))
  }
  swap('v1')
  symlinkSync('data/zonegate.yaml', join(processor.folder, 'link'))
  renameSync(join(processor.folder, 'link'), file)
  await accepted()
  const nameOf = async (): Promise<string> => (await processor.ask('/api/explain?id=1')).json().zone.name
  assert.equal(await nameOf(), 'zone1-default.one.test')
  swap('v2')
  await eventually('the swapped file is read', async () => (await nameOf()) === 'zone1-default.two.test')
})

const unchanged = (why: string): number =>
  processor
    .lines()
    .filter((line) => line['msg'] === 'the configuration has not changed' && line['why'] === why).length

test('SIGHUP reads it at once; a file that says the same is no reload', async () => {
  writeFileSync(file, text({ rules: { idPattern: '^[a-f]+$' } }))
  processor.signal('SIGHUP')
  await accepted()
  processor.signal('SIGHUP')
  await eventually('it is told', () => unchanged('SIGHUP') === 1)
  assert.equal((await reloads()).accepted, before_.accepted + 1)
})

test('a file that was only touched is no reload', async () => {
  const events = async (): Promise<unknown[]> =>
    (await processor.ask('/api/history?kind=config&kind=config_refused')).json().events
  const before = await events()
  const told = unchanged('changed')
  chmodSync(file, 0o640)
  await eventually('it is told', () => unchanged('changed') > told)
  assert.deepEqual(await reloads(), before_)
  assert.deepEqual(await events(), before)
})

test('each section changes live: DNS, addresses, learned, log', async () => {
  const lines = (): number => processor.lines().filter(({ level }) => level === 'debug').length
  assert.equal(lines(), 0)
  const changes = {
    dns: { nameservers: ['127.0.0.2:9'], ttlSeconds: { min: 1, max: 17 } },
    addresses: { allow: ['127.0.0.0/8'] },
    learned: { enabled: false },
    log: { level: 'debug' },
  }
  writeFileSync(file, text(changes))
  await accepted()
  const { dns } = (await processor.ask('/api/status')).json()
  assert.deepEqual([dns.nameservers[0].nameserver, dns.ttlSecondsMax], ['127.0.0.2:9', 17])
  const changed = processor.lines().findLast(({ msg }) => msg === 'a new configuration is in force')?.[
    'changed'
  ]
  for (const key of [
    'dns.nameservers',
    'dns.ttlSeconds.max',
    'addresses.allow',
    'learned.enabled',
    'log.level',
  ])
    assert.ok((changed as string[]).includes(key), `${key} in ${changed}`)
})

test('a change of listen.* is told to need a restart, and all else is taken over', async () => {
  writeFileSync(file, text({ listen: { http: '127.0.0.1:1' }, rules: { methods: ['GET'] } }))
  await accepted()
  assert.deepEqual((await config()).needsRestart, ['listen.http'])
  assert.equal(await reason('id=1&method=POST'), 'method_not_allowed')
  const told = processor.lines().findLast(({ keys }) => keys !== undefined)
  assert.deepEqual([told?.['level'], told?.['keys']], ['warn', ['listen.http']])
})

test('another place of the id is in force at once', async () => {
  writeFileSync(file, text({ rules: { id: { query: 'zone' }, methods: ['PATCH'] } }))
  await accepted()
  assert.deepEqual((await config()).needsRestart, [])
  const { decision, steps } = (await processor.ask('/api/explain?id=1&method=PATCH')).json()
  assert.equal(decision.reason, 'nameservers_failed')
  assert.match(JSON.stringify(steps), /query zone: \\"1\\" matches/)
  before_ = await reloads()
  writeFileSync(file, text({}))
  await accepted()
})

test('the line of the nameservers in force says where they and the search domain are from', async () => {
  const last = () => {
    const line = processor.lines().findLast(({ msg }) => msg === 'nameservers in force')
    return [line?.['nameservers'], line?.['nameserversFrom'], line?.['search'], line?.['searchFrom']]
  }
  assert.deepEqual(last(), [['127.0.0.1:9'], 'dns.nameservers', 'game.test', 'dns.search'])
  writeFileSync(join(processor.folder, 'own.conf'), 'nameserver 127.0.0.4\nsearch own.test\n')
  writeFileSync(file, text({ dns: { search: null, nameservers: null, resolvConf: 'own.conf' } }))
  await accepted()
  assert.deepEqual(last(), [['127.0.0.4:53'], 'own.conf', 'own.test', 'own.conf'])
  before_ = await reloads()
  writeFileSync(file, text({}))
  await accepted()
})

test('a faulty file changes nothing, and is told by log, metric, status and /readyz', async () => {
  const methods = await reason('id=1&method=GET')
  writeFileSync(file, `${text({})}foo: 1\nlog: { level: loud }\n`)
  await rejected()
  const { faults } = await config()
  assert.match(faults.join('\n'), /^zonegate\.yaml:\d+:1: /m)
  const logged = processor.lines().filter(({ level, fault }) => level === 'error' && fault !== undefined)
  assert.ok(logged.some(({ fault }) => fault === faults[0]))
  const ready = await processor.ask('/readyz')
  assert.equal(ready.status, 200)
  assert.deepEqual(ready.json(), { status: 'ready', config: { notTaken: faults } })
  const metrics = (await processor.ask('/metrics')).text
  assert.match(metrics, new RegExp(`^zonegate_config_faults ${faults.length}$`, 'm'))
  assert.match(metrics, /^zonegate_config_reloads_total\{result="rejected"\} [1-9]/m)
  assert.equal(await reason('id=1&method=GET'), methods)
})

test('mended, it is taken over and nothing is at fault any more', async () => {
  writeFileSync(file, text({}))
  await accepted()
  assert.deepEqual((await config()).faults, [])
  assert.deepEqual((await processor.ask('/readyz')).json(), { status: 'ready' })
})

test('no search domain any more: not taken, the name server asked is the one before', async () => {
  writeFileSync(join(processor.folder, 'empty.conf'), 'nameserver 127.0.0.3\n')
  writeFileSync(file, text({ dns: { search: null, nameservers: null, resolvConf: 'empty.conf' } }))
  await rejected()
  assert.match((await config()).faults[0], /empty\.conf names no search domain/)
  assert.equal((await processor.ask('/api/status')).json().dns.nameservers[0].nameserver, '127.0.0.1:9')
})

test('a file that is gone is not the defaults', async () => {
  renameSync(file, `${file}.away`)
  await rejected()
  assert.match((await config()).faults[0], /zonegate\.yaml: no such file/)
  assert.equal(await reason('id=1'), 'nameservers_failed')
  writeFileSync(file, text({}))
  await accepted()
})

test('a file that is empty for a moment, as it is written, is never read', async () => {
  for (let i = 0; i < 5; i += 1) {
    truncateSync(file)
    Atomics.wait(MOMENT, 0, 0, 60) // in no other task's time: a longer moment would be a file that is empty
    writeFileSync(file, text({ rules: { idPattern: `^[0-9]{1,${i + 1}}$` } }))
    await new Promise((resolve) => setTimeout(resolve, 60))
  }
  await accepted()
  const read = processor.lines().findLast(({ msg }) => msg === 'a new configuration is in force')
  assert.ok(!String(read?.['changed']).includes('dns.search'), JSON.stringify(read))
})
