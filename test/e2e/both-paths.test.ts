import assert from 'node:assert/strict'
import { after, before, suite, test } from 'node:test'
import { startGateway, type TestGateway } from '../support/gateway.ts'
import { rawCall } from '../support/http.ts'
import { callHttp2, connectHttp2 } from '../support/http2.ts'
import { freePort } from '../support/ports.ts'
import { eventually } from '../support/processor.ts'
import { type ScriptedReceiver, startScriptedReceiver } from '../support/scripted-receiver.ts'
import { startZoneNameserver, type ZoneNameserver } from '../support/zone-nameserver.ts'

/**
 * By way of the processor or inside Envoy: a caller gets the same answer, and the zone the same request, octet by octet but
 * for what is random and the order of the headers that Envoy adds.
 */
let cold: TestGateway
let hot: TestGateway
let nameserver: ZoneNameserver
let zone: ScriptedReceiver

const OK = 'HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok'
/** Envoy's `max_headers_count` and `max_request_headers_kb`. */
const LINES_MAX = 100
const HEAD_KB_MAX = 60

const requestWith = (lines: string, body = '', target = '/'): string =>
  `POST ${target} HTTP/1.1\r\nhost: x\r\nserver: 1\r\nconnection: close\r\n${lines}\r\n${body}`
const chunked = (body: string): string => requestWith('transfer-encoding: chunked\r\n', body)
const empty = (lines: string): string => requestWith(`content-length: 0\r\n${lines}`)
const withLine = (line: string): string =>
  `${line} HTTP/1.1\r\nhost: x\r\nserver: 1\r\nconnection: close\r\ncontent-length: 0\r\n\r\n`
const withHosts = (...hosts: string[]): string =>
  `POST / HTTP/1.1\r\n${hosts.map((host) => `host: ${host}\r\n`).join('')}server: 1\r\nconnection: close\r\ncontent-length: 0\r\n\r\n`
/** A request of so many header lines. */
const ofLines = (count: number): string =>
  empty(Array.from({ length: count - 4 }, (_, index) => `x-${index}: a\r\n`).join(''))

interface Outcome {
  /** Statuses in order, and the reason; one status more for a `100 Continue`. */
  readonly answer: string
  /** What comes behind the head of a zone's answer. */
  readonly body: string
  readonly atZone: readonly string[]
}

