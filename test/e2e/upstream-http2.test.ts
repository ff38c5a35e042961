import assert from 'node:assert/strict'
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, suite, test } from 'node:test'
import {
  Client,
  type ClientDuplexStream,
  credentials,
  Metadata,
  Server,
  ServerCredentials,
  type ServerDuplexStream,
  type ServiceError,
  status,
} from '@grpc/grpc-js'
import { CertificateFolder } from '../support/certificates.ts'
import { startGateway, type TestGateway } from '../support/gateway.ts'
import { call } from '../support/http.ts'
import { a, type ScriptedNameserver, soa, startNameserver } from '../support/nameserver.ts'
import { freePort } from '../support/ports.ts'
import { eventually } from '../support/processor.ts'

/** HTTP/2 and gRPC to zones, with TLS and without, on the cold path and on the hot one. */
const DOMAIN = 'grpc.test'
const HOST = '127.0.74.1'
const octets = (value: Buffer): Buffer => value
const METHOD = {
  requestStream: true,
  responseStream: true,
  requestSerialize: octets,
  requestDeserialize: octets,
  responseSerialize: octets,
  responseDeserialize: octets,
} as const
/** By its path: which service. */
const PLAIN = '/zone.Plain/Chat'
const SECURE = '/zone.Secure/Chat'

type Chat = ClientDuplexStream<Buffer, Buffer>

suite('HTTP/2 to zones', () => {
  const certificates = new CertificateFolder()
  const servers: Server[] = []
  let gateway: TestGateway
  let nameserver: ScriptedNameserver
  let client: Client

  /** Says back what it hears, and in the end how much that was. */
  const chat = (stream: ServerDuplexStream<Buffer, Buffer>): void => {
    let heard = 0
    stream.on('data', (message: Buffer) => {
      heard += 1
      stream.write(Buffer.concat([Buffer.from('heard '), message]))
    })
    stream.on('end', () => {
      const trailers = new Metadata()
      trailers.set('heard', String(heard))
      trailers.set('zone-host', stream.getHost())
      stream.end(trailers)
    })
  }
  const serve = async (port: number, creds: ServerCredentials): Promise<void> => {
    const server = new Server()
    const methods = { [PLAIN]: { path: PLAIN, ...METHOD }, [SECURE]: { path: SECURE, ...METHOD } }
    server.addService(methods, { [PLAIN]: chat, [SECURE]: chat })
    await new Promise<void>((done, fail) =>
      server.bindAsync(`${HOST}:${port}`, creds, (error) => (error === null ? done() : fail(error))),
    )
    servers.push(server)
  }
  const open = (path: string, id: string): Chat => {
    const metadata = new Metadata()
    metadata.set('server', id)
    return client.makeBidiStreamRequest(path, octets, octets, metadata)
  }
  const next = (stream: Chat): Promise<string> =>
    new Promise((resolve, reject) => {
      stream.once('error', reject)
      stream.once('data', (message: Buffer) => {
        stream.off('error', reject)
        resolve(String(message))
      })
    })
  const ended = (stream: Chat): Promise<ServiceError | Metadata> =>
    new Promise((resolve) => {
      stream.on('error', resolve)
      stream.on('status', ({ metadata }: { metadata: Metadata }) => resolve(metadata))
      stream.resume()
    })
  /** A word, its answer, the next word: nothing of it may wait for the end. @returns the trailers */
  const talk = async (path: string, id: string): Promise<Metadata> => {
    const stream = open(path, id)
    for (const word of ['one', 'two', 'three']) {
      stream.write(Buffer.from(word))
      assert.equal(await next(stream), `heard ${word}`)
    }
    stream.end()
    const trailers = await ended(stream)
    assert.ok(trailers instanceof Metadata, String(trailers))
    assert.deepEqual(trailers.get('heard'), ['3'])
    return trailers
  }
  const asked = (): Promise<number> => gateway.stat('cluster.processor.upstream_rq_total')
  const both = async (path: string, id: string): Promise<void> => {
    const before = await asked()
    await talk(path, id)
    assert.equal(await asked(), before + 1, 'the first one asks')
    await eventually(`zone ${id} is hot`, async () => {
      const before = await asked()
      await Promise.all(Array.from({ length: 4 }, () => talk(path, id)))
      return (await asked()) === before
    })
    await talk(path, id)
  }

  before(async () => {
    certificates.authority('zones')
    const { cert, key } = certificates.issue('grpc', 'zones', { san: `DNS:*.${DOMAIN}`, usage: 'serverAuth' })
    const ports = [await freePort(HOST), await freePort(HOST)] as const
    await serve(ports[0], ServerCredentials.createInsecure())
    const pair = { cert_chain: Buffer.from(cert), private_key: Buffer.from(key) }
    await serve(ports[1], ServerCredentials.createSsl(null, [pair]))
    nameserver = await startNameserver((query) =>
      query.reply({
        rcode: 0,
        answers: [a(query.name, HOST, 30)].filter(({ type }) => type === query.type),
        authorities: [soa(DOMAIN, 1)],
      }),
    )
    gateway = await startGateway({
      config: {
        rules: {
          upstream: { http: 2 },
          services: {
            plain: { port: ports[0] },
            secure: {
              paths: [SECURE],
              port: ports[1],
              upstream: { http: 2, tls: { ca: 'certs/zones.pem' } },
            },
            wrong: { paths: ['/wrong'], port: ports[1] },
          },
        },
        dns: { nameservers: [nameserver.address], search: DOMAIN },
        addresses: { allow: ['127.0.74.0/24'] },
      },
      prepare: (folder) => {
        mkdirSync(join(folder, 'certs'))
        certificates.renameTo('zones.pem', join(folder, 'certs', 'zones.pem'))
      },
    })
    client = new Client(`127.0.0.1:${gateway.port}`, credentials.createInsecure())
  })
  after(async () => {
    client?.close()
    await gateway?.stop()
    await nameserver?.stop()
    for (const server of servers) server.forceShutdown()
    certificates.remove()
  })

  test('gRPC streams both ways, word by word, and brings trailers, cold and hot', async () => {
    await both(PLAIN, '1')
  })

  test('the same by TLS', async () => {
    await both(SECURE, '1')
  })

  test('a zone that is not there is an error of gRPC with the reason beside it', async () => {
    const stream = open('/wrong', '2')
    stream.end()
    const error = await ended(stream)
    assert.ok(error instanceof Error)
    assert.equal(error.code, status.UNAVAILABLE)
    assert.match(String(error.metadata.get('x-zonegate-reason')), /upstream_/)
  })

  test('a caller of HTTP/1.1 is answered by a zone of HTTP/2', async () => {
    const { status: code, headers } = await call(gateway.port, {
      headers: [['server', '3']],
      path: '/',
      body: 'x',
    })
    assert.deepEqual([code, headers['x-zonegate-reason']], [415, undefined], 'it is not gRPC, says the zone')
  })
})
