import assert from 'node:assert/strict'
import { readFileSync, renameSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, suite, test } from 'node:test'
import { learnedIds } from '../support/fleet.ts'
import { startGateway, type TestGateway } from '../support/gateway.ts'
import { call } from '../support/http.ts'
import { type Load, startLoad } from '../support/load.ts'
import { freePort } from '../support/ports.ts'
import { eventually } from '../support/processor.ts'
import { type Receiver, startReceiver } from '../support/receiver.ts'
import { startZoneNameserver, type ZoneNameserver } from '../support/zone-nameserver.ts'

/**
 * Files saved one after the other while requests flow, most of them refused by Envoy or by Zonegate. A sound one is in force on
 * both paths, any other on neither.
 */
const HOST = '127.0.96.1'
const HOT = Array.from({ length: 10 }, (_, n) => `h${n}`)
/** A zone's first request is cold: each of these is used once. */
const COLD = Array.from({ length: 3000 }, (_, n) => `c${n}`)

type Name = 'envoy/routes.yaml' | 'envoy/clusters.yaml' | 'envoy/envoy.yaml' | 'zonegate.yaml'
interface Save {
  readonly file: Name
  readonly what: string
  /** The octets to save, made of those that are there. */
  readonly content: (sound: string) => string | Buffer
  /** True: it is taken over. */
  readonly sound?: true
  /** Written over what is there, not renamed into its place. */
  readonly inPlace?: true
}

const half = (text: string): string => text.slice(0, text.length / 2)
/** Ends within a mapping. */
const torn = (text: string): string => text.slice(0, text.indexOf('string_match: {') + 14)
/** Ends between two routes: to Envoy that is a sound file, which would answer 502 or 503 from then on. */
const endedBefore = (route: string) => (text: string) => text.slice(0, text.indexOf(`    - name: ${route}\n`))
const deep = Array.from(
  { length: 30 },
  (_, n) => `a${n}: &a${n} [${n === 0 ? 'x' : `*a${n - 1}, *a${n - 1}`}]`,
).join('\n')
const inForward = (fields: string) => (text: string) =>
  text.replace('      route:\n        cluster: zones\n', (route) => `${fields}${route}`)

