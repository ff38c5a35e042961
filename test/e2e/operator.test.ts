import assert from 'node:assert/strict'
import type { Socket as UdpSocket } from 'node:dgram'
import { readFileSync, renameSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { parse, stringify } from 'yaml'
import { startNameserver } from '../../demo/nameserver.ts'
import type { ZoneStatus } from '../../src/status/status.ts'
import { startGateway, type TestGateway } from '../support/gateway.ts'
import { call } from '../support/http.ts'
import { type Load, startLoad } from '../support/load.ts'
import { freePort } from '../support/ports.ts'
import { eventually, runCli } from '../support/processor.ts'
import { type Receiver, startReceiver } from '../support/receiver.ts'

/** What an operator sees and does while requests flow through a real Envoy. */
const ROOT = fileURLToPath(new URL('../..', import.meta.url))
const IDS = Array.from({ length: 50 }, (_, index) => String(index + 1))
const RELOADS = 20
/** An unknown key, a value out of range, half a file, and no YAML. */
const BREAKS: readonly ((text: string) => string)[] = [
  (text) => `${text}foo: 1\n`,
  (text) => text.replace(/timeoutMs: \d+/, 'timeoutMs: 0'),
  (text) => text.slice(0, text.indexOf('nameservers') + 4),
  () => 'dns: [\n',
]
const TRACE_ID = '0af7651916cd43dd8448eb211c80319c'
const TRACEPARENT = `00-${TRACE_ID}-b7ad6b7169203331-01`

let gateway: TestGateway
let nameserver: UdpSocket
let receiver: Receiver
let port: number
let config: Record<string, Record<string, unknown>>
const records: Record<string, readonly string[]> = {}
const name = (id: string): string => `zone${id}-default.game.test`

before(async () => {
  port = await freePort('127.0.72.1')
  receiver = await startReceiver('127.0.72.1', port)
  for (const id of IDS) records[name(id)] = ['127.0.72.1']
  nameserver = await startNameserver('127.0.0.1', await freePort(), records)
  const dns = {
    nameservers: [`127.0.0.1:${nameserver.address().port}`],
    search: 'game.test',
    ttlSeconds: { min: 1, max: 2 },
    timeoutMs: 200,
    budgetMs: 1000,
    negativeTtlSecondsMax: 1,
  }
  gateway = await startGateway({
    config: { rules: { port }, dns, addresses: { allow: ['127.0.72.0/24'] }, log: { level: 'info' } },
  })
  config = parse(readFileSync(join(gateway.folder, 'zonegate.yaml'), 'utf8'))
})
after(async () => {
  await gateway?.stop()
  await receiver?.close()
  if (nameserver !== undefined) await new Promise<void>((done) => nameserver.close(done))
})

const zone = async (id: string): Promise<ZoneStatus | undefined> =>
  (await gateway.status()).zones.find((one) => one.id === id)
const post = (id: string, headers: [string, string][] = []) =>
  call(gateway.port, { headers: [['server', id], ...headers], body: 'x' })
const cli = (...args: string[]) => runCli(args, gateway.folder)
const save = (text: string): void => {
  writeFileSync(join(gateway.folder, 'new.yaml'), text)
  renameSync(join(gateway.folder, 'new.yaml'), join(gateway.folder, 'zonegate.yaml'))
}
const reload = async (text: string): Promise<void> => {
  const { accepted, rejected } = (await gateway.status()).config.reloads
  save(text)
  gateway.processor?.process.kill('SIGHUP')
  await eventually('the file is read', async () => {
    const { reloads } = (await gateway.status()).config
    return reloads.accepted + reloads.rejected > accepted + rejected
  })
}
const onlySuccess = (load: Load): void =>
  assert.deepEqual(Object.fromEntries(load.outcomes), { '200': load.outcomes.get('200') })

test('a zone is listed from its first request, is hot after its second, and has a rate', async () => {
  assert.equal(await zone('1'), undefined)
  await post('1')
  const first = await zone('1')
  assert.deepEqual([first?.route, first?.state, first?.addresses], ['cold', 'fresh', ['127.0.72.1']])
  await post('1')
  assert.equal((await zone('1'))?.route, 'learned')
  await eventually(
    'an Envoy reports it',
    async () => {
      await post('1')
      return (await zone('1'))?.route === 'hot'
    },
    15_000,
  )
  const hot = await zone('1')
  assert.deepEqual(hot?.envoys, ['zonegate-envoy'])
  assert.ok((hot?.requestsPerSecond ?? 0) > 0)
  assert.equal(hot?.history?.length, 60)
})

test('explain says where its requests go on each Envoy', async () => {
  const { code, stdout } = await cli('explain', '--id', '1')
  assert.equal(code, 0)
  assert.match(stdout, /^ {2}ok {2}envoy {6}zonegate-envoy: hot, routed inside Envoy$/m)
})

test('status has the zone and the Envoy in its tables', async () => {
  const zones = await cli('status', 'zones')
  assert.match(
    zones.stdout,
    /^1 +default +fresh +hot +\d+ s +\d+\.\d +\d+ +127\.0\.72\.1 +zone1-default\.game\.test$/m,
  )
  const envoys = await cli('status', 'envoys')
  // One cluster of the zone, one of the cold path.
  assert.match(envoys.stdout, /^zonegate-envoy +1\.40\.\d+ +\d+ s +2 +1 +1 +0 +0 +-$/m)
})

test('a rule has the requests that never came to the processor, too, and its refusals by reason', async () => {
  await eventually(
    'an Envoy reports hot ones',
    async () => {
      await post('1')
      return ((await gateway.status()).rules[0]?.hot ?? 0) > 0
    },
    15_000,
  )
  assert.equal((await post('not_an_id')).status, 403)
  const [rule] = (await gateway.status()).rules
  assert.ok(rule)
  assert.deepEqual([rule.name, rule.refused], ['default', { server_header_invalid: 1 }])
  assert.equal(rule.requests, rule.hot + rule.forwarded + 1)
  const { stdout } = await cli('status', 'rules')
  assert.match(stdout, /^default +\d+\.\d +\d+ +[1-9]\d* +server_header_invalid 1$/m)
})

test(`${RELOADS} reloads under load, half of them invalid: 0 failed requests`, async () => {
  const load = startLoad(gateway.port, 16, IDS)
  try {
    for (let i = 0; i < RELOADS; i += 1) {
      const changed = structuredClone(config)
      changed['dns'] = { ...changed['dns'], timeoutMs: 200 + i }
      changed['learned'] = { zonesMax: 1000 + i, idleSeconds: 300 + i }
      changed['rules'] = { ...changed['rules'], methods: i % 4 === 0 ? ['POST'] : ['POST', 'PUT'] }
      const text = stringify(changed)
      const isSound = i % 2 === 0
      await reload(isSound ? text : (BREAKS[(i >> 1) % BREAKS.length]?.(text) ?? ''))
      await eventually(
        isSound ? 'it is taken' : 'it is refused',
        async () => ((await gateway.status()).config.faults.length === 0) === isSound,
      )
    }
    const { reloads } = (await gateway.status()).config
    assert.ok(reloads.accepted >= RELOADS / 2 && reloads.rejected >= RELOADS / 2, JSON.stringify(reloads))
    assert.ok((load.outcomes.get('200') ?? 0) > 500)
    onlySuccess(load)
    assert.ok((await gateway.status()).zonesLearned >= IDS.length - 1)
  } finally {
    await load.stop()
  }
})

test('learned.enabled: false, live: every zone asks again, true: they are learned again; 0 failed', async () => {
  const load = startLoad(gateway.port, 8, IDS)
  try {
    await reload(stringify({ ...config, learned: { enabled: false } }))
    await eventually('Envoy has no zones', async () => {
      const [envoy] = (await gateway.status()).envoys
      return envoy?.resources.virtualHost.held === 0
    })
    await reload(stringify(config))
    await eventually('Envoy has zones', async () => {
      const [envoy] = (await gateway.status()).envoys
      return (envoy?.resources.virtualHost.held ?? 0) >= IDS.length
    })
    onlySuccess(load)
  } finally {
    await load.stop()
  }
})

test("a request's lines have its request id and its trace id", async () => {
  const headers: [string, string][] = [
    ['x-request-id', 'traced-request'],
    ['traceparent', TRACEPARENT],
  ]
  await post('404', headers)
  const lines = (): Record<string, unknown>[] =>
    gateway
      .log('processor')
      .split('\n')
      .filter((line) => line.includes('traced-request'))
      .map((line) => JSON.parse(line))
  await eventually('the processor logs it', () => lines().length > 0)
  assert.deepEqual([lines()[0]?.['msg'], lines()[0]?.['trace_id']], ['refused', TRACE_ID])
  await eventually('Envoy logs it', () =>
    gateway
      .log('envoy')
      .split('\n')
      .some((line) => line.includes('traced-request') && line.includes(TRACEPARENT)),
  )
})

test('a traceparent that is none is left out of the line', async () => {
  await post('404', [
    ['x-request-id', 'untraced-request'],
    ['traceparent', `00-${'0'.repeat(32)}-b7ad6b7169203331-01`],
  ])
  const line = (): string | undefined =>
    gateway
      .log('processor')
      .split('\n')
      .find((one) => one.includes('untraced-request'))
  await eventually('the processor logs it', () => line() !== undefined)
  assert.doesNotMatch(line() ?? '', /trace_id/)
})

test('the name of a zone is gone: it is listed no more, and its requests are refused', async () => {
  await post('2')
  assert.ok(await zone('2'))
  delete records[name('2')]
  assert.equal((await cli('flush', name('2'))).stdout, `flushed: ${name('2')}\n`)
  await eventually('it is gone', async () => {
    await post('2')
    return (await zone('2')) === undefined
  })
  const { code, stdout } = await cli('explain', '--id', '2')
  assert.equal(code, 1)
  assert.match(stdout, /refuse with 502 name_not_found/)
})

test("each of Envoy's metrics in alerts, dashboard and documentation exists, with the filter that is given", async () => {
  const { scrape_configs } = parse(readFileSync(join(ROOT, 'deploy/prometheus/prometheus.yml'), 'utf8'))
  const [filter] = scrape_configs.find(({ job_name }: { job_name: string }) => job_name === 'envoy').params
    .filter
  const response = await fetch(
    `http://127.0.0.1:${gateway.adminPort}/stats/prometheus?filter=${encodeURIComponent(filter)}`,
  )
  const text = await response.text()
  const known = new Set([...text.matchAll(/^# TYPE (\w+) /gm)].map(([, metric]) => metric))
  const used = ['deploy/prometheus/alerts.yaml', 'deploy/grafana/zonegate.json', 'docs/metrics.md'].flatMap(
    (file) => readFileSync(join(ROOT, file), 'utf8').match(/\benvoy_[a-z0-9_]+/g) ?? [],
  )
  const labels = new Set([
    'envoy_response_code_class',
    'envoy_http_conn_manager_prefix',
    'envoy_cluster_name',
  ])
  const unknown = used.filter((metric) => !known.has(metric.replace(/_bucket$/, '')) && !labels.has(metric))
  assert.deepEqual([...new Set(unknown)], [])
  assert.ok(text.length < 200_000, `${text.length} octets`)
  assert.doesNotMatch(text, /default\/1"/)
})

// Last: the nameserver doesn't come back.
test('nameservers die: the zone is stale and goes on, explain and status say why', async () => {
  await new Promise<void>((done) => nameserver.close(done))
  await eventually(
    'it is stale',
    async () => {
      assert.equal((await post('1')).status, 200)
      return (await zone('1'))?.state === 'stale'
    },
    15_000,
  )
  const { code, stdout } = await cli('explain', '--id', '1')
  assert.equal(code, 0)
  assert.match(stdout, /in the cache: 1 address, stale: nameservers fail, the last answer serves on/)
  assert.match(stdout, /^ {2}no {2}query {6}127\.0\.0\.1:\d+ asked for A over udp: (unreachable|timeout)/m)
  const nameservers = await cli('status', 'nameservers')
  assert.match(nameservers.stdout, /^127\.0\.0\.1:\d+ +\d+ failures in a row/m)
  nameserver = await startNameserver('127.0.0.1', await freePort(), records)
})
