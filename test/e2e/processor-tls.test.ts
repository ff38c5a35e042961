import assert from 'node:assert/strict'
import { cpSync, mkdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, describe, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { parse, stringify } from 'yaml'
import { CertificateFolder } from '../support/certificates.ts'
import { startGateway, type TestGateway } from '../support/gateway.ts'
import { call } from '../support/http.ts'
import { startLoad } from '../support/load.ts'
import { freePort } from '../support/ports.ts'
import { eventually } from '../support/processor.ts'
import { type Receiver, startReceiver } from '../support/receiver.ts'
import { startZoneNameserver, type ZoneNameserver } from '../support/zone-nameserver.ts'

const EXAMPLE = fileURLToPath(new URL('../../envoy/processor-tls.yaml', import.meta.url))
/** As in the example. */
const NAME = 'processor.zonegate.internal'
const ROTATIONS = 5
const REQUESTS_PER_CONNECTION = 40
/** What Envoy counts when it has taken new certificates. */
const UPDATES = 'cluster.processor.client_ssl_socket_factory.ssl_context_update_by_sds'
const CONNECTIONS = 16

/** `envoy.yaml` with the example's cluster in place of its own, as the example says to do. */
function withExample(text: string): string {
  const config = parse(text, { merge: true })
  const [cluster] = parse(readFileSync(EXAMPLE, 'utf8'))
  const { clusters } = config.static_resources
  clusters.splice(
    clusters.findIndex(({ name }: { name: string }) => name === 'processor'),
    1,
    cluster,
  )
  // Not of the example: so that there are handshakes all the time.
  const [options] = Object.values(cluster.typed_extension_protocol_options) as Record<string, unknown>[]
  Object.assign(options ?? {}, {
    common_http_protocol_options: { max_requests_per_connection: REQUESTS_PER_CONNECTION },
  })
  return stringify(config)
}

describe('mutual TLS between Envoy and the processor, as in envoy/processor-tls.yaml', () => {
  const files = new CertificateFolder()
  let gateway: TestGateway
  let nameserver: ZoneNameserver
  let zone: Receiver
  let certs: string
  let turn = 0

  /** New certificates of both sides, by number. */
  const issue = ({ envoyCa = 'envoy-ca', envoyDays = 30, processorName = NAME } = {}): number => {
    turn += 1
    files.issue(`processor-${turn}`, 'processor-ca', { san: `DNS:${processorName}`, usage: 'serverAuth' })
    files.issue(`envoy-${turn}`, envoyCa, { days: envoyDays })
    return turn
  }
  /** Puts them where both sides look, the key after the certificate. */
  const put = (number: number): void => {
    for (const file of ['processor.pem', 'processor.key', 'envoy.pem', 'envoy.key'])
      files.renameTo(file.replace('.', `-${number}.`), join(certs, file))
  }

  before(async () => {
    for (const name of ['envoy-ca', 'processor-ca', 'other-ca']) files.authority(name)
    const port = await freePort('127.0.67.1')
    zone = await startReceiver('127.0.67.1', port)
    nameserver = await startZoneNameserver({ 'zone1-default.game.test': ['127.0.67.1'] })
    gateway = await startGateway({
      config: {
        rules: { port },
        dns: { nameservers: [nameserver.address], search: 'game.test' },
        addresses: { allow: ['127.0.67.0/24'] },
        learned: { enabled: false },
      },
      listen: {
        grpc: `127.0.0.1:${await freePort()}`,
        tls: { cert: 'certs/processor.pem', key: 'certs/processor.key', clientCa: 'certs/envoy-ca.pem' },
      },
      prepare: (folder) => {
        certs = join(folder, 'certs')
        mkdirSync(certs)
        for (const name of ['envoy-ca.pem', 'processor-ca.pem']) cpSync(files.path(name), join(certs, name))
        put(issue())
      },
      edit: { 'envoy.yaml': withExample },
    })
  })
  after(async () => {
    await gateway?.stop()
    await nameserver?.close()
    await zone?.close()
    files.remove()
  })

  const outcome = async (): Promise<string> => {
    const reply = await call(gateway.port, { headers: [['server', '1']], body: 'x' })
    return reply.status === 200 ? '200' : `${reply.status} ${reply.json()['reason']}`
  }
  const lines = (msg: string): Record<string, unknown>[] =>
    gateway
      .log('processor')
      .split('\n')
      .filter((line) => line.startsWith('{'))
      .map((line) => JSON.parse(line))
      .filter((line) => line.msg === msg)
  const refusals = (): string[] => lines('listen.grpc: a client was refused').map(({ why }) => String(why))
  /** More requests than a connection carries: the next ones need a new handshake. */
  const settled = async (expected: RegExp): Promise<void> => {
    await eventually(String(expected), async () => {
      const outcomes: string[] = []
      for (let n = 0; n < REQUESTS_PER_CONNECTION + 5; n++) outcomes.push(await outcome())
      return outcomes.slice(-3).every((text) => expected.test(text))
    })
  }

  test('requests are forwarded over TLS 1.3, and the ADS stream comes the same way', async () => {
    assert.equal(await outcome(), '200')
    assert.ok((await gateway.stat('cluster.processor.ssl.versions.TLSv1.3')) > 0)
    await eventually(
      'the ADS stream',
      async () => (await gateway.stat('control_plane.connected_state')) === 1,
    )
  })

  test(`both sides' certificates replaced ${ROTATIONS} times under load: no request fails`, async () => {
    // Before the load, as the zone is in this process too, and must not wait for openssl.
    const renewals = Array.from({ length: ROTATIONS }, () => issue())
    const handshakes = () => gateway.stat('cluster.processor.ssl.handshake')
    const load = startLoad(gateway.port, CONNECTIONS, ['1'])
    try {
      for (const number of renewals) {
        const before = lines('new certificates are in force').length
        const updates = await gateway.stat(UPDATES)
        put(number)
        await eventually('both sides have them', async () => {
          return (
            lines('new certificates are in force').length > before && (await gateway.stat(UPDATES)) > updates
          )
        })
        const known = await handshakes()
        await eventually('there are handshakes with them', async () => (await handshakes()) > known + 2)
      }
    } finally {
      await load.stop()
    }
    const requests = load.outcomes.get('200') ?? 0
    assert.deepEqual([...load.outcomes.keys()], ['200'])
    assert.equal(await gateway.stat('cluster.processor.ssl.connection_error'), 0)
    console.log(`${requests} requests, 0 failed; ${await handshakes()} handshakes, ${ROTATIONS} rotations`)
  })

  const refused: [what: string, certificates: Parameters<typeof issue>[0], why: string][] = [
    [
      'a certificate of another CA',
      { envoyCa: 'other-ca' },
      'its certificate is signed by no CA of listen.tls.clientCa',
    ],
    ['an expired certificate', { envoyDays: -1 }, 'its certificate has expired'],
  ]
  for (const [what, certificates, why] of refused)
    test(`Envoy with ${what}: 502, and the processor's log says why; mended, it goes on`, async () => {
      put(issue(certificates))
      await settled(/^502 processor_unavailable$/)
      assert.ok(refusals().includes(why), refusals().join('; '))
      put(issue())
      await settled(/^200$/)
    })

  test("a processor that is not the one named, though of the right CA: Envoy doesn't ask it", async () => {
    put(issue({ processorName: 'another.zonegate.internal' }))
    await settled(/^502 processor_unavailable$/)
    assert.ok((await gateway.stat('cluster.processor.ssl.fail_verify_san')) > 0)
    assert.ok(
      refusals().includes('it does not accept the certificate in listen.tls.cert'),
      refusals().join('; '),
    )
    put(issue())
    await settled(/^200$/)
  })
})
