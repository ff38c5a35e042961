import assert from 'node:assert/strict'
import { connect } from 'node:net'
import { after, before, suite, test } from 'node:test'
import { startGateway, type TestGateway } from '../support/gateway.ts'
import { rawCall } from '../support/http.ts'
import {
  END_HEADERS,
  END_STREAM,
  type Fields,
  FRAME,
  frame,
  frameTypes,
  headerBlock,
  preface,
} from '../support/http2-frames.ts'
import { freePort } from '../support/ports.ts'
import { type Receiver, startReceiver } from '../support/receiver.ts'
import { startZoneNameserver, type ZoneNameserver } from '../support/zone-nameserver.ts'

/**
 * Requests that two parsers might read in two ways (RFC 9112 sections 2.2, 5.1, 5.2, 6, 7.1 and 11.2). Each is refused, or
 * reaches the zone as one request that can be read in one way: with the id that Envoy looked at, and no second request.
 */
let gateway: TestGateway
let nameserver: ZoneNameserver
let zone: Receiver
let port: number

const HEAD = 'POST / HTTP/1.1\r\nhost: x\r\nserver: 1\r\n'
const END = 'connection: close\r\n\r\n'
const chunked = `${HEAD}transfer-encoding: chunked\r\n${END}`
const second = 'POST /second HTTP/1.1\r\nhost: x\r\nserver: 1\r\ncontent-length: 0\r\n\r\n'

const FIELDS: Fields = [
  [':method', 'POST'],
  [':scheme', 'http'],
  [':path', '/'],
  [':authority', 'x'],
  ['server', '1'],
]

/** Over HTTP/2 (RFC 9113 sections 8.2 and 8.3, and 10.3), where a header's octets are any octets. */
const MALFORMED: [title: string, fields: Fields][] = [
  ['CR and LF in a value', [...FIELDS, ['x', 'a\r\nserver: 2']]],
  ['a request in a value', [...FIELDS, ['x', `a\r\n\r\n${second}`]]],
  ['LF in a path', [...FIELDS.slice(0, 2), [':path', '/ HTTP/1.1\r\nserver: 2\r\nx:'], ...FIELDS.slice(3)]],
  ['a method with a space', [[':method', 'POST / HTTP/1.1\r\nx:'], ...FIELDS.slice(1)]],
  ['NUL in a value', [...FIELDS, ['x', 'a\0b']]],
  ['a colon in a name', [...FIELDS, ['x: a\r\nserver', '2']]],
  ['capitals in a name', [...FIELDS, ['Server', '2']]],
  ['transfer-encoding', [...FIELDS, ['transfer-encoding', 'chunked']]],
  ['connection', [...FIELDS, ['connection', 'server']]],
  ['a second path', [...FIELDS, [':path', '/second']]],
  ['a length that is not the body', [...FIELDS, ['content-length', '5']]],
]

interface Seen {
  readonly headers: Readonly<Record<string, string | undefined>>
  readonly body: string
}

/** What the zone gets of it: headers that matter, and the body. */
const FORWARDED: [title: string, request: string, seen: Seen][] = [
  [
    'a folded header line',
    `${HEAD}x: a\r\n server: 2\r\ncontent-length: 1\r\n${END}x`,
    { headers: { server: '1', x: 'a server: 2' }, body: 'x' },
  ],
  [
    'lines that end with LF alone',
    `${HEAD}content-length: 1\r\n${END}x`.replaceAll('\r\n', '\n'),
    { headers: { server: '1', 'content-length': '1' }, body: 'x' },
  ],
  [
    'CR alone inside a header',
    `${HEAD}x: a\rserver: 2\r\ncontent-length: 1\r\n${END}x`,
    { headers: { server: '1', x: 'aserver: 2' }, body: 'x' },
  ],
  [
    'a chunk extension',
    `${chunked}1;server=2\r\nx\r\n0\r\n\r\n`,
    { headers: { server: '1', 'content-length': '1', 'transfer-encoding': undefined }, body: 'x' },
  ],
  [
    'an id in the trailers',
    `${HEAD}trailer: server\r\ntransfer-encoding: chunked\r\n${END}1\r\nx\r\n0\r\nserver: 2\r\n\r\n`,
    { headers: { server: '1', 'content-length': '1', 'transfer-encoding': undefined }, body: 'x' },
  ],
  [
    'chunks in HTTP/1.0',
    'POST / HTTP/1.0\r\nhost: x\r\nserver: 1\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n',
    { headers: { server: '1', 'content-length': '1', 'transfer-encoding': undefined }, body: 'x' },
  ],
]

