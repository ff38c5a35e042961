import assert from 'node:assert/strict'
import { once } from 'node:events'
import { type ClientHttp2Session, connect, constants, type IncomingHttpHeaders } from 'node:http2'
import { connect as connectSocket, type Socket } from 'node:net'
import { join } from 'node:path'
import { after, afterEach, before, describe, test } from 'node:test'
import { gzipSync } from 'node:zlib'
import { Client, type ClientDuplexStream, credentials } from '@grpc/grpc-js'
import { WATCHERS_MAX } from '../../src/grpc/health-service.ts'
import { externalProcessor, type ProcessingRequest, type ProcessingResponse } from '../../src/grpc/protos.ts'
import { MESSAGE_OCTETS_MAX, STREAMS_PER_CONNECTION_MAX } from '../../src/grpc/server.ts'
import { FIRST_REQUEST_WITHIN_MS, NAME_LENGTH_MAX, NAMES_MAX } from '../../src/xds/envoy-client.ts'
import { TYPE_URLS } from '../../src/xds/resource.ts'
import { END_HEADERS, FRAME, frame, frameTypes, headerBlock, preface } from '../support/http2-frames.ts'
import { eventually, startProcessorAlone, type TestProcessor } from '../support/processor.ts'

const PROCESS = '/envoy.service.ext_proc.v3.ExternalProcessor/Process'
const ADS = '/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources'
const LRS = '/envoy.service.load_stats.v3.LoadReportingService/StreamLoadStats'
/** An Envoy waits for 2 s; a machine may be a few times slower. */
const ASK_WITHIN_MS = 20_000
/** Of a stream that must end. Above the 10 s after which one without a head is ended. */
const END_WITHIN_MS = 15_000
/** Statuses of gRPC. */
const INVALID_ARGUMENT = '3'
const DEADLINE_EXCEEDED = '4'
const RESOURCE_EXHAUSTED = '8'
const UNIMPLEMENTED = '12'
const INTERNAL = '13'

/** One length-prefixed message (gRPC over HTTP2, Length-Prefixed-Message). */
function framed(message: Uint8Array, compressed = 0): Buffer {
  const head = Buffer.alloc(5)
  head.writeUInt8(compressed, 0)
  head.writeUInt32BE(message.length, 1)
  return Buffer.concat([head, message])
}

/** The beginning of a message of so many octets. */
function announced(octets: number): Buffer {
  const head = Buffer.alloc(100)
  head.writeUInt32BE(octets, 1)
  return head
}

function requestHead(id: string, more: readonly [string, string][] = []): Buffer {
  const pairs: [string, string][] = [[':method', 'POST'], [':path', '/pay'], ['server', id], ...more]
  const headers = pairs.map(([key, value]) => ({ key, raw_value: Buffer.from(value) }))
  return externalProcessor.Process.requestSerialize({ request_headers: { headers: { headers } } })
}

/** A field of length-delimited bytes, by hand: what no well-meant encoder would write. */
function field(number: number, bytes: Uint8Array): Buffer {
  const varint = (value: number): number[] =>
    value < 128 ? [value] : [(value & 127) | 128, ...varint(Math.floor(value / 128))]
  return Buffer.concat([Buffer.from([...varint(number * 8 + 2), ...varint(bytes.length)]), bytes])
}
const text = (value: string): Buffer => Buffer.from(value)

/** Unlike `once`, whatever error comes before. */
function closeOf(emitter: ClientHttp2Session | Socket): Promise<void> {
  return new Promise((resolve) => emitter.once('close', () => resolve()))
}

