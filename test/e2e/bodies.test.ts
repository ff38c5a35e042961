import assert from 'node:assert/strict'
import { connect, createServer, type Server, type Socket } from 'node:net'
import { after, before, suite, test } from 'node:test'
import { startGateway, type TestGateway } from '../support/gateway.ts'
import { call, rawCall } from '../support/http.ts'
import { connectHttp2 } from '../support/http2.ts'
import { freePort } from '../support/ports.ts'
import { eventually } from '../support/processor.ts'
import { type Receiver, startReceiver } from '../support/receiver.ts'
import { startZoneNameserver, type ZoneNameserver } from '../support/zone-nameserver.ts'

/** What becomes of a body between caller and zone. It is the same for a cold zone and for a learned one. */
const SILENCE_SECONDS = 1
/** `max_request_bytes` of listener.yaml. */
const BUFFERED_MAX = 1024 * 1024
/** As in the reports: more than the 64 KiB that Envoy holds of what it streams. */
const LONG = 200_000
const OK = 'HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok'

let nameserver: ZoneNameserver
let port: number
let zone: Receiver
let hasty: RawZone
let promising: RawZone

suite('bodies', () => {
  before(async () => {
    port = await freePort('127.0.77.1')
    zone = await startReceiver('127.0.77.1', port)
    hasty = await startRawZone('127.0.77.2', (socket) => socket.write(OK))
    promising = await startRawZone('127.0.77.3', (socket, request) =>
      socket.write(request.startsWith('POST /promise ') ? 'HTTP/1.1 100 Continue\r\n\r\n' : OK),
    )
    nameserver = await startZoneNameserver({
      'zone1-default.game.test': ['127.0.77.1'],
      'zone2-default.game.test': ['127.0.77.2'],
      'zone3-default.game.test': ['127.0.77.3'],
      'zone4-default.game.test': ['127.0.77.1', '127.0.77.9'], // nobody listens on the second
    })
  })
  after(async () => {
    await nameserver?.close()
    await Promise.all([zone, hasty, promising].map((one) => one?.close()))
  })

  for (const path of ['cold', 'hot'] as const) {
    suite(path === 'cold' ? 'a cold zone' : 'a learned zone', () => {
      let gateway: TestGateway

      before(async () => {
        gateway = await startGateway({
          config: {
            rules: { port },
            dns: { nameservers: [nameserver.address], search: 'game.test' },
            addresses: { allow: ['127.0.77.0/24'] },
            learned: { enabled: path === 'hot' },
          },
          edit: {
            'routes.yaml': (text) => text.replace('idle_timeout: 60s', `idle_timeout: ${SILENCE_SECONDS}s`),
          },
        })
      })
      after(() => gateway?.stop())

      /** Learned, where this is the suite for it. */
      const prepare = async (id: string): Promise<void> => {
        if (path === 'cold') return
        await eventually(`zone ${id} is learned`, async () => {
          await call(gateway.port, { headers: [['server', id]], body: 'x' })
          return (await gateway.stat(`cluster.default/${id}.upstream_rq_total`).catch(() => 0)) > 0
        })
      }
      const last = () => zone.requests.at(-1)

      test('a chunked body comes to its zone with a Content-Length', async () => {
        await prepare('1')
        const answer = await rawCall(
          gateway.port,
          `${head('1', 'transfer-encoding: chunked')}${chunked('hello')}`,
        )
        assert.match(answer, /^HTTP\/1\.1 200 /)
        assert.deepEqual([last()?.body, last()?.headers['content-length']], ['hello', '5'])
        assert.equal(last()?.headers['transfer-encoding'], undefined)
      })

      test('so does one over HTTP/2 without a length', async () => {
        await prepare('1')
        const session = await connectHttp2(gateway.port)
        try {
          const stream = session.request({ ':method': 'POST', ':path': '/h2', server: '1' })
          const status = new Promise((resolve) =>
            stream.once('response', (headers) => resolve(headers[':status'])),
          )
          stream.write('hel')
          stream.end('lo')
          assert.equal(await status, 200)
        } finally {
          session.destroy()
        }
        const { path: asked, body, headers } = last() ?? assert.fail('nothing came')
        assert.deepEqual([asked, body, headers['content-length']], ['/h2', 'hello', '5'])
      })

      test('a POST without a body has length 0', async () => {
        await prepare('1')
        assert.match(await rawCall(gateway.port, head('1')), /^HTTP\/1\.1 200 /)
        assert.deepEqual([last()?.body, last()?.headers['content-length']], ['', '0'])
      })

      test('a slow upload opens no connection to its zone before it is whole', async () => {
        await prepare('2')
        const before = await connections(gateway)
        const known = hasty.octets()
        const socket = connect(gateway.port, '127.0.0.1', () =>
          socket.write(`${head('2', 'content-length: 40')}a`),
        )
        socket.on('error', () => undefined)
        try {
          await eventually('it is under way', async () => (await gateway.stat(ACTIVE)) === 1)
          for (let count = 1; count < 39; count++) {
            socket.write('a')
            await new Promise((done) => setTimeout(done, 10))
          }
          assert.deepEqual([await connections(gateway), hasty.octets()], [before, known])
          const answer = new Promise<string>((resolve) =>
            socket.once('data', (chunk) => resolve(chunk.toString('latin1'))),
          )
          socket.write('a')
          assert.match(await answer, /^HTTP\/1\.1 200 /)
        } finally {
          socket.destroy()
        }
      })

      test('a zone that answers before it has read gets the whole body, and the caller no reset', async () => {
        await prepare('2')
        const known = hasty.octets()
        const sent = await upload(gateway.port, head('2', `content-length: ${LONG}`), LONG, 20, 10)
        assert.match(sent.text, /^HTTP\/1\.1 200 /)
        assert.equal(sent.error, undefined)
        await eventually('the zone has all of it', () => hasty.octets() - known > LONG)
      })

      test('a body of unknown length beyond the bound is 413 body_too_large', async () => {
        await prepare('1')
        const body = chunked('a'.repeat(BUFFERED_MAX + 1))
        const answer = await rawCall(gateway.port, `${head('1', 'transfer-encoding: chunked')}${body}`)
        assert.match(answer, /^HTTP\/1\.1 413 /)
        assert.match(answer, /"reason":"body_too_large"/)
      })

      test('one as long as the bound is forwarded, and one beyond it that says its length', async () => {
        await prepare('1')
        const whole = chunked('a'.repeat(BUFFERED_MAX))
        assert.match(
          await rawCall(gateway.port, `${head('1', 'transfer-encoding: chunked')}${whole}`),
          /^HTTP\/1\.1 200 /,
        )
        assert.equal(last()?.body.length, BUFFERED_MAX)
        const body = Buffer.alloc(3 * BUFFERED_MAX)
        assert.equal((await call(gateway.port, { headers: [['server', '1']], body })).status, 200)
        assert.equal(last()?.body.length, body.length)
      })

      test('a long body survives an address that refuses', async () => {
        // Several at once: the address that refuses is soon left out.
        const body = Buffer.alloc(LONG)
        const statuses = async (count: number): Promise<number[]> => {
          const calls = Array.from({ length: count }, () =>
            call(gateway.port, { headers: [['server', '4']], body }),
          )
          return (await Promise.all(calls)).map(({ status }) => status)
        }
        await prepare('4').catch(() => undefined)
        const retried = await gateway.stat(RETRIED(path))
        const got = await statuses(16)
        if (path === 'hot') assert.deepEqual(new Set(got), new Set([200]))
        else assert.ok(got.includes(200)) // its second try goes to the same address: docs/moving-from-openresty.md
        assert.ok((await gateway.stat(RETRIED(path))) > retried, 'none met it')
      })

      for (const [title, request, status] of [
        ['no server header', `POST / HTTP/1.1\r\nhost: x\r\ncontent-length: ${LONG}\r\n\r\n`, 403],
        ['a PUT', `PUT / HTTP/1.1\r\nhost: x\r\nserver: 1\r\ncontent-length: ${LONG}\r\n\r\n`, 405],
        ['no such name', head('404', `content-length: ${LONG}`), 502],
      ] as const) {
        test(`${title}: ${status} comes at once, and no reset while the body is still sent`, async () => {
          // 1.5 s: longer than Envoy's default waits before it closes.
          const sent = await upload(gateway.port, request, LONG, 30, 50)
          assert.match(sent.text, new RegExp(`^HTTP/1\\.1 ${status} `))
          assert.equal(sent.error, undefined)
          assert.ok(sent.octetsAtAnswer < LONG, 'it was answered when all had come')
        })
      }

      test('a zone that says 100 Continue and no more: 504 when the silence is over', async () => {
        await prepare('3')
        const started = performance.now()
        const reply = await call(gateway.port, { path: '/promise', headers: [['server', '3']], body: 'x' })
        assert.deepEqual([reply.status, reply.json()['reason']], [504, 'upstream_timeout'])
        const took = performance.now() - started
        assert.ok(took > SILENCE_SECONDS * 1000 - 50 && took < 20_000, `${took} ms`)
      })
    })
  }
})