const REFUSED: [title: string, request: string, status: number][] = [
  ['an id that goes on in a folded line', `POST / HTTP/1.1\r\nhost: x\r\nserver: 1\r\n 2\r\n${END}`, 403],
  ['LF alone before a second length', `${HEAD}x: a\ncontent-length: 5\r\ncontent-length: 1\r\n${END}x`, 400],
  ['two lengths in one line', `${HEAD}content-length: 1, 2\r\n${END}x`, 400],
  ['a length below nought', `${HEAD}content-length: -1\r\n${END}x`, 400],
  ['a length with a sign', `${HEAD}content-length: +1\r\n${END}x`, 400],
  [
    'a length and chunks',
    `${HEAD}content-length: 1\r\ntransfer-encoding: chunked\r\n${END}0\r\n\r\n${second}`,
    400,
  ],
  [
    'chunked twice',
    `${HEAD}transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n${END}0\r\n\r\n${second}`,
    501,
  ],
  ['chunked, and not last', `${HEAD}transfer-encoding: chunked, identity\r\n${END}0\r\n\r\n${second}`, 501],
  [
    'chunked behind a control character',
    `${HEAD}transfer-encoding: \x0bchunked\r\n${END}0\r\n\r\n${second}`,
    400,
  ],
  ['a chunk extension that ends with LF alone', `${chunked}1;a\nx\r\n0\r\n\r\n${second}`, 400],
  ['a chunk longer than any number', `${chunked}fffffffffffffffff\r\nx\r\n0\r\n\r\n`, 400],
  ['a space before the colon', `POST / HTTP/1.1\r\nhost: x\r\nserver : 1\r\n${END}`, 400],
]

