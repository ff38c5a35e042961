import assert from 'node:assert/strict'
import type { Socket as UdpSocket } from 'node:dgram'
import { after, before, suite, test } from 'node:test'
import { startNameserver } from '../../demo/nameserver.ts'
import { startGateway, type TestGateway } from '../support/gateway.ts'
import { type Call, call, type Reply } from '../support/http.ts'
import { freePort } from '../support/ports.ts'
import { eventually } from '../support/processor.ts'
import { type ReceivedRequest, type Receiver, startReceiver } from '../support/receiver.ts'

/** Each place of an id through the whole gateway: refused alike with its zones cold and hot, and forwarded byte for byte. */

const ADDRESSES: Readonly<Record<string, string>> = { '12': '127.0.81.1', b7: '127.0.81.2', c1: '127.0.81.3' }
/** Longer than an id may be. */
const LONG = '1'.repeat(41)
const JSON_TYPE: [string, string] = ['content-type', 'application/json']
const FORM_TYPE: [string, string] = ['content-type', 'application/x-www-form-urlencoded']

interface Place {
  readonly rule: string
  readonly config: object
  /** A request with these texts in the place, each as often as it is given. */
  readonly request: (...ids: readonly string[]) => Call
  /** A text for an id that is encoded where that is done. */
  readonly encoded: (id: string) => string
  /** What an encoded id is: the same one, or none. */
  readonly decodes: boolean
  /** A request without an id, where it is more than one without texts in the place. */
  readonly missing?: Call
  /** Reasons, where they are others: of an empty text, and of two of them. */
  readonly empty?: string
  readonly severalAre?: string
}

const percent = (id: string): string => `%${id.charCodeAt(0).toString(16)}${id.slice(1)}`
const PLACES: readonly Place[] = [
  {
    rule: 'header',
    config: { match: { paths: ['/header/*'] }, id: { header: 'x-zone' } },
    request: (...ids) => ({ path: '/header/x?a=1&a=%2e', headers: ids.map((id) => ['X-Zone', id]) }),
    encoded: percent,
    decodes: false,
  },
  {
    rule: 'query',
    config: { match: { paths: ['/query/*'] }, id: { query: 'server_id' } },
    request: (...ids) => ({ path: `/query/x?a=%2F&${ids.map((id) => `server_id=${id}&`).join('')}b` }),
    encoded: percent,
    decodes: true,
  },
  {
    rule: 'path',
    config: { match: { paths: ['/cb/*'] }, id: { path: '/cb/{id}/*' } },
    request: (...ids) => ({ path: `/cb/${ids.join('/../')}/pay?x=/../` }),
    encoded: percent,
    decodes: false,
    missing: { path: '/cb/' },
    empty: 'id_invalid',
  },
  {
    rule: 'host',
    config: {
      match: { hosts: ['1*', 'b7.cb.test', 'c1.cb.test', '.cb*', 'none.test'] },
      id: { host: '{id}.cb.test' },
    },
    request: (...ids) => ({ path: '/host//x', headers: [['host', `${ids.join('.')}.CB.test:8101`]] }),
    encoded: (id) => `${id.slice(0, -1)}%32`,
    decodes: false,
    missing: { headers: [['host', 'none.test']] },
    severalAre: 'id_missing',
  },
  {
    rule: 'cookie',
    config: { match: { paths: ['/cookie'] }, id: { cookie: 'zone' } },
    request: (...ids) => ({
      path: '/cookie',
      headers: [['cookie', [...ids.map((id) => `zone=${id}`), 'a="b c"; d=%20'].join('; ')]],
    }),
    encoded: (id) => `"${id}"`,
    decodes: false,
  },
  {
    rule: 'json',
    config: { match: { paths: ['/json/*'] }, id: { json: '/attach/server' }, bodyMaxBytes: 20_000 },
    request: (...ids) => ({
      path: '/json/x',
      headers: [JSON_TYPE],
      body: `{ "a":1.0, "attach":{${ids.map((id) => `"server": "${id}"`).join(',')}} }\n`,
    }),
    encoded: (id) => `\\u00${id.charCodeAt(0).toString(16)}${id.slice(1)}`,
    decodes: true,
  },
  {
    rule: 'form',
    config: { match: { paths: ['/form'] }, id: { form: 'server_id' }, bodyMaxBytes: 20_000 },
    request: (...ids) => ({
      path: '/form',
      headers: [FORM_TYPE],
      body: `a=%20+&${ids.map((id) => `server_id=${id}&`).join('')}b`,
    }),
    encoded: percent,
    decodes: true,
  },
]

