import assert from 'node:assert/strict'
import { connect, type Socket } from 'node:net'
import { after, before, suite, test } from 'node:test'
import { startGateway, type TestGateway } from '../support/gateway.ts'
import { call, jsonOf, rawCall } from '../support/http.ts'
import { connectHttp2, resetFlood } from '../support/http2.ts'
import { eventually } from '../support/processor.ts'
import { startZoneNameserver } from '../support/zone-nameserver.ts'

/** Clients that send too much, too slowly, or what is meant to be read in two ways. None of them is anybody's zone. */
let gateway: TestGateway

suite('limits at the edge', () => {
  before(async () => {
    gateway = await startGateway({
      config: {
        dns: { nameservers: ['127.0.0.1:9'], search: 'game.test' },
        // Any id: what refuses one is that it makes no name.
        rules: { idPattern: '.*' },
      },
      edit: {
        'listener.yaml': (text) => text.replace('stream_idle_timeout: 10s', 'stream_idle_timeout: 0.4s'),
      },
    })
  })
  after(() => gateway?.stop())

  /** Sends `text` and then a byte every 100 ms, until the answer. */
  const dribble = (text: string, byte: string): Promise<string> =>
    new Promise((resolve) => {
      const socket = connect(gateway.port, '127.0.0.1', () => socket.write(text))
      const timer = setInterval(() => socket.write(byte), 100)
      const giveUp = setTimeout(() => done('nothing'), 30_000)
      const done = (answer: string): void => {
        clearInterval(timer)
        clearTimeout(giveUp)
        socket.destroy()
        resolve(answer)
      }
      socket.on('error', () => done('closed'))
      socket.once('data', (chunk) => done(chunk.toString('latin1')))
    })

  test('slow headers end with 408 request_stalled', async () => {
    const answer = await dribble('POST / HTTP/1.1\r\nhost: x\r\nx: ', 'a')
    assert.match(answer, /^HTTP\/1\.1 408 .*^x-zonegate-reason: request_stalled\r$/ms)
  })

  const ambiguous: [title: string, head: string][] = [
    ['two lengths', 'content-length: 1\r\ncontent-length: 2\r\n'],
    ['a length and chunks', 'content-length: 5\r\ntransfer-encoding: chunked\r\n'],
    ['a NUL in a header', 'content-length: 0\r\nx: a\0b\r\n'],
    ['an unknown transfer coding', 'transfer-encoding: xchunked\r\n'],
  ]
  for (const [title, head] of ambiguous)
    test(`${title}: refused, and the connection is closed`, async () => {
      const text = await rawCall(gateway.port, `POST / HTTP/1.1\r\nhost: x\r\nserver: a.b\r\n${head}\r\n`)
      assert.match(text, /^HTTP\/1\.1 (400|501) /)
      assert.match(text, /connection: close/)
    })

  test('a huge id, huge headers and too many: refused', async () => {
    const many = Array.from({ length: 101 }, (_, index): [string, string] => [`x-${index}`, 'a'])
    const refusal = async (...headers: [string, string][]): Promise<unknown[]> => {
      const answer = await call(gateway.port, { headers })
      return [answer.status, answer.json()['reason']]
    }
    assert.deepEqual(await refusal(['server', 'a'.repeat(50_000)]), [403, 'server_header_invalid'])
    assert.deepEqual(await refusal(['server', 'a'.repeat(70_000)]), [431, 'headers_too_large'])
    assert.deepEqual(await refusal(['server', '1'], ...many), [431, 'headers_too_large'])
  })

  test('streams that are opened and reset at once end the connection, and Envoy serves on', async () => {
    const resets = await gateway.stat('http.callback.downstream_rq_rx_reset')
    await resetFlood(await connectHttp2(gateway.port), { ':path': '/', server: '1' }, 2000)
    await eventually(
      'Envoy has ended it',
      async () => (await gateway.stat('http.callback.downstream_rq_too_many_premature_resets')) === 1,
    )
    assert.ok((await gateway.stat('http.callback.downstream_rq_rx_reset')) - resets < 1000)
    assert.equal((await call(gateway.port, { method: 'GET' })).status, 405)
  })

  test('fields of a line are cut, in either log', async () => {
    const long = (letter: string, length: number): string => letter.repeat(length)
    const answer = await call(gateway.port, {
      path: `/${long('p', 10_000)}`,
      headers: [
        ['host', long('h', 9000)],
        ['server', long('i', 9000)],
        ['x-request-id', `cut-${long('r', 9000)}`],
        ['traceparent', long('t', 9000)],
      ],
    })
    assert.equal(answer.json()['reason'], 'server_header_invalid')
    for (const side of ['envoy', 'processor'] as const) {
      const line = (): string | undefined =>
        gateway
          .log(side)
          .split('\n')
          .find((text) => text.includes('cut-r'))
      await eventually(`${side} has logged it`, () => line() !== undefined)
      assert.ok((line() ?? '').length < 2000, `${side}: ${line()?.length} characters`)
      const { id, key = `POST/${id}`, request_id } = jsonOf(line() ?? '')
      const cut = `POST/${long('i', side === 'envoy' ? 123 : 64)}`
      assert.deepEqual([key, request_id], [cut, `cut-${long('r', 124)}`])
    }
  })

  test('what a client writes stays inside one field of one line of either log', async () => {
    // No comma: Envoy would take it for several ids, and the processor would never see it.
    const text = '\\"}{"reason":"forged"}\u009b'
    const path = '/%0a%0d"}{"reason":"forged"}'
    await call(gateway.port, {
      path: `${path}?token=secret`,
      headers: [
        ['server', text],
        ['x-request-id', text],
      ],
    })
    for (const side of ['envoy', 'processor'] as const) {
      const lines = () =>
        gateway
          .log(side)
          .split('\n')
          .filter((line) => line.includes('forged'))
      await eventually(`${side} has logged it`, () => lines().length > 0)
      const [line = '', ...others] = lines()
      assert.deepEqual(others, [])
      assert.ok(!line.includes('secret'), 'no query')
      const { id, key = `POST/${id}`, request_id, uri = path, reason } = jsonOf(line)
      assert.deepEqual([key, request_id, uri, reason], [`POST/${text}`, text, path, 'server_header_invalid'])
    }
  })
})

