/** Fuzzes ext_proc, with the callers' requests that Envoy passes on, and checks the answers. */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { status } from '@grpc/grpc-js'
import * as fc from 'fast-check'
import { parse } from 'yaml'
import { rulesOf } from '../../src/config/rules.ts'
import { configSchema } from '../../src/config/schema.ts'
import type { Answer, FailedAnswer } from '../../src/dns/answer.ts'
import { createEncoder, headOf, ROUTE_HEADER } from '../../src/ext-proc/messages.ts'
import { OpenStreams } from '../../src/ext-proc/open-streams.ts'
import { externalProcessorService, handlingOf } from '../../src/ext-proc/service.ts'
import { codec, type ProcessingRequest, type ProcessingResponse } from '../../src/grpc/protos.ts'
import { createDecider } from '../../src/routing/decision.ts'
import { addressPolicy } from '../../src/routing/denied-addresses.ts'
import { STATUS_OF_REASON } from '../../src/routing/reject-reason.ts'
import { headersOf, isZone, type Rules, upstreamsOf, zoneOf } from '../../src/routing/rules.ts'
import { explain } from '../../src/status/explain.ts'
import { type DescribedRequest, requestOf } from '../../src/status/request-description.ts'
import { addressTexts } from '../../src/status/status.ts'
import { FakeDirectCall } from '../support/direct-call.ts'
import { type Target, target } from './target.ts'

const requests = codec<ProcessingRequest>('envoy.service.ext_proc.v3.ProcessingRequest')
const responses = codec<ProcessingResponse>('envoy.service.ext_proc.v3.ProcessingResponse')

/** The condition of the only route that connects to an address. Envoy matches it against the whole value. */
const FORWARDABLE = new RegExp(`^(?:${forwardRegex()})$`)

function forwardRegex(): string {
  const file = parse(readFileSync(new URL('../../envoy/routes.yaml', import.meta.url), 'utf8'))
  const forward = file.resources[0].virtual_hosts[0].routes.find(
    ({ name }: { name: string }) => name === 'forward',
  )
  return forward.match.headers[0].string_match.safe_regex.regex
}

const CONFIGS = [
  {},
  { rules: { idPattern: '.', host: '{id}.{search}' } },
  {
    rules: {
      methods: ['POST', 'PUT'],
      header: 'x-id',
      services: { a: { paths: ['/mail', '/'], port: 1 }, b: {} },
    },
  },
  {
    rules: [
      { name: 'pay', match: { paths: ['/pay/*'] }, methods: ['POST', 'GET'], id: [{ query: 'zone' }] },
      {
        name: 'rest',
        idPattern: '.',
        host: '{id}.{search}',
        id: [{ path: '/cb/{id}/*' }, { host: '{id}.cb.test' }, { cookie: 'zone' }, { header: 'server' }],
      },
    ],
  },
  { rules: { id: [{ json: '/a/0/zone' }] } },
  { rules: { id: [{ form: 'zone' }] } },
].map((config) => rulesOf(configSchema.parse(config)))
const rulesAll = fc.constantFrom(...CONFIGS)
const ADMIT = addressPolicy([])

const latin1 = fc.uint8Array({ maxLength: 80 }).map((octets) => Buffer.from(octets))
const ids = fc.oneof(
  fc.stringMatching(/^[A-Za-z0-9-]{1,45}$/),
  fc.constantFrom(
    '',
    '-',
    '1,2',
    '1.2.3.4:80',
    '[::1]:80',
    '../x',
    'a_b',
    '1\n',
    '1\r\nx: y',
    '$&',
    '{search}',
    'ｚ',
  ),
  fc.string({ unit: 'binary', maxLength: 20 }),
)
const header = fc.oneof(
  fc.tuple(
    fc.constantFrom('server', 'x-id'),
    ids.map((id) => Buffer.from(id, 'latin1')),
  ),
  fc.tuple(
    fc.constant(':method'),
    fc.constantFrom('POST', 'GET', 'post', 'PUT').map((text) => Buffer.from(text)),
  ),
  fc.tuple(
    fc.constant(':path'),
    fc
      .oneof(fc.constantFrom('/', '/mail', '/mail?x', '/mail#', '', '*'), fc.string())
      .map((text) => Buffer.from(text)),
  ),
  fc.tuple(
    fc.constantFrom('x-request-id', 'traceparent', ROUTE_HEADER, ':authority', 'SERVER', '__proto__'),
    latin1,
  ),
  fc.tuple(fc.string(), latin1),
)
const headMessages: fc.Arbitrary<ProcessingRequest> = fc.array(header, { maxLength: 12 }).map((headers) => ({
  request_headers: { headers: { headers: headers.map(([key, raw_value]) => ({ key, raw_value })) } },
}))
/** Encodes a message and changes or cuts a few octets. Whatever gRPC's decoder accepts reaches the processor. */
const wire = fc
  .tuple(headMessages, fc.array(fc.tuple(fc.nat(), fc.nat({ max: 255 })), { maxLength: 4 }), fc.boolean())
  .map(([message, changes, asIs]) => {
    const octets = Buffer.from(requests.encode(message))
    if (!asIs && octets.length > 0) for (const [at, value] of changes) octets[at % octets.length] = value
    return octets
  })