const routes: Omit<Save, 'file'>[] = [
  {
    what: 'a header for every zone',
    content: inForward('      request_headers_to_remove: [x-gone]\n'),
    sound: true,
  },
  { what: 'empty', content: () => '' },
  { what: 'empty for a moment', content: (text) => text, sound: true, inPlace: true },
  { what: 'half written', content: torn },
  { what: 'half written, in place', content: (text) => torn(`\n${text}`), inPlace: true },
  { what: 'cut off before "forward"', content: endedBefore('forward') },
  { what: 'cut off before the route that asks', content: endedBefore('processor_refused') },
  {
    what: 'cut off in its filters',
    content: (text) => text.slice(0, text.lastIndexOf('        route_again:')),
  },
  {
    what: '"forward" without a condition on the address',
    content: (text) => text.replace(/(- name: forward\n +match:\n +prefix: "\/"\n).*\n.*\n.*\n/, '$1'),
  },
  {
    what: 'a buffer in which cold requests would hang',
    content: (text) =>
      text.replaceAll(
        /buffer: \{ "@type": .*?FilterConfig, config: \{\} \}/g,
        'buffer: { "@type": type.googleapis.com/envoy.extensions.filters.http.buffer.v3.BufferPerRoute, buffer: { max_request_bytes: 65536 } }',
      ),
  },
  { what: 'binary', content: () => Buffer.from(Array.from({ length: 4096 }, (_, n) => (n * 7) % 256)) },
  { what: '10 MB', content: (text) => `${text}#${'x'.repeat(10_000_000)}\n` },
  { what: 'an alias to itself', content: (text) => `${text}\nloop: &loop [*loop]\n` },
  { what: 'aliases that multiply', content: (text) => `${text}\n${deep}\n` },
  { what: 'a status out of range', content: (text) => text.replace('status: 400', 'status: 9999') },
  { what: 'a text for a number', content: (text) => text.replace('num_retries: 1', 'num_retries: many') },
  { what: 'a field that Envoy leaves alone', content: inForward('      forwards: true\n'), sound: true },
  {
    what: 'a duration that is none',
    content: (text) => text.replace(/idle_timeout: \d+s/, 'idle_timeout: soon'),
  },
  { what: 'a pattern that is none', content: (text) => text.replace("regex: '(", "regex: '((") },
  {
    what: 'two virtual hosts for one domain',
    content: (text) => `${text}\n  - { name: other, domains: ["*"] }\n`,
  },
  {
    what: 'raw_value',
    content: (text) =>
      text.replace(
        '      direct_response: { status: 400 }\n',
        '$&      response_headers_to_add: [{ header: { key: x-raw, raw_value: UE9TVA== } }]\n',
      ),
    sound: true,
  },
  {
    what: 'a comment that is no UTF-8',
    content: (text) => Buffer.from(`${text}# \xff\xfe\n`, 'latin1'),
    sound: true,
  },
  { what: 'CRLF', content: (text) => text.replaceAll('\n', '\r\n'), sound: true },
  { what: 'a comment', content: (text) => `${text}# sound\n`, sound: true, inPlace: true },
]
const clusters: Omit<Save, 'file'>[] = [
  { what: 'empty', content: () => '' },
  { what: 'half written', content: (text) => text.slice(0, text.lastIndexOf('{') + 1) },
  { what: 'a text for a number', content: (text) => text.replace('max_retries: 4096', 'max_retries: many') },
  { what: 'binary', content: () => Buffer.from([0, 255, 1, 254]) },
]
const bootstrap: Omit<Save, 'file'>[] = [
  { what: 'empty', content: () => '' },
  { what: 'half written', content: half },
]
const config: Omit<Save, 'file'>[] = [
  { what: 'empty', content: () => '', inPlace: true },
  { what: 'half written', content: (text) => `${half(text)}\n  - [`, inPlace: true },
  { what: 'binary', content: () => Buffer.from([0, 255, 1, 254]) },
  { what: 'a key that nobody knows', content: (text) => `${text}nonsense: true\n` },
  { what: 'a number out of range', content: (text) => `${text}log: { level: loud }\n` },
  { what: 'an alias to itself', content: (text) => `${text}rules2: &a [*a]\n` },
  { what: '10 MB', content: (text) => `${text}#${'x'.repeat(10_000_000)}\n` },
  { what: 'a BOM and CRLF', content: (text) => `\ufeff${text.replaceAll('\n', '\r\n')}`, sound: true },
  { what: 'another level of the log', content: (text) => `${text}log: { level: debug }\n`, sound: true },
]
const SAVES: readonly Save[] = [
  ...routes.map((save): Save => ({ ...save, file: 'envoy/routes.yaml' })),
  ...clusters.map((save): Save => ({ ...save, file: 'envoy/clusters.yaml' })),
  ...bootstrap.map((save): Save => ({ ...save, file: 'envoy/envoy.yaml' })),
  ...config.map((save): Save => ({ ...save, file: 'zonegate.yaml' })),
]