test('an Envoy whose heap is full answers 503 overloaded', async () => {
  const full = await startGateway({
    config: { dns: { nameservers: ['127.0.0.1:9'], search: 'game.test' } },
    edit: {
      'envoy.yaml': (text) =>
        text
          .replace('max_heap_size_bytes: 1073741824', 'max_heap_size_bytes: 1048576')
          .replace(/^.*overload_actions\.stop_accepting_connections.*\n.*\n/m, '')
          // What ends requests that were accepted before would answer in its place.
          .replace(/^.*(?:http1_server_abort|go_away_and_close_on)_dispatch\n.*\n/gm, ''),
    },
  })
  try {
    let answer = await call(full.port)
    await eventually('503', async () => {
      answer = await call(full.port)
      return answer.status === 503
    })
    assert.deepEqual([answer.status, answer.json()['reason']], [503, 'overloaded'])
  } finally {
    await full.stop()
  }
})

test('bodies of requests that were accepted before do not grow the heap beyond its bound', async () => {
  const nameserver = await startZoneNameserver({ 'zone1-default.game.test': ['127.0.88.1'] })
  const gateway = await startGateway({
    config: {
      dns: { nameservers: [nameserver.address], search: 'game.test' },
      addresses: { allow: ['127.0.88.1/32'] },
      learned: { enabled: false },
    },
    edit: {
      'envoy.yaml': (text) =>
        text.replace('max_heap_size_bytes: 1073741824', 'max_heap_size_bytes: 104857600'),
    },
  })
  const sockets: Socket[] = []
  try {
    for (let count = 0; count < 250; count++) {
      const socket = connect(gateway.port, '127.0.0.1', () =>
        socket.write('POST / HTTP/1.1\r\nhost: x\r\nserver: 1\r\ncontent-length: 990000\r\n\r\n'),
      )
      socket.on('error', () => undefined)
      socket.resume()
      sockets.push(socket)
    }
    await eventually(
      'all were accepted',
      async () => (await gateway.stat('http.callback.downstream_rq_active')) === sockets.length,
    )
    const part = Buffer.alloc(98_000)
    for (let round = 0; round < 10; round++) {
      for (const socket of sockets) if (!socket.destroyed) socket.write(part)
      await new Promise((done) => setTimeout(done, 300))
    }
    const points = ['http1_server_abort_dispatch', 'http2_server_go_away_and_close_on_dispatch']
    await eventually('what goes on sending is ended', async () => {
      const counts = await Promise.all(
        points.map((point) => gateway.stat(`overload.envoy.load_shed_points.${point}.shed_load_count`)),
      )
      return counts.some((count) => count > 0)
    })
    const allocated = await gateway.stat('server.memory_allocated')
    assert.ok(allocated < 160 * 1024 * 1024, `${allocated} octets`)
  } finally {
    for (const socket of sockets) socket.destroy()
    await gateway.stop()
    await nameserver.close()
  }
})

test('an Envoy whose heap is fuller still takes no connection', async () => {
  const full = await startGateway({
    config: { dns: { nameservers: ['127.0.0.1:9'], search: 'game.test' } },
    edit: {
      // It has to be ready first: whoever asks whether it is, connects.
      'envoy.yaml': (text) =>
        text
          .replace('max_heap_size_bytes: 1073741824', 'max_heap_size_bytes: 1048576')
          .replace('refresh_interval: 0.25s', 'refresh_interval: 8s'),
    },
  })
  try {
    const action = 'overload.envoy.overload_actions.stop_accepting_connections.active'
    await eventually('it notices', async () => (await full.stat(action)) === 1)
    assert.equal(await rawCall(full.port, 'GET / HTTP/1.1\r\nhost: x\r\n\r\n', 500, 1000), '')
  } finally {
    await full.stop()
  }
})
