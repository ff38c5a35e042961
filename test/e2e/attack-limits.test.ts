import assert from 'node:assert/strict'
import { connect } from 'node:net'
import { after, before, suite, test } from 'node:test'
import { startGateway, type TestGateway } from '../support/gateway.ts'
import { call, jsonOf, rawCall } from '../support/http.ts'
import { connectHttp2, resetFlood } from '../support/http2.ts'
import { eventually } from '../support/processor.ts'

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
        'envoy.yaml': (text) => text.replace('stream_idle_timeout: 10s', 'stream_idle_timeout: 0.4s'),
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
    assert.deepEqual(await refusal(['server', 'a'.repeat(70_000)]), [431, 'bad_request'])
    assert.deepEqual(await refusal(['server', '1'], ...many), [431, 'bad_request'])
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
      const { id, request_id, uri = path, reason } = jsonOf(line)
      assert.deepEqual([id, request_id, uri, reason], [text, text, path, 'server_header_invalid'])
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
          .replace(/^.*overload_actions\.stop_accepting_connections.*$/m, ''),
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

test('an Envoy whose heap is fuller still takes no connection', async () => {
  const full = await startGateway({
    config: { dns: { nameservers: ['127.0.0.1:9'], search: 'game.test' } },
    edit: {
      'envoy.yaml': (text) => text.replace('max_heap_size_bytes: 1073741824', 'max_heap_size_bytes: 1048576'),
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