suite('files saved under load', () => {
  let gateway: TestGateway
  let nameserver: ZoneNameserver
  let receiver: Receiver
  let loads: Load[] = []
  let marks = 0
  let inForce = 'none'
  const sound: Partial<Record<Name, string>> = {}

  before(async () => {
    const port = await freePort(HOST)
    receiver = await startReceiver(HOST, port)
    nameserver = await startZoneNameserver(
      Object.fromEntries([...HOT, ...COLD].map((id) => [`zone${id}-default.game.test`, [HOST]])),
    )
    gateway = await startGateway({
      config: {
        rules: { port },
        dns: { nameservers: [nameserver.address], search: 'game.test' },
        addresses: { allow: [`${HOST}/32`] },
      },
    })
    for (const name of [
      'envoy/routes.yaml',
      'envoy/clusters.yaml',
      'envoy/envoy.yaml',
      'zonegate.yaml',
    ] as const)
      sound[name] = readFileSync(join(gateway.folder, name), 'utf8')
    const agentless = startLoad(gateway.port, 8, HOT, 5)
    loads = [agentless, startLoad(gateway.port, 2, COLD, 50)]
    await eventually('zones are hot', async () => (await learnedIds(gateway)).size >= HOT.length)
  })
  after(async () => {
    for (const load of loads) await load.stop()
    await gateway?.stop()
    await nameserver?.close()
    await receiver?.close()
  })

  /** The mark of the last sound routes.yaml, as seen by each path. */
  const marksNow = async (): Promise<string[]> => {
    const cold = `c${COLD.length - 1 - marks}`
    const ids = [cold, ...HOT.slice(0, 2)]
    const replies = await Promise.all(
      ids.map((id) => call(gateway.port, { headers: [['server', id]], body: 'x' })),
    )
    return replies.map(({ headers }) => String(headers['x-mark'] ?? 'none'))
  }
  const bothPathsHave = async (mark: string): Promise<boolean> =>
    (await marksNow()).every((seen) => seen === mark)
  const failures = (): Record<string, number> =>
    Object.fromEntries(
      loads.flatMap(({ outcomes }) => [...outcomes]).filter(([outcome]) => outcome !== '200'),
    )
  /** What everybody has read so far. */
  const reactions = async (): Promise<string> => {
    const { config: read, policy } = await gateway.status()
    const rds = await gateway.stat('http.callback.rds.zonegate.update_attempt')
    return JSON.stringify([read.reloads, policy, rds])
  }

  const save = ({ file, inPlace }: Save, content: string | Buffer): void => {
    const path = join(gateway.folder, file)
    if (inPlace !== true) {
      writeFileSync(`${path}.new`, content)
      renameSync(`${path}.new`, path)
    } else writeFileSync(path, content)
  }

  for (const given of SAVES)
    test(`${given.file}: ${given.what} is ${given.sound === true ? 'in force on both paths' : 'refused, and changes neither path'}`, async () => {
      const { file } = given
      const pid = gateway.processor?.process.pid
      const before = await reactions()
      const text = sound[file] ?? ''
      if (given.sound === true) {
        marks += 1
        const mark = file === 'envoy/routes.yaml' ? `m${marks}` : inForce
        const marked = file === 'envoy/routes.yaml' ? withMark(text, mark) : text
        const content = given.content(marked)
        save(given, content)
        inForce = mark
        await eventually('both paths have it', () => bothPathsHave(mark))
        if (file !== 'envoy/routes.yaml')
          await eventually('it was read', async () => (await reactions()) !== before)
      } else {
        marks += 1
        const logged = gateway.log('processor').length
        save(given, given.content(file === 'envoy/routes.yaml' ? withMark(text, `bad${marks}`) : text))
        try {
          await eventually(
            'somebody says so',
            async () =>
              /"level":"error"|"level":50/.test(gateway.log('processor').slice(logged)) ||
              (await reactions()) !== before,
          )
          // Longer than any of those that read it look for changes.
          await new Promise((done) => setTimeout(done, 600))
          assert.ok(await bothPathsHave(inForce), `${inForce}: ${await marksNow()}`)
        } finally {
          save(
            { file, what: '', content: half, inPlace: true },
            file === 'envoy/routes.yaml' ? withMark(text, inForce) : text,
          )
        }
        await eventually('it is sound again', () => bothPathsHave(inForce))
        await eventually('nothing waits for a start', async () =>
          (await reactions()).includes('"needsRestart":[]'),
        )
      }
      assert.equal(gateway.processor?.process.pid, pid)
      assert.equal(gateway.processor?.process.exitCode, null)
      assert.equal(gateway.envoy.process.exitCode, null)
      assert.deepEqual(failures(), {})
    })

  test('all zones are hot in the end', async () => {
    await eventually('they are', async () => {
      const asked = await gateway.stat('cluster.processor.upstream_rq_total')
      for (const id of HOT) await call(gateway.port, { headers: [['server', id]], body: 'x' })
      loads[1]?.reset()
      return (await learnedIds(gateway)).size >= HOT.length && asked > 0
    })
  })
})

function withMark(text: string, mark: string): string {
  if (mark === 'none') return text
  return text.replace(
    'response_headers_to_remove: [x-zonegate-reason]',
    (line) => `response_headers_to_add: [{ header: { key: x-mark, value: ${mark} } }]\n      ${line}`,
  )
}