const addresses = fc.oneof(
  fc.ipV4(),
  fc.ipV6(),
  fc.constantFrom('127.0.0.1', '10.0.0.1', '::1', '169.254.169.254'),
)
const failures: fc.Arbitrary<FailedAnswer> = fc
  .constantFrom('nameservers_failed', 'timeout', 'overloaded', 'rate_limited', 'invalid_name')
  .map((cause) => ({ kind: 'failure', name: 'n', cause, tries: [] }))
const answers: fc.Arbitrary<Answer> = fc.oneof(
  // Like the resolver's answer, whose addresses the address policy has separated.
  fc
    .tuple(fc.array(addresses, { maxLength: 5 }), fc.nat({ max: 60 }), fc.boolean())
    .map(([all, ttlSeconds, stale]) => ({
      kind: 'positive' as const,
      name: 'n',
      addresses: all.filter(ADMIT),
      denied: all.filter((address) => !ADMIT(address)),
      ttlSeconds,
      stale,
    })),
  fc.constantFrom({ kind: 'nxdomain' as const }, { kind: 'nodata' as const }).map((negative) => ({
    ...negative,
    name: 'n',
    ttlSeconds: 5,
    nameserver: 'a:53',
  })),
  failures,
)

/** Checks the parts of an answer that Envoy reads and trusts. */
function checkResponse(octets: Buffer, addressesOfZone: readonly string[], rules: Rules): void {
  const { request_headers, immediate_response, dynamic_metadata } = responses.decode(octets)
  const own = dynamic_metadata?.fields?.['zonegate'] as
    | { structValue: { fields?: Record<string, unknown> } }
    | undefined
  const zone = (own?.structValue.fields?.['zone'] as { stringValue: string } | undefined)?.stringValue
  if (zone !== undefined) assert.match(zone, /^[a-z0-9.-]{1,253}$/)
  if (immediate_response !== undefined) {
    assert.equal(request_headers, undefined)
    const { details = '', headers } = immediate_response
    assert.ok(details in STATUS_OF_REASON, details)
    for (const { header: allow } of headers?.set_headers ?? []) {
      assert.equal(allow?.key, 'allow')
      const all = rules.map(({ methods }) => [...methods].join(', '))
      assert.ok(all.includes(String(allow?.raw_value)))
    }
    return
  }
  // Envoy would check an answer that changes headers against max_headers_count (envoy/listener.yaml, "address").
  assert.deepEqual(request_headers, { response: {} })
  const named = own?.structValue.fields?.['address'] as { stringValue: string } | undefined
  const value = named?.stringValue ?? ''
  assert.match(value, FORWARDABLE)
  const address = value.replace(/:\d+$/, '').replace(/^\[|\]$/g, '')
  assert.ok(addressesOfZone.includes(address), `${address} is none of the zone's`)
  assert.ok(ADMIT(address), `${address} is denied`)
}

type Step = 'data' | 'no head' | 'end' | 'cancel' | 'settle'
const steps = fc.array(fc.constantFrom<Step[]>('data', 'no head', 'end', 'cancel', 'settle'), {
  maxLength: 8,
})

