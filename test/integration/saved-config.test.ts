import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { chmodSync, mkdirSync, readFileSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { eventually, startProcessorAlone, type TestProcessor } from '../support/processor.ts'
import { slowness } from '../support/slowness.ts'

/** Whatever is saved as zonegate.yaml: the processor goes on by what it read before, and says what is wrong and where. */
let processor: TestProcessor
let file: string
let good: string

before(async () => {
  processor = await startProcessorAlone({ config: { rules: { port: 4321 } } })
  file = join(processor.folder, 'zonegate.yaml')
  good = readFileSync(file, 'utf8')
})
after(() => processor?.stop())

const configStatus = async () => (await processor.ask('/api/status')).json().config
const repeated = (unit: (at: number) => string, octets: number): string => {
  let text = ''
  for (let at = 0; text.length < octets; at += 1) text += unit(at)
  return text
}
const laughs = ['a: &a [x, x, x, x, x, x, x, x, x]']
for (const [at, name] of [...'bcdefghij'].entries())
  laughs.push(`${name}: &${name} [${Array(9).fill(`*${'abcdefghi'[at]}`).join(', ')}]`)

/** What is saved, and the fault that is told. */
const SAVED: [what: string, saved: string | Buffer | (() => void), fault: RegExp][] = [
  ['nothing', '', /^zonegate\.yaml:1:1: is empty; for the defaults write \{\}/],
  ['spaces', ' \n\n', /^zonegate\.yaml:1:1: is empty/],
  ['half of it', () => writeFileSync(file, `${good}dns: { search: "ga`), /^zonegate\.yaml:\d+:\d+: .*quote/],
  ['an alias to itself', 'rules: &a { host: *a }\n', /^zonegate\.yaml:1:13: rules\.host: expected a text/],
  ['a list in itself', 'a: &a [*a]\n', /^zonegate\.yaml:1:1: a: no such key/],
  ['an alias to nothing', 'rules:\n  host: *a\n', /^zonegate\.yaml:2:9: Unresolved alias/],
  ['a billion laughs', laughs.join('\n'), /^zonegate\.yaml:2:8: Excessive alias count/],
  ['a thousand lists, each in the one before', '['.repeat(2000), /^zonegate\.yaml:1:\d+: /],
  [
    'lists without end, each in the one before',
    '['.repeat(200_000),
    /^zonegate\.yaml:1:\d+: nested too deeply/,
  ],
  ['10 MB', repeated(() => '# nothing\n', 10_000_000), /^zonegate\.yaml: expected 250000 octets or fewer/],
  ['a wrong value behind a BOM', '\ufefffoo: 1\n', /^zonegate\.yaml:1:1: foo: no such key/],
  [
    'lines that end with CRLF',
    'log:\r\n  level: info\r\nrules:\r\n  port: x\r\n',
    /^zonegate\.yaml:4:3: rules\.port/,
  ],
  ['Latin-1', Buffer.from('log: {}\n# caf\xe9\n', 'latin1'), /^zonegate\.yaml:2:6: expected text in UTF-8/],
  ['UTF-16', Buffer.from('\ufefflog: {}\n', 'utf16le'), /^zonegate\.yaml:1:1: expected text in UTF-8/],
  ['a program', readFileSync(process.execPath).subarray(0, 100_000), /^zonegate\.yaml:1:\d+: expected text/],
  [
    'control characters',
    'log: {}\n# \u0007\n',
    /^zonegate\.yaml:2:3: expected text, got the control character U\+0007/,
  ],
  [
    'another file, by mistake',
    repeated((at) => `k${at}: 1\n`, 50_000),
    /^zonegate\.yaml:1:1: k0: no such key/,
  ],
  ['a directory', () => mkdirSync(file), /^zonegate\.yaml: is a directory, expected a file/],
  ['a FIFO that nobody writes to', () => spawnSync('mkfifo', [file]), /^zonegate\.yaml: is no regular file/],
  ['a link to itself', () => symlinkSync('zonegate.yaml', file), /^zonegate\.yaml: ELOOP/],
  [
    'services that differ in case only',
    'rules: { services: { default: {}, DEFAULT: { paths: [/x], port: 9000 } } }\n',
    /^zonegate\.yaml:1:35: rules\.services\.DEFAULT: expected another name: it differs from "default" only in upper and lower case/,
  ],
  [
    'a header that Envoy drops',
    'rules: { header: zone_id }\n',
    /^zonegate\.yaml:1:10: rules\.header: expected a header that reaches the processor/,
  ],
]
if (process.getuid?.() !== 0)
  SAVED.push([
    'a file that may not be read',
    () => {
      writeFileSync(file, good)
      chmodSync(file, 0)
    },
    /^zonegate\.yaml: not readable/,
  ])

const faultsLogged = (): number =>
  processor.lines().filter(({ msg }) => /^the configuration has a fault/.test(String(msg))).length

for (const [what, saved, fault] of SAVED) {
  test(`${what}: not taken, told with its place, and what was read before holds`, async () => {
    const before = faultsLogged()
    // Moved away first: what stands there may be no file.
    renameSync(file, `${file}.before`)
    rmSync(`${file}.before`, { recursive: true })
    if (typeof saved === 'function') saved()
    else writeFileSync(file, saved)
    await eventually(`${fault} is told`, async () => {
      const { faults } = await configStatus()
      if (faultsLogged() === before) return false
      return faults.length <= 20 && faults.some((text: string) => fault.test(text) && text.length < 500)
    })
    const { decision } = (await processor.ask('/api/explain?id=1')).json()
    assert.equal(decision.reason, 'nameservers_failed')
    assert.equal((await processor.ask('/readyz')).status, 200)
  })
}

test('a file that keeps its reader busy for seconds costs the processor next to nothing', async () => {
  const ticks = (): number => {
    const [, fields = ''] = readFileSync(`/proc/${processor.pid}/stat`, 'utf8').split(') ')
    return fields
      .split(' ')
      .slice(11, 13)
      .map(Number)
      .reduce((a, b) => a + b)
  }
  const { rejected } = (await configStatus()).reloads
  const before = ticks()
  rmSync(file, { recursive: true })
  writeFileSync(
    file,
    repeated((at) => `k${at}: 1\n`, 60_000),
  )
  await eventually('it is refused', async () => (await configStatus()).reloads.rejected > rejected)
  // The status is asked for meanwhile; in hundredths of a second.
  const spent = ticks() - before
  assert.ok(spent < 100 * slowness(), `${spent}`)
})

test('the good file again: taken over, and nothing is at fault', async () => {
  writeFileSync(file, good.replace('4321', '4322'))
  await eventually('it is taken over', async () => (await configStatus()).faults.length === 0)
  assert.ok(processor.lines().every(({ level }) => level !== 'fatal'))
  const { exceptions } = (await processor.ask('/api/status')).json()
  assert.deepEqual(new Set(Object.values(exceptions)), new Set([0]))
})

test("a misspelt field in one of Envoy's files: status, log and validate name it", async () => {
  const gateway = await startProcessorAlone({ envoyFiles: true })
  const save = (name: string, from: string, to: string): void => {
    const path = join(gateway.folder, 'envoy', name)
    writeFileSync(path, readFileSync(path, 'utf8').replace(from, to))
  }
  const said = async (pattern: RegExp): Promise<boolean> =>
    pattern.test((await gateway.cli(['status'])).stdout)
  try {
    assert.ok(!(await said(/not understood/)))
    save('listener.yaml', 'stream_idle_timeout:', 'stream_idle_timeuot:')
    await eventually('listener.yaml is named', () =>
      said(
        /^unknown field: envoy\/listener\.yaml:\d+:\d+: \S+\.stream_idle_timeuot: no field of Envoy's API$/m,
      ),
    )
    save('envoy.yaml', 'overload_manager:', 'overload_manger:')
    await eventually('envoy.yaml is named', () =>
      said(/^unknown field: envoy\/envoy\.yaml:\d+:\d+: overload_manger/m),
    )
    assert.ok(gateway.lines().some(({ msg }) => /Envoy ignores this unknown field/.test(String(msg))))
    assert.match((await gateway.cli(['validate'])).stdout, /stream_idle_timeuot[\s\S]*overload_manger/)
    save('listener.yaml', 'stream_idle_timeuot:', 'stream_idle_timeout:')
    save('envoy.yaml', 'overload_manger:', 'overload_manager:')
    await eventually('nothing is named', async () => !(await said(/not understood/)))
  } finally {
    await gateway.stop()
  }
})
