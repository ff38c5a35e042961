import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { jsonSchemaText } from '../config/json-schema.ts'
import { rulesOf } from '../config/rules.ts'
import { configSchema } from '../config/schema.ts'
import type { Answer, Endpoint, Try } from '../dns/answer.ts'
import { SaidNow } from '../processor/said-now.ts'
import { type RejectReason, STATUS_OF_REASON } from '../routing/reject-reason.ts'
import type { SaidEntry, SaidOfZones } from '../routing/said.ts'
import type { ColdReason } from './cold-reasons.ts'
import { type ExplainSeams, explain } from './explain.ts'
import { REASONS } from './reasons.ts'
import type { DescribedRequest } from './request-description.ts'

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
const post: DescribedRequest = { method: 'POST', path: '/', authority: 'cb.test', headers: {}, ids: ['12'] }

const seams = (
  answer: Answer,
  cached: Answer | null = null,
  rules: unknown = {},
  zones: unknown = {},
  pins: SaidEntry[] = [],
): ExplainSeams => ({
  rules: rulesOf(configSchema.parse({ rules })),
  search: 's.test',
  said: saidOf(rules, zones, pins),
  explainName: async () => ({ answer, tries: [asked], cached }),
  envoys: () => [
    { envoy: 'a', route: 'hot' },
    { envoy: 'b', route: 'cold', reason: 'zones_max' },
    { envoy: 'c', route: 'cold', reason: 'pinned', detail: 'own' },
  ],
})
function saidOf(rules: unknown, zones: unknown, pins: SaidEntry[]): SaidOfZones {
  const config = configSchema.parse({ rules, zones })
  return new SaidNow(config, rulesOf(config), { entries: () => pins }).now()
}
const texts = (steps: readonly { step: string; ok: boolean; text: string }[]): string[] =>
  steps.map(({ step, ok, text }) => `${ok ? 'ok' : 'no'} ${step}: ${text}`)

test('a request that is forwarded: every step, to each Envoy', async () => {
  const { steps, decision, dns } = await explain(post, seams(positive))
  assert.deepEqual(texts(steps), [
    'ok method: POST is in methods',
    'ok id: header server: "12" matches idPattern',
    'ok service: / belongs to no other service: default, port 8101',
    'ok name: zone12-default.s.test (host, search domain s.test)',
    'ok cache: not in the cache: a request waits for a nameserver',
    'ok query: 10.0.0.53:53 asked for A over udp: NOERROR in 1.2 ms',
    'ok answer: nameservers say: 2 addresses, fresh for 7 s',
    'ok addresses: 10.0.0.1, 10.0.0.2',
    'ok decision: forward to 10.0.0.1:8101 or 10.0.0.2:8101, in turn',
    'ok envoy: a: hot, routed inside Envoy',
    'ok envoy: b: cold, asks the processor, zones_max: learned.zonesMax zones are learned, and each of them had requests in the last 10 seconds; or twice as many other zones had requests since the last one of this zone.',
    'ok envoy: c: cold, asks the processor, pinned: A virtual host of envoy/routes.yaml has the requests of this id. (own)',
    "ok health: Envoy knows which address fails and which one it skips: curl -s 127.0.0.1:9901/clusters | grep -E '^default/12::.*(health_flags|cx_connect_fail)'",
  ])
  assert.deepEqual(decision, { result: 'forward', authorities: ['10.0.0.1:8101', '10.0.0.2:8101'] })
  assert.deepEqual([dns?.state, dns?.fromCache, dns?.ttlSecondsLeft], ['fresh', false, 7])
})

test('no Envoy is connected: said; no processor was asked: nothing is known of Envoys', async () => {
  const last = async (envoys: ExplainSeams['envoys']): Promise<string | undefined> =>
    texts((await explain(post, { ...seams(positive), envoys })).steps).at(-1)
  assert.equal(
    await last(() => []),
    'ok envoy: cold on every Envoy, no_envoy: No Envoy is connected for zones.',
  )
  assert.match((await last(null)) ?? '', /^ok decision/)
})

