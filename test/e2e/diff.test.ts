import assert from 'node:assert/strict'
import { cpSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, suite, test } from 'node:test'
import { parse, stringify } from 'yaml'
import type { Arguments, Command, Terminal } from '../../src/cli/command.ts'
import { diffCommand } from '../../src/cli/diff.ts'
import { pinCommand } from '../../src/cli/pin.ts'
import { validateCommand } from '../../src/cli/validate.ts'
import type { Diff } from '../../src/diff/diff.ts'
import type { HistoryPage } from '../../src/history/read-history.ts'
import { startGateway, type TestGateway } from '../support/gateway.ts'
import { call } from '../support/http.ts'
import { a, type ScriptedNameserver, soa, srv, startNameserver } from '../support/nameserver.ts'
import { freePort } from '../support/ports.ts'
import { eventually } from '../support/processor.ts'
import { type Receiver, startReceiver } from '../support/receiver.ts'

/** What `zonegate diff` says that a change moves is what moves when the change is made. */
const [ONE, TWO, THREE] = ['127.0.101.1', '127.0.101.2', '127.0.101.3'] as const

/** Zones with requests, as they are asked for. `99` is not in DNS. */
const PROBES: readonly (readonly [zone: string, method: string, path: string, id: string])[] = [
  ...['1', '2', '3'].flatMap((id) =>
    ['POST', 'GET'].map((method) => [`default/${id}`, method, '/', id] as const),
  ),
  ...['1', '2', '3'].map((id) => [`default/${id}`, 'POST', '/pay', id] as const),
  ...['POST', 'GET'].map((method) => ['mail/1', method, '/mail', '1'] as const),
  ['default/*', 'POST', '/', '99'],
  ['mail/*', 'POST', '/mail', '99'],
]
const ALL = ['default/1', 'default/2', 'default/3', 'mail/1']
const UNKNOWN = ['default/*', 'mail/*']

// biome-ignore lint/suspicious/noExplicitAny: a configuration before it is checked
type Raw = any

interface Case {
  readonly name: string
  readonly change?: (config: Raw) => void
  /** Of the new file's text, where the change is none of the configuration. */
  readonly text?: (text: string) => string
  readonly routes?: (text: string) => string
  readonly moved: readonly string[]
  /** What each of `moved` has, in the words of the command. */
  readonly changes?: readonly string[]
}

let gateway: TestGateway
let nameserver: ScriptedNameserver
let other: ScriptedNameserver
let port: number
let otherPort: number
const receivers: Receiver[] = []

