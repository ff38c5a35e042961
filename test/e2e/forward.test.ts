import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { createServer, request as httpRequest } from 'node:http'
import { after, before, suite, test } from 'node:test'
import { startGateway, type TestGateway } from '../support/gateway.ts'
import { call, rawCall } from '../support/http.ts'
import { freePort } from '../support/ports.ts'
import { eventually } from '../support/processor.ts'
import { type Receiver, startReceiver } from '../support/receiver.ts'
import { startZoneNameserver, type ZoneNameserver } from '../support/zone-nameserver.ts'

/** So long may a zone be silent: more than a busy machine is. */
const TRY_SECONDS = 3

/** The table of what a caller gets, row by row, against real Envoy, the real processor and a real nameserver. */
let gateway: TestGateway
let nameserver: ZoneNameserver
let zone1: Receiver
let zone1Mail: Receiver
let port: number

suite('what a caller gets', () => {
  before(async () => {
    port = await freePort('127.0.61.1')
    zone1 = await startReceiver('127.0.61.1', port)
    zone1Mail = await startReceiver('127.0.61.2', port)
    nameserver = await startZoneNameserver({
      'zone1-default.game.test': ['127.0.61.1'],
      'zone1-mail.game.test': ['127.0.61.2'],
      'zoneabc-default.game.test': ['127.0.61.1'],
      'zone5-default.game.test': ['127.0.62.5'], // nobody listens there
      'zone6-default.game.test': ['127.0.63.6'], // hangs
      'zone7-default.game.test': ['169.254.169.254'],
      'zone8-default.game.test': ['0.0.0.0'],
      'zone9-default.game.test': ['127.0.0.1'],
    })
    gateway = await startGateway({
      config: {
        rules: { port },
        dns: { nameservers: [nameserver.address], search: 'game.test' },
        addresses: { allow: ['127.0.61.0/24', '127.0.62.0/24', '127.0.63.0/24'] },
      },
      edit: {
        'routes.yaml': (text) => text.replace('per_try_timeout: 0.5s', `per_try_timeout: ${TRY_SECONDS}s`),
      },
    })
  })
  after(async () => {
    await gateway?.stop()
    await nameserver?.close()
    await Promise.all([zone1, zone1Mail].map((receiver) => receiver?.close()))
  })

  type Headers = [string, string][]
  const REFUSED: [title: string, method: string, headers: Headers, status: number, reason: string][] = [
    ['GET', 'GET', [['server', '1']], 405, 'method_not_allowed'],
    ['GET without a server header', 'GET', [], 405, 'method_not_allowed'],
    ['PUT', 'PUT', [['server', '1']], 405, 'method_not_allowed'],
    ['DELETE', 'DELETE', [['server', '1']], 405, 'method_not_allowed'],
    ['no server header', 'POST', [], 403, 'server_header_missing'],
    ['an empty server header', 'POST', [['server', '']], 403, 'server_header_missing'],
    ['a server header "-"', 'POST', [['server', '-']], 403, 'server_header_missing'],
    [
      'two server headers, both empty',
      'POST',
      [
        ['server', ''],
        ['server', ''],
      ],
      403,
      'server_header_missing',
    ],
    [
      'two server headers, the first of them "-"',
      'POST',
      [
        ['server', '-'],
        ['server', '1'],
      ],
      403,
      'server_header_invalid',
    ],
    [
      'two server headers',
      'POST',
      [
        ['server', '1'],
        ['server', '1'],
      ],
      403,
      'server_header_invalid',
    ],
    ['two ids in one header', 'POST', [['server', '1,2']], 403, 'server_header_invalid'],
    ['an id with a dot', 'POST', [['server', '1.evil']], 403, 'server_header_invalid'],
    ['an id of 41 letters', 'POST', [['server', 'a'.repeat(41)]], 403, 'server_header_invalid'],
    ['an id with a space', 'POST', [['server', '1 2']], 403, 'server_header_invalid'],
    ['a name that is not in DNS', 'POST', [['server', '404']], 502, 'name_not_found'],
    ['the metadata service as a zone', 'POST', [['server', '7']], 502, 'address_denied'],
    ['the unspecified address as a zone', 'POST', [['server', '8']], 502, 'address_denied'],
    ['loopback as a zone', 'POST', [['server', '9']], 502, 'address_denied'],
    ['a zone that refuses connections', 'POST', [['server', '5']], 502, 'upstream_unreachable'],
  ]
  for (const [title, method, headers, status, reason] of REFUSED) {
    test(`${title}: ${status} ${reason}`, async () => {
      const reply = await call(gateway.port, { method, headers })
      assert.deepEqual(
        [reply.status, reply.json()['reason'], reply.json()['status']],
        [status, reason, status],
      )
      assert.equal(reply.headers['content-type'], 'application/problem+json')
      assert.match(String(reply.json()['request_id']), /^[0-9a-f-]{36}$/)
      assert.equal(typeof reply.json()['title'], 'string')
      assert.equal(reply.headers['allow'], status === 405 ? 'POST' : undefined)
    })
  }

  test('an empty server header beside one with an id counts for nothing, and the zone sees the one', async () => {
    for (const values of [
      ['', '1'],
      ['1', ''],
    ]) {
      const headers = values.map((value): [string, string] => ['server', value])
      const { status } = await call(gateway.port, { headers })
      assert.deepEqual([status, zone1.requests.at(-1)?.headers['server']], [200, '1'])
    }
  })

  test('a request is forwarded to its zone, untouched', async () => {
    const path = '/a//b/../c/%2e%2E/;x=1?q=%20&q=+#'.replace('#', '')
    const sent: Headers = [
      ['host', 'pay.example:8443'],
      ['server', '1'],
      ['x-forwarded-host', 'forged.example'],
      ['x-forwarded-for', '10.0.0.9'],
      ['x-forwarded-proto', 'https'],
      ['x-request-id', 'the-clients-own'],
      ['x-envoy-max-retries', '9'],
      ['x-zonegate-reason', 'forged'],
      ['x_zonegate_route', '127.0.0.1:1'],
      ['x-signature', 'a=b; c="d"'],
      ['Cookie', 'k=v'],
    ]
    const reply = await call(gateway.port, { path, headers: sent, body: 'signed \u00ff body' })
    assert.equal(reply.status, 200, reply.text)
    const got = zone1.requests.at(-1)
    assert.equal(got?.method, 'POST')
    assert.equal(got?.path, path)
    assert.equal(Buffer.from(got?.body ?? '', 'latin1').toString(), 'signed \u00ff body')
    assert.equal(got?.headers['host'], `127.0.61.1:${port}`)
    assert.equal(got?.headers['x-forwarded-host'], 'pay.example:8443')
    assert.equal(got?.headers['server'], '1')
    assert.equal(got?.headers['x-forwarded-for'], '10.0.0.9')
    assert.equal(got?.headers['x-forwarded-proto'], 'https')
    assert.equal(got?.headers['x-envoy-internal'], undefined)
    assert.equal(got?.headers['x-request-id'], 'the-clients-own')
    assert.equal(got?.headers['x-signature'], 'a=b; c="d"')
    assert.equal(got?.headers['cookie'], 'k=v')
    assert.equal(got?.headers['x-zonegate-reason'], undefined)
    assert.equal(got?.headers['x_zonegate_route'], undefined)
    assert.equal(got?.headers['x-zonegate-route'], 'POST/1')
    assert.equal(got?.headers['x-envoy-max-retries'], undefined)
  })

  test('Envoy adds no header but those in the list of docs/moving-from-openresty.md', async () => {
    await call(gateway.port, { headers: [['server', '1']], body: 'x' })
    const names = (zone1.requests.at(-1)?.rawHeaders ?? [])
      .filter((_, index) => index % 2 === 0)
      .map((name) => name.toLowerCase())
    assert.deepEqual(names.sort(), [
      'content-length',
      'host',
      'server',
      'x-forwarded-host',
      'x-forwarded-proto',
      'x-request-id',
      'x-zonegate-route',
    ])
  })

  const SERVICES: [path: string, receiver: string][] = [
    ['/mail', '127.0.61.2'],
    ['/mail?x=1', '127.0.61.2'],
    ['/mail/', '127.0.61.1'],
    ['/%6dail', '127.0.61.1'],
    ['//mail', '127.0.61.1'],
    ['/./mail', '127.0.61.1'],
  ]
  for (const [path, receiver] of SERVICES) {
    test(`${path} goes to ${receiver === '127.0.61.2' ? 'mail' : 'default'}`, async () => {
      const reply = await call(gateway.port, { path, headers: [['server', '1']] })
      assert.equal(reply.text, `receiver ${receiver}`)
    })
  }

  test('an id is taken in any case', async () => {
    assert.equal((await call(gateway.port, { headers: [['server', 'ABC']] })).status, 200)
  })

  test('HTTP/1.0 is accepted', async () => {
    const text = await rawCall(gateway.port, 'POST / HTTP/1.0\r\nserver: 1\r\ncontent-length: 1\r\n\r\nx')
    assert.match(text, /^HTTP\/1\.[01] 200 /)
    assert.match(text, /receiver 127\.0\.61\.1/)
  })

  const CODEC: [title: string, bytes: string, status: number, reason: string][] = [
    [
      'CONNECT',
      'CONNECT 127.0.0.1:9901 HTTP/1.1\r\nhost: 127.0.0.1:9901\r\nserver: 1\r\n\r\n',
      404,
      'bad_request',
    ],
    ['OPTIONS *', 'OPTIONS * HTTP/1.1\r\nhost: x\r\nserver: 1\r\n\r\n', 404, 'bad_request'],
    ['an unknown method', 'BREW / HTTP/1.1\r\nhost: x\r\nserver: 1\r\n\r\n', 400, 'bad_request'],
    [
      'an upgrade',
      'POST / HTTP/1.1\r\nhost: x\r\nserver: 1\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n',
      403,
      'upgrade_refused',
    ],
  ]
  for (const [title, bytes, status, reason] of CODEC) {
    test(`${title} is refused by Envoy itself: ${status} ${reason}`, async () => {
      const text = await rawCall(gateway.port, bytes)
      assert.match(text, new RegExp(`^HTTP/1\\.1 ${status} `))
      assert.match(text, /application\/problem\+json/)
      assert.match(text, new RegExp(`"reason":"${reason}"`))
    })
  }

  test('a zone that never answers: 504 after the silence of one try, and no second POST', async () => {
    let posts = 0
    const hanging = createServer((incoming) => {
      posts += 1
      incoming.resume()
    })
    await new Promise<void>((done) => hanging.listen(port, '127.0.63.6', done))
    const started = performance.now()
    const reply = await call(gateway.port, { headers: [['server', '6']], body: 'x' })
    const took = performance.now() - started
    hanging.close()
    hanging.closeAllConnections()
    assert.deepEqual([reply.status, reply.json()['reason'], posts], [504, 'upstream_timeout', 1])
    assert.ok(took > TRY_SECONDS * 1000 - 50 && took < 20_000, `${took} ms`)
  })

  test('a zone that breaks off after the request was sent: 502, and no second POST', async () => {
    let posts = 0
    const breaking = createServer((incoming) => {
      posts += 1
      incoming.on('data', () => undefined).on('end', () => incoming.socket.destroy())
    })
    await new Promise<void>((done) => breaking.listen(port, '127.0.63.6', done))
    const reply = await call(gateway.port, { headers: [['server', '6']], body: 'x' })
    breaking.close()
    assert.deepEqual([reply.status, reply.json()['reason'], posts], [502, 'upstream_reset', 1])
  })

  test("a zone's own error is the caller's, untouched", async () => {
    const own = createServer((_, response) =>
      response.writeHead(503, { 'x-own': 'yes', 'x-zonegate-reason': 'forged' }).end('mine'),
    )
    await new Promise<void>((done) => own.listen(port, '127.0.63.6', done))
    const reply = await call(gateway.port, { headers: [['server', '6']], body: 'x' })
    own.close()
    assert.deepEqual(
      [reply.status, reply.text, reply.headers['x-own'], reply.headers['x-zonegate-reason']],
      [503, 'mine', 'yes', undefined],
    )
  })

  test('a client that reads slowly gets the whole of a large answer', async () => {
    const size = 8 * 1024 * 1024
    const large = createServer((_, response) => response.end(Buffer.alloc(size)))
    await new Promise<void>((done) => large.listen(port, '127.0.63.6', done))
    const received = await new Promise<number>((resolve, reject) => {
      const headers = { server: '6', 'content-length': 0 }
      const outgoing = httpRequest({
        host: '127.0.0.1',
        port: gateway.port,
        method: 'POST',
        headers,
        agent: false,
      })
      outgoing.on('error', reject)
      outgoing.on('response', (response) => {
        let length = 0
        response.on('error', reject)
        response.on('data', (chunk: Buffer) => {
          length += chunk.length
        })
        response.on('end', () => resolve(length))
        response.pause()
        setTimeout(() => response.resume(), TRY_SECONDS * 1000 + 500) // longer than the receiver may be silent
      })
      outgoing.end()
    })
    large.close()
    assert.equal(received, size)
  })

  test('a large body streams through unchanged, at constant memory', async () => {
    const MIB = 1024 * 1024
    const total = 256
    const hash = createHash('sha256')
    const sink = createServer((incoming, response) => {
      incoming.on('data', (chunk: Buffer) => hash.update(chunk)).on('end', () => response.end('ok'))
    })
    await new Promise<void>((done) => sink.listen(port, '127.0.63.6', done))
    const before = residentKiB(gateway.envoy.process.pid)
    let peak = before
    const sent = createHash('sha256')
    const status = await new Promise<number>((resolve, reject) => {
      const outgoing = httpRequest(
        {
          host: '127.0.0.1',
          port: gateway.port,
          method: 'POST',
          path: '/',
          headers: { server: '6', 'content-length': total * MIB },
          agent: false,
        },
        (response) => {
          response.resume()
          resolve(response.statusCode ?? 0)
        },
      )
      outgoing.on('error', reject)
      const write = async (): Promise<void> => {
        for (let index = 0; index < total; index += 1) {
          const chunk = Buffer.alloc(MIB, index)
          sent.update(chunk)
          if (!outgoing.write(chunk)) await new Promise((drained) => outgoing.once('drain', drained))
          peak = Math.max(peak, residentKiB(gateway.envoy.process.pid))
        }
        outgoing.end()
      }
      void write()
    })
    sink.close()
    assert.equal(status, 200)
    assert.equal(hash.digest('hex'), sent.digest('hex'))
    assert.ok(peak - before < 48 * 1024, `Envoy grew by ${peak - before} KiB for a body of ${total} MiB`)
  })

  test("each request has its line in Envoy's access log, with reason, id, zone, address and attempts", async () => {
    await call(gateway.port, {
      headers: [
        ['server', '1'],
        ['x-request-id', 'logged-forward'],
      ],
      body: 'x',
    })
    await call(gateway.port, {
      headers: [
        ['server', '5'],
        ['x-request-id', 'logged-failure'],
      ],
      body: 'x',
    })
    await call(gateway.port, {
      headers: [
        ['server', '404'],
        ['x-request-id', 'logged-refusal'],
      ],
      body: 'x',
    })
    const line = async (id: string): Promise<Record<string, unknown>> => {
      const found = (): string | undefined =>
        gateway
          .log('envoy')
          .split('\n')
          .find((text) => text.includes(`"${id}"`))
      await eventually(`Envoy logs ${id}`, () => found() !== undefined)
      return JSON.parse(found() ?? '')
    }
    const forwarded = await line('logged-forward')
    assert.deepEqual(
      [
        forwarded['status'],
        forwarded['reason'],
        forwarded['key'],
        forwarded['zone'],
        forwarded['address'],
        forwarded['attempts'],
      ],
      [200, undefined, 'POST/1', 'zone1-default.game.test', `127.0.61.1:${port}`, 1],
    )
    const failed = await line('logged-failure')
    assert.deepEqual(
      [failed['status'], failed['reason'], failed['address'], failed['attempts']],
      [502, 'upstream_unreachable', `127.0.62.5:${port}`, 2],
    )
    const refused = await line('logged-refusal')
    assert.deepEqual(
      [refused['status'], refused['reason'], refused['zone']],
      [502, 'name_not_found', 'zone404-default.game.test'],
    )
  })

  test('the processor logs a refusal with name, RCODE and nameserver', async () => {
    await call(gateway.port, {
      headers: [
        ['server', '405'],
        ['x-request-id', 'why'],
      ],
      body: 'x',
    })
    const line = (): string | undefined =>
      gateway
        .log('processor')
        .split('\n')
        .find((text) => text.includes('"why"'))
    await eventually('the processor logs it', () => line() !== undefined)
    const { reason, name, rcode, nameserver: said, id } = JSON.parse(line() ?? '')
    assert.deepEqual(
      [reason, name, rcode, said, id],
      ['name_not_found', 'zone405-default.game.test', 'NXDOMAIN', nameserver.address, '405'],
    )
  })

  function residentKiB(pid: number | undefined): number {
    return Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? 0)
  }
})