describe('hostile clients on the socket', () => {
  let processor: TestProcessor
  let path: string
  let envoy: WellBehaved
  let sessions: ClientHttp2Session[] = []
  let sockets: Socket[] = []

  before(async () => {
    processor = await startProcessorAlone({ envoyFiles: true })
    path = join(processor.folder, 'run/processor.sock')
    envoy = new WellBehaved(path)
    await envoy.ask()
  })
  after(async () => {
    envoy?.close()
    await processor?.stop()
  })
  /** Whatever was done: the processor is the same one, an Envoy's connection has not been touched, and nothing was a bug. */
  afterEach(async () => {
    await envoy.ask()
    assert.equal(envoy.connections, 1)
    for (const session of sessions) session.destroy()
    for (const socket of sockets) socket.destroy()
    sessions = []
    sockets = []
    const bad = processor.lines().filter(({ level, msg }) => level === 'fatal' || /^a bug/.test(String(msg)))
    assert.deepEqual(bad, [])
    assert.equal((await processor.ask('/readyz')).status, 200)
  })

  const session = (options: Parameters<typeof connect>[1] = {}): ClientHttp2Session => {
    const made = connect('http://processor', { ...options, createConnection: () => connectSocket(path) })
    made.on('error', () => undefined)
    sessions.push(made)
    return made
  }
  const socket = async (): Promise<Socket> => {
    const made = connectSocket(path)
    made.on('error', () => undefined)
    sockets.push(made)
    await once(made, 'connect')
    return made
  }
  const open = (on: ClientHttp2Session, method: string, headers: IncomingHttpHeaders = {}) => {
    const stream = on.request(
      { ':method': 'POST', ':path': method, 'content-type': 'application/grpc', te: 'trailers', ...headers },
      { endStream: false },
    )
    stream.on('error', () => undefined)
    return stream
  }
  type Stream = ReturnType<typeof open>

  /** The end of a stream: its gRPC status, or how it was reset; that there is none is an answer too. */
  const endOf = (stream: Stream): Promise<string> =>
    new Promise((resolve) => {
      setTimeout(() => resolve(`no end within ${END_WITHIN_MS} ms`), END_WITHIN_MS).unref()
      const note = (headers: IncomingHttpHeaders): void => {
        if (headers['grpc-status'] !== undefined) resolve(String(headers['grpc-status']))
        else if (Number(headers[':status'] ?? 200) !== 200) resolve(`HTTP ${headers[':status']}`)
      }
      stream.on('response', note)
      stream.on('trailers', note)
      stream.on('data', () => undefined)
      stream.on('close', () => resolve(`reset ${stream.rstCode}`))
    })
  /** Sends bytes as a stream's whole request. */
  const send = (method: string, bytes: Uint8Array, headers: IncomingHttpHeaders = {}): Promise<string> => {
    const stream = open(session(), method, headers)
    stream.end(bytes)
    return endOf(stream)
  }

  const single: [what: string, send: () => Promise<string>, answer: string | RegExp][] = [
    ['a body first', () => send(PROCESS, framed(field(4, field(1, text('body'))))), INVALID_ARGUMENT],
    ['response headers first', () => send(PROCESS, framed(field(3, Buffer.alloc(0)))), INVALID_ARGUMENT],
    ['an empty message', () => send(PROCESS, framed(Buffer.alloc(0))), INVALID_ARGUMENT],
    ['a half-close and nothing else', () => send(PROCESS, Buffer.alloc(0)), INVALID_ARGUMENT],
    ['half a message', () => send(PROCESS, framed(requestHead('1')).subarray(0, 20)), INVALID_ARGUMENT],
    ['garbage for a message', () => send(PROCESS, framed(Buffer.alloc(64, 0xff))), INTERNAL],
    ['a field that is longer than its message', () => send(PROCESS, framed(text('\x12\x7f'))), INTERNAL],
    ['garbage where no message is', () => send(PROCESS, Buffer.alloc(4000, 0xff)), RESOURCE_EXHAUSTED],
    [
      'a message of more than the largest size',
      () => send(PROCESS, announced(MESSAGE_OCTETS_MAX + 1)),
      RESOURCE_EXHAUSTED,
    ],
    [
      'a small message that unpacks to a huge one',
      () =>
        send(PROCESS, framed(gzipSync(Buffer.alloc(MESSAGE_OCTETS_MAX * 4)), 1), { 'grpc-encoding': 'gzip' }),
      RESOURCE_EXHAUSTED,
    ],
    [
      'gzip that is none',
      () => send(PROCESS, framed(text('no gzip'), 1), { 'grpc-encoding': 'gzip' }),
      INTERNAL,
    ],
    [
      'an encoding that nobody knows',
      () => send(PROCESS, framed(text('x'), 1), { 'grpc-encoding': 'rot13' }),
      UNIMPLEMENTED,
    ],
    [
      'a deadline that is none',
      () => send(PROCESS, framed(requestHead('1')), { 'grpc-timeout': 'soon' }),
      INTERNAL,
    ],
    ['a method that is not there', () => send('/no.such.Service/Method', framed(text('x'))), UNIMPLEMENTED],
    ['no gRPC at all', () => send(PROCESS, text('hello'), { 'content-type': 'text/plain' }), 'HTTP 415'],
    [
      'a header of 1 MB of HTTP/2',
      () => send(PROCESS, text(''), { 'x-long': 'a'.repeat(1 << 20) }),
      /^reset /,
    ],
    [
      '10,000 headers of HTTP/2',
      () =>
        send(
          PROCESS,
          text(''),
          Object.fromEntries(Array.from({ length: 10_000 }, (_, n) => [`x-${n}`, 'a'])),
        ),
      /^reset /,
    ],
    ['garbage for a subscription', () => send(ADS, framed(Buffer.alloc(64, 0xff))), INTERNAL],
    ['garbage for a load report', () => send(LRS, framed(Buffer.alloc(64, 0xff))), INTERNAL],
  ]
  for (const [what, attack, answer] of single)
    test(`${what}: ${answer}`, async () => {
      const got = await attack()
      if (answer instanceof RegExp) assert.match(got, answer)
      else assert.equal(got, answer)
    })

  test('headers of 1 MB in a message are decided as any other', async () => {
    const stream = open(session(), PROCESS)
    stream.write(framed(requestHead('1', [['x-long', 'a'.repeat(1 << 20)]])))
    const [answer] = (await once(stream, 'data')) as [Buffer]
    const { immediate_response } = externalProcessor.Process.responseDeserialize(answer.subarray(5))
    assert.equal(immediate_response?.details?.toString(), 'nameservers_failed')
  })

  test('a thousand messages on one stream: one answer', async () => {
    const stream = open(session(), PROCESS)
    let answers = 0
    stream.on('data', () => {
      answers += 1
    })
    for (let n = 0; n < 1000; n++) stream.write(framed(requestHead('1')))
    stream.end()
    assert.equal(await endOf(stream), '0')
    assert.equal(answers, 1)
  })

  test('streams that are reset before, with and after their message cost nobody else anything', async () => {
    const on = session()
    for (let n = 0; n < 300; n++) {
      const stream = open(on, PROCESS)
      if (n % 3 > 0) stream.write(framed(requestHead('1')))
      if (n % 3 > 1) await once(stream, 'data')
      stream.close(constants.NGHTTP2_CANCEL)
    }
    const stream = open(on, PROCESS)
    stream.end(framed(requestHead('1')))
    assert.equal(await endOf(stream), '0')
  })

  test('rapid reset: the connection that does it is ended, no other', async () => {
    const on = session()
    let code: number | undefined
    on.once('goaway', (given) => {
      code = given
    })
    for (let n = 0; n < 5000 && !on.destroyed; n++) {
      const stream = open(on, PROCESS)
      stream.close(constants.NGHTTP2_CANCEL)
      if (n % 100 === 0) await new Promise(setImmediate)
    }
    await eventually('it is ended', () => code !== undefined && on.destroyed)
    assert.ok(
      [constants.NGHTTP2_ENHANCE_YOUR_CALM, constants.NGHTTP2_INTERNAL_ERROR].includes(code ?? -1),
      `${code}`,
    )
  })

  test(`more than ${STREAMS_PER_CONNECTION_MAX} streams of one connection: the others are refused`, async () => {
    const made = await socket()
    let received = Buffer.alloc(0)
    made.on('data', (chunk) => {
      received = Buffer.concat([received, chunk])
    })
    const head = headerBlock([
      [':method', 'POST'],
      [':scheme', 'http'],
      [':path', PROCESS],
      [':authority', 'processor'],
      ['content-type', 'application/grpc'],
      ['te', 'trailers'],
    ])
    const streams = Array.from({ length: STREAMS_PER_CONNECTION_MAX + 100 }, (_, index) => 2 * index + 1)
    made.write(preface())
    made.write(Buffer.concat(streams.map((stream) => frame(FRAME.headers, END_HEADERS, stream, head))))
    const isRefusal = (type: number): boolean => type === FRAME.rstStream || type === FRAME.goAway
    await eventually('they are refused', () => made.closed || frameTypes(received).some(isRefusal))
  })

  test('a client that never reads: its answers wait, everybody else is answered', async () => {
    const on = session({ settings: { initialWindowSize: 0 } })
    for (let n = 0; n < 2000; n++) open(on, PROCESS).write(framed(requestHead(String(n))))
    for (let n = 0; n < 20; n++) await envoy.ask()
    const stalled = await socket()
    stalled.pause()
    stalled.write('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0')
    await envoy.ask()
  })

  test('a hundred messages that are never finished: the connection that sends them is closed', async () => {
    const on = session({ maxSessionMemory: 4096 })
    const chunk = Buffer.alloc(1 << 20)
    const streams = Array.from({ length: 100 }, () => {
      const stream = open(on, PROCESS)
      stream.write(announced(MESSAGE_OCTETS_MAX))
      return stream
    })
    for (let n = 0; (n + 1) * chunk.length < MESSAGE_OCTETS_MAX && !on.destroyed; n++) {
      for (const stream of streams) if (!stream.destroyed) stream.write(chunk)
      await new Promise((done) => setTimeout(done, 10))
    }
    await eventually('it is closed', () => on.destroyed)
    await eventually('a line', () =>
      processor.lines().some(({ msg }) => /buffers are too large/.test(String(msg))),
    )
  })

  const floods: [what: string, frame: Buffer][] = [
    ['pings', Buffer.from([0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8])],
    ['settings', Buffer.from([0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 100])],
  ]
  for (const [what, frame] of floods)
    test(`a flood of ${what} from a client that doesn't read ends its connection`, async () => {
      const made = await socket()
      made.pause()
      const closed = closeOf(made)
      made.write('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0')
      const many = Buffer.concat(Array.from({ length: 10_000 }, () => frame))
      for (let n = 0; n < 20 && !made.destroyed; n++) {
        made.write(many)
        await new Promise((done) => setTimeout(done, 20))
      }
      made.resume()
      await closed
    })

  test('what is no HTTP/2 is closed', async () => {
    for (const bytes of ['GET / HTTP/1.1\r\nhost: x\r\n\r\n', Buffer.alloc(70_000, 0xff)]) {
      const made = await socket()
      const closed = closeOf(made)
      made.resume()
      made.write(bytes)
      await closed
    }
  })

  test(`more than ${WATCHERS_MAX} that watch its health: the others are refused, and it is still told`, async () => {
    const on = session()
    const watch = framed(Buffer.alloc(0))
    const ends: string[] = []
    for (let n = 0; n < WATCHERS_MAX + 20; n++) {
      const stream = open(on, '/grpc.health.v1.Health/Watch')
      stream.end(n % 2 === 0 ? watch : framed(field(1, text('unknown'))))
      void endOf(stream).then((end) => ends.push(end))
    }
    await eventually('the rest is refused', () => ends.length >= 20)
    assert.deepEqual([ends.length, [...new Set(ends)]], [20, [RESOURCE_EXHAUSTED]])
    assert.equal(await send('/grpc.health.v1.Health/Check', watch), '0')
  })

  test(`streams to the control plane that say nothing end after ${FIRST_REQUEST_WITHIN_MS / 1000} s`, async () => {
    const on = session()
    const ends = await Promise.all([endOf(open(on, ADS)), endOf(open(on, LRS))])
    assert.deepEqual(ends, [DEADLINE_EXCEEDED, DEADLINE_EXCEEDED])
  })

  // Envoy's control plane

  const subscribe = (type: string, more: Buffer = Buffer.alloc(0)): Buffer =>
    framed(Buffer.concat([field(2, text(type)), more]))

  test('a kind of resource that is not served: told in the log, but not ten thousand times', async () => {
    const stream = open(session(), ADS)
    for (let n = 0; n < 10_000; n++)
      stream.write(subscribe(`type.googleapis.com/no.such.Type${'x'.repeat(500)}`))
    stream.end()
    assert.equal(await endOf(stream), '0')
    const lines = processor
      .lines()
      .filter(({ msg }) => /asked for an unknown type of resource/.test(String(msg)))
    assert.ok(lines.length >= 1 && lines.length < 200, `${lines.length} lines`)
    assert.ok(lines.every(({ type }) => String(type).length <= 200))
  })

  test('ten thousand nonces that were never given change nothing', async () => {
    const stream = open(session(), ADS)
    let responses = 0
    stream.on('data', () => {
      responses += 1
    })
    for (let n = 0; n < 10_000; n++)
      stream.write(
        subscribe(
          TYPE_URLS.cluster,
          Buffer.concat([field(6, text(`nonce-${n}`)), field(7, field(2, text('no')))]),
        ),
      )
    stream.end()
    assert.equal(await endOf(stream), '0')
    assert.ok(responses <= 2, `${responses} responses`)
  })

  test('a name that is longer than any: RESOURCE_EXHAUSTED for that stream', async () => {
    const long = field(3, text('a'.repeat(NAME_LENGTH_MAX + 1)))
    assert.equal(await send(ADS, subscribe(TYPE_URLS.endpoints, long)), RESOURCE_EXHAUSTED)
  })

  test('more names than any Envoy has: RESOURCE_EXHAUSTED for that stream', async () => {
    const stream = open(session(), ADS)
    const end = endOf(stream)
    const batch = 65_536
    for (let n = 0; n * batch <= NAMES_MAX && !stream.destroyed; n++) {
      const names = Array.from({ length: batch }, (_, at) => field(3, text(`a/${n * batch + at}`)))
      stream.write(subscribe(TYPE_URLS.endpoints, Buffer.concat(names)))
    }
    assert.equal(await end, RESOURCE_EXHAUSTED)
  })

  const perEnvoy: [what: string, method: string, message: Buffer][] = [
    ['Envoys', ADS, subscribe(TYPE_URLS.cluster)],
    ['load reports', LRS, framed(field(1, field(1, text('node'))))],
  ]
  for (const [what, method, message] of perEnvoy)
    test(`more ${what} than are served: RESOURCE_EXHAUSTED, and those that are there stay`, async () => {
      const on = session()
      const streams = Array.from({ length: 300 }, () => open(on, method))
      const ends: string[] = []
      for (const stream of streams) {
        stream.write(message)
        void endOf(stream).then((end) => ends.push(end))
      }
      await eventually('the rest was refused', () => ends.length >= 44)
      assert.deepEqual([...new Set(ends)], [RESOURCE_EXHAUSTED])
      assert.equal(ends.length, 44)
    })

  test('load reports of nonsense: zones that nobody has, numbers that nothing counts', async () => {
    const stats = (name: string): Buffer =>
      field(
        2,
        Buffer.concat([
          field(1, text(name)),
          field(2, Buffer.from('0a000820ffffffffffffffffff01', 'hex').subarray(3)),
        ]),
      )
    const names = [
      '',
      '/',
      'a/b/c',
      '__proto__',
      'default/constructor',
      'x'.repeat(100_000),
      'default/\u0000',
    ]
    const stream = open(session(), LRS)
    stream.end(framed(Buffer.concat([field(1, field(1, text('n'.repeat(10_000)))), ...names.map(stats)])))
    assert.match(await endOf(stream), /^(0|13)$/)
  })
})