const CASES: readonly Case[] = [
  { name: 'a comment', text: (text) => `# what it is\n${text}`, moved: [] },
  { name: 'the level of the log', change: (config) => (config.log = { level: 'debug' }), moved: [] },
  { name: 'a larger cache of the same names', change: ({ dns }) => (dns.cacheEntriesMax = 5000), moved: [] },
  { name: 'the fallback', change: (config) => (config.fallback = { enabled: true }), moved: [] },
  {
    name: 'the search domain',
    change: ({ dns }) => (dns.search = 'other.test'),
    moved: ALL,
    changes: ['name', 'refused'],
  },
  { name: 'the port', change: ({ rules }) => (rules.port = otherPort), moved: ALL, changes: ['port'] },
  {
    name: 'the port of a service',
    change: ({ rules }) => (rules.services.mail.port = otherPort),
    moved: ['mail/1'],
    changes: ['port'],
  },
  {
    name: 'the name of the header',
    change: ({ rules }) => (rules.header = 'x-zone'),
    moved: ALL,
    changes: ['refused'],
  },
  {
    name: 'a protocol that receivers do not speak',
    change: ({ rules }) => {
      rules.upstream = { http: 2 }
    },
    moved: ALL,
    changes: ['upstream'],
  },
  {
    name: 'a pin',
    change: (config) => (config.zones = { 'default/1': { addresses: [THREE] } }),
    moved: ['default/1'],
    changes: ['address'],
  },
  {
    name: 'a merged zone',
    change: (config) => (config.zones = { 2: { as: '1' } }),
    moved: ['default/2'],
    changes: ['name'],
  },
  {
    name: 'a zone in maintenance',
    change: (config) => (config.zones = { 'default/3': { maintenance: 'back soon' } }),
    moved: ['default/3'],
    changes: ['refused'],
  },
  {
    name: 'denied addresses',
    change: ({ addresses }) => (addresses.allow = [`${ONE}/32`]),
    moved: ['default/2', 'default/3'],
    changes: ['refused'],
  },
  {
    name: 'methods',
    change: ({ rules }) => (rules.methods = ['POST']),
    moved: ['default/1', 'default/2', 'default/3', 'mail/1'],
    changes: ['refused'],
  },
  {
    name: 'the pattern of ids',
    change: ({ rules }) => (rules.idPattern = '^(?:[12]|99)$'),
    moved: ['default/3'],
    changes: ['refused'],
  },
  {
    name: 'the pattern of names',
    change: ({ rules }) => (rules.host = '{service}{id}.{search}'),
    moved: ALL,
    changes: ['name', 'refused'],
  },
  {
    name: 'a nameserver that answers otherwise',
    change: ({ dns }) => (dns.nameservers = [other.address]),
    moved: ['default/2', 'default/3'],
    changes: ['address', 'refused'],
  },
  {
    name: 'ports from SRV records',
    change: ({ rules, addresses }) => {
      rules.port = 'srv'
      rules.services = { mail: { paths: ['/mail'], port }, default: {} }
      addresses.ports = [port, otherPort]
    },
    moved: ['default/1', 'default/2', 'default/3'],
    changes: ['name', 'refused'],
  },
  {
    name: 'a zone for ids that are not in DNS',
    change: (config) => (config.zones = { 'default/*': { fallback: '1' } }),
    moved: ['default/*'],
    changes: ['forwarded'],
  },
  {
    name: 'a service of its own for a path',
    change: ({ rules }) => (rules.services = { pay: { paths: ['/pay'] }, ...rules.services }),
    moved: ['default/1', 'default/2', 'default/3'],
    changes: ['refused'],
  },
  {
    name: 'learning switched off',
    change: (config) => (config.learned = { enabled: false }),
    moved: ALL,
    changes: ['cold'],
  },
  {
    name: 'fewer learned zones',
    change: (config) => (config.learned = { zonesMax: 3 }),
    moved: ['the least recently used'],
    changes: ['cold'],
  },
  {
    name: 'a comment in the routes',
    routes: (text) => `# what it is\n${text}`,
    moved: [],
  },
  {
    name: 'a timeout in the routes',
    routes: (text) => text.replace('per_try_timeout: 10s', 'per_try_timeout: 11s'),
    moved: ALL,
    changes: ['policy'],
  },
  {
    name: 'routes that no learned zone could follow',
    routes: (text) =>
      text.replace(
        /( +)- name: forward\n/,
        (line, indent) => `${line}${indent}  decorator: { operation: x }\n`,
      ),
    moved: ALL,
    changes: ['cold', 'policy'],
  },
]

/** Zones by name, and by nameserver. */
const NAMES: Readonly<Record<string, string>> = {
  'zone1-default.game.test': ONE,
  'zone2-default.game.test': TWO,
  'zone3-default.game.test': THREE,
  'zone1-mail.game.test': ONE,
  'zone1-default.other.test': TWO,
  'zone2-default.other.test': TWO,
  'zone1-mail.other.test': ONE,
  'default1.game.test': ONE,
}
const NAMES_OF_OTHER: Readonly<Record<string, string>> = {
  'zone1-default.game.test': ONE,
  'zone2-default.game.test': ONE,
  'zone1-mail.game.test': ONE,
}

