import assert from 'node:assert/strict'
import { test } from 'node:test'
import { worldOf } from '../../test/support/worlds.ts'
import { diffLog, type LogDiff } from './log.ts'

type Raw = Readonly<Record<string, unknown>>

async function* lines(texts: readonly unknown[]): AsyncGenerator<string> {
  for (const text of texts) yield typeof text === 'string' ? text : JSON.stringify(text)
}

const diff = (before: Raw, after: Raw, texts: readonly unknown[], examples = 2): Promise<LogDiff> =>
  diffLog(lines(texts), worldOf(before), worldOf(after), examples)

const HOST = 'cb.test'
const forwarded = (id: string, more: Raw = {}): Raw => ({
  method: 'POST',
  host: HOST,
  uri: '/',
  key: `POST/${id}`,
  zone: `zone${id}-default.game.test`,
  status: 200,
  ...more,
})
const noId = {
  method: 'POST',
  host: HOST,
  uri: '/',
  key: 'POST/-',
  status: 403,
  reason: 'server_header_missing',
}
const pay = (more: Raw = {}): Raw =>
  forwarded('7', { uri: '/pay/x', key: 'POST/pay/7', zone: 'zone7-pay.game.test', ...more })
const payRule = (id: unknown): Raw => ({ name: 'pay', match: { paths: ['/pay/*'] }, id })
const otherRule = { name: 'other', header: 'server' }

interface Case {
  readonly title: string
  readonly before?: Raw
  readonly after: Raw
  readonly line: unknown
  /** Null: it is decided in the same way. A text: what is unknown, or the kind of the change. */
  readonly says: string | null
}

const CASES: readonly Case[] = [
  { title: 'the same rules: nothing', after: {}, line: forwarded('7'), says: null },
  {
    title: 'the same rules, and a line that no rule explains',
    after: {},
    line: forwarded('7', { key: 'POST/web/12', zone: 'elsewhere.test' }),
    says: null,
  },
  {
    title: 'a port',
    after: { rules: { port: 9000 } },
    line: forwarded('7'),
    says: 'port 8101, then port 9000',
  },
  {
    title: 'a port from SRV records',
    after: { rules: { port: 'srv' } },
    line: forwarded('7'),
    says: 'another name',
  },
  {
    title: 'a search domain',
    after: { dns: { search: 'other.test' } },
    line: forwarded('7'),
    says: 'another name',
  },
  {
    title: 'a search domain, and a request that is refused before',
    after: { dns: { search: 'other.test' } },
    line: noId,
    says: null,
  },
  {
    title: 'a header that no line has',
    after: { rules: { header: 'x-zone' } },
    line: forwarded('7'),
    says: 'the log does not say: header x-zone',
  },
  {
    title: 'a further place behind the one that is known',
    after: { rules: { id: [{ header: 'server' }, { query: 'zone' }] } },
    line: forwarded('7'),
    says: null,
  },
  {
    title: 'a further place behind one that is known to be empty',
    after: { rules: { id: [{ header: 'server' }, { query: 'zone' }] } },
    line: noId,
    says: 'the log does not say: query zone',
  },
  {
    title: 'methods',
    after: { rules: { methods: ['POST'] } },
    before: { rules: { methods: ['POST', 'PUT'] } },
    line: forwarded('7', { method: 'PUT', key: 'PUT/7' }),
    says: 'forwarded, then method_not_allowed',
  },
  {
    title: 'a method more',
    after: { rules: { methods: ['POST', 'PUT'] } },
    line: { method: 'PUT', host: HOST, uri: '/', key: 'PUT/7', status: 405, reason: 'method_not_allowed' },
    says: 'the log does not say: header server',
  },
  {
    title: 'the pattern of ids',
    after: { rules: { idPattern: '^[0-9]$' } },
    line: forwarded('12'),
    says: 'forwarded, then server_header_invalid',
  },
  {
    title: 'another protocol',
    after: { rules: { upstream: { http: 2 } } },
    line: forwarded('7'),
    says: 'reached in another way',
  },
  {
    title: 'a pin',
    after: { zones: { 7: { addresses: ['10.0.0.9'] } } },
    line: forwarded('7'),
    says: 'pinned in another way',
  },
  {
    title: 'a pin of another zone',
    after: { zones: { 8: { addresses: ['10.0.0.9'] } } },
    line: forwarded('7'),
    says: null,
  },
  {
    title: 'a merged zone',
    after: { zones: { 7: { as: '8' } } },
    line: forwarded('7'),
    says: 'another name',
  },
  {
    title: 'a zone in maintenance',
    after: { zones: { 7: { maintenance: 'later' } } },
    line: forwarded('7'),
    says: 'forwarded, then maintenance',
  },
  {
    title: 'a zone for ids that are not in DNS',
    after: { zones: { '*': { fallback: '1' } } },
    line: { ...forwarded('7'), zone: undefined, status: 502, reason: 'name_not_found' },
    says: 'name_not_found, then forwarded',
  },
  {
    title: 'no zone any more for ids that are not in DNS',
    before: { zones: { '*': { fallback: '1' } } },
    after: {},
    line: forwarded('7', { zone: 'zone1-default.game.test' }),
    says: 'forwarded, then name_not_found',
  },
  {
    title: 'another name for an id that is not in DNS',
    after: { dns: { search: 'other.test' } },
    line: { ...forwarded('7'), zone: undefined, status: 502, reason: 'name_not_found' },
    says: 'the log does not say whether the new name is in DNS',
  },
  {
    title: 'rules that take the path from another one',
    before: { rules: [payRule({ header: 'server' }), otherRule] },
    after: { rules: [{ ...payRule({ header: 'server' }), name: 'buy' }, otherRule] },
    line: pay(),
    says: 'another name',
  },
  {
    title: 'a rule of another name, and the same service',
    before: { rules: [{ ...payRule({ header: 'server' }), services: { pay: {} } }, otherRule] },
    after: {
      rules: [{ ...payRule({ header: 'server' }), name: 'buy', services: { pay: {} } }, otherRule],
    },
    line: pay(),
    says: 'rule pay, then buy',
  },
  {
    title: 'an id that is in the path, and was in a header',
    before: { rules: [payRule({ header: 'server' }), otherRule] },
    after: { rules: [payRule({ path: '/pay/{id}' }), otherRule] },
    line: pay({ uri: '/pay/8' }),
    says: 'another name',
  },
  {
    title: 'no rule any more',
    before: { rules: [payRule({ header: 'server' }), otherRule] },
    after: { rules: [{ ...payRule({ header: 'server' }), match: { paths: ['/pay/y'] } }] },
    line: pay(),
    says: 'forwarded, then no_rule',
  },
  {
    title: 'an id in a query or in a header, of which the key says the same',
    before: { rules: { id: [{ query: 'zone' }, { header: 'server' }], port: 1 } },
    after: { rules: { id: [{ query: 'zone' }, { header: 'server' }], port: 2 } },
    line: forwarded('7'),
    says: 'port 1, then port 2',
  },
  {
    title: 'an id in a query or in a header, of which one counts no more',
    before: { rules: { id: [{ query: 'zone' }, { header: 'server' }] } },
    after: { rules: { id: [{ header: 'server' }] } },
    line: forwarded('7'),
    says: 'the key does not say in which place the id was',
  },
  {
    title: 'a header that is there twice',
    before: { rules: { id: [{ header: 'server' }, { query: 'zone' }] } },
    after: { rules: { id: [{ header: 'server' }, { query: 'zone' }], port: 9000 } },
    line: forwarded('', { key: 'POST!several', zone: undefined, status: 403, reason: 'id_invalid' }),
    says: null,
  },
  {
    title: 'an id in a body, which Envoy has read',
    before: { rules: { id: { json: '/zone' } } },
    after: { rules: { id: { json: '/zone' }, port: 9000 } },
    line: forwarded('7'),
    says: 'port 8101, then port 9000',
  },
  {
    title: 'an id in a body, which Envoy has not read',
    before: { rules: { id: { json: '/zone' } } },
    after: { rules: { id: { json: '/zone' }, port: 9000 } },
    line: forwarded('7', { key: 'POST!body' }),
    says: 'the log does not say: json /zone',
  },
  {
    title: 'cookies, which are not logged',
    before: { rules: { id: { cookie: 'zone' } } },
    after: { rules: { id: { cookie: 'zone' }, port: 9000 } },
    line: { ...forwarded('7'), key: undefined },
    says: 'the log does not say: cookie zone',
  },
  {
    title: 'a key by other rules',
    after: { rules: { port: 9000 } },
    line: forwarded('7', { key: 'POST:/cb/7' }),
    says: 'other rules than those in force made its key',
  },
  {
    title: 'a zone that the rules in force would not name',
    after: { rules: { port: 9000 } },
    line: forwarded('7', { zone: 'zone7.before.test' }),
    says: 'the configuration in force decides it differently from the log',
  },
  {
    title: 'a path that is cut',
    after: { rules: { port: 9000 } },
    line: forwarded('7', { uri: `/${'x'.repeat(511)}` }),
    says: 'the log shortened the path or the host',
  },
  {
    title: 'a zone that does not answer, as before',
    after: { rules: { methods: ['POST', 'GET'] } },
    line: forwarded('7', { status: 504, reason: 'upstream_timeout' }),
    says: null,
  },
]

