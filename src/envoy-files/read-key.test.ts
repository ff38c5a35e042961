import assert from 'node:assert/strict'
import { test } from 'node:test'
import { rulesOf } from '../config/rules.ts'
import { configSchema } from '../config/schema.ts'
import type { RequestHead } from '../routing/rules.ts'
import { isReadByEnvoy } from './read-key.ts'

// test/e2e/odd-requests.test.ts asks Envoy itself about requests like these.

const post = (given: Partial<RequestHead>): RequestHead => ({
  method: 'POST',
  path: '/',
  authority: 'cb.test',
  headers: {},
  ...given,
})
const header = (name: string, value: string): Partial<RequestHead> => ({ headers: { [name]: [value] } })
const body = (type: string, text: string): Partial<RequestHead> => ({
  ...header('content-type', type),
  body: Buffer.from(text),
})
const FORM = 'application/x-www-form-urlencoded'
const JSON_TYPE = 'application/json'

const CASES: [rules: unknown, read: Partial<RequestHead>[], notRead: Partial<RequestHead>[]][] = [
  [{}, [header('server', '7')], []],
  [{ id: { header: 'server' }, idPattern: '[a-z0-9]+' }, [header('server', '7')], []],
  [
    { id: { query: 'zone_id' } },
    [{ path: '/?a=1&zone_id=7' }, { path: '/?zone_id=%37' }],
    [{ path: '/?b%5fc=1&zone_id=7' }],
  ],
  [
    { id: { path: '/cb/{id}/*' } },
    [{ path: '/cb/7/x' }, { path: '/cb/7/x/y?z=1' }],
    [{ path: '/cb/7/x%20y' }, { path: '/cb/7/.x' }],
  ],
  [{ id: { host: '{id}.cb.test' } }, [{ authority: '7.cb.test' }, { authority: '7.CB.test:80' }], []],
  [
    { id: { cookie: 'zone' } },
    [header('cookie', 'zone=7'), header('cookie', 'zone=7; a=1')],
    [header('cookie', 'a=1; zone=7'), header('cookie', 'zone=7; %61=1')],
  ],
  [
    { id: { json: '/ask/zone' } },
    [body(JSON_TYPE, '{"ask":{"zone":7}}'), body(`${JSON_TYPE}; charset=utf-8`, '{"ask":{"zone":"7"}}')],
    [
      body(JSON_TYPE, '{"ask":{"zone":"7"},"\\u0061":1}'),
      body(JSON_TYPE, `{"ask":{"zone":7},"a":"${'x'.repeat(16_384)}"}`),
      body(`${JSON_TYPE}; a=b`, '{"ask":{"zone":7}}'),
    ],
  ],
  [
    { id: { form: 'zone' } },
    [body(FORM, 'a=1&zone=7')],
    [body(FORM, 'zone=%37'), body(FORM, '%61=1&zone=7')],
  ],
  [
    [{ name: 'either', id: [{ query: 'zone' }, { header: 'server' }] }],
    [{ path: '/?zone=7' }, header('server', '7')],
    [{ ...header('server', '7'), path: '/?zones=1' }],
  ],
  [[{ name: 'late', id: [{ json: '/zone' }, { form: 'zone' }] }], [body(JSON_TYPE, '{"zone":7}')], []],
]
for (const [rules, read, notRead] of CASES)
  test(`what Envoy reads: ${JSON.stringify(rules)}`, () => {
    const parsed = rulesOf(configSchema.parse({ rules }))
    const isRead = (given: Partial<RequestHead>): boolean => isReadByEnvoy(post(given), '7', parsed)
    for (const given of read) assert.ok(isRead(given), JSON.stringify(given))
    for (const given of notRead) assert.ok(!isRead(given), JSON.stringify(given))
  })
