import assert from 'node:assert/strict'
import { rmSync } from 'node:fs'
import { type connect, createServer, type Server as SocketServer } from 'node:net'
import { join } from 'node:path'
import { after, before, suite, test } from 'node:test'
import { type ServerDuplexStream, status } from '@grpc/grpc-js'
import {
  externalProcessor,
  type ProcessingRequest,
  type ProcessingResponse,
  type Value,
} from '../../src/grpc/protos.ts'
import { type GrpcServer, serveGrpc } from '../../src/grpc/server.ts'
import { startGateway, type TestGateway } from '../support/gateway.ts'
import { call, type Reply } from '../support/http.ts'
import { freePort } from '../support/ports.ts'
import { eventually } from '../support/processor.ts'
import { type Receiver, startReceiver } from '../support/receiver.ts'
import { startZoneNameserver, type ZoneNameserver } from '../support/zone-nameserver.ts'

/**
 * What a caller sees of a processor that is broken in each way a processor can be. A stand-in serves the socket, because
 * the real one can't be brought to misbehave; the client's Host always names a receiver that must never be reached.
 */
type Stream = ServerDuplexStream<ProcessingRequest, ProcessingResponse>
type Behaviour = (stream: Stream) => void

/** The stand-in is in this process, which a busy machine holds up: silence has to be longer than that. */
const MESSAGE_SECONDS = 3

/** By the fallback. */
const FORWARDED = [200, ''] as const

let gateway: TestGateway
let nameserver: ZoneNameserver
let zone: Receiver
let bait: Receiver
let baitPort: number
let served: GrpcServer | undefined
const savedFolder = process.cwd()

for (const enabled of [false, true])
  suite(`a broken processor, ${enabled ? 'with' : 'without'} the fallback`, () => {
    before(async () => {
      baitPort = await freePort('127.0.77.1')
      bait = await startReceiver('127.0.77.1', baitPort)
      zone = await startReceiver('127.0.77.2', baitPort)
      nameserver = await startZoneNameserver({ 'zone12-default.game.test': ['127.0.77.2'] })
      gateway = await startGateway({
        config: {
          rules: { port: baitPort },
          dns: { nameservers: [nameserver.address], search: 'game.test' },
          addresses: { allow: ['127.0.77.2/32'] },
          fallback: { enabled },
        },
        processor: false,
        envoyAllow: ['127.0.77.1/32'], // the fences under test are those before Envoy's own deny list
        edit: {
          'listener.yaml': (text) =>
            text.replace('message_timeout: 2s', `message_timeout: ${MESSAGE_SECONDS}s`),
        },
      })
      process.chdir(gateway.folder) // the socket's path is relative, as the processor's own is
    })
    after(async () => {
      process.chdir(savedFolder)
      await gateway?.stop()
      await nameserver?.close()
      await zone?.close()
      await bait?.close()
    })

    const value = (text: string): Buffer => Buffer.from(text)
    /** An answer that names this as the address. */
    const named = (address: Value, namespace = 'zonegate'): ProcessingResponse => ({
      request_headers: { response: {} },
      dynamic_metadata: { fields: { [namespace]: { structValue: { fields: { address } } } } },
    })
    const ofBody = ({ request_headers: _, ...rest }: ProcessingResponse): ProcessingResponse => ({
      ...rest,
      request_body: { response: {} },
    })
    const text = (stringValue: string): Value => ({ stringValue })
    const mutate = (...headers: [string, string][]): ProcessingResponse => ({
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
      ['a cleared route without an address', () => reply(mutate()), 502, 'processor_refused'],
      ['an authority', () => reply(mutate([':authority', bait2()])), 502, 'processor_unavailable'],
      ['a route header', () => reply(mutate(['x-zonegate-route', bait2()])), 502, 'processor_unavailable'],
      [
        'an address with a host name',
        () => reply(named(text(`localhost:${baitPort}`))),
        502,
        'processor_refused',
      ],
      ['an address without a value', () => reply(named(text(''))), 502, 'processor_refused'],
      ['an address with a path', () => reply(named(text(`${bait2()}/x`))), 502, 'processor_refused'],
      ['two addresses', () => reply(named(text(`${bait2()},${bait2()}`))), 502, 'processor_refused'],
      ['an address that is a number', () => reply(named({ numberValue: 8101 })), 502, 'processor_refused'],
      [
        'an address in another namespace',
        () => reply(named(text(bait2()), 'other')),
        502,
        'processor_refused',
      ],
      [
        'a refused mutation beside an address',
        () => reply({ ...named(text(bait2())), ...mutate([':path', '/evil']) }),
        502,
        'processor_unavailable',
      ],
      [
        'an answer to another question, with an address',
        () => reply(ofBody(named(text(bait2())))),
        502,
        'processor_unavailable',
      ],
      [
        'a clean end without a reply',
        () => (stream) => stream.on('data', () => stream.end()),
        502,
        enabled ? 'processor_unavailable' : 'processor_refused',
      ],
      [
        'a clean end before the request is read',
        () => (stream) => stream.end(),
        502,
        enabled ? 'processor_unavailable' : 'processor_refused',
      ],
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
      ['silence', () => () => undefined, ...(enabled ? FORWARDED : ([504, 'processor_timeout'] as const))],
      [
        'UNAVAILABLE',
        () => (stream) => stream.emit('error', { code: status.UNAVAILABLE, details: 'away' }),
        ...(enabled ? FORWARDED : ([502, 'processor_unavailable'] as const)),
      ],
    ]
    /** Whether Envoy found the zone by itself. */
    const assertOutcome = (answer: Reply, expected: number, reason: string): void => {
      assert.equal(answer.status, expected, answer.text)
      assert.deepEqual(bait.requests, [])
      if (expected === 200) assert.equal(answer.text, 'receiver 127.0.77.2')
      else {
        assert.equal(answer.json()['reason'], reason)
        assert.equal(answer.headers['content-type'], 'application/problem+json')
      }
    }

    for (const [title, behaviour, expected, reason] of CASES) {
      test(`${title}: ${expected}, ${expected === 200 ? 'from the zone' : 'and nothing is forwarded'}`, async () => {
        const before = zone.requests.length
        await serve(behaviour())
        try {
          const answer = await call(gateway.port, {
            headers: [
              ['server', '12'],
              ['host', bait2()],
            ],
            body: 'x',
          })
          assertOutcome(answer, expected, reason)
          assert.equal(zone.requests.length, before + (expected === 200 ? 1 : 0))
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

    test('no socket at all, without waiting for a message', async () => {
      const answer = await call(gateway.port, {
        headers: [
          ['server', '12'],
          ['host', bait2()],
        ],
      })
      if (enabled) assertOutcome(answer, 200, '')
      else assertOutcome(answer, 502, 'processor_unavailable')
    })

    test('a socket that accepts and never speaks, within message_timeout', async () => {
      const socket = await listen(join(gateway.folder, 'run/processor.sock'))
      const answer = await call(gateway.port, {
        headers: [
          ['server', '12'],
          ['host', bait2()],
        ],
      })
      await new Promise<void>((done) => {
        socket.close(() => done())
        for (const peer of peers) peer.destroy()
      })
      if (enabled) assertOutcome(answer, 200, '')
      else assertOutcome(answer, 504, 'processor_timeout')
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
        onBug: assert.fail,
      })
    }
  })