for (const { title, before = {}, after, line, says } of CASES)
  test(title, async () => {
    const { requests, differently, changes, unknown, unreadable } = await diff(before, after, [line])
    assert.deepEqual([requests, unreadable.lines], [1, 0])
    assert.deepEqual(
      [...changes.map(({ kind }) => kind), ...Object.keys(unknown.why)],
      says === null ? [] : [says],
    )
    assert.equal(differently + unknown.requests, says === null ? 0 : 1)
  })

test('requests are counted by kind, the most frequent first, with so many examples and their lines', async () => {
  const { requests, differently, changes } = await diff(
    { rules: { methods: ['POST', 'PUT'] } },
    { rules: { methods: ['POST'], port: 9000 } },
    [
      forwarded('1', { method: 'PUT', key: 'PUT/1' }),
      '',
      ...['1', '2', '3'].map((id) => forwarded(id)),
      noId,
    ],
  )
  assert.deepEqual([requests, differently], [5, 4])
  assert.deepEqual(
    changes.map(({ change, requests, examples }) => [change, requests, examples.map(({ line }) => line)]),
    [
      ['port', 3, [3, 4]],
      ['refusal', 1, [1]],
    ],
  )
  assert.deepEqual(changes[0]?.examples[0], {
    line: 3,
    request: `POST ${HOST}/, key POST/1`,
    before: 'zone1-default.game.test port 8101 (rule default)',
    after: 'zone1-default.game.test port 9000 (rule default)',
  })
})

test('a line that is none of the access log is counted, and told by its number', async () => {
  const { requests, unreadable } = await diff({}, {}, [
    '[info] starting',
    forwarded('1'),
    '{"a":1}',
    '[]',
    '{"metho',
  ])
  assert.deepEqual([requests, unreadable], [1, { lines: 4, examples: [1, 3] }])
})
