import assert from 'node:assert/strict'
import { test } from 'node:test'
import { isReason, REASONS } from '../status/reasons.ts'
import type { Status, ZoneStatus } from '../status/status.ts'
import type { EnvoyStatus } from '../xds/envoy-stream.ts'
import type { Arguments, Command, Terminal } from './command.ts'
import { explainCommand, explainedText } from './explain.ts'
import { flushText } from './flush.ts'
import { envoysText, rulesText, summaryText, zonesText } from './status.ts'
import { duration, json, paintFor, plain, table } from './text.ts'

/** What a command writes. */
async function run(command: Command, positionals: string[], flags: string[] = []): Promise<string> {
  let written = ''
  const stdout = { write: (text: string) => (written += text) }
  const args: Arguments = {
    positionals,
    text: () => undefined,
    texts: () => [],
    flag: (option) => flags.includes(option),
  }
  assert.equal(await command.run(args, { environment: {}, stdout, colour: false } as unknown as Terminal), 0)
  return written
}

for (const [reason, { status, cause, wayOut }] of Object.entries(REASONS)) {
  test(`explain ${reason}: cause and way out`, async () => {
    assert.ok(isReason(reason))
    assert.equal(
      await run(explainCommand, [reason]),
      `${reason} (${status})\n\nCause:   ${cause}\nWay out: ${wayOut}\n`,
    )
    assert.deepEqual(JSON.parse(await run(explainCommand, [reason], ['json'])), {
      reason,
      status,
      cause,
      wayOut,
    })
  })
}

/** The overview of a processor that has been up for this long. */
function summary(upMs: number, policy: Partial<Status['policy']> = {}): string {
  const status = {
    at: upMs,
    build: { version: '0.1.0', node: 'v24.0.0', envoy: '1.40.0', startedAt: new Date(0).toISOString() },
    awayMs: 36_000,
    ready: true,
    unready: {},
    config: { source: 'z.yaml', loadedAt: new Date(0).toISOString(), faults: [], needsRestart: [] },
    policy: { reasons: [], faults: [], needsRestart: [], ...policy },
    dns: { search: 'a.test', searchOffered: null },
    exceptions: {},
  }
  return summaryText(status as unknown as Status, (_, text) => text)
}

test('status tells for a day that no processor ran before this one', () => {
  assert.match(summary(23 * 3_600_000), /^no processor ran for 36 s before this one\. If Envoy ran, /m)
  assert.doesNotMatch(summary(25 * 3_600_000), /no processor ran/)
})

test('status: a position in the file in force, while the saved file has faults', () => {
  const reasons = ['envoy/routes.yaml:50:24: num_retires: no such field']
  const faults = ['envoy/routes.yaml:1:1: broken']
  assert.match(
    summary(0, { reasons, faults }),
    /^no zone is learned: .*:50:24: .* \(in the file in force\)$/m,
  )
  assert.match(summary(0, { reasons }), /^no zone is learned: .*:50:24: .* no such field$/m)
})

test('status envoys: an Envoy of a version that this release is not tested with is named', () => {
  const resource = { held: 7, rejected: 0, acks: 1, nacks: 0, lastAckMs: 1 }
  const envoy = (name: string, version: string | null, testedVersion: boolean): EnvoyStatus => ({
    envoy: name,
    version,
    testedVersion,
    connectedMs: 5000,
    resources: { cluster: resource, endpoints: resource, virtualHost: resource },
    lastRejection: undefined,
  })
  const build = { version: '0.1.0', node: 'v24.0.0', envoy: '1.40.0', startedAt: '' }
  const envoys = [envoy('a', '1.40.1', true), envoy('b', '1.39.2', false), envoy('c', null, true)]
  assert.deepEqual(
    envoysText({ build, envoys }, (_, text) => text)
      .trimEnd()
      .split('\n')
      .map((line) => line.replace(/ +/g, ' ')),
    [
      'ENVOY VERSION CONNECTED CLUSTERS ENDPOINTS ROUTES REFUSED NACKS LAST NACK',
      'a 1.40.1 5 s 7 7 7 0 0 -',
      'b 1.39.2 (not the tested 1.40.0) 5 s 7 7 7 0 0 -',
      'c - 5 s 7 7 7 0 0 -',
    ],
  )
})

