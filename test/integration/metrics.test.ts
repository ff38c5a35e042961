import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { after, before, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { parse } from 'yaml'
import { type MetricSources, Metrics } from '../../src/admin/metrics.ts'
import { Rcode } from '../../src/dns/message.ts'
import type { Pin } from '../../src/pins/pins.ts'
import { DecisionCounts, DnsQueryCounts, PushCounts } from '../../src/status/counts.ts'
import { WorstZones } from '../../src/status/worst-zones.ts'
import { ZoneActivity } from '../../src/status/zone-activity.ts'
import { eventually, startProcessorAlone, type TestProcessor } from '../support/processor.ts'

/** What Prometheus reads, what is written about it, and what is made of it: all name the same metrics. */
const ROOT = fileURLToPath(new URL('../..', import.meta.url))
const read = (path: string): string => readFileSync(`${ROOT}/${path}`, 'utf8')
const SCRAPE_MS_MAX = 50
const SCRAPE_OCTETS_MAX = 100_000
/** RCODEs with a name, others, and why there was no usable answer. */
const OUTCOMES = [
  ...Object.keys(Rcode),
  ...['RCODE4000', 'timeout', 'unreachable', 'lame', 'cname_chain', 'malformed'],
]

let processor: TestProcessor
const PIN: Pin = {
  zone: '12',
  addresses: ['10.0.0.5'],
  who: 'ada',
  because: 'disk full',
  since: '2026-11-28T03:00:00.000Z',
  until: '2026-11-28T05:00:00.000Z',
}

before(async () => {
  processor = await startProcessorAlone()
})
after(() => processor?.stop())

/** What a processor that does nothing has. */
const EMPTY: Pick<MetricSources, 'build' | 'decisions' | 'queries'> & Partial<MetricSources> = {
  build: { version: '', node: '', envoy: '', startedAt: '' },
  decisions: new DecisionCounts(),
  queries: new DnsQueryCounts(),
}
const metrics = new Metrics(EMPTY as MetricSources)
const views = metrics.views
metrics.close()

/** Names that a text uses, without what a histogram appends. */
function namesIn(text: string, prefix: 'zonegate' | 'envoy'): Set<string> {
  const names = text.match(new RegExp(`\\b${prefix}_[a-z0-9_]+`, 'g')) ?? []
  return new Set(names.map((name) => name.replace(/_(bucket|sum|count)$/, '')))
}

test('docs/metrics.md has exactly the metrics that there are', () => {
  const rows = read('docs/metrics.md')
    .split('\n')
    .filter((line) => line.startsWith('| `zonegate_'))
  const expected = views.map(({ name, type, labels, help }) => {
    const shown = labels.map((label) => `\`${label}\``).join(', ') || '–'
    return `| \`${name}\` | ${type} | ${shown} | ${help} |`
  })
  assert.equal(rows.join('\n'), expected.join('\n'))
})

test('a scrape is what Prometheus expects, within its bounds', async () => {
  await processor.ask('/api/explain?id=12')
  const { status, headers, text } = await processor.ask('/metrics')
  // The best of many: the machine may be busy with other tests.
  await eventually(`one within ${SCRAPE_MS_MAX} ms`, async () => {
    const startedMs = performance.now()
    await processor.ask('/metrics')
    return performance.now() - startedMs < SCRAPE_MS_MAX
  })
  assert.equal(status, 200)
  assert.match(headers['content-type'] ?? '', /^text\/plain; version=0\.0\.4/)
  assert.ok(text.length < SCRAPE_OCTETS_MAX, `${text.length} octets`)
  for (const { name, type } of views) assert.match(text, new RegExp(`^# TYPE ${name} ${type}$`, 'm'))
  assert.match(text, /^zonegate_dns_queries_total\{nameserver="127\.0\.0\.1:9",outcome="unreachable"\} 1$/m)
  for (const result of ['hot', 'forwarded', 'refused', 'unresolved'])
    assert.match(
      text,
      new RegExp(`^zonegate_rule_requests_total\\{rule="default",result="${result}"\\} 0$`, 'm'),
    )
  assert.match(text, /^zonegate_build_info\{version="[^"]+",node="v[^"]+"\} 1$/m)
})

test(`a scrape of 2,000 zones and every label at its most is within ${SCRAPE_OCTETS_MAX} octets`, async () => {
  const activity = new ZoneActivity({ coldMax: 2000, idleMs: 1000 }, () => 0)
  for (let id = 1; id <= 2000; id += 1)
    activity.changed({ service: 'default', id: String(id) }, 'learned', `zone${id}-default.game.test`)
  const worstZones = new WorstZones(activity, () => 100)
  for (let id = 1; id <= 2000; id += 1)
    activity.reported('e', { service: 'default', id: String(id) }, { requests: 100, errors: 50 })
  for (let slot = 0; slot < 3; slot += 1) worstZones.nextSlot()
  // As many nameservers as are counted at once, IPv6, and as many outcomes as have a name.
  const queries = new DnsQueryCounts()
  const nameservers = Array.from({ length: 16 }, (_, at) => `[2001:db8:1234:5678:9abc:def0:1234:${at}]:53`)
  for (const nameserver of nameservers)
    for (const outcome of OUTCOMES)
      queries.count({ nameserver, outcome, milliseconds: 1.5, type: 'A', transport: 'udp' })
  const lookups = { fresh: 1, stale: 1, backedOff: 1, waited: 1, overloaded: 1, rateLimited: 1 }
  const full = new Metrics({
    build: { version: '0.1.0', node: 'v24.0.0', envoy: '1.40.0', startedAt: '' },
    decisions: new DecisionCounts(),
    queries,
    dns: () => ({
      nameservers: nameservers.map((nameserver) => ({
        nameserver,
        failures: 1,
        edns: true,
        smoothedRttMs: 1,
        outcomes: {},
      })),
      search: 'game.test',
      searchOffered: null,
      lookups,
      names: 2000,
      namesKept: 2000,
      queriesInFlight: 0,
      refreshesWaiting: 0,
    }),
    zones: () => ({ known: activity.size, learned: activity.learnedCount }),
    worstZones,
    spans: { made: 1, sent: 1, failed: 1 },
    pins: () => ({ pins: [PIN], fault: null }),
    controlPlane: () => null,
    pushes: () => new PushCounts().totals,
    bugs: () => ({ request: 1, dns: 1 }),
    history: () => ({ events: 1, bytes: 1, bytesMax: 1, oldestAt: 1, fault: null, lost: 0 }),
    config: () => ({
      source: 'defaults',
      loadedAt: '',
      faults: [],
      needsRestart: [],
      reloads: { accepted: 0, rejected: 0 },
    }),
    policy: () => ({ faults: [], reasons: [], needsRestart: [] }),
    certificates: () => ({ cert: new Date(0), clientCa: new Date(0) }),
    upstreamCertificates: () => [
      { file: 'certs/zones.pem', use: 'ca', expiresAt: new Date(0), fault: null, warning: null },
    ],
    ready: () => true,
  })
  const text = await full.text()
  full.close()
  assert.match(text, /^zonegate_zones\{set="learned"\} 2000$/m)
  assert.equal(text.match(/^zonegate_zone_errors\{/gm)?.length, 50)
  assert.match(text, /^zonegate_pins 1$/m)
  assert.match(
    text,
    new RegExp(`^zonegate_pin_oldest_timestamp_seconds ${Date.parse(PIN.since) / 1000}$`, 'm'),
  )
  assert.ok(text.length <= SCRAPE_OCTETS_MAX, `${text.length} octets`)
})

test('a label value may have quotes, backslashes and line breaks', async () => {
  const hostile = new Metrics({ ...EMPTY, bugs: () => ({ 'a"b\\c\nd': 1 }) } as MetricSources)
  const bugs = hostile.views.find(({ name }) => name === 'zonegate_exceptions_total')
  hostile.close()
  assert.deepEqual(bugs?.samples(), ['zonegate_exceptions_total{place="a\\"b\\\\c\\nd"} 1'])
})

test('no zone is named because somebody asked for it', async () => {
  await processor.ask('/api/explain?id=unmistakable')
  const { text } = await processor.ask('/metrics')
  assert.doesNotMatch(text, /unmistakable/)
})

test('names are in base units, counters end in _total', () => {
  for (const { name, type } of views) {
    assert.equal(name.endsWith('_total'), type === 'counter', name)
    assert.doesNotMatch(name, /_(ms|milliseconds|minutes|kb|mb|percent)(_|$)/)
  }
})

for (const file of ['deploy/prometheus/alerts.yaml', 'deploy/grafana/zonegate.json', 'docs/metrics.md']) {
  test(`${file} names no metric of the processor that there isn't`, () => {
    const known = new Set(views.map(({ name }) => name))
    const unknown = [...namesIn(read(file), 'zonegate')].filter((name) => !known.has(name))
    assert.deepEqual(unknown, [])
  })
}

test('each alert has a severity, a summary and what to do', () => {
  const { groups } = parse(read('deploy/prometheus/alerts.yaml'))
  for (const { rules } of groups)
    for (const { alert, labels, annotations } of rules) {
      assert.ok(['critical', 'warning'].includes(labels?.severity), alert)
      assert.ok(annotations?.summary && annotations?.action, alert)
    }
})

test('the dashboard is one that Grafana can import: each panel has a place, a title and its source', () => {
  const { panels, uid } = JSON.parse(read('deploy/grafana/zonegate.json'))
  assert.equal(uid, 'zonegate')
  const taken = new Set<string>()
  for (const { title, gridPos, type, targets, datasource } of panels) {
    assert.ok(title && gridPos, title)
    const place = `${gridPos.x} ${gridPos.y}`
    assert.ok(!taken.has(place), `${title}: another panel is at ${place}`)
    taken.add(place)
    if (type === 'row') continue
    // biome-ignore lint/suspicious/noTemplateCurlyInString: Grafana's variable
    assert.deepEqual(datasource, { type: 'prometheus', uid: '${datasource}' }, title)
    assert.ok(targets.length > 0 && targets.every(({ expr }: { expr: string }) => expr), title)
  }
})

const promtool = spawnSync('promtool', ['--version']).error === undefined
const skip = !promtool && 'promtool is not installed (Debian: prometheus)'
test('promtool check metrics finds no fault with the metrics of the processor', { skip }, async () => {
  const { text: input } = await processor.ask('/metrics')
  const { stderr } = spawnSync('promtool', ['check', 'metrics'], { input, encoding: 'utf8' })
  // It does not like the names of three of prom-client's own.
  const faults = stderr.split('\n').filter((line) => line !== '' && !line.startsWith('nodejs_'))
  assert.deepEqual(faults, [])
})
for (const args of [
  ['check', 'rules', 'alerts.yaml'],
  ['test', 'rules', 'alerts.test.yaml'],
  ['check', 'config', '--syntax-only', 'prometheus.yml'],
]) {
  test(`promtool ${args.join(' ')}`, { skip }, () => {
    const { status, stdout, stderr } = spawnSync('promtool', args, {
      cwd: `${ROOT}/deploy/prometheus`,
      encoding: 'utf8',
      timeout: 120_000,
    })
    assert.equal(status, 0, `${stdout}${stderr}`)
  })
}
