import assert from 'node:assert/strict'
import { test } from 'node:test'
import { status } from '@grpc/grpc-js'
import { FakeDirectCall } from '../../test/support/direct-call.ts'
import { parseConfig } from '../config/load.ts'
import { rulesOf } from '../config/rules.ts'
import type { Call } from '../grpc/direct-calls.ts'
import { codec, type ProcessingRequest, type ProcessingResponse } from '../grpc/protos.ts'
import { createDecider } from '../routing/decision.ts'
import { SENT_HEADERS } from './messages.ts'
import { OpenStreams, STREAMS_MAX } from './open-streams.ts'
import { type ExtProcOptions, externalProcessorService, type Handling, handlingOf } from './service.ts'

const { decode } = codec<ProcessingResponse>('envoy.service.ext_proc.v3.ProcessingResponse')

const handlingBy = (id: string, services = '{ default: {} }'): Handling => {
  const rules = rulesOf(parseConfig(`rules: { id: ${id}, services: ${services} }`, 'zonegate.yaml'))
  return handlingOf(
    rules,
    createDecider(
      rules,
      () => 's.test',
      (name) => ({
        kind: 'positive',
        name,
        addresses: ['10.0.0.1'],
        denied: [],
        ttlSeconds: 5,
        stale: false,
      }),
    ),
  )
}

const opened = (
  inForce: readonly [Handling, ...Handling[]],
  sent?: string,
  more: Partial<ExtProcOptions> = {},
): FakeDirectCall =>
  new FakeDirectCall(
    externalProcessorService({
      inForce: () => inForce,
      onDecision: () => undefined,
      onBug: assert.fail,
      streams: new OpenStreams(() => 0),
      ...more,
    }),
    sent === undefined ? {} : { [SENT_HEADERS]: sent },
  )

const head = (
  headers: Readonly<Record<string, string>>,
  more: Omit<ProcessingRequest, 'request_headers'> = {},
): ProcessingRequest => ({
  request_headers: {
    headers: {
      headers: Object.entries({ ':method': 'POST', ':path': '/', ...headers }).map(([key, value]) => ({
        key,
        raw_value: Buffer.from(value),
      })),
    },
  },
  ...more,
})
const BUFFERED = { protocol_config: { request_body_mode: 'BUFFERED' } }
const answersOf = ({ sent }: FakeDirectCall): ProcessingResponse[] => sent.map(decode)
const zoneOf = (answer: ProcessingResponse | undefined): unknown =>
  answer?.immediate_response?.details ??
  (
    answer?.dynamic_metadata?.fields['zonegate'] as
      | { structValue: { fields: Record<string, unknown> } }
      | undefined
  )?.structValue.fields['zone']

test('a request whose rule looks into the body is decided by the body, and let go on before', () => {
  const stream = opened([handlingBy('{ json: /server }')])
  stream.message(head({ 'content-type': 'application/json' }, BUFFERED))
  assert.deepEqual(Object.keys(answersOf(stream)[0] ?? {}), ['request_headers'])
  stream.message({ request_body: { body: Buffer.from('{"server":7}'), end_of_stream: true } })
  assert.ok(answersOf(stream)[1]?.request_body)
  assert.deepEqual(zoneOf(answersOf(stream)[1]), { stringValue: 'zone7-default.s.test' })
})

test('one that has no body is decided at once', () => {
  const stream = opened([handlingBy('{ json: /server }')])
  const request = head({ 'content-type': 'application/json' }, BUFFERED)
  stream.message({ ...request, request_headers: { ...request.request_headers, end_of_stream: true } })
  assert.equal(zoneOf(answersOf(stream)[0]), 'id_missing')
})

test('answers have the address alone beside the one with the cluster, where any rule has an upstream', () => {
  const metadataBy = (services: string): unknown => {
    const stream = opened([handlingBy('{ header: server }', services)])
    stream.message(head({ server: '7' }))
    const zonegate = answersOf(stream)[0]?.dynamic_metadata?.fields['zonegate']
    const fields = zonegate !== undefined && 'structValue' in zonegate ? zonegate.structValue.fields : {}
    return [fields['address'], fields['dialled']]
  }
  const address = { stringValue: '10.0.0.1:8101' }
  assert.deepEqual(metadataBy('{ default: {} }'), [address, undefined])
  const tls = '{ mail: { paths: ["/mail"], upstream: { tls: {} } }, default: {} }'
  assert.deepEqual(metadataBy(tls), [address, address])
})

