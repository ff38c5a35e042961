import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Metadata } from '@grpc/grpc-js'
import { rulesOf } from '../config/rules.ts'
import { configSchema } from '../config/schema.ts'
import type { SeenRequest } from '../ext-proc/messages.ts'
import type { Logger } from '../log.ts'
import { decide } from '../routing/decision.ts'
import { isZone, zoneOf } from '../routing/rules.ts'
import { requestLog } from './request-log.ts'

const rules = rulesOf(
  configSchema.parse({ rules: [{ name: 'pay', match: { paths: ['/pay/*'] }, id: { query: 'id' } }] }),
)

/** What is logged of a request, with all addresses there. */
function logged(path: string, resolves = true): Record<string, unknown>[] {
  const lines: Record<string, unknown>[] = []
  const write = (fields: Record<string, unknown>, msg: string): void => void lines.push({ ...fields, msg })
  const log = { warn: write, debug: write, isLevelEnabled: () => true } as unknown as Logger
  const request: SeenRequest = {
    ...{ method: 'POST', path, authority: '', headers: {} },
    ...{ requestId: 'r', traceparent: '' },
  }
  const zone = zoneOf(request, rules, 's.test')
  const decision = !isZone(zone)
    ? ({ kind: 'reject', ...zone } as const)
    : resolves
      ? decide(
          zone,
          {
            kind: 'positive',
            name: zone.name,
            addresses: ['10.0.0.1'],
            denied: [],
            ttlSeconds: 5,
            stale: false,
          },
          0,
        )
      : decide(zone, { kind: 'nxdomain', name: zone.name, ttlSeconds: 5, nameserver: 'n' }, 0)
  requestLog(log)(decision, request, new Metadata())
  return lines
}

const LINES: [title: string, path: string, resolves: boolean, line: Record<string, unknown>][] = [
  ['forwarded', '/pay/x?id=1', true, { msg: 'forwarded', rule: 'pay', id: '1' }],
  [
    'refused after DNS',
    '/pay/x?id=1',
    false,
    { msg: 'refused', reason: 'name_not_found', rule: 'pay', id: '1' },
  ],
  [
    'refused before DNS',
    '/pay/x?id=a_b',
    true,
    { msg: 'refused', reason: 'id_invalid', rule: 'pay', id: 'a_b' },
  ],
  ['without a rule', '/x', true, { msg: 'refused', reason: 'no_rule', id: '' }],
]
for (const [title, path, resolves, expected] of LINES) {
  test(`the line of a request that is ${title} names the rule and the id`, () => {
    const [line = {}] = logged(path, resolves)
    const shown = Object.fromEntries(
      ['msg', 'reason', 'rule', 'id'].filter((key) => line[key] !== undefined).map((key) => [key, line[key]]),
    )
    assert.deepEqual(shown, expected)
  })
}