let gateway: TestGateway
let nameserver: UdpSocket
let receivers: Receiver[] = []

suite('each place of an id, with its zone cold and hot', () => {
  before(async () => {
    const port = await freePort('127.0.81.1')
    receivers = await Promise.all(Object.values(ADDRESSES).map((host) => startReceiver(host, port)))
    const records: Record<string, string[]> = {}
    for (const { rule } of PLACES)
      for (const [id, host] of Object.entries(ADDRESSES)) records[`zone${id}-${rule}.game.test`] = [host]
    nameserver = await startNameserver('127.0.0.1', await freePort(), records)
    gateway = await startGateway({
      config: {
        rules: PLACES.map(({ rule, config }) => ({
          name: rule,
          host: 'zone{id}-{service}.{search}',
          methods: ['POST', 'PUT'],
          port,
          ...config,
        })),
        dns: {
          nameservers: [`127.0.0.1:${nameserver.address().port}`],
          search: 'game.test',
          ttlSeconds: { min: 60 },
        },
        addresses: { allow: ['127.0.81.0/24'] },
      },
    })
  })
  after(async () => {
    await gateway?.stop()
    await new Promise<void>((done) => (nameserver === undefined ? done() : nameserver.close(() => done())))
    await Promise.all(receivers.map((receiver) => receiver.close()))
  })

  for (const place of PLACES) {
    const { rule } = place
    test(`${rule}: a cold zone gets what the client sent`, () => isForwarded(place, 'c1', 'cold'))
    for (const [title, sent, status, reason] of refusalsOf(place))
      test(`${rule}, no zone is hot: ${title}`, () => isRefused(sent, status, reason))
    test(`${rule}: a zone that is in use is hot, and the processor idle`, async () => {
      await becomesHot(place, '12')
      await becomesHot(place, 'b7')
      await isForwarded(place, '12', 'hot')
      await isForwarded(place, 'b7', 'hot')
    })
    for (const [title, sent, status, reason] of refusalsOf(place))
      test(`${rule}, its zones are hot: ${title}`, () => isRefused(sent, status, reason))
    test(`${rule}: an encoded id ${place.decodes ? 'is the id' : 'is none'}`, async () => {
      const reply = await call(gateway.port, place.request(place.encoded('12')))
      if (!place.decodes) return assert.match(String(reply.json()['reason']), /_invalid$/)
      assert.equal(reply.status, 200, reply.text)
      assertReceived(place.request(place.encoded('12')), '12')
    })
  }

  test('a request that no rule fits: 404, from Envoy itself', async () => {
    const before = await decisions()
    await isRefused({ path: '/other', headers: [['host', 'x.test']] }, 404, 'no_rule')
    assert.equal(await decisions(), before)
  })

  for (const kind of ['json', 'form'])
    test(`${kind}: a body beyond bodyMaxBytes is 413, and no zone gets a part of it`, async () => {
      const { headers = [], path = '' } = PLACES.find(({ rule }) => rule === kind)?.request('12') ?? {}
      const received = receivedBy().length
      for (const filler of ['x'.repeat(20_001), 'x'.repeat(200_000)]) {
        const body =
          kind === 'json' ? `{"attach":{"server":"12"},"x":"${filler}"}` : `server_id=12&x=${filler}`
        await isRefused({ path, headers, body }, 413, 'body_too_large')
      }
      assert.equal(receivedBy().length, received)
    })
})

