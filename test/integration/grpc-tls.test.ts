import assert from 'node:assert/strict'
import { X509Certificate } from 'node:crypto'
import { copyFileSync, symlinkSync, unlinkSync, writeFileSync } from 'node:fs'
import { connect as connectPlain } from 'node:net'
import { after, before, describe, test } from 'node:test'
import { connect, type TLSSocket } from 'node:tls'
import { Client, credentials } from '@grpc/grpc-js'
import { type HealthCheckResponse, health } from '../../src/grpc/protos.ts'
import { CertificateFolder } from '../support/certificates.ts'
import { freePort } from '../support/ports.ts'
import { eventually, startProcessorAlone, type TestProcessor } from '../support/processor.ts'

const NAME = 'processor.zonegate'

describe('listen.tls', () => {
  const files = new CertificateFolder()
  let processor: TestProcessor
  let port: number

  before(async () => {
    files.authority('ca')
    files.authority('other-ca')
    files.issue('server', 'ca', { san: `DNS:${NAME}`, usage: 'serverAuth' })
    files.issue('next-server', 'ca', { san: `DNS:${NAME}`, usage: 'serverAuth' })
    files.issue('envoy', 'ca')
    files.issue('stranger', 'other-ca')
    files.issue('late', 'ca', { days: -1 })
    files.issue('late-server', 'ca', { san: `DNS:${NAME}`, usage: 'serverAuth', days: -1 })
    files.issue('not-a-client', 'ca', { usage: 'serverAuth' })
    files.rename('server.pem', 'cert')
    files.rename('server.key', 'key')
    files.rename('ca.pem', 'client-ca')
    port = await freePort()
    processor = await startProcessorAlone({
      listen: {
        grpc: `127.0.0.1:${port}`,
        tls: { cert: files.path('cert'), key: files.path('key'), clientCa: files.path('client-ca') },
      },
    })
  })
  after(async () => {
    await processor?.stop()
    files.remove()
  })

  const refusals = (): string[] =>
    processor
      .lines()
      .filter(({ msg }) => msg === 'listen.grpc: a client was refused')
      .map(({ why }) => String(why))
  const logged = (text: string) => processor.lines().filter(({ msg }) => String(msg).startsWith(text))

  /** Asks for health; the status, or the error. */
  const check = (certificate: string | null, ca = 'ca'): Promise<string> => {
    const client = new Client(
      `127.0.0.1:${port}`,
      credentials.createSsl(
        Buffer.from(files.read(`${ca}.pem`)),
        certificate === null ? null : Buffer.from(files.read(`${certificate}.key`)),
        certificate === null ? null : Buffer.from(files.read(`${certificate}.pem`)),
      ),
      { 'grpc.ssl_target_name_override': NAME, 'grpc.enable_retries': 0 },
    )
    const { path, requestSerialize, responseDeserialize } = health.Check
    return new Promise((resolve) => {
      client.makeUnaryRequest(
        path,
        requestSerialize,
        responseDeserialize,
        {},
        { deadline: Date.now() + 30_000 },
        (error, response?: HealthCheckResponse) => {
          client.close()
          resolve(error?.details ?? response?.status ?? '')
        },
      )
    })
  }

  /** The serial number of the certificate that the processor shows now. */
  const shown = (): Promise<string> =>
    new Promise((resolve, reject) => {
      const socket: TLSSocket = connect(
        {
          host: '127.0.0.1',
          port,
          ca: files.read('ca.pem'),
          cert: files.read('envoy.pem'),
          key: files.read('envoy.key'),
          servername: NAME,
          ALPNProtocols: ['h2'],
        },
        () => {
          resolve(socket.getPeerCertificate().serialNumber)
          socket.destroy()
        },
      )
      socket.on('error', reject)
    })

  test('a client with a certificate of the client CA is served', async () => {
    assert.equal(await check('envoy'), 'SERVING')
    assert.deepEqual(refusals(), [])
  })

  const refused: [client: string | null, why: string][] = [
    [null, 'no client certificate'],
    ['stranger', 'its certificate is signed by no CA of listen.tls.clientCa'],
    ['late', 'its certificate has expired'],
    ['not-a-client', 'its certificate is not for clients'],
  ]
  for (const [client, why] of refused)
    test(`refused, with a line that says so: ${why}`, async () => {
      assert.notEqual(await check(client), 'SERVING')
      await eventually(why, () => refusals().includes(why))
      const [line] = logged('listen.grpc: a client was refused').filter((line) => line['why'] === why)
      assert.equal(line?.['level'], 'warn')
      assert.equal(line?.['client'], '127.0.0.1')
      if (client !== null) assert.equal(line?.['subject'], `CN=${client}`)
    })

  test('a client that distrusts the processor, one without TLS, one without HTTP/2: each is told apart', async () => {
    await check('envoy', 'other-ca')
    const plain = connectPlain(port, '127.0.0.1', () => plain.write('GET / HTTP/1.1\r\n\r\n'))
    plain.on('error', () => undefined)
    const http1 = connect({
      ...{ host: '127.0.0.1', port, ca: files.read('ca.pem'), servername: NAME },
      ...{ cert: files.read('envoy.pem'), key: files.read('envoy.key') },
    })
    http1.on('error', () => undefined)
    const old = connect({
      ...{ host: '127.0.0.1', port, rejectUnauthorized: false, ciphers: 'DEFAULT@SECLEVEL=0' },
      ...{ maxVersion: 'TLSv1.1', minVersion: 'TLSv1.1' },
    })
    old.on('error', () => undefined)
    for (const why of [
      'it does not speak TLS',
      'it does not speak TLS 1.2 or newer',
      'it does not speak HTTP/2',
    ])
      await eventually(why, () => refusals().includes(why))
    for (const socket of [plain, http1, old]) socket.destroy()
    assert.equal(await check('envoy'), 'SERVING')
  })

  const serial = (name: string): string => new X509Certificate(files.read(`${name}.pem`)).serialNumber
  const replaced: [how: string, replace: (from: string, to: string) => void][] = [
    ['by rename', (from, to) => files.rename(from, to)],
    ['in place', (from, to) => copyFileSync(files.path(from), files.path(to))],
    [
      'by a symlink swap',
      (from, to) => {
        unlinkSync(files.path(to))
        symlinkSync(files.path(from), files.path(to))
      },
    ],
  ]
  let turn = 0
  for (const [how, replace] of replaced)
    test(`certificate and key are replaced ${how}: new connections get them, and no restart is due`, async () => {
      const name = turn++ % 2 === 0 ? 'next-server' : 'server'
      replace(`${name}.pem`, 'cert')
      replace(`${name}.key`, 'key')
      await eventually(how, async () => (await shown()) === serial(name))
      assert.equal(await check('envoy'), 'SERVING')
      const status = (await processor.ask('/api/status')).json()
      assert.deepEqual(status.config.needsRestart, [])
    })

  const broken: [what: string, put: () => void, fault: RegExp][] = [
    [
      'a key of another certificate',
      () => files.rename('envoy.key', 'key'),
      /key: listen\.tls\.key: is not the key of the certificate in /,
    ],
    [
      'half a certificate',
      () => writeFileSync(files.path('cert'), files.read('server.pem').slice(0, 200)),
      /cert: listen\.tls\.cert: expected a certificate in PEM/,
    ],
    ['a file that is gone', () => unlinkSync(files.path('cert')), /cert: listen\.tls\.cert: no such file/],
    [
      'an expired certificate',
      () => {
        files.rename('late-server.pem', 'cert')
        files.rename('late-server.key', 'key')
      },
      /listen\.tls\.cert: .* expired on /,
    ],
    [
      "a client's certificate as client CA",
      () => {
        files.rename('server.pem', 'cert')
        files.rename('server.key', 'key')
        files.rename('envoy.pem', 'client-ca')
      },
      /client-ca: listen\.tls\.clientCa: expected only certificates of CAs, but "CN=envoy" is not one/,
    ],
  ]
  for (const [what, put, fault] of broken)
    test(`${what}: not taken, what was there serves on, and the log says why`, async () => {
      const before = await shown()
      put()
      await eventually(what, () =>
        logged('the certificates have a fault').some((line) => fault.test(String(line['fault']))),
      )
      assert.equal(await shown(), before)
      assert.equal(await check('envoy'), 'SERVING')
    })

  test('a sound set afterwards is taken, another client CA with it', async () => {
    files.rename('server.pem', 'cert')
    files.rename('server.key', 'key')
    files.rename('other-ca.pem', 'client-ca')
    await eventually('the other CA', async () => (await check('stranger')) === 'SERVING')
    assert.notEqual(await check('envoy'), 'SERVING')
    files.rename('ca.pem', 'client-ca')
    await eventually('the first CA', async () => (await check('envoy')) === 'SERVING')
  })

  test('the metric says until when the certificates are good', async () => {
    const { text } = await processor.ask('/metrics')
    const at = (file: string): number =>
      Number(
        new RegExp(`zonegate_certificate_expiry_timestamp_seconds\\{file="${file}"\\} (\\S+)`).exec(
          text,
        )?.[1],
      )
    for (const file of ['cert', 'clientCa']) {
      const days = (at(file) - Date.now() / 1000) / 86_400
      assert.ok(days > 29 && days < 31, `${file}: ${days} days`)
    }
  })

  test('validate reads the files: a fault where they do not fit, a note where one ends soon', async () => {
    const told = async (): Promise<{ code: number; faults: string[]; notes: string[] }> => {
      const { code, stdout } = await processor.cli(['validate', '--json'])
      const { faults, notes } = JSON.parse(stdout)
      const texts = (of: { key: string; message: string }[]): string[] =>
        of.filter(({ key }) => key.startsWith('listen.tls')).map(({ key, message }) => `${key}: ${message}`)
      return { code, faults: texts(faults), notes: texts(notes) }
    }
    assert.deepEqual(await told(), { code: 0, faults: [], notes: [] })
    files.rename('envoy.key', 'key')
    const wrong = await told()
    assert.equal(wrong.code, 1)
    assert.match(wrong.faults.join(), /^listen\.tls\.key: is not the key of the certificate in /)
    files.issue('brief', 'ca', { san: `DNS:${NAME}`, usage: 'serverAuth', days: 3 })
    files.rename('brief.pem', 'cert')
    files.rename('brief.key', 'key')
    const brief = await told()
    assert.equal(brief.code, 0)
    assert.match(brief.notes.join(), /^listen\.tls\.cert: "CN=brief" expires soon, on 20/)
  })

  test('a start with files that do not fit ends with exit code 1, and says each fault', async () => {
    writeFileSync(files.path('key'), 'no key')
    unlinkSync(files.path('client-ca'))
    const { code, stderr } = await processor.cli(['serve'])
    assert.equal(code, 1)
    assert.match(stderr, /^zonegate: .*key: listen\.tls\.key: expected a private key in PEM/m)
    assert.match(stderr, /^zonegate: .*client-ca: listen\.tls\.clientCa: no such file$/m)
  })

  test('no key and no certificate is in the log', () => {
    assert.doesNotMatch(JSON.stringify(processor.lines()), /MI[A-Za-z0-9+/]{40}/)
  })
})