const ACTIVE = 'http.callback.downstream_rq_active'
const RETRIED = (path: 'cold' | 'hot'): string =>
  `cluster.${path === 'cold' ? 'zones' : 'default/4'}.upstream_rq_retry`

/** To zones, so far. */
async function connections(gateway: TestGateway): Promise<number> {
  const of = (cluster: string): Promise<number> => gateway.stat(`cluster.${cluster}.upstream_cx_total`)
  return (await of('zones')) + (await of('default/2'))
}

function head(id: string, ...lines: string[]): string {
  return ['POST / HTTP/1.1', 'host: x', `server: ${id}`, ...lines, '', ''].join('\r\n')
}

function chunked(body: string): string {
  return `${body.length.toString(16)}\r\n${body}\r\n0\r\n\r\n`
}

interface Sent {
  /** All that came back. */
  readonly text: string
  readonly octetsAtAnswer: number
  readonly error: string | undefined
}

/** Sends a head, then a body of `octets` in so many steps; what came back by then, and whether the connection held. */
function upload(to: number, request: string, octets: number, steps: number, everyMs: number): Promise<Sent> {
  return new Promise((resolve) => {
    let text = ''
    let octetsSent = 0
    let octetsAtAnswer = 0
    let error: string | undefined
    const end = (): void => {
      clearInterval(sending)
      socket.destroy()
      resolve({ text, octetsAtAnswer, error })
    }
    const socket = connect(to, '127.0.0.1', () => socket.write(request))
    const sending = setInterval(() => {
      if (octetsSent < octets) {
        octetsSent += octets / steps
        socket.write(Buffer.alloc(octets / steps))
      } else if (text !== '') end()
    }, everyMs)
    socket.on('data', (chunk) => {
      if (text === '') octetsAtAnswer = octetsSent
      text += chunk.toString('latin1')
    })
    socket.once('error', (why: NodeJS.ErrnoException) => {
      error = why.code
      end()
    })
    socket.once('end', () => {
      if (octetsSent < octets) error = 'end'
    })
  })
}

interface RawZone {
  /** All that came. */
  octets(): number
  close(): Promise<void>
}

/** A zone that answers each head as `answer` says, and reads what follows. */
function startRawZone(host: string, answer: (socket: Socket, request: string) => void): Promise<RawZone> {
  let octets = 0
  const sockets = new Set<Socket>()
  const server: Server = createServer((socket) => {
    sockets.add(socket)
    socket.on('error', () => undefined)
    socket.on('close', () => sockets.delete(socket))
    socket.on('data', (chunk) => {
      octets += chunk.length
      const text = chunk.toString('latin1')
      if (text.startsWith('POST ')) answer(socket, text)
    })
  })
  return new Promise((resolve, reject) => {
    server.once('error', reject)
    server.listen(port, host, () =>
      resolve({
        octets: () => octets,
        close: () =>
          new Promise((done) => {
            for (const socket of sockets) socket.destroy()
            server.close(() => done())
          }),
      }),
    )
  })
}
