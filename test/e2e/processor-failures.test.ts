import assert from 'node:assert/strict'
import { rmSync } from 'node:fs'
import { type connect, createServer, type Server as SocketServer } from 'node:net'
import { join } from 'node:path'
import { after, before, suite, test } from 'node:test'
import { type ServerDuplexStream, status } from '@grpc/grpc-js'
import { externalProcessor, type ProcessingRequest, type ProcessingResponse } from '../../src/grpc/protos.ts'
import { type GrpcServer, serveGrpc } from '../../src/grpc/server.ts'
import { startGateway, type TestGateway } from '../support/gateway.ts'
import { call } from '../support/http.ts'
import { freePort } from '../support/ports.ts'
import { eventually } from '../support/processor.ts'
import { type Receiver, startReceiver } from '../support/receiver.ts'

/**
 * What a caller sees of a processor that is broken in each way a processor can be. A stand-in serves the socket, because
 * the real one can't be brought to misbehave; the client's Host always names a receiver that must never be reached.
 */
type Stream = ServerDuplexStream<ProcessingRequest, ProcessingResponse>
type Behaviour = (stream: Stream) => void

/** The stand-in is in this process, which a busy machine holds up: silence has to be longer than that. */
const MESSAGE_SECONDS = 3

let gateway: TestGateway
let bait: Receiver
let baitPort: number
let served: GrpcServer | undefined
const savedFolder = process.cwd()

suite('a broken processor', () => {
  before(async () => {
    baitPort = await freePort('127.0.77.1')
    bait = await startReceiver('127.0.77.1', baitPort)
    gateway = await startGateway({
      config: {},
      processor: false,
      envoyAllow: ['127.0.77.1/32'], // the fences under test are those before Envoy's own deny list
      edit: {
        'envoy.yaml': (text) => text.replace('message_timeout: 2s', `message_timeout: ${MESSAGE_SECONDS}s`),
      },
    })
    process.chdir(gateway.folder) // the socket's path is relative, as the processor's own is
  })
  after(async () => {
    process.chdir(savedFolder)
    await gateway?.stop()
    await bait?.close()
  })

  const value = (text: string): Buffer => Buffer.from(text)
  const forward = (...headers: [string, string][]): ProcessingResponse => ({
    request_headers: {
      response: {
        header_mutation: {
          set_headers: headers.map(([key, text]) => ({
            header: { key, raw_value: value(text) },
            append_action: 'OVERWRITE_IF_EXISTS_OR_ADD',
          })),
        },
        clear_route_cache: true,
      },
    },
  })
  const reply =
    (...messages: ProcessingResponse[]): Behaviour =>
    (stream) => {
      stream.on('data', () => {
        for (const message of messages) stream.write(message)
      })
      stream.on('end', () => stream.end())
    }
  const bait2 = (): string => `127.0.77.1:${baitPort}`

  const CASES: [title: string, behaviour: () => Behaviour, status: number, reason: string][] = [
    ['an empty reply', () => reply({}), 502, 'processor_unavailable'],
    ['a reply without a mutation', () => reply({ request_headers: {} }), 502, 'processor_refused'],
    ['a cleared route without an address', () => reply(forward()), 502, 'processor_refused'],
    [
      'an authority without the forward header',
      () => reply(forward([':authority', bait2()])),
      502,
      'processor_unavailable',
    ],
    [
      'a forward header with a host name',
      () => reply(forward(['x-zonegate-route', `localhost:${baitPort}`])),
      502,
      'processor_refused',
    ],
    [
      'a forward header without a value',
      () => reply(forward(['x-zonegate-route', ''])),
      502,
      'processor_refused',
    ],
    [
      'a forward header with a path',
      () => reply(forward(['x-zonegate-route', `${bait2()}/x`])),
      502,
      'processor_refused',
    ],
    [
      'a refused mutation beside a good one',
      () => reply(forward(['x-zonegate-route', bait2()], [':path', '/evil'])),
      502,
      'processor_unavailable',
    ],
    [
      'a clean end without a reply',
      () => (stream) => stream.on('data', () => stream.end()),
      502,
      'processor_refused',
    ],
    ['a clean end before the request is read', () => (stream) => stream.end(), 502, 'processor_refused'],
    [
      'a gRPC error',
      () => (stream) => stream.emit('error', { code: status.INTERNAL, details: 'broken' }),
      502,
      'processor_unavailable',
    ],
    [
      'a reply of another kind',
      () => reply({ immediate_response: { status: { code: 502 }, details: 'made up' } }),
      502,
      'processor_unavailable',
    ],
    ['silence', () => () => undefined, 504, 'processor_timeout'],
  ]

  for (const [title, behaviour, expected, reason] of CASES) {
    test(`${title}: ${expected}, and nothing is forwarded`, async () => {
      await serve(behaviour())
      try {
        const answer = await call(gateway.port, {
          headers: [
            ['server', '12'],
            ['host', bait2()],
          ],
          body: 'x',
        })
        assert.equal(answer.status, expected, answer.text)
        assert.equal(answer.json()['reason'], reason)
        assert.equal(answer.headers['content-type'], 'application/problem+json')
        assert.deepEqual(bait.requests, [])
      } finally {
        await served?.drain(0)
        // The next case would go out on a connection that Envoy has not seen end.
        await eventually(
          'Envoy has no connection to the processor',
          async () => (await gateway.stat('cluster.processor.upstream_cx_active')) === 0,
        )
      }
    })
  }

  test('no socket at all: 502, without waiting for a message', async () => {
    const answer = await call(gateway.port, {
      headers: [
        ['server', '12'],
        ['host', bait2()],
      ],
    })
    assert.deepEqual([answer.status, answer.json()['reason']], [502, 'processor_unavailable'])
  })

  test('a socket that accepts and never speaks: 504 within message_timeout', async () => {
    const socket = await listen(join(gateway.folder, 'run/processor.sock'))
    const answer = await call(gateway.port, {
      headers: [
        ['server', '12'],
        ['host', bait2()],
      ],
    })
    assert.deepEqual([answer.status, answer.json()['reason']], [504, 'processor_timeout'])
    await new Promise<void>((done) => {
      socket.close(() => done())
      for (const peer of peers) peer.destroy()
    })
  })

  const peers = new Set<ReturnType<typeof connect>>()

  function listen(path: string): Promise<SocketServer> {
    rmSync(path, { force: true })
    const server = createServer((peer) => {
      peers.add(peer)
      peer.on('error', () => undefined)
    })
    return new Promise((resolve) => server.listen(path, () => resolve(server)))
  }

  async function serve(behaviour: Behaviour): Promise<void> {
    const process = (stream: Stream): void => {
      stream.on('error', () => undefined)
      behaviour(stream)
    }
    served = await serveGrpc({
      address: 'unix:run/processor.sock',
      certificates: null,
      services: [[{ Process: externalProcessor.Process }, { Process: process }]],
      log: { warn: () => undefined, debug: () => undefined },
    })
  }
})