test('a body that no rule asks for is let go on', () => {
  const stream = opened([handlingBy('{ header: server }')])
  stream.message(head({ server: '7' }, BUFFERED))
  stream.message({ request_body: { body: Buffer.from('x'), end_of_stream: true } })
  assert.deepEqual(zoneOf(answersOf(stream)[0]), { stringValue: 'zone7-default.s.test' })
  assert.ok(answersOf(stream)[1]?.request_body)
})

test('a request by the listener of the rules before is decided by them, as it has no more for the new ones', () => {
  const byOther = [handlingBy('{ header: x-zone }'), handlingBy('{ header: server }')] as const
  const before = opened(byOther, 'server')
  before.message(head({ server: '7' }))
  assert.deepEqual(zoneOf(answersOf(before)[0]), { stringValue: 'zone7-default.s.test' })
  const now = opened(byOther, 'x-zone')
  now.message(head({ 'x-zone': '8' }))
  assert.deepEqual(zoneOf(answersOf(now)[0]), { stringValue: 'zone8-default.s.test' })
  const unknown = opened(byOther)
  unknown.message(head({ server: '7' }))
  assert.equal(zoneOf(answersOf(unknown)[0]), 'server_header_missing')
})

test('so is one whose body Envoy keeps to itself', () => {
  const byBody = [handlingBy('{ form: id }'), handlingBy('{ query: id }')] as const
  const stream = opened(byBody, 'content-type,content-encoding')
  stream.message(head({ ':path': '/?id=7', 'content-type': 'application/x-www-form-urlencoded' }))
  assert.deepEqual(zoneOf(answersOf(stream)[0]), { stringValue: 'zone7-default.s.test' })
})

test('a request fails of which Envoy keeps back what the only rules read: they could find another zone', () => {
  const byHeaders = opened([handlingBy('[{ header: x-zone }, { header: server }]')], 'server')
  byHeaders.message(head({ server: '7' }))
  const byBody = opened([handlingBy('[{ form: id }, { query: id }]')], 'content-type,content-encoding')
  byBody.message(head({ ':path': '/?id=7', 'content-type': 'application/x-www-form-urlencoded' }))
  for (const { ends, sent } of [byHeaders, byBody])
    assert.deepEqual([ends.map(({ code }) => code), sent], [[status.INVALID_ARGUMENT], []])
})

test('a stream that ends before its request, or before the body that decides it, fails', () => {
  const silent = opened([handlingBy('{ header: server }')])
  silent.halfClose()
  const withoutBody = opened([handlingBy('{ json: /server }')])
  withoutBody.message(head({ 'content-type': 'application/json' }, BUFFERED))
  withoutBody.halfClose()
  for (const { ends } of [silent, withoutBody])
    assert.deepEqual(
      ends.map(({ code }) => code),
      [status.INVALID_ARGUMENT],
    )
})

test('a stream beyond the most fails, and one that has ended makes room', () => {
  const streams = new OpenStreams<Call>(() => 0)
  const open = () => opened([handlingBy('{ header: server }')], '', { streams })
  const last = open()
  while (streams.size < STREAMS_MAX) streams.open({} as Call)
  assert.equal(open().ends[0]?.code, status.RESOURCE_EXHAUSTED)
  last.close()
  assert.deepEqual(open().ends, [])
})

test('an exception fails its stream, and is told', () => {
  const bugs: unknown[] = []
  const bug = new Error('a bug')
  const stream = opened([{ ...handlingBy('{ header: server }'), decide: () => assert.fail(bug) }], 'server', {
    onBug: (error) => bugs.push(error),
  })
  stream.message(head({ server: '7' }))
  assert.deepEqual(bugs, [bug])
  assert.deepEqual(stream.ends, [{ code: status.INTERNAL, details: 'internal error' }])
})
