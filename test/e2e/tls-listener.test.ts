import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdirSync, readFileSync, renameSync, symlinkSync, writeFileSync } from 'node:fs'
import type { ServerResponse } from 'node:http'
import { Agent } from 'node:https'
import { connect as connectTcp } from 'node:net'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { type ConnectionOptions, connect, type TLSSocket } from 'node:tls'
import { fileURLToPath } from 'node:url'
import { CertificateFolder } from '../support/certificates.ts'
import { startGateway, type TestGateway } from '../support/gateway.ts'
import { type Call, type CallTls, call, type Reply, rawCall } from '../support/http.ts'
import { callHttp2, connectHttp2, resetFlood } from '../support/http2.ts'
import { startLoadOf } from '../support/load.ts'
import { freePort } from '../support/ports.ts'
import { eventually, runCli } from '../support/processor.ts'
import { type Receiver, startReceiver } from '../support/receiver.ts'
import { startZoneNameserver, type ZoneNameserver } from '../support/zone-nameserver.ts'

const TUNING = fileURLToPath(new URL('../../docs/tuning.md', import.meta.url))
const NAME = 'callback.test'
const ROTATIONS = 6
/** `max_concurrent_streams` of listener.yaml. */
const STREAMS_MAX = 100
const HANDSHAKE_SECONDS = 2

/** The command of docs/tuning.md that puts the example into listener.yaml, run as it stands there. */
function useExample(folder: string): void {
  const [, command] = /^ +(sed -i .*listener-tls\.yaml.*)$/m.exec(readFileSync(TUNING, 'utf8')) ?? []
  assert.ok(command, 'docs/tuning.md has the command')
  const bootstrap = join(folder, 'envoy/listener.yaml')
  const before = readFileSync(bootstrap, 'utf8')
  execFileSync('sh', ['-c', command], { cwd: folder })
  assert.notEqual(readFileSync(bootstrap, 'utf8'), before)
}