test('errors of the last minutes are told beside a sound decision', async () => {
  const one = seams({ ...positive, addresses: ['10.0.0.1'] })
  const last = async (recent: ExplainSeams['recent']): Promise<string | undefined> => {
    const { steps } = await explain(post, { ...one, recent: recent ?? (() => null) })
    return texts(steps.filter(({ step }) => step !== 'health')).at(-1)
  }
  assert.match(
    (await last(() => ({ requests: 3, errors: 2 }))) ?? '',
    /^no errors: in the last 5 minutes: 2 tries got a 5xx, no answer or no connection, and 3 requests were sent;/,
  )
  for (const none of [() => null, () => ({ requests: 3, errors: 0 })])
    assert.match((await last(none)) ?? '', /^ok envoy/)
})

test("which address a hot zone's Envoy skips is not in load reports: the command that says it is named", async () => {
  const COMMAND = `curl -s 127.0.0.1:9901/clusters | grep -E '^default/12::.*(health_flags|cx_connect_fail)'`
  const one = { ...positive, addresses: positive.addresses.slice(0, 1) }
  const isNamed = async (
    answer: typeof positive,
    route: 'hot' | 'cold',
    errors: number,
    envoyAdmin?: string,
  ): Promise<boolean> => {
    const envoys = () => [{ envoy: 'a', route }]
    const recent = () => ({ requests: 3, errors })
    const { steps } = await explain(post, { ...seams(answer), envoys, recent, envoyAdmin })
    const port = envoyAdmin ?? '127.0.0.1:9901'
    return steps.some(({ text }) => text.endsWith(COMMAND.replace('127.0.0.1:9901', port)))
  }
  assert.equal(await isNamed(positive, 'hot', 0), true)
  assert.equal(await isNamed(positive, 'hot', 0, '127.0.0.1:9911'), true)
  assert.equal(await isNamed(one, 'hot', 1), true)
  assert.equal(await isNamed(one, 'hot', 0), false)
  assert.equal(await isNamed(positive, 'cold', 1), false)
})

test('an Envoy that refuses the zone is a fault; one where it is cold is none', async () => {
  const marks = async (reason: ColdReason): Promise<boolean[]> => {
    const envoys = () => [{ envoy: 'a', route: 'cold', reason }] as const
    const { steps } = await explain(post, { ...seams(positive), envoys })
    return steps.filter(({ step }) => step === 'envoy').map(({ ok }) => ok)
  }
  assert.deepEqual(await marks('refused_by_envoy'), [false])
  assert.deepEqual(await marks('zones_max'), [true])
})

test('a missing id: the way out names the header of the rule', async () => {
  const { decision } = await explain({ ...post, ids: [] }, seams(positive, null, { header: 'x-zone-id' }))
  assert.match(
    decision.result === 'refuse' ? decision.wayOut : '',
    /^Have the caller send the header x-zone-id, and check/,
  )
})

