import assert from 'node:assert/strict'
import { connect } from 'node:net'
import { after, before, suite, test } from 'node:test'
import { startGateway, type TestGateway } from '../support/gateway.ts'
import { call } from '../support/http.ts'
import { connectHttp2 } from '../support/http2.ts'
import { END_HEADERS, FRAME, frame, frameTypes, headerBlock, preface } from '../support/http2-frames.ts'
import { freePort } from '../support/ports.ts'
import { eventually } from '../support/processor.ts'
import { type Receiver, startReceiver } from '../support/receiver.ts'
import { startZoneNameserver, type ZoneNameserver } from '../support/zone-nameserver.ts'

/** Clients that hold on to a zone: bodies that never end, and more streams on a connection than anybody needs. */
let config: Readonly<Record<string, unknown>>
let gateway: TestGateway
let nameserver: ZoneNameserver
let zone: Receiver
let talker: Receiver
let deaf: Receiver

/** Above what the kernel's buffers take on the way (tcp_rmem, tcp_wmem). */
const MANY_OCTETS = 48 * 1024 * 1024
/** `max_concurrent_streams` of listener.yaml. */
const STREAMS_MAX = 100

suite('bodies and streams that last', () => {
  before(async () => {
    const port = await freePort('127.0.76.1')
    // It never answers before the body's end.
    zone = await startReceiver('127.0.76.1', port)
    talker = await startReceiver('127.0.76.2', port, (request, response) => {
      request.resume()
      response.end(Buffer.alloc(MANY_OCTETS))
    })
    deaf = await startReceiver('127.0.76.3', port, (request) => request.pause())
    nameserver = await startZoneNameserver({
      'zone1-default.game.test': ['127.0.76.1'],
      'zone2-default.game.test': ['127.0.76.2'],
      'zone3-default.game.test': ['127.0.76.3'],
    })
    config = {
      rules: { port },
      dns: { nameservers: [nameserver.address], search: 'game.test' },
      addresses: { allow: ['127.0.76.0/24'] },
    }
    gateway = await startGateway({
      config,
      edit: {
        'listener.yaml': (text) => text.replace('request_timeout: 300s', 'request_timeout: 4s'),
        'routes.yaml': (text) => text.replace('idle_timeout: 60s', 'idle_timeout: 0.5s'),
      },
    })
  })
  after(async () => {
    await gateway?.stop()
    await nameserver?.close()
    await Promise.all([zone, talker, deaf].map((receiver) => receiver?.close()))
  })

  /** Sends a head that promises a long body, and a byte of it every `everyMs`; the head of the answer. */
  const upload = (everyMs: number): Promise<string> =>
    new Promise((resolve) => {
      const socket = connect(gateway.port, '127.0.0.1', () =>
        socket.write('POST / HTTP/1.1\r\nhost: x\r\nserver: 1\r\ncontent-length: 1000000\r\n\r\na'),
      )
      const dribble = setInterval(() => socket.write('a'), everyMs)
      const end = (text: string): void => {
        clearInterval(dribble)
        clearTimeout(giveUp)
        socket.destroy()
        resolve(text)
      }
      const giveUp = setTimeout(() => end('nothing'), 30_000)
      socket.once('data', (chunk) => end(chunk.toString('latin1')))
      socket.on('error', () => end('nothing'))
    })

  const none = async (): Promise<boolean> => (await gateway.stat('cluster.zones.upstream_rq_active')) === 0

  test('a body that dribbles in ends with 408 when its time is over, and the zone is free again', async () => {
    const answer = await upload(100)
    assert.match(answer, /^HTTP\/1\.1 408 /)
    assert.match(answer, /"reason":"request_stalled"/)
    await eventually('no request is left at the zone', none)
    assert.deepEqual(zone.requests, [])
  })

  test('a body that stops coming ends with 408 sooner', async () => {
    const ended = (): Promise<number[]> =>
      Promise.all(['idle_timeout', 'timeout'].map((by) => gateway.stat(`http.callback.downstream_rq_${by}`)))
    const [idle = 0, overall = 0] = await ended()
    assert.match(await upload(60_000), /^HTTP\/1\.1 408 /)
    assert.deepEqual(await ended(), [idle + 1, overall], 'by idle_timeout, before request_timeout')
    await eventually('no request is left at the zone', none)
  })

  test('a body may pause for longer than headers may take, before and after its zone is learned', async () => {
    const patient = await startGateway({
      config,
      edit: {
        'listener.yaml': (text) => text.replace('stream_idle_timeout: 10s', 'stream_idle_timeout: 0.3s'),
      },
    })
    const pause = (): Promise<string> =>
      new Promise((resolve, reject) => {
        const socket = connect(patient.port, '127.0.0.1', () => {
          socket.write('POST / HTTP/1.1\r\nhost: x\r\nserver: 1\r\ncontent-length: 2\r\n\r\na')
          setTimeout(() => socket.write('b'), 900)
        })
        socket.once('error', reject)
        socket.once('data', (chunk) => {
          socket.destroy()
          resolve(chunk.toString('latin1'))
        })
      })
    try {
      assert.match(await pause(), /^HTTP\/1\.1 200 /)
      await eventually('the zone is learned', async () => {
        await call(patient.port, { headers: [['server', '1']], body: 'x' })
        return (await patient.stat('cluster.default/1.upstream_rq_total').catch(() => 0)) > 0
      })
      assert.match(await pause(), /^HTTP\/1\.1 200 /)
    } finally {
      await patient.stop()
    }
  })

  test('a request whose body lasts longer than its zone stays learned is forwarded', async () => {
    const withdrawing = await startGateway({
      config,
      edit: { 'routes.yaml': (text) => text.replace('idle_timeout: 60s', 'idle_timeout: 2s') },
    })
    const socket = connect(withdrawing.port, '127.0.0.1')
    try {
      await eventually('the zone is learned', async () => {
        await call(withdrawing.port, { headers: [['server', '1']], body: 'x' })
        return (await withdrawing.stat('cluster.default/1.upstream_rq_total')) > 0
      })
      const answer = new Promise<string>((resolve) => {
        socket.once('data', (chunk) => resolve(chunk.toString('latin1')))
        socket.once('error', (error) => resolve(error.message))
      })
      const asked = await withdrawing.stat('http.callback.ext_proc.streams_started')
      socket.write('POST / HTTP/1.1\r\nhost: x\r\nserver: 1\r\ncontent-length: 99\r\n\r\n')
      const dribble = setInterval(() => socket.write('a'), 500)
      await new Promise((resolve) => setTimeout(resolve, 1000))
      await withdrawing.configure('learned', { enabled: false })
      await new Promise((resolve) => setTimeout(resolve, 5000))
      clearInterval(dribble)
      assert.equal((await call(withdrawing.port, { headers: [['server', '1']], body: 'x' })).status, 200)
      assert.equal(
        await withdrawing.stat('http.callback.ext_proc.streams_started'),
        asked + 1,
        'other requests of the zone ask, this one did not',
      )
      socket.write('a'.repeat(99))
      assert.match(await answer, /^HTTP\/1\.1 200 /)
    } finally {
      socket.destroy()
      await withdrawing.stop()
    }
  })

  test('a client that does not read makes Envoy hold a buffer full, and the zone waits', async () => {
    const socket = connect(gateway.port, '127.0.0.1', () =>
      socket.write('POST / HTTP/1.1\r\nhost: x\r\nserver: 2\r\ncontent-length: 1\r\n\r\na'),
    )
    socket.on('error', () => undefined).pause()
    try {
      const paused = 'cluster.zones.upstream_flow_control_paused_reading_total'
      await eventually('Envoy reads no more of the zone', async () => (await gateway.stat(paused)) > 0)
    } finally {
      socket.destroy()
    }
    await eventually('no request is left at the zone', none)
  })

  test('a zone that does not read makes Envoy hold a buffer full, and the client waits', async () => {
    const received = () => gateway.stat('http.callback.downstream_cx_rx_bytes_total')
    const before = await received()
    const socket = connect(gateway.port, '127.0.0.1', () => {
      socket.write(`POST / HTTP/1.1\r\nhost: x\r\nserver: 3\r\ncontent-length: ${MANY_OCTETS}\r\n\r\n`)
      socket.write(Buffer.alloc(MANY_OCTETS))
    })
    socket.on('error', () => undefined).resume()
    try {
      await eventually('a part of it has come', async () => (await received()) > before)
      // The whole would be there in a tenth of this.
      await new Promise((done) => setTimeout(done, 1000))
      const octets = (await received()) - before
      assert.ok(octets < MANY_OCTETS / 2, `${octets} octets`)
    } finally {
      socket.destroy()
    }
    await eventually('no request is left at the zone', none)
  })

  test('a stream over HTTP/2 may have 64 KiB on the way', async () => {
    const session = await connectHttp2(gateway.port)
    try {
      await eventually('the settings are there', () => session.remoteSettings.initialWindowSize === 65_536)
    } finally {
      session.destroy()
    }
  })

  test(`of more than ${STREAMS_MAX} streams at once of one connection the others are refused`, async () => {
    const streams = Array.from({ length: 3 * STREAMS_MAX }, (_, index) => 2 * index + 1)
    const head = headerBlock([
      [':method', 'POST'],
      [':scheme', 'http'],
      [':path', '/'],
      [':authority', 'x'],
      ['server', '1'],
    ])
    const before = await gateway.stat('http.callback.downstream_rq_total')
    let received = Buffer.alloc(0)
    const socket = connect(gateway.port, '127.0.0.1', () => {
      socket.write(preface())
      socket.write(Buffer.concat(streams.map((stream) => frame(FRAME.headers, END_HEADERS, stream, head))))
    })
    socket.on('error', () => undefined)
    socket.on('data', (chunk) => {
      received = Buffer.concat([received, chunk])
    })
    await eventually('the connection is ended, or streams are', () =>
      frameTypes(received).some((type) => type === FRAME.rstStream || type === FRAME.goAway),
    )
    socket.destroy()
    const begun = (await gateway.stat('http.callback.downstream_rq_total')) - before
    assert.ok(begun <= STREAMS_MAX + 1, `${begun} requests`)
    const answer = await call(gateway.port, { headers: [['server', '1']], body: 'x' })
    assert.equal(answer.status, 200)
  })
})
