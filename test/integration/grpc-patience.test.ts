import assert from 'node:assert/strict'
import { connect, type Socket } from 'node:net'
import { after, describe, test } from 'node:test'
import { readCertificates } from '../../src/grpc/certificates.ts'
import { type GrpcServer, type Patience, serveGrpc } from '../../src/grpc/server.ts'
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

  const serve = async (patience: Partial<Patience>, tls = false): Promise<number> => {
    const log = { warn: () => undefined, debug: () => undefined }
    const server = await serveGrpc({
      address: { host: '127.0.0.1', port: 0 },
      certificates: tls ? certificates() : null,
      services: [],
      log,
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
    const socket = await open(await serve({ handshakeMs: SOON_MS }, true))
    await eventually('it is closed', () => socket.closed)
  })

  test('a peer that answers no PING is closed', async () => {
    const socket = await open(await serve({ pingAfterMs: SOON_MS, pingAnswerMs: SOON_MS }))
    socket.write(preface())
    await eventually('it is closed', () => socket.closed)
  })
})
