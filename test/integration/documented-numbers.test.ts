import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { parseConfig } from '../../src/config/load.ts'

/**
 * Numbers in the documents are those of the code and of Envoy's files. Each row below is a sentence as it stands there, with
 * `<n>` for each number, and what these are. A number that is stale fails, and so does a sentence that was reworded.
 */
const ROOT = fileURLToPath(new URL('../..', import.meta.url))
const texts = new Map<string, string>()
function read(path: string): string {
  const text = texts.get(path) ?? readFileSync(`${ROOT}/${path}`, 'utf8')
  texts.set(path, text)
  return text
}

/** A constant of the source, by its name: `const NAME = 4 * 1024` or `name: 5_000`. */
function constant(file: string, name: string): number {
  const [, text] = new RegExp(`\\b${name} ?[:=] ([\\d_ .*/]*\\d)`).exec(read(`src/${file}`)) ?? []
  if (text === undefined) return assert.fail(`no number ${name} in src/${file}`)
  return text.split('*').reduce((product, factor) => product * Number(factor.replaceAll('_', '').trim()), 1)
}

/** A number of one of Envoy's files, behind a text that stands there. */
function envoy(file: string, before: string): number {
  const text = read(`envoy/${file}`)
  const at = text.indexOf(before)
  assert.notEqual(at, -1, `no "${before}" in envoy/${file}`)
  return quantity(/[\d.]+\w*/.exec(text.slice(at + before.length))?.[0] ?? '')
}

const UNITS: Readonly<Record<string, number>> = {
  ms: 1,
  s: 1000,
  second: 1000,
  seconds: 1000,
  minute: 60_000,
  minutes: 60_000,
  hour: 3_600_000,
  KiB: 1024,
  MiB: 1024 ** 2,
  Mi: 1024 ** 2,
  GiB: 1024 ** 3,
}
const WORDS: Readonly<Record<string, number>> = { a: 1, an: 1, two: 2, four: 4, five: 5, ten: 10 }

/** `16,640`, `0.5 s` and `0.5s` (milliseconds), `4 MiB` (octets), `two seconds`. */
function quantity(text: string): number {
  const [, number = '', unit = ''] = /^([\d.,]*\d|[a-z]+) ?([A-Za-z]*)$/.exec(text) ?? []
  const value = WORDS[number] ?? Number(number.replaceAll(',', ''))
  return Math.round(value * (UNITS[unit] ?? 1) * 1e6) / 1e6
}

const NUMBER =
  '((?:\\d[\\d,.]*|\\b(?:an?|two|four|five|ten))(?: ?(?:ms|s|seconds?|minutes?|hours?|[KMG]iB))?(?![\\w])|\\d[\\d,]*\\d|\\d)'