suite('both paths', () => {
  before(async () => {
    const port = await freePort('127.0.92.1')
    zone = await startScriptedReceiver('127.0.92.1', port)
    nameserver = await startZoneNameserver({ 'zone1-default.game.test': ['127.0.92.1'] })
    const config = {
      rules: { port },
      dns: { nameservers: [nameserver.address], search: 'game.test' },
      addresses: { allow: ['127.0.92.1/32'] },
    }
    cold = await startGateway({ config: { ...config, learned: { enabled: false } } })
    hot = await startGateway({ config })
    await eventually('the zone is learned', async () => {
      await rawCall(hot.port, empty(''))
      return (await hot.stat('cluster.default/1.upstream_rq_total')) > 0
    })
  })
  after(async () => {
    await Promise.all([cold?.stop(), hot?.stop()])
    await nameserver?.close()
    await zone?.close()
  })

  /** What comes of it on both paths, which is the same. */
  const send = async (request: string, answer = OK): Promise<Outcome> => {
    zone.answer(answer)
    const [byProcessor, inside] = [await sendTo(cold, request), await sendTo(hot, request)]
    assert.deepEqual(inside, byProcessor, 'a learned zone differs from the way by the processor')
    return inside
  }
  const sendTo = async (gateway: TestGateway, request: string): Promise<Outcome> => {
    const before = zone.requests.length
    const asked = await gateway.stat('cluster.processor.upstream_rq_total')
    const text = await rawCall(gateway.port, request, 250)
    if (gateway === hot)
      assert.equal(await gateway.stat('cluster.processor.upstream_rq_total'), asked, 'it asked the processor')
    const statuses = [...text.matchAll(/^HTTP\/1\.[01] (\d+)/gm)].map(([, status]) => status)
    const last = text.slice(text.lastIndexOf('HTTP/1.'))
    const reason = /^x-zonegate-reason: (\S+)/m.exec(text)?.[1] ?? ''
    return {
      answer: [...statuses, reason].join(' ').trim(),
      body: reason === '' ? last.slice(last.indexOf('\r\n\r\n') + 4) : '',
      atZone: zone.requests.slice(before).map(inOrder),
    }
  }
  /** Its lines sorted, without what is random. */
  const inOrder = (request: string): string => {
    const [line = '', ...fields] = request.replace(/^x-request-id: .*\r\n/m, '').split('\r\n')
    const end = fields.indexOf('')
    return [line, ...fields.slice(0, end).sort(), ...fields.slice(end)].join('\r\n')
  }

  const REQUESTS: [title: string, request: string, answer: string][] = [
    ['octets behind the data of a chunk', chunked('5\r\nhelloXX\r\n0\r\n\r\n'), '400 bad_request'],
    ['LF alone behind the data of a chunk', chunked('5\r\nhello\n0\r\n\r\n'), '400 bad_request'],
    ['octets and LF behind the data of a chunk', chunked('5\r\nhelloX\n0\r\n\r\n'), '400 bad_request'],
    ['CR, octets and LF behind a chunk', chunked('5\r\nhello\rX\n0\r\n\r\n'), '400 bad_request'],
    [
      'a line end inside the quotes of an extension',
      chunked('5;a="q\r\nhello"\r\n0\r\n\r\n'),
      '400 bad_request',
    ],
    ['a chunk that is longer than it says', chunked('5\r\nhello0\r\n\r\n'), '400 bad_request'],
    ['CR alone inside a chunk extension', chunked('5;a\rb\r\nhello\r\n0\r\n\r\n'), '400 bad_request'],
    ['a space before the length of a chunk', chunked(' 5\r\nhello\r\n0\r\n\r\n'), '400 bad_request'],
    ['a chunk extension', chunked('5;a=b\r\nhello\r\n0\r\n\r\n'), '200'],
    // What Envoy 1.40 takes though RFC 9112 section 7.1 has no such chunk: docs/moving-from-openresty.md.
    ['octets between the length of a chunk and its line end', chunked('5 x\r\nhello\r\n0\r\n\r\n'), '200'],
    ['NUL in a chunk extension', chunked('5;a\0b\r\nhello\r\n0\r\n\r\n'), '200'],

    ['transfer-encoding: identity', requestWith('transfer-encoding: identity\r\n'), '501 bad_request'],
    ['a coding that nobody knows', requestWith('transfer-encoding: x\r\n'), '501 bad_request'],
    ['gzip, chunked', requestWith('transfer-encoding: gzip, chunked\r\n', '0\r\n\r\n'), '501 bad_request'],
    ['chunked twice', requestWith('transfer-encoding: chunked, chunked\r\n', '0\r\n\r\n'), '501 bad_request'],
    ['an empty transfer-encoding', requestWith('transfer-encoding:\r\n'), '501 bad_request'],

    ['an empty x-forwarded-proto', empty('x-forwarded-proto:\r\n'), '200'],
    ['x-forwarded-proto: https', empty('x-forwarded-proto: https\r\n'), '200'],
    ['two x-forwarded-proto', empty('x-forwarded-proto: https\r\nx-forwarded-proto: http\r\n'), '200'],
    ['an empty x-forwarded-for', empty('x-forwarded-for:\r\n'), '200'],
    ['an empty x-forwarded-host', empty('x-forwarded-host:\r\n'), '200'],
    ['an empty x-request-id', empty('x-request-id:\r\n'), '200'],
    ['an empty content-type', empty('content-type:\r\n'), '200'],
    ['an empty upgrade', empty('upgrade:\r\n'), '200'],
    ['an empty te', empty('te:\r\n'), '200'],

    ['two Host headers', withHosts('a', 'b'), '400 bad_request'],
    ['the same Host twice', withHosts('a', 'a'), '400 bad_request'],
    ['two hosts in one Host', withHosts('a,b'), '400 bad_request'],
    ['an absolute URI', withLine('POST http://h/x?y'), '200'],
    ['an absolute URI without a path', withLine('POST http://h'), '200'],
    ['an absolute URI of another scheme', withLine('POST ftp://h/'), '400 bad_request'],
    ['CONNECT', withLine('CONNECT h:1'), '404 bad_request'],
    ['OPTIONS *', withLine('OPTIONS *'), '404 bad_request'],
    // docs/moving-from-openresty.md: not by RFC 9112 section 3.2.2, and not to be had of Envoy.
    ['an absolute URI with a query and no path', withLine('POST http://h?x'), '404 bad_request'],
    ['UTF-8 in the path', withLine('POST /\xe4\xb8\xad'), '400 bad_request'],
    ['UTF-8 in the query', withLine('POST /?name=\xe4\xb8\xad'), '400 bad_request'],

    ['Expect: 100-continue', requestWith('expect: 100-continue\r\ncontent-length: 1\r\n', 'x'), '100 200'],
    ['an Expect of another kind', requestWith('expect: x\r\ncontent-length: 1\r\n', 'x'), '200'],

    ['93 header lines', ofLines(93), '200'],
    ['94 header lines', ofLines(94), '200'],
    ['95 header lines', ofLines(95), '200'],
    [`${LINES_MAX} header lines`, ofLines(LINES_MAX), '200'],
    [`${LINES_MAX + 1} header lines`, ofLines(LINES_MAX + 1), '431 headers_too_large'],
    [
      'a Host that together with its copy is longer than a head may be',
      withHosts('a'.repeat((HEAD_KB_MAX / 2 + 5) * 1024)),
      '200',
    ],
    ['a head just as long as it may be', empty(`x: ${'a'.repeat(HEAD_KB_MAX * 1024 - 120)}\r\n`), '200'],
    ['a longer head', empty(`x: ${'a'.repeat(HEAD_KB_MAX * 1024)}\r\n`), '431 headers_too_large'],
    ['a longer path', withLine(`POST /${'a'.repeat(HEAD_KB_MAX * 1024)}`), '431 headers_too_large'],
  ]
  for (const [title, request, answer] of REQUESTS)
    test(`${title}: ${answer}`, async () => {
      const outcome = await send(request)
      assert.equal(outcome.answer, answer)
      assert.equal(outcome.atZone.length, answer.endsWith('200') ? 1 : 0)
    })

  test('the zone gets x-forwarded-proto as it came, and http for an empty or a missing one', async () => {
    const seen: Record<string, string[]> = { '': ['http'], 'x-forwarded-proto:': ['http'] }
    seen['x-forwarded-proto: https'] = ['https']
    seen['x-forwarded-proto: ws, https'] = ['ws, https']
    for (const [line, values] of Object.entries(seen)) {
      const { atZone } = await send(empty(line === '' ? '' : `${line}\r\n`))
      const got = [...(atZone[0] ?? '').matchAll(/^x-forwarded-proto: (.*)\r$/gm)].map(([, value]) => value)
      assert.deepEqual(got, values, line)
    }
  })

  const ANSWERS: [title: string, answer: string, seen: string, body: string][] = [
    [
      'a length beside chunks',
      'HTTP/1.1 200 OK\r\ncontent-length: 9\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n',
      '200',
      '2\r\nok\r\n0\r\n\r\n',
    ],
    ['a 204 with a length of nought', 'HTTP/1.1 204 No Content\r\ncontent-length: 0\r\n\r\n', '204', ''],
    [
      '120 header lines',
      `HTTP/1.1 200 OK\r\n${'x: a\r\n'.repeat(119)}content-length: 2\r\n\r\nok`,
      '200',
      'ok',
    ],
    [
      '5000 header lines',
      `HTTP/1.1 200 OK\r\n${'x: a\r\n'.repeat(4999)}content-length: 2\r\n\r\nok`,
      '200',
      'ok',
    ],
    [
      '200 cookies',
      `HTTP/1.1 200 OK\r\n${'set-cookie: a=b\r\n'.repeat(200)}content-length: 2\r\n\r\nok`,
      '200',
      'ok',
    ],
    ['no reason phrase', 'HTTP/1.1 200\r\ncontent-length: 2\r\n\r\nok', '200', 'ok'],
    ['lines that end in LF alone', 'HTTP/1.1 200 OK\ncontent-length: 2\n\nok', '200', 'ok'],
    ['a folded header line', 'HTTP/1.1 200 OK\r\nx: a\r\n b\r\ncontent-length: 2\r\n\r\nok', '200', 'ok'],
    ['a header with "_"', 'HTTP/1.1 200 OK\r\nx_y: a\r\ncontent-length: 2\r\n\r\nok', '200', 'ok'],
    ['UTF-8 in a header', 'HTTP/1.1 200 OK\r\nx: \xe4\xb8\xad\r\ncontent-length: 2\r\n\r\nok', '200', 'ok'],
    // Envoy can't pass these on: docs/moving-from-openresty.md names them, docs/troubleshooting.md under upstream_reset.
    [
      'a 204 with a length',
      'HTTP/1.1 204 No Content\r\ncontent-length: 2\r\n\r\nok',
      '502 upstream_reset',
      '',
    ],
    [
      'two equal lengths',
      `${OK.replace('\r\n\r\n', '\r\ncontent-length: 2\r\n\r\n')}`,
      '502 upstream_reset',
      '',
    ],
    ['two lengths in one line', OK.replace(': 2', ': 2, 2'), '502 upstream_reset', ''],
    ['an empty length', OK.replace(': 2', ':'), '502 upstream_reset', ''],
    [
      'gzip, chunked',
      'HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n',
      '502 upstream_reset',
      '',
    ],
    ['a space before the colon', OK.replace(': 2', ' : 2'), '502 upstream_reset', ''],
    ['a line without a colon', OK.replace('OK\r\n', 'OK\r\nx\r\n'), '502 upstream_reset', ''],
    ['a control character in a header', OK.replace('OK\r\n', 'OK\r\nx: a\x01\r\n'), '502 upstream_reset', ''],
    [
      'a head of 100 KiB',
      OK.replace('OK\r\n', `OK\r\nx: ${'a'.repeat(102_400)}\r\n`),
      '502 upstream_reset',
      '',
    ],
  ]
  for (const [title, answer, seen, body] of ANSWERS)
    test(`an answer with ${title}: ${seen}`, async () => {
      const outcome = await send(empty(''), answer)
      assert.deepEqual([outcome.answer, outcome.body, outcome.atZone.length], [seen, body, 1])
    })

  /** Status, or how the stream ended, of a request with so many fields, pseudo-headers among them. */
  const overHttp2 = async ({ port }: TestGateway, fields: number): Promise<number | string> => {
    const session = await connectHttp2(port)
    const others = Array.from({ length: fields - 5 }, (_, index): [string, string] => [`x-${index}`, 'a'])
    try {
      return (await callHttp2(session, { headers: [['server', '1'], ...others] })).status
    } catch (error) {
      return String((error as { code?: string }).code)
    } finally {
      session.destroy()
    }
  }
  test(`over HTTP/2 ${LINES_MAX} fields are forwarded, and one more resets the stream`, async () => {
    zone.answer(OK)
    for (const gateway of [cold, hot]) {
      assert.equal(await overHttp2(gateway, LINES_MAX), 200)
      assert.equal(await overHttp2(gateway, LINES_MAX + 1), 'ERR_HTTP2_STREAM_ERROR')
    }
  })

  for (const method of ['post', 'Post', 'pOST', 'get', 'BREW'])
    test(`${method} over HTTP/2: 405, and no zone hears of it`, async () => {
      const before = zone.requests.length
      for (const gateway of [cold, hot]) {
        const session = await connectHttp2(gateway.port)
        try {
          const { status, headers, json } = await callHttp2(session, { method, headers: [['server', '1']] })
          assert.deepEqual([status, headers['allow'], json()['reason']], [405, 'POST', 'method_not_allowed'])
        } finally {
          session.destroy()
        }
      }
      assert.equal(zone.requests.length, before)
    })
})
