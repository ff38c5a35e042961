import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { rulesOf } from '../config/rules.ts'
import { configSchema } from '../config/schema.ts'
import type { Answer, Try } from '../dns/answer.ts'
import { type RejectReason, STATUS_OF_REASON } from '../routing/reject-reason.ts'
import type { RequestHead } from '../routing/rules.ts'
import { type ExplainSeams, explain } from './explain.ts'
import { REASONS } from './reasons.ts'

const name = 'zone12-default.s.test'
const asked: Try = {
  nameserver: '10.0.0.53:53',
  outcome: 'NOERROR',
  milliseconds: 1.23,
  type: 'A',
  transport: 'udp',
}
const positive: Answer = {
  kind: 'positive',
  name,
  addresses: ['10.0.0.1', '10.0.0.2'],
  denied: [],
  ttlSeconds: 7,
  stale: false,
}
const negative = (kind: 'nxdomain' | 'nodata'): Answer => ({ kind, name, ttlSeconds: 3, nameserver: 'n' })
const post: RequestHead = { method: 'POST', path: '/', ids: ['12'] }

const seams = (answer: Answer, cached: Answer | null = null): ExplainSeams => ({
  rules: rulesOf(configSchema.parse({})),
  search: 's.test',
  explainName: async () => ({ answer, tries: [asked], cached }),
  envoys: () => [
    { envoy: 'a', route: 'hot' },
    { envoy: 'b', route: 'cold' },
  ],
})
const texts = (steps: readonly { step: string; ok: boolean; text: string }[]): string[] =>
  steps.map(({ step, ok, text }) => `${ok ? 'ok' : 'no'} ${step}: ${text}`)

test('a request that is forwarded: every step, to each Envoy', async () => {
  const { steps, decision, dns } = await explain(post, seams(positive))
  assert.deepEqual(texts(steps), [
    'ok method: POST is in rules.methods',
    'ok id: server: "12" matches rules.idPattern',
    'ok service: / belongs to no other service: default, port 8101',
    'ok name: zone12-default.s.test (rules.host, search domain s.test)',
    'ok cache: not in the cache: a request waits for a nameserver',
    'ok query: 10.0.0.53:53 asked for A over udp: NOERROR in 1.2 ms',
    'ok answer: nameservers say: 2 addresses, fresh for 7 s',
    'ok addresses: 10.0.0.1, 10.0.0.2',
    'ok decision: forward to 10.0.0.1:8101 or 10.0.0.2:8101, in turn',
    'ok envoy: a: hot, routed inside Envoy',
    'ok envoy: b: cold, asks the processor',
  ])
  assert.deepEqual(decision, { result: 'forward', authorities: ['10.0.0.1:8101', '10.0.0.2:8101'] })
  assert.deepEqual([dns?.state, dns?.fromCache, dns?.ttlSecondsLeft], ['fresh', false, 7])
})

test('a path of a service: by which rule', async () => {
  const { steps } = await explain({ ...post, path: '/mail?x=1' }, seams(positive))
  assert.equal(texts(steps)[2], 'ok service: /mail belongs to the service mail, port 8101')
})

test('the cache decides, and what nameservers say beside it is told', async () => {
  const stale: Answer = { ...positive, stale: true, ttlSeconds: 1 }
  const { decision, dns } = await explain(post, seams(negative('nxdomain'), stale))
  assert.equal(decision.result, 'forward')
  assert.deepEqual(
    [dns?.state, dns?.fromCache, dns?.nameserversSay, dns?.ttlSecondsLeft],
    ['stale', true, 'nxdomain', null],
  )
})

