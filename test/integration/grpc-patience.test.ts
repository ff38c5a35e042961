import assert from 'node:assert/strict'
import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { after, describe, test } from 'node:test'
import { Client, credentials, status } from '@grpc/grpc-js'
import { readCertificates } from '../../src/grpc/certificates.ts'
import { createHealth } from '../../src/grpc/health-service.ts'
import { health } from '../../src/grpc/protos.ts'
import { type GrpcServer, type Patience, type Service, serveGrpc } from '../../src/grpc/server.ts'
import { CertificateFolder } from '../support/certificates.ts'
import { preface } from '../support/http2-frames.ts'
import { eventually } from '../support/processor.ts'

/** Clients of the processor that connect and then do nothing: each is closed when its time is over, which is short here. */
const SOON_MS = 200
const NEVER_MS = 600_000
const never: Patience = {
  handshakeMs: NEVER_MS,
  silentMs: NEVER_MS,
  pingAfterMs: NEVER_MS,
  pingAnswerMs: NEVER_MS,
}

describe('clients of the processor that do nothing', () => {
  const files = new CertificateFolder()
  const servers: GrpcServer[] = []
  const sockets: Socket[] = []
  after(async () => {
    for (const socket of sockets) socket.destroy()
    await Promise.all(servers.map((server) => server.drain(0)))
    files.remove()
  })

  const warnings: string[] = []
  const serve = async (
    patience: Partial<Patience>,
    { tls = false, ...more }: { tls?: boolean; connectionsMax?: number; services?: Service[] } = {},
  ): Promise<number> => {
    const log = { warn: (_: object, text: string) => warnings.push(text), debug: () => undefined }
    const server = await serveGrpc({
      address: { host: '127.0.0.1', port: 0 },
      certificates: tls ? certificates() : null,
      services: [],
      ...more,
      log,
      onBug: assert.fail,
      patience: { ...never, ...patience },
    })
    servers.push(server)
    return server.port
  }
  const certificates = () => {
    files.authority('ca')
    files.issue('processor', 'ca', { san: 'DNS:localhost', usage: 'serverAuth' })
    const [cert, key, clientCa] = ['processor.pem', 'processor.key', 'ca.pem'].map((name) => files.path(name))
    return readCertificates({ cert: cert ?? '', key: key ?? '', clientCa: clientCa ?? '' }, new Date())
  }
  const open = (port: number): Promise<Socket> =>
    new Promise((resolve, reject) => {
      const socket = connect(port, '127.0.0.1', () => resolve(socket.resume()))
      socket.once('error', reject)
      socket.on('error', () => undefined)
      sockets.push(socket)
    })

  test('a connection that sends nothing is closed, one that spoke is not', async () => {
    // Long enough for the other's octets to be read on a busy machine.
    const port = await serve({ silentMs: 5 * SOON_MS })
    const [silent, spoke] = await Promise.all([open(port), open(port)])
    spoke.write(preface())
    await eventually('it is closed', () => silent.closed)
    assert.equal(spoke.closed, false)
  })

  test('a TLS handshake that never begins is ended', async () => {
    const socket = await open(await serve({ handshakeMs: SOON_MS }, { tls: true }))
    await eventually('it is closed', () => socket.closed)
  })

  test('a peer that answers no PING is closed', async () => {
    const socket = await open(await serve({ pingAfterMs: SOON_MS, pingAnswerMs: SOON_MS }))
    socket.write(preface())
    await eventually('it is closed', () => socket.closed)
  })

  test('one connection more than may be is closed at once, and the log says so', async () => {
    const port = await serve({}, { connectionsMax: 20 })
    const made = []
    for (let n = 0; n < 20; n++) made.push(await open(port))
    for (const socket of made) socket.write(preface())
    const one = await open(port)
    await eventually('it is closed', () => one.closed)
    assert.deepEqual(
      made.filter(({ closed }) => closed),
      [],
    )
    await eventually('a line', () => warnings.some((line) => /too many connections/.test(line)))
  })

  test('a watch of its health ends when its time is over, and a new one is told', async () => {
    const service = createHealth(SOON_MS).service
    const client = new Client(
      `127.0.0.1:${await serve({}, { services: [service] })}`,
      credentials.createInsecure(),
    )
    const { path, requestSerialize, responseDeserialize } = health.Watch
    const watch = async (): Promise<[statuses: string[], code: number]> => {
      const stream = client.makeServerStreamRequest(path, requestSerialize, responseDeserialize, {})
      const statuses: string[] = []
      stream.on('data', (message) => statuses.push(message.status))
      const [error] = await once(stream, 'error')
      return [statuses, error.code]
    }
    for (let round = 0; round < 2; round++) assert.deepEqual(await watch(), [['SERVING'], status.UNAVAILABLE])
    client.close()
  })
})