/** An Envoy's own connection: one, kept. */
class WellBehaved {
  connections = 0
  readonly #client: Client
  #closed = false

  constructor(path: string) {
    this.#client = new Client(`unix:${path}`, credentials.createInsecure())
    let state = this.#client.getChannel().getConnectivityState(true)
    const watch = (): void => {
      this.#client.getChannel().watchConnectivityState(state, Date.now() + 600_000, (error) => {
        if (error || this.#closed) return
        state = this.#client.getChannel().getConnectivityState(false)
        if (state === 2) this.connections += 1
        watch()
      })
    }
    watch()
  }

  /** A request is decided. */
  ask(): Promise<void> {
    const { path, requestSerialize, responseDeserialize } = externalProcessor.Process
    const stream: ClientDuplexStream<ProcessingRequest, ProcessingResponse> =
      this.#client.makeBidiStreamRequest(path, requestSerialize, responseDeserialize, {
        deadline: Date.now() + ASK_WITHIN_MS,
      })
    return new Promise((resolve, reject) => {
      stream.on('error', reject)
      stream.on('data', (response: ProcessingResponse) => {
        assert.equal(response.immediate_response?.details?.toString(), 'server_header_missing')
        stream.end()
        resolve()
      })
      stream.write({
        request_headers: { headers: { headers: [{ key: ':method', raw_value: text('POST') }] } },
      })
    })
  }

  close(): void {
    this.#closed = true
    this.#client.close()
  }
}