suite('requests that can be read in two ways', () => {
  before(async () => {
    port = await freePort('127.0.75.1')
    zone = await startReceiver('127.0.75.1', port)
    nameserver = await startZoneNameserver({
      'zone1-default.game.test': ['127.0.75.1'],
      'zone2-default.game.test': ['127.0.75.1'],
    })
    gateway = await startGateway({
      config: {
        rules: { port },
        dns: { nameservers: [nameserver.address], search: 'game.test' },
        addresses: { allow: ['127.0.75.1/32'] },
      },
      // Each of these clients waits for the end.
      edit: {
        'listener.yaml': (text) => text.replace('delayed_close_timeout: 30s', 'delayed_close_timeout: 0.5s'),
      },
    })
  })
  after(async () => {
    await gateway?.stop()
    await nameserver?.close()
    await zone?.close()
  })

  /** All that comes back, and what the zone got meanwhile. */
  const send = async (request: string) => {
    const before = zone.requests.length
    const text = await rawCall(gateway.port, request, 400)
    return { text, got: zone.requests.slice(before) }
  }

  for (const [title, request, seen] of FORWARDED)
    test(`${title}: one request, for the id that was looked at`, async () => {
      const { text, got } = await send(request)
      assert.match(text, /^HTTP\/1\.[01] 200 /)
      assert.equal(got.length, 1)
      const headers = Object.fromEntries(
        Object.keys(seen.headers).map((name) => [name, got[0]?.headers[name]]),
      )
      assert.deepEqual({ headers, body: String(got[0]?.body) }, seen)
    })

  for (const [title, request, status] of REFUSED)
    test(`${title}: ${status}, the connection is closed, and no zone hears of it`, async () => {
      const { text, got } = await send(request)
      assert.match(text, new RegExp(`^HTTP/1\\.1 ${status} `))
      assert.match(text, /^connection: close\r$/m)
      assert.equal(text.match(/^HTTP\//gm)?.length, 1, 'one answer')
      assert.deepEqual(got, [])
    })

  for (const [title, fields] of MALFORMED)
    test(`over HTTP/2, ${title}: the stream or the connection is ended, and no zone hears of it`, async () => {
      const before = zone.requests.length
      const frames = await sendHttp2(gateway.port, fields)
      assert.ok(!frames.includes(FRAME.headers), `no answer, but frames ${frames}`)
      assert.deepEqual(zone.requests.slice(before), [])
    })

  const underscored: Fields = [
    ['x_forwarded_host', 'evil.test'],
    ['x_zonegate_route', '127.0.0.1:1'],
    ['server_', '2'],
  ]
  test('names with _, which many a receiver reads as -, do not reach the zone, over HTTP/1.1 and HTTP/2', async () => {
    const before = zone.requests.length
    const lines = underscored.map(([name, value]) => `${name}: ${value}\r\n`).join('')
    const text = await rawCall(gateway.port, `${HEAD}${lines}content-length: 1\r\n${END}x`, 400)
    assert.match(text, /^HTTP\/1\.1 200 /)
    await sendHttp2(gateway.port, [...FIELDS, ...underscored])
    const got = zone.requests.slice(before)
    assert.equal(got.length, 2)
    for (const { headers } of got)
      assert.deepEqual(
        Object.keys(headers).filter((name) => name.includes('_')),
        [],
      )
  })

  test('over HTTP/2, Host beside :authority: the zone gets its own address, and :authority as x-forwarded-host', async () => {
    const before = zone.requests.length
    await sendHttp2(gateway.port, [...FIELDS, ['host', 'evil.test']])
    const got = zone.requests.slice(before)
    // Envoy may as well refuse it (RFC 9113 section 8.3.1).
    assert.ok(got.length <= 1)
    for (const { headers, rawHeaders } of got) {
      assert.deepEqual([headers['host'], headers['x-forwarded-host']], [`127.0.75.1:${port}`, 'x'])
      assert.ok(!rawHeaders.includes('evil.test'), rawHeaders.join())
    }
  })

  test('trailers do not reach the zone, over HTTP/1.1 and HTTP/2', async () => {
    const before = zone.requests.length
    const { text } = await send(
      `${HEAD}trailer: x\r\ntransfer-encoding: chunked\r\n${END}1\r\nx\r\n0\r\nx: a\r\nserver: 2\r\n\r\n`,
    )
    assert.match(text, /^HTTP\/1\.1 200 /)
    const trailers: Fields = [
      ['x', 'a'],
      ['server', '2'],
    ]
    const frames = await sendHttp2(gateway.port, FIELDS, trailers)
    assert.ok(frames.includes(FRAME.headers), `frames ${frames}`)
    const got = zone.requests.slice(before)
    assert.deepEqual(
      got.map(({ headers, body, rawTrailers }) => [headers['server'], body, rawTrailers]),
      [
        ['1', 'x', []],
        ['1', 'x', []],
      ],
    )
  })

  test('over HTTP/2 the same without a fault reaches the zone', async () => {
    const before = zone.requests.length
    const frames = await sendHttp2(gateway.port, FIELDS)
    assert.ok(frames.includes(FRAME.headers) && !frames.includes(FRAME.rstStream), `frames ${frames}`)
    assert.equal(zone.requests.slice(before).length, 1)
  })
})

/**
 * Sends one request on stream 1, as it is, which no HTTP/2 library would. With `trailers` they end it, behind the body.
 * @returns the types of the frames that come back, until an answer, the end of the stream or the end of the connection
 */
function sendHttp2(port: number, fields: Fields, trailers: Fields = []): Promise<number[]> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = []
    const socket = connect(port, '127.0.0.1', () => {
      socket.write(preface())
      socket.write(frame(FRAME.headers, END_HEADERS, 1, headerBlock(fields)))
      socket.write(frame(FRAME.data, trailers.length > 0 ? 0 : END_STREAM, 1, Buffer.from('x')))
      if (trailers.length > 0)
        socket.write(frame(FRAME.headers, END_HEADERS | END_STREAM, 1, headerBlock(trailers)))
    })
    socket.setTimeout(30_000, () => socket.destroy(new Error('neither an answer nor an end')))
    socket.on('data', (chunk) => {
      chunks.push(chunk)
      const types = frameTypes(Buffer.concat(chunks))
      if (types.includes(FRAME.headers) || types.includes(FRAME.rstStream)) socket.destroy()
    })
    socket.on('error', (error) => error.message.startsWith('neither') && reject(error))
    socket.on('close', () => resolve(frameTypes(Buffer.concat(chunks))))
  })
}
