import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createRefusalLog } from './refusal-log.ts'

const request = { id: 'x', requestId: 'r', traceId: undefined, rule: undefined }
const refusal = { kind: 'reject', reason: 'server_header_invalid' } as const

test('a flood of one reason is cut, counted, and hides no other reason', () => {
  const lines: Record<string, unknown>[] = []
  let now = 0
  const log = createRefusalLog(
    (fields) => lines.push(fields),
    () => now,
  )
  for (let i = 0; i < 1000; i += 1) log(refusal, request)
  assert.equal(lines.length, 20)
  log({ kind: 'reject', reason: 'method_not_allowed' }, request)
  assert.equal(lines.length, 21)
  now = 200
  log(refusal, request)
  assert.equal(lines.at(-1)?.['suppressed'], 980)
  log(refusal, request)
  assert.equal(lines.length, 22)
})

test('a refusal after DNS has the name, the RCODE and the nameserver', () => {
  const lines: Record<string, unknown>[] = []
  const log = createRefusalLog(
    (fields) => lines.push(fields),
    () => 0,
  )
  const zone = {
    id: '9',
    service: { name: 'default', label: 'default', rule: 'default', port: 8101 },
    name: 'zone9-default.s.test',
  }
  log(
    {
      kind: 'reject',
      reason: 'name_not_found',
      zone,
      answer: { kind: 'nxdomain', name: zone.name, ttlSeconds: 1, nameserver: '127.0.0.1:53' },
    },
    { id: '9', requestId: 'r1', traceId: '0af7651916cd43dd8448eb211c80319c', rule: 'pay' },
  )
  assert.deepEqual(lines, [
    {
      reason: 'name_not_found',
      rule: 'pay',
      request_id: 'r1',
      trace_id: '0af7651916cd43dd8448eb211c80319c',
      id: '9',
      name: zone.name,
      rcode: 'NXDOMAIN',
      nameserver: '127.0.0.1:53',
    },
  ])
})