const failure: Answer = { kind: 'failure', name, cause: 'timeout', tries: [asked] }
const denied: Answer = { ...positive, addresses: [], denied: ['127.0.0.1'] }
const REFUSALS: Record<RejectReason, [head: RequestHead, answer: Answer, said: RegExp]> = {
  method_not_allowed: [{ ...post, method: 'GET' }, positive, /GET is not in rules\.methods \(POST\)/],
  server_header_missing: [{ ...post, ids: [] }, positive, /no header "server" with an id/],
  server_header_invalid: [{ ...post, ids: ['1', '2'] }, positive, /server: "1" and "2" are more than one id/],
  name_not_found: [post, negative('nxdomain'), /the name does not exist \(NXDOMAIN\), for 3 s/],
  no_address: [post, negative('nodata'), /the name has no address \(NODATA\)/],
  nameservers_failed: [post, failure, /nameservers say: none in time/],
  address_denied: [post, denied, /none to use; denied by policy: 127\.0\.0\.1 \(addresses\.allow\)/],
  resolver_overloaded: [post, { ...failure, cause: 'overloaded' }, /too many queries/],
  lookup_rate_limited: [post, { ...failure, cause: 'rate_limited' }, /too many names that are not in use/],
}
for (const [reason, [head, answer, said]] of Object.entries(REFUSALS)) {
  test(`${reason}: the step that fails, the cause and the way out`, async () => {
    const { steps, decision } = await explain(head, seams(answer))
    assert.ok(decision.result === 'refuse')
    assert.equal(decision.reason, reason)
    assert.equal(decision.status, STATUS_OF_REASON[reason as RejectReason])
    assert.match(texts(steps.filter(({ ok }) => !ok)).join('\n'), said)
    assert.match(decision.cause, /^[A-Z].*\.$/)
    assert.match(decision.wayOut, /^[A-Z].*\.$/)
  })
}

const INVALID: [ids: string[], said: string][] = [
  [['a_b'], 'does not match rules.idPattern'],
  [['1,2'], 'are more than one id'],
]
for (const [ids, said] of INVALID) {
  test(`an invalid id ${ids} ${said}`, async () => {
    const { steps } = await explain({ ...post, ids }, seams(positive))
    assert.ok(
      steps.some(({ ok, text }) => !ok && text.includes(said)),
      JSON.stringify(steps),
    )
  })
}

test("the reasons are those of Envoy's local replies, and each has its texts", () => {
  const yaml = fileText('envoy/envoy.yaml')
  // Those of the processor arrive as details, which Envoy takes only if it knows them.
  for (const reason of Object.keys(STATUS_OF_REASON)) assert.ok(yaml.includes(`'${reason}'`), reason)
  const inEnvoy = new Set([...yaml.matchAll(/x-zonegate-reason, value: (\w+) /g)].map(([, reason]) => reason))
  for (const reason of Object.keys(STATUS_OF_REASON)) inEnvoy.add(reason)
  assert.deepEqual([...inEnvoy].sort(), Object.keys(REASONS).sort())
})

test('each reason has a row in docs/troubleshooting.md, with its status, and no row is of another', () => {
  const rows = fileText('docs/troubleshooting.md').matchAll(
    /^\| `(?<reason>\w+)` \| (?<status>[^|]*\d{3}[^|]*) \| (?<meaning>[^|]+) \| (?<wayOut>[^|]+) \|$/gm,
  )
  const documented = new Map([...rows].map(({ groups }) => [groups?.['reason'], groups?.['status']]))
  assert.deepEqual([...documented.keys()].sort(), Object.keys(REASONS).sort())
  for (const [reason, { status }] of Object.entries(REASONS))
    assert.match(documented.get(reason) ?? '', new RegExp(`^${status.replaceAll('x', '\\d')}\\b`), reason)
})

test('what the texts name is there: keys of zonegate.yaml, fields and routes of the files in envoy/', () => {
  const files = fileText('envoy/envoy.yaml') + fileText('envoy/routes.yaml')
  const config: Record<string, object> = configSchema.parse({})
  for (const [reason, { cause, wayOut }] of Object.entries(REASONS)) {
    const text = `${cause} ${wayOut}`
    for (const [named, section = '', key = ''] of text.matchAll(
      /\b(listen|rules|dns|addresses|learned|log)\.(\w+)/g,
    ))
      assert.ok(key in (config[section] ?? {}), `${reason}: ${named}`)
    for (const [field] of text.matchAll(/\b[a-z]+(_[a-z]+)+\b/g))
      assert.ok(files.includes(field), `${reason}: ${field}`)
  }
})

function fileText(path: string): string {
  return readFileSync(new URL(`../../${path}`, import.meta.url), 'utf8')
}