test('status rules: requests and rate, refusals with the most frequent first', () => {
  const rules = [
    {
      name: 'pay',
      requests: 120,
      hot: 90,
      forwarded: 10,
      refused: { id_missing: 3, name_not_found: 17 },
      requestsPerSecond: 1.3,
    },
    { name: 'chat', requests: 0, hot: 0, forwarded: 0, refused: {}, requestsPerSecond: 0 },
  ]
  assert.deepEqual(
    rulesText({ rules }, (_, text) => text)
      .split('\n')
      .map((line) => line.replace(/ +/g, ' ')),
    [
      'RULE REQ/S REQUESTS HOT REFUSED BY REASON',
      'pay 1.3 120 90 name_not_found 17, id_missing 3',
      'chat 0.0 0 0 -',
      '',
    ],
  )
})

test('status zones: what TTL 0 costs is said', () => {
  const zone: ZoneStatus = {
    service: 'default',
    id: '1',
    name: 'zone1-default.game.test',
    state: 'uncached',
    addresses: ['10.0.0.1'],
    expiresAt: null,
    route: 'cold',
    coldReason: 'ttl_zero',
    envoys: [],
    requestsPerSecond: 1,
    errors: 0,
  }
  const shown = (zones: readonly ZoneStatus[]): string =>
    zonesText({ at: 0, zones, zonesLearned: 0 }, 10, (_, text) => text)
  assert.match(shown([zone]), /^1 +default +uncached +cold, ttl_zero .* 10\.0\.0\.1 /m)
  assert.match(shown([zone]), /^uncached: 1\. Their TTL is 0, so each request asks a nameserver/m)
  assert.ok(!shown([{ ...zone, state: 'fresh', expiresAt: 1 }]).includes('TTL is 0'))
})

test('flush: what ended, or that there was nothing', () => {
  assert.equal(flushText({ flushed: 'all', names: 3 }), 'flushed: all')
  assert.equal(flushText({ flushed: 'a.test', names: 2 }), 'flushed: a.test')
  assert.equal(flushText({ flushed: 'all', names: 0 }), 'nothing to flush: the cache is empty')
  assert.equal(
    flushText({ flushed: 'a.test', names: 0 }),
    'nothing to flush: the cache has no answer for a.test',
  )
})

test('a table is as wide as its widest cells, numbers to the right', () => {
  const columns = [
    { title: 'NAME', text: ({ name }: { name: string }) => name },
    { title: 'N', align: 'right' as const, text: ({ n }: { n: number }) => String(n) },
  ]
  const rows = [
    { name: 'a', n: 5 },
    { name: 'longer', n: 1234 },
  ]
  const paint = paintFor({ colour: false } as Terminal)
  assert.equal(table(columns, rows, paint), 'NAME       N\na          5\nlonger  1234\n')
})

test('colours only where they are wanted', () => {
  assert.equal(paintFor({ colour: true } as Terminal)('red', 'x'), '\u001b[31mx\u001b[0m')
  assert.equal(paintFor({ colour: false } as Terminal)('red', 'x'), 'x')
})

test("a client's control characters never reach the terminal", () => {
  assert.equal(plain('a\u001b[2Jb\r\n\u009bc'), 'a [2Jb   c')
  const sent = { requestId: '\u001b[2J\u009b2J\u007f\u0085é' }
  assert.equal(json(sent), '{\n  "requestId": "\\u001b[2J\\u009b2J\\u007f\\u0085é"\n}\n')
  assert.deepEqual(JSON.parse(json(sent)), sent)
  const text = explainedText(
    {
      request: { method: 'POST', path: '/\u001b]0;x\u0007', authority: '', ids: ['1'], bodyOctets: 0 },
      rule: null,
      id: null,
      steps: [{ step: 'id', ok: false, text: 'a\u001b[1m' }],
      zone: null,
      dns: null,
      decision: { result: 'forward', authorities: [] },
      envoys: [],
    },
    (_, painted) => painted,
  )
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these are looked for
  assert.doesNotMatch(text, /[\u0000-\u0009\u000b-\u001f]/)
})

const DURATIONS: [seconds: number, expected: string][] = [
  [0.4, '0 s'],
  [-3, '0 s'],
  [119, '119 s'],
  [120, '2 min'],
  [7199, '120 min'],
  [7200, '2 h'],
  [172_800, '2 d'],
]
for (const [seconds, expected] of DURATIONS)
  test(`${seconds} seconds are ${expected}`, () => assert.equal(duration(seconds), expected))