export const extProcTargets: readonly Target[] = [
  target(
    'ext_proc: whatever a request is, it is refused by a known reason, or goes to an admitted address of its zone',
    [wire, rulesAll, answers],
    async (octets, rules, answer) => {
      let message: ProcessingRequest
      try {
        message = requests.decode(octets)
      } catch {
        return // gRPC ends that stream by itself
      }
      const head = headOf(message, new Set(headersOf(rules)))
      if (head === null) return
      const decision = await createDecider(
        rules,
        () => 'game.test',
        () => answer,
      )(head)
      const [rule] = rules
      const [source] = rule?.sources ?? []
      if (rules.length === 1 && source?.kind === 'header') {
        const values =
          message.request_headers?.headers?.headers?.filter(({ key }) => key === source.name) ?? []
        if (values.length !== 1) assert.equal(decision.kind, 'reject')
      }
      const own = answer.kind === 'positive' ? addressTexts(answer.addresses) : []
      const encode = createEncoder(upstreamsOf(rules).length > 0)
      checkResponse(encode(decision, 'request_headers'), own, rules)
      assert.deepEqual(encode(decision, 'request_headers'), encode(decision, 'request_headers'))
    },
  ),
  target(
    'ext_proc: an explanation decides as a request is decided',
    [
      fc.record({
        method: fc.constantFrom('POST', 'GET', 'PUT', ''),
        path: fc.oneof(
          fc.string(),
          fc.constantFrom('/mail', '/cb/7/x', '/pay/x?zone=7', '/pay/x?zone=7&Zone=8'),
        ),
        authority: fc.constantFrom('', 'cb.test', '7.CB.test:80'),
        headers: fc.constantFrom({}, { 'content-type': ['application/json'] }),
        ids: fc.array(ids, { maxLength: 3 }),
      }),
      rulesAll,
      answers,
      fc.boolean(),
    ],
    async (described: DescribedRequest, rules, answer, cached) => {
      const head = requestOf(described, rules)
      const decision = await createDecider(
        rules,
        () => 'game.test',
        () => answer,
      )(head)
      const explained = await explain(described, {
        rules,
        search: 'game.test',
        explainName: async () => ({ answer, tries: [], cached: cached ? answer : null }),
        envoys: () => [],
      })
      if (decision.kind === 'reject')
        assert.equal(explained.decision.result === 'refuse' && explained.decision.reason, decision.reason)
      else
        assert.ok(
          explained.decision.result === 'forward' &&
            explained.decision.authorities.includes(decision.authority),
        )
      const zone = zoneOf(head, rules, 'game.test')
      assert.equal(explained.zone?.name, isZone(zone) ? zone.name : undefined)
      assert.doesNotThrow(() => JSON.stringify(explained))
    },
  ),
  target(
    'ext_proc: in whatever order a stream goes, it is answered once or failed, and never just ended',
    [steps, fc.constantFrom('at once', 'later', 'throws', 'rejects', 'log fails')],
    async (order, how) => {
      const [rules] = CONFIGS
      assert.ok(rules)
      let settle = (): void => undefined
      const decision = { kind: 'reject', reason: 'name_not_found' } as const
      const bugs: unknown[] = []
      const service = externalProcessorService({
        inForce: () => [
          handlingOf(rules, () => {
            if (how === 'throws') throw new Error('a bug')
            if (how === 'at once' || how === 'log fails') return decision
            return new Promise((resolve, reject) => {
              settle = () => (how === 'later' ? resolve(decision) : reject(new Error('a bug')))
            })
          }),
        ],
        onDecision: () => {
          if (how === 'log fails') throw new Error('a bug')
        },
        onBug: (error) => bugs.push(error),
        streams: new OpenStreams(() => 0),
      })
      const stream = new FakeDirectCall(service)
      const head: ProcessingRequest = { request_headers: { headers: { headers: [] } } }
      for (const step of order) {
        if (step === 'data') stream.message(head)
        else if (step === 'no head') stream.message({})
        else if (step === 'end') stream.halfClose()
        else if (step === 'cancel') stream.close()
        else settle()
        await null
      }
      settle()
      await new Promise((resolve) => setImmediate(resolve))
      assert.ok(stream.sent.length <= 1, `${stream.sent.length} answers`)
      assert.ok(stream.ends.length <= 1, `ended ${stream.ends.length} times`)
      const [end] = stream.ends
      if (end?.code === status.OK)
        assert.equal(stream.sent.length, 1, 'ended without an answer: "go on unchanged"')
      assert.ok(bugs.length <= 1)
      if (bugs.length > 0 && !order.includes('cancel') && !order.includes('end'))
        assert.ok(end !== undefined && end.code !== status.OK, 'a bug fails its stream')
    },
  ),
]