test('TTL 0: what it costs is said', async () => {
  const { steps, dns } = await explain(post, seams({ ...positive, ttlSeconds: 0 }))
  assert.ok(
    texts(steps).includes(
      'ok answer: nameservers say: 2 addresses with TTL 0: each request asks a nameserver, and the zone is never learned',
    ),
  )
  assert.deepEqual([dns?.state, dns?.nameserversSay, dns?.ttlSecondsLeft], ['uncached', 'uncached', 0])
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
/** A rule that does not fit everything, and looks at more than a header. */
const pay = { name: 'pay', match: { paths: ['/pay/*'] }, id: [{ query: 'id' }, { cookie: 'zone' }] }
const REFUSALS: Record<
  RejectReason,
  [head: DescribedRequest, answer: Answer, said: RegExp, rules?: object, zones?: object]
> = {
  no_rule: [post, positive, /rule: none fits the path \/ of the host cb\.test/, pay],
  id_missing: [{ ...post, ids: [], path: '/pay/x' }, positive, /id: none in query id, cookie zone/, pay],
  id_invalid: [
    { ...post, ids: ['1', '1'], path: '/pay/x' },
    positive,
    /query id: "1, 1": more than one id/,
    pay,
  ],
  method_not_allowed: [{ ...post, method: 'GET' }, positive, /GET is not in methods \(POST\)/],
  server_header_missing: [{ ...post, ids: [] }, positive, /none in header server/],
  server_header_invalid: [{ ...post, ids: ['1', '2'] }, positive, /header server: "1, 2": more than one id/],
  name_not_found: [post, negative('nxdomain'), /the name does not exist \(NXDOMAIN\), for 3 s/],
  no_address: [post, negative('nodata'), /the name has no address \(NODATA\)/],
  service_not_offered: [
    post,
    { kind: 'nodata', name, ttlSeconds: 3, nameserver: 'n', notOffered: true },
    /the service is not offered \(SRV target "\."\), for 3 s/,
  ],
  nameservers_failed: [post, failure, /nameservers say: no answer in time/],
  address_denied: [post, denied, /none to use; denied by policy: 127\.0\.0\.1 \(addresses\.allow\)/],
  resolver_overloaded: [post, { ...failure, cause: 'overloaded' }, /too many queries/],
  lookup_rate_limited: [post, { ...failure, cause: 'rate_limited' }, /too many names that are not in use/],
  maintenance: [
    post,
    positive,
    /zones: in maintenance \(zones\.12\): 503, "back at 06:00"/,
    {},
    { 12: { maintenance: 'back at 06:00' } },
  ],
}
for (const [reason, [head, answer, said, rules, zones]] of Object.entries(REFUSALS)) {
  test(`${reason}: the step that fails, the cause and the way out`, async () => {
    const { steps, decision } = await explain(head, seams(answer, null, rules, zones))
    assert.ok(decision.result === 'refuse')
    assert.equal(decision.reason, reason)
    assert.equal(decision.status, STATUS_OF_REASON[reason as RejectReason])
    assert.match(texts(steps.filter(({ ok }) => !ok)).join('\n'), said)
    assert.match(decision.cause, /^[A-Z].*\.$/)
    assert.match(decision.wayOut, /^[A-Z].*\.$/)
  })
}

/** What the issue of a person is: which rule, which source, which value, and why none of the others. */
const RULES = [
  { name: 'pay', match: { paths: ['/pay/*'], hosts: ['pay.example'] }, id: { query: 'server_id' } },
  { name: 'chat', match: { paths: ['/chat'] }, id: { json: '/attach/server' }, bodyMaxBytes: 40 },
  {
    name: 'rest',
    match: { paths: ['/r/*'] },
    id: [{ header: 'server' }, { path: '/r/{id}/*' }, { cookie: 'sid' }, { form: 'id' }, { json: '/id' }],
  },
]
const json = { 'content-type': ['application/json'] }
const form = { 'content-type': ['application/x-www-form-urlencoded; charset=utf-8'] }
const STEPS: [
  title: string,
  asked: Partial<DescribedRequest>,
  said: string[],
  id: unknown,
  reason?: string,
][] = [
  [
    'no rule fits: what each wants, and what of it is missing',
    { path: '/x', authority: '' },
    [
      'no rule: none fits the path /x',
      'no rule: pay wants path /pay/* (not /x) and host pay.example (there is none)',
      'no rule: chat wants path /chat (not /x)',
      'no rule: rest wants path /r/* (not /x)',
    ],
    null,
    'no_rule',
  ],
  [
    'a rule that fits by path and host, with its port and letters',
    { path: '/pay/1?server_id=12', authority: 'Pay.Example:443' },
    [
      'ok rule: pay fits: path /pay/*, host pay.example',
      'ok method: POST is in methods',
      'ok id: query server_id: "12" matches idPattern',
    ],
    { source: 'query server_id', value: '12' },
  ],
  [
    'the source that counts, and each before it',
    { path: '/r/', headers: { server: ['-'], cookie: ['a=b; sid=7'] } },
    [
      'ok rule: rest fits: path /r/*',
      'ok method: POST is in methods',
      'ok source: header server: "-", which stands for none',
      'ok source: path /r/{id}/*: /r/ does not fit',
      'ok id: cookie sid: "7" matches idPattern',
    ],
    { source: 'cookie sid', value: '7' },
  ],
  [
    'no source has one: why, of each',
    { path: '/r/', headers: { server: [''], cookie: ['side=7'], ...form }, body: Buffer.from('id=&x=1') },
    [
      'ok rule: rest fits: path /r/*',
      'ok method: POST is in methods',
      'no source: header server: empty',
      'no source: path /r/{id}/*: /r/ does not fit',
      'no source: cookie sid: not there',
      'no source: form id: empty',
      'no source: json /id: content-type is application/x-www-form-urlencoded; charset=utf-8',
      'no id: none in header server, path /r/{id}/*, cookie sid, form id, json /id',
    ],
    null,
    'id_missing',
  ],
  [
    'an id in a body',
    { path: '/chat', headers: json, body: Buffer.from('{"attach":{"server":7}}') },
    [
      'ok rule: chat fits: path /chat',
      'ok method: POST is in methods',
      'ok id: json /attach/server: "7" matches idPattern',
    ],
    { source: 'json /attach/server', value: '7' },
  ],
  [
    'a member that is there twice',
    { path: '/chat', headers: json, body: Buffer.from('{"attach":{"server":7,"server":8}}') },
    [
      'ok rule: chat fits: path /chat',
      'ok method: POST is in methods',
      'no id: json /attach/server: "server": more than one id',
    ],
    { source: 'json /attach/server', value: 'server' },
    'id_invalid',
  ],
  [
    'what is no JSON',
    { path: '/chat', headers: json, body: Buffer.from('{') },
    [
      'ok rule: chat fits: path /chat',
      'ok method: POST is in methods',
      'no id: json /attach/server: no JSON: receivers may read it differently',
    ],
    { source: 'json /attach/server', value: 'no JSON' },
    'id_invalid',
  ],
  [
    'a body without its type, and a type without its body',
    { path: '/chat', body: Buffer.from('{}') },
    [
      'ok rule: chat fits: path /chat',
      'ok method: POST is in methods',
      'no id: json /attach/server: no content type: receivers may read it differently',
    ],
    { source: 'json /attach/server', value: 'no content type' },
    'id_invalid',
  ],
  [
    'a body that is longer than its rule looks into',
    { path: '/chat', headers: json, body: Buffer.alloc(41) },
    [
      'ok rule: chat fits: path /chat',
      'ok method: POST is in methods',
      'no body: 41 octets, more than bodyMaxBytes (40)',
      'no decision: refuse with 413 body_too_large',
    ],
    null,
    'body_too_large',
  ],
]
for (const [title, request, said, id, reason] of STEPS) {
  test(`explained: ${title}`, async () => {
    const asked: DescribedRequest = { ...post, ids: [], ...request }
    const explained = await explain(asked, seams(positive, null, RULES))
    assert.deepEqual(texts(explained.steps).slice(0, said.length), said)
    assert.deepEqual(explained.id, id)
    const { decision } = explained
    assert.equal(decision.result === 'refuse' ? decision.reason : undefined, reason)
    assert.equal(explained.rule, /^ok rule: (\w+) /.exec(texts(explained.steps)[0] ?? '')?.[1] ?? null)
  })
}

test('what is explained has no header in it, and of the body its length', async () => {
  const secret = 'secret-of-the-caller'
  const headers = { authorization: [secret], cookie: [`a=${secret}`], server: ['1'] }
  const explained = await explain({ ...post, ids: [], headers, body: Buffer.from(secret) }, seams(positive))
  assert.ok(!JSON.stringify(explained).includes(secret))
  assert.deepEqual(explained.request, {
    method: 'POST',
    authority: 'cb.test',
    path: '/',
    ids: [],
    bodyOctets: secret.length,
  })
})

const INVALID: [ids: string[], said: string][] = [
  [['a_b'], 'does not match idPattern'],
  [['1,2'], 'more than one id'],
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
  const yaml = fileText('envoy/listener.yaml')
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
  const files = ['envoy', 'listener', 'routes'].map((name) => fileText(`envoy/${name}.yaml`)).join('')
  const config: Record<string, object> = configSchema.parse({})
  const rule: object = JSON.parse(jsonSchemaText()).$defs.rule.properties
  for (const [reason, { cause, wayOut }] of Object.entries(REASONS)) {
    const text = `${cause} ${wayOut}`
    for (const [named, section = '', key = ''] of text.matchAll(
      /\b(listen|rules|dns|addresses|learned|log)\.(\w+)/g,
    ))
      assert.ok(key in ((section === 'rules' ? rule : config[section]) ?? {}), `${reason}: ${named}`)
    for (const [field] of text.matchAll(/\b[a-z]+(_[a-z]+)+\b/g))
      assert.ok(files.includes(field), `${reason}: ${field}`)
  }
})

function fileText(path: string): string {
  return readFileSync(new URL(`../../${path}`, import.meta.url), 'utf8')
}

test('endpoints from SRV are told with their records, and where requests go by weight', async () => {
  const endpoint = (port: number, priority: number, weight: number): Endpoint => ({
    address: '10.0.0.1',
    port,
    priority,
    weight,
    srv: { target: `h${port}.test`, priority: priority * 10, weight },
  })
  const ofService: Answer = {
    ...positive,
    name: '_default._tcp.zone12-default.s.test',
    addresses: [endpoint(9001, 0, 3), endpoint(9002, 0, 1), endpoint(9003, 1, 1)],
    denied: ['h22.test:22'],
  }
  const { steps, decision, dns } = await explain(post, seams(ofService, null, { port: 'srv' }))
  const said = texts(steps).join('\n')
  assert.match(said, /service: .*port from SRV/)
  assert.match(said, /name: _default\._tcp\.zone12-default/)
  assert.match(
    said,
    /10\.0\.0\.1:9001 \(h9001\.test, priority 0, weight 3\), .*9003 \(h9003\.test, priority 10, weight 1\)/,
  )
  assert.match(said, /denied by policy: h22\.test:22 \(addresses\.allow, addresses\.ports\)/)
  assert.match(said, /forward to 10\.0\.0\.1:9001 or 10\.0\.0\.1:9002, by weight/)
  assert.deepEqual(decision, { result: 'forward', authorities: ['10.0.0.1:9001', '10.0.0.1:9002'] })
  assert.deepEqual(dns?.addresses, ['10.0.0.1:9001', '10.0.0.1:9002', '10.0.0.1:9003'])
  assert.deepEqual(dns?.endpoints, ofService.addresses)
})

const byCommand: SaidEntry = {
  key: '12',
  place: null,
  ids: ['12'],
  says: {
    kind: 'pinned',
    addresses: [{ address: '10.9.9.9', port: 9000 }],
    by: { who: 'ada', because: 'disk full', untilMs: Date.UTC(2027, 0, 1, 4) },
  },
}
const SAID: [what: string, zones: object, pins: SaidEntry[], answer: Answer, ...said: string[]][] = [
  [
    'pinned by zones',
    { 12: { addresses: ['10.9.9.8'] } },
    [],
    positive,
    'ok zones: pinned to 10.9.9.8:8101, by zones.12; DNS is not asked',
    'ok decision: forward to 10.9.9.8:8101',
  ],
  [
    'pinned by command, which goes before zones',
    { 12: { addresses: ['10.9.9.8'] } },
    [byCommand],
    positive,
    'ok zones: pinned to 10.9.9.9:9000, by ada until 2027-01-01 04:00:00 UTC, because "disk full"; DNS is not asked',
    'ok decision: forward to 10.9.9.9:9000',
  ],
  [
    'merged',
    { '10-12': { as: '13' } },
    [],
    positive,
    'ok name: zone13-default.s.test (host, search domain s.test)',
    'ok zones: "12" is merged into "13" (zones.10-12)',
  ],
  [
    'merged into a pinned one',
    { 11: { as: '12' } },
    [byCommand],
    positive,
    'ok decision: forward to 10.9.9.9:9000',
  ],
  [
    'not in DNS',
    { '*': { fallback: '0' } },
    [],
    negative('nxdomain'),
    'ok zones: "12" is not in DNS; zones.* sends its requests to "0" (zone0-default.s.test), through the processor',
    'no decision: refuse with 502 name_not_found',
  ],
]
for (const [what, zones, pins, answer, ...said] of SAID)
  test(`what is said of a zone is a step: ${what}`, async () => {
    const id = what.startsWith('merged into') ? '11' : '12'
    const { steps } = await explain({ ...post, ids: [id] }, seams(answer, null, {}, zones, pins))
    const all = texts(steps)
    for (const line of said) assert.ok(all.includes(line), `${line}\n${all.join('\n')}`)
  })