suite('zonegate diff', () => {
  let base: string
  let routes: string
  /** What the probes come to by the configuration that all changes begin with. */
  let was: readonly string[]

  before(async () => {
    ;[port, otherPort] = [await freePort(ONE), await freePort(ONE)]
    for (const host of [ONE, TWO, THREE])
      for (const each of [port, otherPort])
        receivers.push(
          await startReceiver(host, each, (_, response) => void response.end(`at ${host}:${each}`)),
        )
    nameserver = await serving(NAMES)
    other = await serving(NAMES_OF_OTHER)
    gateway = await startGateway({
      config: {
        rules: { port, methods: ['POST', 'GET'], services: { mail: { paths: ['/mail'] }, default: {} } },
        dns: { nameservers: [nameserver.address], search: 'game.test', timeoutMs: 4000 },
        addresses: { allow: ['127.0.101.0/24'] },
      },
    })
    process.chdir(gateway.folder)
    base = readFileSync(join(gateway.folder, 'zonegate.yaml'), 'utf8')
    routes = readFileSync(join(gateway.folder, 'envoy/routes.yaml'), 'utf8')
    was = await observe()
    cpSync(join(gateway.folder, 'envoy'), join(gateway.folder, 'new-envoy'), { recursive: true })
  })
  after(async () => {
    process.chdir('/')
    await gateway?.stop()
    await Promise.all([nameserver?.stop(), other?.stop()])
    await Promise.all(receivers.map((receiver) => receiver.close()))
  })

  const serving = (names: Readonly<Record<string, string>>): Promise<ScriptedNameserver> =>
    startNameserver((query) => {
      const { name } = query
      const service = /^_default\._tcp\.(zone[12]-default\.game\.test)$/.exec(name)?.[1]
      const address = names[name]
      const answers =
        service !== undefined
          ? [srv(name, service, service.startsWith('zone1') ? port : otherPort)]
          : address !== undefined
            ? [a(name, address, 60)]
            : []
      query.reply({
        rcode: answers.length === 0 ? 3 : 0,
        answers: answers.filter(({ type }) => type === query.type),
        authorities: answers.length === 0 ? [soa('test', 1)] : [],
      })
    })
  const learned = async (): Promise<string[]> =>
    (await gateway.status()).zones
      .filter(({ route }) => route !== 'cold')
      .map(({ service, id }) => `${service}/${id}`)
      .sort()

  /** What comes of each probe: status and reason, or where it went and by which name. */
  const observe = async (host = 'callback.test'): Promise<string[]> => {
    const replies = await Promise.all(
      PROBES.map(([, method, path, id]) =>
        call(gateway.port, {
          method,
          path,
          headers: [
            ['host', host],
            ['server', id],
          ],
        }),
      ),
    )
    const names = new Map(
      (await gateway.status()).zones.map(({ service, id, name }) => [`${service}/${id}`, name]),
    )
    return replies.map((reply, at) => {
      const [zone = ''] = PROBES[at] ?? []
      if (reply.status === 200) return `${reply.text} ${names.get(zone)}`
      return UNKNOWN.includes(zone) ? 'refused' : `${reply.status} ${reply.json()['reason']}`
    })
  }
  const movedOf = (was: readonly string[], is: readonly string[]): string[] =>
    [...new Set(PROBES.flatMap(([zone], at) => (was[at] === is[at] ? [] : [zone])))].sort()

  const save = (file: string, text: string): void => {
    const path = join(gateway.folder, file)
    writeFileSync(`${path}.new`, text)
    renameSync(`${path}.new`, path)
  }
  const take = async (text: string): Promise<void> => {
    const { accepted } = (await gateway.status()).config.reloads
    save('zonegate.yaml', text)
    await eventually(
      'the configuration is taken over',
      async () => (await gateway.status()).config.reloads.accepted > accepted,
    )
  }
  /** In this process, whose folder is the gateway's: another one takes longer to start than to say it. */
  const run = async (
    command: Command,
    positionals: readonly string[],
    options: Readonly<Record<string, string>>,
  ): Promise<{ code: number; written: string }> => {
    let written = ''
    const args: Arguments = {
      positionals,
      text: (option) => options[option],
      texts: () => [],
      flag: (option) => option === 'json',
    }
    const stdout = { write: (text: string) => (written += text) }
    const terminal = { environment: {}, stdout, stderr: { write: () => true }, colour: false }
    const code = await command.run(args, terminal as unknown as Terminal)
    return { code, written }
  }
  const diff = async (options: Readonly<Record<string, string>>): Promise<{ code: number; said: Diff }> => {
    const { code, written } = await run(diffCommand, ['new.yaml'], options)
    return { code, said: JSON.parse(written) }
  }
  const changed = (change: Case['change']): string => {
    const config: Raw = parse(base)
    change?.(config)
    return stringify(config)
  }
  const settled = (): Promise<void> =>
    eventually('all is as before', async () => movedOf(was, await observe()).length === 0)
  const allLearned = (): Promise<void> =>
    eventually('all zones are learned', async () => {
      await observe()
      return (await learned()).join() === ALL.join()
    })

  const namedBy = ({ zones }: Diff): string[] => zones.map(({ service, id }) => `${service}/${id}`).sort()
  const kindsOf = ({ zones, policy }: Diff): string[] => {
    const kinds = new Set<string>(zones.flatMap(({ changes }) => changes.map(({ change }) => change)))
    return [...kinds, ...(policy?.changes.length ? ['policy'] : [])].sort()
  }

  for (const { name, change, text = (same: string) => same, routes: edit, moved, changes = [] } of CASES)
    test(`${name}: moves ${moved.join(', ') || 'nothing'}`, async () => {
      if (changes.includes('cold') || changes.includes('policy')) await allLearned()
      const next = text(changed(change))
      save('new.yaml', next)
      if (edit !== undefined) save('new-envoy/routes.yaml', edit(routes))
      const { code, said } = await diff(edit === undefined ? {} : { envoy: 'new-envoy' })
      const expected = [moved.length === 0 ? 0 : 1, [...changes].sort()]
      assert.deepEqual([code, kindsOf(said)], expected, JSON.stringify(said, null, 1))
      const named = namedBy(said)

      if (edit !== undefined) save('envoy/routes.yaml', edit(routes))
      else if (change === undefined)
        save('zonegate.yaml', next) // no reload: it means the same
      else await take(next)
      if (changes.includes('cold')) {
        // Which is the least recently used may be another one by now, so these are counted.
        const count = edit === undefined && moved.length < ALL.length ? moved.length : ALL.length
        assert.equal(named.length, count)
        await eventually(
          'so many zones ask the processor',
          async () => (await learned()).length === ALL.length - count,
        )
      } else if (changes.includes('policy')) {
        await eventually('the routes of learned zones have the new policy', async () => {
          const dump = await fetch(`http://127.0.0.1:${gateway.adminPort}/config_dump`)
          return (await dump.text()).split('"per_try_timeout": "11s"').length > ALL.length
        })
      } else {
        assert.deepEqual(named, [...moved].sort())
        await eventually('what was named moves, and nothing else', async () => {
          const really = movedOf(was, await observe())
          return really.join() === named.join()
        })
      }
      if (moved.length === 0) return
      if (edit !== undefined) save('envoy/routes.yaml', routes)
      else await take(base)
      await settled()
    })

  test('after a saved change of the rules, the way back names the zones that were in use before', async () => {
    await allLearned()
    await take(changed(({ rules }) => (rules.header = 'x-zone')))
    save('new.yaml', base)
    const { code, said } = await diff({})
    assert.deepEqual(
      [code, namedBy(said), kindsOf(said)],
      [1, ALL, ['refused']],
      JSON.stringify(said, null, 1),
    )
    const { events } = (await (
      await fetch(`http://127.0.0.1:${gateway.httpPort}/api/history`)
    ).json()) as HistoryPage
    const ofChange = events
      .filter(({ kind }) => kind === 'config' || kind === 'forgotten')
      .sort((a, b) => a.seq - b.seq)
      .slice(-ALL.length - 1)
    assert.deepEqual(
      ofChange.map((event) => (event.kind === 'forgotten' ? event.why : event.kind)),
      ['config', ...ALL.map(() => 'rekeyed')],
    )
    await take(base)
    await settled()
  })

  test("requests of Envoy's own access log", async () => {
    await observe('log.test')
    let lines: string[] = []
    await eventually('all are logged', () => {
      const whole = gateway.log('envoy').split('\n').slice(0, -1)
      lines = whole.filter((line) => line.includes('"host":"log.test"'))
      return lines.length === PROBES.length
    })
    save('envoy.log', `${lines.join('\n')}\nno line of it\n`)
    save(
      'new.yaml',
      changed((config) => {
        config.rules.methods = ['POST']
        config.zones = { 'default/3': { as: '2' } }
      }),
    )
    const { code, said } = await diff({ log: 'envoy.log' })
    const { requests, differently, changes, unknown, unreadable } = said.log as NonNullable<Diff['log']>
    const isGet = PROBES.filter(([, method]) => method === 'GET').length
    const isMerged = PROBES.filter(([zone, method]) => zone === 'default/3' && method === 'POST').length
    assert.deepEqual(
      [code, requests, differently, changes.map((each) => [each.change, each.requests])],
      [
        1,
        PROBES.length,
        isGet + isMerged,
        [
          ['refusal', isGet],
          ['name', isMerged],
        ],
      ],
      JSON.stringify(said.log, null, 1),
    )
    assert.deepEqual([unknown.requests, unreadable.lines], [0, 1])
  })

  test('a zone that is pinned by command stays where it is, whatever the nameservers say', async () => {
    await run(pinCommand, ['default/2', TWO], { for: '10m', because: 'a test' })
    save(
      'new.yaml',
      changed(({ dns }) => (dns.nameservers = [other.address])),
    )
    assert.deepEqual(namedBy((await diff({})).said), ['default/3'])
  })

  test('a nameserver that does not answer: nobody can tell', async () => {
    const silent = `127.0.0.1:${await freePort()}`
    save(
      'new.yaml',
      changed(({ dns }) => Object.assign(dns, { nameservers: [silent], timeoutMs: 200 })),
    )
    const { code, said } = await diff({})
    assert.deepEqual([code, said.result, kindsOf(said)], [2, 'unknown', ['unknown']])
  })

  test('files in force that nobody knows: no comparison with them', async () => {
    save('new.yaml', base)
    const clusters = readFileSync('envoy/clusters.yaml', 'utf8')
    save('envoy/clusters.yaml', `${clusters}resources: []\n`)
    await eventually('the file is at fault', async () => (await gateway.status()).policy.faults.length > 0)
    await assert.rejects(
      diff({ envoy: 'new-envoy' }),
      /^UsageError: --envoy: the processor does not know which of Envoy's files/,
    )
    save('envoy/clusters.yaml', clusters)
  })

  test('a file at fault: the faults that validate names', async () => {
    save('new.yaml', 'rules: { port: 0 }\ndns: { serach: x }\n')
    const { code, said } = await diff({})
    const { written } = await run(validateCommand, ['new.yaml'], {})
    const { faults } = JSON.parse(written)
    assert.deepEqual([code, said, faults.length], [2, { result: 'unknown', faults }, 2])
  })
})