type Refused = readonly [title: string, sent: Call, status: number, reason: string]

function refusalsOf({ rule, request, missing, empty, severalAre }: Place): Refused[] {
  const isHeader = rule === 'header'
  const [absent, invalid] = isHeader
    ? ['server_header_missing', 'server_header_invalid']
    : ['id_missing', 'id_invalid']
  const wrong = (title: string, sent: Call): Refused => [title, sent, 403, invalid]
  return [
    ['another method', { ...request('12'), method: 'DELETE' }, 405, 'method_not_allowed'],
    ['a missing id', missing ?? request(), 403, absent],
    ['an empty id', request(''), 403, empty ?? absent],
    ['two ids', request('12', 'b7'), 403, severalAre ?? invalid],
    ['the same id twice', request('12', '12'), 403, severalAre ?? invalid],
    wrong('an id with an underscore', request('1_2')),
    wrong('an id beyond idPattern', request(LONG)),
    wrong('an id beyond a label', request('1'.repeat(64))),
  ]
}

async function isRefused(sent: Call, status: number, reason: string): Promise<void> {
  const received = receivedBy().length
  const reply = await call(gateway.port, sent)
  assert.deepEqual(
    [reply.status, reply.headers['x-zonegate-reason'], reply.json()['reason']],
    [status, reason, reason],
  )
  assert.equal(reply.headers['allow'], status === 405 ? 'POST, PUT' : undefined)
  assert.equal(receivedBy().length, received)
}

async function becomesHot(place: Place, id: string): Promise<void> {
  await eventually(`${place.rule} ${id} is hot`, async () => {
    const before = await decisions()
    isOk(await call(gateway.port, place.request(id)))
    return (await decisions()) === before
  })
}

/** On the hot path the processor decides nothing. */
async function isForwarded(place: Place, id: string, path: 'hot' | 'cold'): Promise<void> {
  const sent = place.request(id)
  const before = await decisions()
  const received = receivedBy(id).length
  isOk(await call(gateway.port, sent))
  assert.equal((await decisions()) - before, path === 'cold' ? 1 : 0)
  assert.equal(receivedBy(id).length, received + 1)
  assertReceived(sent, id)
}

function isOk(reply: Reply): void {
  assert.equal(reply.status, 200, `${reply.status} ${reply.text}`)
}

/** What Envoy adds to a request, as on any way to a zone. */
const ADDED = new Set([
  'x-forwarded-for',
  'x-forwarded-proto',
  'x-forwarded-host',
  'x-request-id',
  'x-zonegate-route',
])

function assertReceived({ path, headers = [], body = '' }: Call, id: string): void {
  const received = receivedBy(id).at(-1)
  assert.ok(received !== undefined)
  const lines = (raw: readonly string[]): string[] =>
    raw.flatMap((name, at) => (at % 2 === 0 ? [`${name.toLowerCase()}: ${raw[at + 1]}`] : []))
  const sent = headers
    .map(([name, value]) => `${name.toLowerCase()}: ${value}`)
    .filter((line) => !/^host:/.test(line))
  const own = lines(received.rawHeaders).filter(
    (line) => !ADDED.has(line.split(':')[0] ?? '') && !/^(?:host|content-length|connection):/.test(line),
  )
  assert.deepEqual(own.sort(), sent.sort())
  assert.deepEqual([received.method, received.path, received.body], ['POST', path, body])
}

function receivedBy(id?: string): ReceivedRequest[] {
  return receivers.flatMap(({ host, requests }) =>
    id === undefined || host === ADDRESSES[id] ? requests : [],
  )
}

async function decisions(): Promise<number> {
  const { forwarded, refused } = (await gateway.status()).decisions
  return Object.values(refused).reduce((sum, count) => sum + count, forwarded)
}