describe('TLS on the listener, as in envoy/listener-tls.yaml', () => {
  const files = new CertificateFolder()
  const waiting: ServerResponse[] = []
  let gateway: TestGateway
  let nameserver: ZoneNameserver
  let zone: Receiver
  let slowZone: Receiver
  let tls: CallTls
  let turn = 0

  /** A new certificate, by number. */
  const issue = (): number => {
    turn += 1
    files.issue(`listener-${turn}`, 'ca', { san: `DNS:${NAME}`, usage: 'serverAuth' })
    return turn
  }
  /** Puts it where Envoy looks, the key after the certificate. */
  const put = (number: number, folder = gateway.folder): void => {
    for (const kind of ['pem', 'key'])
      files.renameTo(`listener-${number}.${kind}`, join(folder, 'certs', `listener.${kind}`))
  }
  const inForce = (number: number, of = gateway): Promise<void> =>
    eventually(`certificate ${number}`, async () => (await subject(of.port)) === `listener-${number}`)
  const putAndWait = async (): Promise<number> => {
    const number = issue()
    put(number)
    await inForce(number)
    return number
  }

  before(async () => {
    files.authority('ca')
    tls = { ca: files.read('ca.pem'), servername: NAME }
    const port = await freePort('127.0.69.1')
    zone = await startReceiver('127.0.69.1', port)
    slowZone = await startReceiver('127.0.69.2', port, (request, response) => {
      request.resume()
      waiting.push(response)
    })
    nameserver = await startZoneNameserver({
      'zone1-default.game.test': ['127.0.69.1'],
      'zone2-default.game.test': ['127.0.69.2'],
    })
    gateway = await startGateway({
      config: {
        rules: { port },
        dns: { nameservers: [nameserver.address], search: 'game.test' },
        addresses: { allow: ['127.0.69.0/24'] },
      },
      prepare: (folder) => {
        mkdirSync(join(folder, 'certs'))
        put(issue(), folder)
        useExample(folder)
      },
      edit: {
        'listener.yaml': (text) =>
          text.replace(
            'transport_socket_connect_timeout: 10s',
            `transport_socket_connect_timeout: ${HANDSHAKE_SECONDS}s`,
          ),
        'routes.yaml': (text) => text.replace('per_try_timeout: 0.5s', 'per_try_timeout: 20s'),
      },
    })
  })
  after(async () => {
    for (const response of waiting) response.end()
    await gateway?.stop()
    await Promise.all([nameserver?.close(), zone?.close(), slowZone?.close()])
    files.remove()
  })

  /** A handshake, and what came of it; the caller destroys the socket. */
  const handshake = (port: number, options: ConnectionOptions = {}): Promise<TLSSocket> =>
    new Promise((resolve, reject) => {
      const socket = connect({ host: '127.0.0.1', port, ...tls, ...options }, () => resolve(socket))
      socket.setTimeout(30_000, () => socket.destroy(new Error('no handshake')))
      socket.on('error', reject)
    })
  /** The name in the certificate that a new connection gets; of a handshake that failed: why. */
  const subject = async (port: number): Promise<string> => {
    try {
      const socket = await handshake(port)
      const { CN } = socket.getPeerCertificate().subject
      socket.destroy()
      return String(CN)
    } catch (error) {
      return (error as NodeJS.ErrnoException).code ?? String(error)
    }
  }
  const call1 = (options: Call): Promise<Reply> => call(gateway.port, { ...options, tls })
  const call2 = async (options: Call): Promise<Reply> => {
    const session = await connectHttp2(gateway.port, tls)
    assert.equal(session.alpnProtocol, 'h2')
    return callHttp2(session, options).finally(() => session.close())
  }
  const protocols: [name: string, send: (options: Call) => Promise<Reply>][] = [
    ['HTTP/1.1', call1],
    ['HTTP/2', call2],
  ]

  for (const [protocol, send] of protocols)
    test(`${protocol}: a POST is forwarded, and says that it came by TLS, and from whom`, async () => {
      const reply = await send({
        path: '/pay?a=1',
        headers: [
          ['server', '1'],
          ['x-forwarded-proto', 'http'],
          ['x-forwarded-for', '192.0.2.1'],
          ['x-envoy-external-address', '192.0.2.1'],
          ['x-request-id', `of-${protocol}`],
        ],
        body: 'hello',
      })
      assert.deepEqual([reply.status, reply.text], [200, 'receiver 127.0.69.1'])
      const received = zone.requests.at(-1)
      assert.deepEqual([received?.method, received?.path, received?.body], ['POST', '/pay?a=1', 'hello'])
      assert.equal(received?.headers['x-forwarded-proto'], 'https')
      assert.equal(received?.headers['x-forwarded-host'], NAME)
      assert.equal(received?.headers['x-request-id'], `of-${protocol}`)
      // In place of loopback Envoy names an address of this machine.
      assert.match(String(received?.headers['x-forwarded-for']), /^192\.0\.2\.1,\s?[\d.:a-f]+$/)
      assert.deepEqual(
        Object.entries(received?.headers ?? {}).filter(([name]) => name.startsWith('x-envoy-')),
        [['x-envoy-external-address', '127.0.0.1']],
      )
    })

  const refusals: [call: Call, status: number, reason: string][] = [
    [{ method: 'GET', headers: [['server', '1']] }, 405, 'method_not_allowed'],
    [{ body: 'x' }, 403, 'server_header_missing'],
    [{ headers: [['server', '99']], body: 'x' }, 502, 'name_not_found'],
  ]
  for (const [options, status, reason] of refusals)
    test(`${status} ${reason}: the same over HTTP/1.1 and HTTP/2`, async () => {
      for (const [protocol, send] of protocols) {
        const reply = await send(options)
        assert.equal(reply.status, status, protocol)
        assert.equal(reply.headers['content-type'], 'application/problem+json')
        assert.equal(reply.headers['x-zonegate-reason'], reason)
        const { request_id, title, ...rest } = reply.json()
        assert.deepEqual(rest, { status, reason })
        assert.match(String(request_id), /^[\da-f-]{36}$/)
        assert.ok(title)
      }
    })

  test('a client without ALPN is served HTTP/1.1', async () => {
    const socket = await handshake(gateway.port)
    assert.equal(socket.alpnProtocol, false)
    socket.write('GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n')
    // Its end comes after delayed_close_timeout, which is longer than a test should wait.
    const [answer] = await once(socket, 'data')
    socket.destroy()
    assert.match(String(answer), /^HTTP\/1\.1 405 /)
  })

  test('TLS 1.2 and 1.3 are spoken, TLS 1.1 and plain HTTP are refused', async () => {
    const of = (version: 'TLSv1.1' | 'TLSv1.2' | 'TLSv1.3'): ConnectionOptions => ({
      minVersion: version,
      maxVersion: version,
      ciphers: 'DEFAULT@SECLEVEL=0', // or this side would not offer TLS 1.1
    })
    for (const version of ['TLSv1.2', 'TLSv1.3'] as const) {
      const socket = await handshake(gateway.port, of(version))
      assert.equal(socket.getProtocol(), version)
      socket.destroy()
    }
    await assert.rejects(handshake(gateway.port, of('TLSv1.1')), {
      code: 'ERR_SSL_TLSV1_ALERT_PROTOCOL_VERSION',
    })
    const text = await rawCall(gateway.port, 'POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n')
    assert.doesNotMatch(text, /HTTP/)
  })

  test('a client that does not begin its handshake is disconnected', async () => {
    const socket = connectTcp(gateway.port, '127.0.0.1').on('error', () => undefined)
    try {
      await eventually('closed', () => socket.closed)
    } finally {
      socket.destroy()
    }
  })

  test(`the certificate replaced ${ROTATIONS} times under load: no request fails, and new connections see it`, async () => {
    // Before the load, as the zone is in this process too, and must not wait for openssl.
    const renewals = Array.from({ length: ROTATIONS }, issue)
    const agent = new Agent({ keepAlive: true, maxSockets: 4, ...tls })
    const session = await connectHttp2(gateway.port, tls)
    const options = { headers: [['server', '1']], body: 'x' } as const
    let sent = 0
    const ways: (() => Promise<Reply>)[] = [
      () => call1({ ...options, agent }), // connections that are kept
      () => call1(options), // a new one each time
      () => callHttp2(session, options), // one for all, older than the certificates
      () => call2(options),
    ]
    const handshakes = () => gateway.stat(`listener.127.0.0.1_${gateway.port}.ssl.handshake`)
    const load = startLoadOf(() => (ways[sent++ % ways.length] as () => Promise<Reply>)(), 12, ['1'])
    try {
      for (const number of renewals) {
        put(number)
        await inForce(number)
        const known = await handshakes()
        await eventually('there are handshakes with it', async () => (await handshakes()) > known + 2)
      }
    } finally {
      await load.stop()
      agent.destroy()
      session.destroy()
    }
    const requests = load.outcomes.get('200') ?? 0
    assert.deepEqual([...load.outcomes.keys()], ['200'])
    console.log(`${requests} requests, 0 failed; ${await handshakes()} handshakes, ${ROTATIONS} rotations`)
  })

  const failed = (): Promise<number> => gateway.stat('sds.listener-certificate.key_rotation_failed')
  test('a broken certificate, and one of another key, change nothing; the log says why', async () => {
    const number = await putAndWait()
    const place = join(gateway.folder, 'certs/listener.pem')
    const other = issue()
    const broken: [text: string, why: RegExp][] = [
      ['no certificate', /Failed to load certificate chain/],
      [files.read(`listener-${other}.pem`), /KEY_VALUES_MISMATCH/],
    ]
    for (const [text, why] of broken) {
      const failures = await failed()
      writeFileSync(`${place}.new`, text)
      renameSync(`${place}.new`, place)
      await eventually('Envoy has looked at it', async () => (await failed()) > failures)
      assert.equal(await subject(gateway.port), `listener-${number}`)
      await eventually('the log', () => why.test(gateway.log('envoy')))
    }
    put(other)
    await inForce(other)
  })

  test('a certificate that comes by a symlink swap, as in a mounted Secret, is taken', async () => {
    const certs = join(gateway.folder, 'certs')
    /** As the kubelet does: the files are links through `..data`, and only that link is replaced. */
    const publish = (number: number): void => {
      mkdirSync(join(certs, `..${number}`))
      for (const kind of ['pem', 'key'])
        files.renameTo(`listener-${number}.${kind}`, join(certs, `..${number}`, `listener.${kind}`))
      symlinkSync(`..${number}`, join(certs, '..data.new'))
      renameSync(join(certs, '..data.new'), join(certs, '..data'))
    }
    const [first, second] = [issue(), issue()]
    publish(first)
    for (const file of ['listener.pem', 'listener.key']) {
      symlinkSync(`..data/${file}`, join(certs, 'new'))
      renameSync(join(certs, 'new'), join(certs, file))
    }
    await inForce(first)
    publish(second)
    await inForce(second)
  })

  test('streams that are opened and reset at once end the connection, and Envoy serves on', async () => {
    const [cut, resets] = ['downstream_rq_too_many_premature_resets', 'downstream_rq_rx_reset'].map(
      (name) => () => gateway.stat(`http.callback.${name}`),
    ) as [() => Promise<number>, () => Promise<number>]
    const [cutBefore, resetsBefore] = [await cut(), await resets()]
    await resetFlood(await connectHttp2(gateway.port, tls), { ':path': '/', server: '1' }, 2000)
    await eventually('Envoy has ended it', async () => (await cut()) === cutBefore + 1)
    assert.ok((await resets()) - resetsBefore < 1000)
    assert.equal((await call2({ headers: [['server', '1']], body: 'x' })).status, 200)
  })

  test(`of ${STREAMS_MAX + 50} streams on one connection ${STREAMS_MAX} are under way; the others wait`, async () => {
    const session = await connectHttp2(gateway.port, tls)
    try {
      const served = waiting.length
      const replies = Array.from({ length: STREAMS_MAX + 50 }, () =>
        callHttp2(session, { headers: [['server', '2']], body: 'x', timeoutMs: 60_000 }),
      )
      await eventually('the first', () => waiting.length - served === STREAMS_MAX)
      assert.equal(await gateway.stat('http.callback.downstream_rq_active'), STREAMS_MAX)
      const answering = setInterval(() => {
        for (const response of waiting.splice(0)) response.end()
      }, 10)
      const statuses = (await Promise.all(replies).finally(() => clearInterval(answering))).map(
        ({ status }) => status,
      )
      assert.deepEqual(new Set(statuses), new Set([200]))
    } finally {
      session.destroy()
    }
  })

  test('zonegate validate accepts the files, Envoy included', async () => {
    const { code, stdout } = await runCli(['validate'], gateway.folder)
    assert.equal(code, 0, stdout)
    assert.match(stdout, /^ok .*all four by /m)
  })

  test('without a certificate Envoy starts and closes each connection, until there is one', async () => {
    const bare = await startGateway({
      config: { dns: { nameservers: ['127.0.0.1:9'], search: 'game.test' } },
      processor: false,
      prepare: (folder) => {
        mkdirSync(join(folder, 'certs'))
        useExample(folder)
      },
    })
    try {
      assert.match(await subject(bare.port), /ECONNRESET|EPIPE|no handshake/)
      await eventually('the log', () => bare.log('envoy').includes('Invalid path: ./certs/listener.pem'))
      const number = issue()
      put(number, bare.folder)
      await inForce(number, bare)
      assert.equal((await call(bare.port, { method: 'GET', tls })).status, 405)
    } finally {
      await bare.stop()
    }
  })
})