const { dns, learned } = parseConfig('', 'defaults')
const seconds = (value: number): number => value * 1000
const patience = (name: string): number => constant('grpc/listener.ts', name)
const limits = (name: string): number => constant('xds/envoy-client.ts', name)
const kubernetes = (at: number): number =>
  quantity([...read('deploy/kubernetes/deployment.yaml').matchAll(/limits: { memory: (\w+)/g)][at]?.[1] ?? '')

const BOUNDS = 'docs/operations.md'
const ROWS: readonly [document: string, sentence: string, ...numbers: number[]][] = [
  [
    BOUNDS,
    '| connections to `listen.grpc` | <n>: <n> Envoys with 64 workers',
    constant('grpc/listener.ts', 'CONNECTIONS_MAX'),
    limits('ENVOYS_MAX'),
  ],
  [
    BOUNDS,
    '| a connection that sends nothing | <n>; <n> for a TLS handshake',
    patience('silentMs'),
    patience('handshakeMs'),
  ],
  [
    BOUNDS,
    '| a peer that is gone, or never reads | <n>, then <n> for',
    constant('grpc/server.ts', 'pingAfterMs'),
    constant('grpc/server.ts', 'pingAnswerMs'),
  ],
  [BOUNDS, '| spans that wait for a collector | <n> |', constant('tracing/otlp.ts', 'WAITING_MAX')],
  [BOUNDS, '| streams of one connection | <n>,', constant('grpc/server.ts', 'STREAMS_PER_CONNECTION_MAX')],
  [
    BOUNDS,
    '| requests (ext_proc streams) open at once | <n> |',
    constant('ext-proc/open-streams.ts', 'STREAMS_MAX'),
  ],
  [
    BOUNDS,
    "| a request's stream without a head | <n> |",
    constant('ext-proc/open-streams.ts', 'HEAD_WITHIN_MS'),
  ],
  [BOUNDS, '| one message, unpacked | <n> |', constant('grpc/server.ts', 'MESSAGE_OCTETS_MAX')],
  [
    BOUNDS,
    '| buffers of all connections: unfinished messages, unread answers | <n> |',
    constant('grpc/buffer-guard.ts', 'BUFFERED_OCTETS_MAX'),
  ],
  [BOUNDS, '| a stream to the control plane without a request | <n> |', limits('FIRST_REQUEST_WITHIN_MS')],
  [
    BOUNDS,
    '| watches of `grpc.health.v1.Health` | <n>, <n> each',
    constant('grpc/health-service.ts', 'WATCHERS_MAX'),
    constant('grpc/health-service.ts', 'WATCH_MS'),
  ],
  [BOUNDS, '| Envoys | <n> |', limits('ENVOYS_MAX')],
  [
    BOUNDS,
    '| names one Envoy asks for, of a kind | <n>, of <n> characters, <n> for all kinds',
    limits('NAMES_MAX'),
    limits('NAME_LENGTH_MAX'),
    limits('NAMES_OCTETS_MAX'),
  ],
  [
    BOUNDS,
    '| resources in one push | <n>, virtual hosts <n> |',
    constant('xds/rollout.ts', 'cluster'),
    constant('xds/rollout.ts', 'virtualHost'),
  ],
  [BOUNDS, 'the page and `status` | <n> |', constant('turns.ts', 'TURN_MS')],
  [
    BOUNDS,
    'it is tried again after <n>, then twice as long each time, <n> at most',
    constant('xds/refusals.ts', 'first'),
    constant('xds/refusals.ts', 'max'),
  ],
  [BOUNDS, '| TCP connections to one nameserver | <n>,', constant('dns/tcp.ts', 'CONNECTIONS_MAX')],
  [
    BOUNDS,
    '| names and addresses of one DNS answer | <n> of names beyond its own length; <n> addresses, of which <n> are kept',
    constant('dns/message.ts', 'POINTED_OCTETS_MAX'),
    constant('dns/classify.ts', 'ADDRESSES_MAX'),
    constant('dns/address-resolver.ts', 'ADDRESSES_MAX'),
  ],
  [BOUNDS, '| connections to `listen.http` | <n> |', constant('admin/server.ts', 'CONNECTIONS_MAX')],
  [
    BOUNDS,
    '| a request there | <n>, 16 KiB of headers, <n> characters of URL',
    constant('admin/server.ts', 'REQUEST_TIMEOUT_MS'),
    constant('admin/server.ts', 'URL_LENGTH_MAX'),
  ],
  [
    BOUNDS,
    '| pages that watch | <n>, each <n> behind',
    constant('admin/status-events.ts', 'CLIENTS_MAX'),
    constant('admin/status-events.ts', 'BACKLOG_OCTETS_MAX'),
  ],
  [
    BOUNDS,
    '| explanations at once | <n>, each with a body of <n> |',
    constant('admin/server.ts', 'EXPLANATIONS_MAX'),
    constant('status/request-description.ts', 'BODY_OCTETS_MAX'),
  ],
  [BOUNDS, '| log lines that nobody reads | <n> |', constant('log-output.ts', 'WAITING_OCTETS_MAX')],
  [
    BOUNDS,
    '| log lines of one kind | <n>, then <n> a second',
    constant('line-limit.ts', 'BURST'),
    constant('line-limit.ts', 'LINES_PER_SECOND'),
  ],
  [
    BOUNDS,
    '<n> learned zones (`learned.zonesMax`), <n> names\n(`dns.cacheEntriesMax`), <n> DNS queries (`dns.queriesInFlightMax`), <n> queries a second for names not in use\n(`dns.unknownNames`), <n> requests (`circuit_breakers`), <n> client connections (`overload_manager`)',
    learned.zonesMax,
    dns.cacheEntriesMax,
    dns.queriesInFlightMax,
    dns.unknownNames.queriesPerSecond,
    envoy('clusters.yaml', 'max_pending_requests: '),
    envoy('envoy.yaml', 'max_active_downstream_connections: '),
  ],
  [
    'docs/configuration.md',
    'The processor looks at the file <n> times a second',
    1000 / constant('config/live-config.ts', 'POLL_MS'),
  ],
  [
    'docs/configuration.md',
    '| `json` | a body over <n>, or one that is not an object',
    constant('../envoy/id_in_body.lua', 'LENGTH_MAX'),
  ],
  [
    'docs/configuration.md',
    '| `form` | a body over <n>, or with a',
    constant('../envoy/id_in_body.lua', 'LENGTH_MAX'),
  ],
  ['docs/configuration.md', '| `forward`: `timeout` | `<n>`', envoy('routes.yaml', ' timeout: ')],
  ['docs/configuration.md', '| `forward`: `idle_timeout` | `<n>`', envoy('routes.yaml', ' idle_timeout: ')],
  ['docs/configuration.md', '| `forward`: `num_retries` | <n>', envoy('routes.yaml', 'num_retries: ')],
  [
    'docs/configuration.md',
    '| `forward`: `per_try_timeout` | `<n>`',
    envoy('routes.yaml', 'per_try_timeout: '),
  ],
  [
    'docs/configuration.md',
    '| cluster `zones`: `connect_timeout` | `<n>`',
    envoy('clusters.yaml', 'connect_timeout: '),
  ],
  [
    'docs/configuration.md',
    '| cluster `zones`: `circuit_breakers` | <n> each',
    envoy('clusters.yaml', '{ max_connections: '),
  ],
  [
    'docs/configuration.md',
    '| cluster `zones`: `idle_timeout` | `<n>`',
    envoy('clusters.yaml', 'common_http_protocol_options: { idle_timeout: '),
  ],
  [
    'docs/configuration.md',
    '| cluster `processor`: `circuit_breakers` | <n> requests',
    envoy('envoy.yaml', 'max_connections: 64, max_pending_requests: 4096, max_requests: '),
  ],
  [
    'docs/configuration.md',
    '| `ext_proc`: `message_timeout` | `<n>`',
    envoy('listener.yaml', 'message_timeout: '),
  ],
  [
    'docs/configuration.md',
    '| listener: `stream_idle_timeout` | `<n>`',
    envoy('listener.yaml', 'stream_idle_timeout: '),
  ],
  [
    'docs/configuration.md',
    '| listener: `idle_timeout` | `<n>`',
    envoy('listener.yaml', '          idle_timeout: '),
  ],
  [
    'docs/configuration.md',
    '| `overload_manager` | <n> |',
    envoy('envoy.yaml', 'max_active_downstream_connections: '),
  ],
  [
    'docs/configuration.md',
    'how many of its own answers Envoy logs: <n> a second, bursts of <n>.',
    envoy('refusal-log-rate.yaml', 'tokens_per_fill: '),
    envoy('refusal-log-rate.yaml', 'max_tokens: '),
  ],
  [BOUNDS, '504 `processor_timeout` after <n>;', envoy('listener.yaml', 'message_timeout: ')],
  ['docs/ARCHITECTURE.md', 'known addresses serve for <n> past their TTL', seconds(dns.staleSeconds)],
  [BOUNDS, '| hangs or slow | 504 after <n>;', envoy('routes.yaml', 'per_try_timeout: ')],
  [BOUNDS, 'open requests are answered, within <n>;', constant('processor/serve.ts', 'DRAIN_MS')],
  [
    'docs/ARCHITECTURE.md',
    'After two requests for a zone within <n> the processor pushes it',
    seconds(learned.idleSeconds),
  ],
  [
    'docs/troubleshooting.md',
    'headers did not come within <n>, the body not within <n>, or neither end of the request moved for <n>:',
    envoy('listener.yaml', 'stream_idle_timeout: '),
    envoy('listener.yaml', 'request_timeout: '),
    envoy('routes.yaml', ' idle_timeout: '),
  ],
  [
    'docs/troubleshooting.md',
    'over <n> header lines, or over <n> of them with the path',
    envoy('listener.yaml', 'max_headers_count: '),
    envoy('listener.yaml', 'max_request_headers_kb: ') * 1024,
  ],
  [
    'docs/troubleshooting.md',
    '"No such name" is kept up to <n>, or <n> if the zone was in use;',
    seconds(dns.negativeTtlSecondsMax),
    constant('dns/cached-name.ts', 'GONE_MS_MAX'),
  ],
  ['docs/troubleshooting.md', 'no nameserver gave a usable answer within <n> |', dns.budgetMs],
  ['docs/troubleshooting.md', 'Names that resolved before go on for <n>', seconds(dns.staleSeconds)],
  [
    'docs/troubleshooting.md',
    '`dns.unknownNames` allows (<n> queries a second, <n> at once)',
    dns.unknownNames.queriesPerSecond,
    dns.unknownNames.queriesBurst,
  ],
  [
    'CHANGELOG.md',
    '`dns.unknownNames` (<n> queries a second, <n> at once)',
    dns.unknownNames.queriesPerSecond,
    dns.unknownNames.queriesBurst,
  ],
  [
    'docs/capacity.md',
    'held between <n> and <n> (`dns.ttlSeconds`)',
    dns.ttlSeconds.min,
    seconds(dns.ttlSeconds.max),
  ],
  ['docs/capacity.md', 'two requests for it in\n  <n> (`learned.idleSeconds`)', seconds(learned.idleSeconds)],
  [
    'docs/capacity.md',
    'A pod spreads its queries over time, <n> a second at most',
    constant('dns/refresh-queue.ts', 'REFRESHES_PER_SECOND_MAX'),
  ],
  [
    'docs/capacity.md',
    'lets <n> through\n  at once (a quarter of `queriesBurst` is kept for second tries) and then <n> a second',
    dns.unknownNames.queriesBurst * 0.75,
    dns.unknownNames.queriesPerSecond,
  ],
  ['docs/capacity.md', 'defaults are <n> for Envoy and <n> for the processor', kubernetes(1), kubernetes(0)],
  [
    'docs/configuration.md',
    '_MEMORY` | `<n>m`, `<n>m` | memory limits',
    kubernetes(1) / 1024 ** 2,
    kubernetes(0) / 1024 ** 2,
  ],
  ['docker-compose.yml', '_ENVOY_MEMORY:-<n>m', kubernetes(1) / 1024 ** 2],
  ['docker-compose.yml', '_PROCESSOR_MEMORY:-<n>m', kubernetes(0) / 1024 ** 2],
  ['docs/kubernetes.md', 'Envoy 1 CPU and 256 MiB, limit <n>;', kubernetes(1)],
  ['docs/kubernetes.md', 'processor 0.25 CPU and 256 MiB, limit <n>:', kubernetes(0)],
  [
    'docs/moving-from-openresty.md',
    'unused connections to zones are kept for <n> (`idle_timeout`)',
    envoy('clusters.yaml', 'common_http_protocol_options: { idle_timeout: '),
  ],
  [
    'docs/moving-from-openresty.md',
    'closes unused connections sooner than after <n>, or',
    envoy('clusters.yaml', 'common_http_protocol_options: { idle_timeout: '),
  ],
  [
    'README.md',
    'a newer Node from npm where yours is older than <n>,',
    constant('main.ts', 'NODE_MAJOR_LEAST'),
  ],
  [
    'docs/configuration.md',
    'null: `options timeout:` of `resolvConf` (<n> there by default)',
    seconds(constant('dns/resolv-conf.ts', 'TIMEOUT_SECONDS_DEFAULT')),
  ],
  [
    'docs/configuration.md',
    'null: `options attempts:` (<n>)',
    constant('dns/resolv-conf.ts', 'ATTEMPTS_DEFAULT'),
  ],
  [
    'docs/threat-model.md',
    'new for each query or shared for <n>;',
    constant('dns/transport.ts', 'SHARING_MS'),
  ],
  [
    'docs/threat-model.md',
    'over TCP one message, <n> connections',
    constant('dns/tcp.ts', 'CONNECTIONS_MAX'),
  ],
  ['docs/moving-from-openresty.md', '`connect_timeout: <n>` in', envoy('clusters.yaml', 'connect_timeout: ')],
  ['docs/moving-from-openresty.md', '`per_try_timeout: <n>` in', envoy('routes.yaml', 'per_try_timeout: ')],
  ['docs/moving-from-openresty.md', '`dns.ttlSeconds.max: <n>`', dns.ttlSeconds.max],
  [
    'docs/moving-from-openresty.md',
    'but as <n> at least (`dns.ttlSeconds.min`)',
    seconds(dns.ttlSeconds.min),
  ],
  [
    'docs/moving-from-openresty.md',
    '| connect | <n> | same, each try',
    envoy('clusters.yaml', 'connect_timeout: '),
  ],
  ['docs/moving-from-openresty.md', 'within a budget of <n> over all (`dns.budgetMs`)', dns.budgetMs],
  [
    'docs/moving-from-openresty.md',
    'its TTL, at least <n> and at most <n>;',
    dns.ttlSeconds.min,
    seconds(dns.ttlSeconds.max),
  ],
  [
    'docs/moving-from-openresty.md',
    'the old address serves for up to <n> (`dns.staleSeconds`',
    seconds(dns.staleSeconds),
  ],
  [
    'docs/moving-from-openresty.md',
    "cached for the SOA's minimum, <n> at most; <n> for a zone that was in use",
    seconds(dns.negativeTtlSecondsMax),
    constant('dns/cached-name.ts', 'GONE_MS_MAX'),
  ],
  ['docs/moving-from-openresty.md', '| <n> names; those in use stay |', dns.cacheEntriesMax],
]

for (const [document, sentence, ...numbers] of ROWS) {
  test(`${document}: ${sentence.replaceAll('\n', ' ')}`, () => {
    const pattern = sentence
      .split('<n>')
      .map((part) => part.replace(/[.*+?^${}()|[\]\\]/g, '\\$&').replaceAll('\n', '\\s+'))
      .join(NUMBER)
    const found = new RegExp(pattern).exec(read(document))
    assert.ok(found, `the sentence is not there any more: change it here, too`)
    assert.deepEqual(found.slice(1).map(quantity), numbers)
  })
}

test('each row of the table of bounds with a number of its own is compared', () => {
  const table = read(BOUNDS).split('## Bounds')[1]?.split('\n## ')[0] ?? ''
  const known = ROWS.filter(([document]) => document === BOUNDS).map(
    ([, sentence]) => sentence.split('<n>')[0] ?? '',
  )
  const rows = table.split('\n').filter((line) => /^\| [^|]*\| [^|]*\d/.test(line))
  const left = rows.filter(
    (row) => !/\| Node's: /.test(row) && !known.some((start) => row.includes(start.trimEnd())),
  )
  assert.deepEqual(left, [])
})

test("each value of Envoy's that docs/tuning.md names in a table is the one in Envoy's files", () => {
  const files = ['envoy.yaml', 'listener.yaml', 'clusters.yaml', 'routes.yaml', 'refusal-log-rate.yaml']
    .map((file) => read(`envoy/${file}`))
    .join('\n')
  // What may be set is not what is set: below its heading stand values to try.
  const shipped = read('docs/tuning.md').split('## What a request costs')[0] ?? ''
  const cells = shipped
    .split('\n')
    .filter((line) => line.startsWith('| '))
    .flatMap((line) => line.split(' | ').slice(0, 2))
    .flatMap((cell) =>
      [...cell.matchAll(/`(?:common_http_protocol_options: { )?(\w+: [^`{}]+?)(?: })?`/g)].map(
        ([, value]) => value ?? '',
      ),
    )
    .flatMap((cell) => cell.split(/, (?=\w+: )/))
    .filter((cell) => /\d/.test(cell) && !/^budgetMs/.test(cell))
  assert.ok(cells.length > 15, String(cells.length))
  assert.deepEqual(
    cells.filter((cell) => !files.includes(cell)),
    [],
  )
})

test('each default and each range in the tables of docs/configuration.md is that of the schema', () => {
  // biome-ignore lint/suspicious/noExplicitAny: a JSON schema
  const schema: any = JSON.parse(read('zonegate.schema.json'))
  const sections = read('docs/configuration.md').split(/^### /m)
  let compared = 0
  for (const name of ['rules', 'dns', 'learned']) {
    const section = sections.find((one) => one.startsWith(`${name}\n`)) ?? ''
    const rows = section.split('\n#### ', 1)[0]?.split('\n') ?? []
    for (const row of rows) {
      const [, key, byDefault = '', values = ''] = /^\| `([\w.]+)` \| ([^|]*) \| ([^|]*) \|/.exec(row) ?? []
      if (key === undefined) continue
      let node = name === 'rules' ? schema.$defs.rule : schema.properties[name]
      for (const step of key.split('.')) node = node.properties[step]
      const range = node.anyOf?.find((one: { type: string }) => one.type === 'integer') ?? node
      const [, min, max] = /^(\d+) to (\d+)/.exec(values) ?? []
      if (min !== undefined)
        assert.deepEqual([key, Number(min), Number(max)], [key, range.minimum, range.maximum])
      if (/^\d+$/.test(byDefault)) {
        assert.deepEqual([key, Number(byDefault)], [key, node.default])
        compared += 1
      }
    }
  }
  assert.ok(compared >= 10, String(compared))
})
