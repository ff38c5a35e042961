import assert from 'node:assert/strict'
import { appendFileSync, mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { after, before, suite, test } from 'node:test'
import { CertificateFolder } from '../support/certificates.ts'
import { startGateway, type TestGateway } from '../support/gateway.ts'
import { call, type Reply } from '../support/http.ts'
import { type Load, startLoadOf } from '../support/load.ts'
import { a, type ScriptedNameserver, soa, srv, startNameserver } from '../support/nameserver.ts'
import { freePort } from '../support/ports.ts'
import { eventually } from '../support/processor.ts'
import { type Receiver, startReceiver } from '../support/receiver.ts'
import { type SeenByReceiver, startTlsReceiver, type TlsReceiver } from '../support/tls-receiver.ts'

/** TLS to zones, on the cold path and on the hot one. */
const DOMAIN = 'tls.test'
const HOSTS = {
  good: '127.0.73.1',
  mismatch: '127.0.73.2',
  expired: '127.0.73.3',
  wants: '127.0.73.4',
  other: '127.0.73.5',
} as const
type Host = keyof typeof HOSTS

suite('TLS to zones', () => {
  const certificates = new CertificateFolder()
  const receivers = new Map<Host, TlsReceiver>()
  /** By the first digit of an id. */
  const hostOf: Readonly<Record<string, Host>> = {
    '1': 'good',
    '2': 'mismatch',
    '3': 'expired',
    '4': 'wants',
    '5': 'other',
  }
  let gateway: TestGateway
  let nameserver: ScriptedNameserver
  let port = 0
  const tls = { ca: 'certs/zones.pem' }
  const services = {
    tls: { upstream: { tls } },
    client: {
      paths: ['/client'],
      upstream: { tls: { ...tls, cert: 'certs/envoy.pem', key: 'certs/envoy.key' } },
    },
    named: { paths: ['/named'], upstream: { tls: { ...tls, serverName: 'ELSEWHERE.test' } } },
    srv: { paths: ['/srv'], port: 'srv', upstream: { tls } },
    system: { paths: ['/system'], upstream: { tls: {} } },
    missing: { paths: ['/missing'], upstream: { tls: { ca: 'certs/missing.pem' } } },
  }

  const send = (id: string, path = '/'): Promise<Reply> =>
    call(gateway.port, { headers: [['server', id]], path, body: 'x' })
  const asked = (): Promise<number> => gateway.stat('cluster.processor.upstream_rq_total')
  const becomesHot = (id: string, path = '/'): Promise<void> =>
    eventually(`zone ${id} is hot`, async () => {
      const before = await asked()
      await Promise.all(Array.from({ length: 4 }, () => send(id, path)))
      return (await asked()) === before
    })
  /** The same cold and hot: what the first request gets, and those of the learned zone. */
  const both = async (id: string, look: (reply: Reply) => void, path = '/'): Promise<void> => {
    const before = await asked()
    look(await send(id, path))
    assert.equal(await asked(), before + 1, 'the first one asks')
    await becomesHot(id, path)
    look(await send(id, path))
  }
  const seen = (reply: Reply): SeenByReceiver => {
    assert.equal(reply.status, 200, reply.text)
    return JSON.parse(reply.text)
  }
  const refused = (reply: Reply): void =>
    assert.deepEqual([reply.status, reply.json()['reason']], [502, 'upstream_tls_failed'])
  const details = (): string[] =>
    gateway
      .log('envoy')
      .split('\n')
      .filter((line) => line.includes('upstream_tls_failed'))
      .map((line) => String(JSON.parse(line)['details']))

  before(async () => {
    certificates.authority('zones')
    certificates.authority('others')
    certificates.authority('callers')
    const san = `DNS:*.${DOMAIN}`
    const issued = {
      good: certificates.issue('good', 'zones', { san, usage: 'serverAuth' }),
      mismatch: certificates.issue('mismatch', 'zones', { san: 'DNS:elsewhere.test', usage: 'serverAuth' }),
      expired: certificates.issue('expired', 'zones', { san, usage: 'serverAuth', days: -1 }),
      other: certificates.issue('other', 'others', { san, usage: 'serverAuth' }),
    }
    certificates.issue('envoy', 'callers')
    certificates.issue('envoy-next', 'callers')
    port = await freePort(HOSTS.good)
    const own = { ...issued, wants: issued.good }
    for (const host of Object.keys(HOSTS) as Host[])
      receivers.set(
        host,
        await startTlsReceiver(HOSTS[host], port, {
          ...own[host],
          ...(host === 'wants' && {
            requestCert: true,
            rejectUnauthorized: true,
            ca: certificates.read('callers.pem'),
          }),
        }),
      )
    nameserver = await startNameserver((query) => {
      const [, service = '', id = ''] =
        /^(?:_(\w+)\._tcp\.)?zone(\d)/.exec(query.name)?.map((text) => text ?? '') ?? []
      const address = HOSTS[hostOf[id] ?? 'good']
      const answers =
        service === ''
          ? [a(query.name, address, 30)]
          : [srv(query.name, query.name.replace(/^_\w+\._tcp\./, 'host-'), port, { ttlSeconds: 30 })]
      if (query.name.startsWith('host-')) answers.splice(0, 1, a(query.name, HOSTS.good, 30))
      query.reply({
        rcode: 0,
        answers: answers.filter(({ type }) => type === query.type),
        authorities: [soa(DOMAIN, 1)],
      })
    })
    gateway = await startGateway({
      config: {
        rules: { port, services },
        zones: { '18': { as: '19' } },
        dns: { nameservers: [nameserver.address], search: DOMAIN },
        addresses: { allow: ['127.0.73.0/24'], ports: [port] },
      },
      prepare: (folder) => {
        mkdirSync(join(folder, 'certs'))
        for (const name of ['zones.pem', 'envoy.pem', 'envoy.key'])
          certificates.renameTo(name, join(folder, 'certs', name))
      },
    })
  })
  after(async () => {
    await gateway?.stop()
    await nameserver?.stop()
    await Promise.all([...receivers.values()].map((receiver) => receiver.close()))
    certificates.remove()
  })

  test('a zone is dialled by its address and trusted by its name, cold and hot', async () => {
    await both('11', (reply) => {
      const { servername, client, protocol, host } = seen(reply)
      assert.deepEqual([servername, client, protocol], [`zone11-tls.${DOMAIN}`, null, '1.1'])
      assert.equal(host, `${HOSTS.good}:${port}`)
    })
  })

  test('another name in the certificate, one that has ended, or another CA: 502 upstream_tls_failed, and the log says which', async () => {
    for (const id of ['21', '31', '51']) await both(id, refused)
    for (const why of ['SANs_are_[elsewhere.test]', 'certificate_has_expired', 'unable_to_get_local_issuer'])
      await eventually(`the log says ${why}`, () => details().some((text) => text.includes(why)))
  })

  test('two zones at one address have each its own name, whatever connection there was before', async () => {
    for (const id of ['12', '13', '12', '13'])
      assert.equal(seen(await send(id)).servername, `zone${id}-tls.${DOMAIN}`)
  })

  test('a client certificate is sent where it is configured, and who wants one refuses without', async () => {
    await both('41', (reply) => assert.equal(seen(reply).client, 'envoy'), '/client')
    // By TLS 1.3 who wants one says so when the request is on its way (RFC 8446 section 4.4.2.4).
    await both('42', (reply) =>
      assert.deepEqual([reply.status, reply.json()['reason']], [502, 'upstream_reset']),
    )
  })

  test('serverName stands in place of the name of the zone', async () => {
    await both('22', (reply) => assert.equal(seen(reply).servername, 'elsewhere.test'), '/named')
  })

  test('with port: srv the name is that of the zone, not that of the records', async () => {
    await both('14', (reply) => assert.equal(seen(reply).servername, `zone14-srv.${DOMAIN}`), '/srv')
  })

  test('a zone that is merged into another one has the name of that', async () => {
    await both('18', (reply) => assert.equal(seen(reply).servername, `zone19-tls.${DOMAIN}`))
  })

  test('denied addresses are denied to each cluster of the cold path', async () => {
    const response = await fetch(
      `http://127.0.0.1:${gateway.adminPort}/config_dump?resource=dynamic_active_clusters`,
    )
    const { configs } = (await response.json()) as { configs: { cluster: { name: string } }[] }
    const cold = configs.filter(({ cluster }) => /^zones(\.|$)/.test(cluster.name))
    assert.equal(cold.length, 5, 'plain text, and four ways by TLS')
    for (const { cluster } of cold)
      assert.match(
        JSON.stringify(cluster),
        /zonegate\.denied_addresses.*"address_prefix":"169\.254\.0\.0"/,
        cluster.name,
      )
  })

  test("system: the CAs of Envoy's machine, which do not know these", async () => {
    await both('15', refused, '/system')
  })

  test('a CA that is not there: nothing is trusted, others go on, status says so; when it comes it is used', async () => {
    await both('71', refused, '/missing')
    seen(await send('11'))
    const { certificates: told } = await gateway.status()
    assert.deepEqual(told, [{ file: 'certs/missing.pem', use: 'ca', what: 'no such file' }])
    certificates.renameTo('zones.pem', join(gateway.folder, 'certs', 'missing.pem'))
    for (const id of ['71', '72'])
      await eventually(`zone ${id} is trusted`, async () => (await send(id, '/missing')).status === 200)
  })

  test('virtual hosts of many zones lead to clusters of their own names', async () => {
    await gateway.configure('learned', { sharedRoutes: true })
    try {
      await both('61', (reply) => assert.equal(seen(reply).servername, `zone61-tls.${DOMAIN}`))
    } finally {
      await gateway.configure('learned', { sharedRoutes: false })
    }
  })

  /** Requests without a pause, of which none may fail while something happens. */
  const underLoad = async (
    path: string,
    ids: readonly string[],
    happens: (load: Load) => Promise<void>,
  ): Promise<void> => {
    const load = startLoadOf((id) => send(id, path), 4, ids)
    try {
      await eventually('the load is on', () => (load.outcomes.get('200') ?? 0) > 50)
      await happens(load)
    } finally {
      await load.stop()
    }
    assert.deepEqual([...load.outcomes.keys()], ['200'])
  }
  const goesOn = async (load: Load): Promise<void> => {
    const before = load.outcomes.get('200') ?? 0
    await eventually('the load goes on', () => (load.outcomes.get('200') ?? 0) > before + 50)
  }

  test('0 requests fail while the client certificate is renewed, and then the new one is sent', async () => {
    await underLoad('/client', ['43', '44'], async (load) => {
      for (const kind of ['pem', 'key'])
        certificates.renameTo(`envoy-next.${kind}`, join(gateway.folder, 'certs', `envoy.${kind}`))
      for (const id of ['43', '45'])
        await eventually(
          'the new one is sent',
          async () => seen(await send(id, '/client')).client === 'envoy-next',
        )
      await goesOn(load)
    })
  })

  test('0 requests fail while CAs are renewed, and then zones of the new one are trusted', async () => {
    await underLoad('/', ['16', '17'], async (load) => {
      appendFileSync(certificates.path('others.pem'), certificates.read('zones.pem'))
      certificates.renameTo('others.pem', join(gateway.folder, 'certs', 'zones.pem'))
      for (const id of ['51', '52'])
        await eventually(`zone ${id} is trusted`, async () => (await send(id)).status === 200)
      await goesOn(load)
    })
  })

  test('from plain text to TLS and back under load: 0 requests fail, and none goes to the port of the other', async () => {
    const other = await freePort(HOSTS.good)
    let notPlain = 0
    const plain: Receiver = await startReceiver(
      HOSTS.good,
      other,
      (request, response) => {
        request.resume().on('end', () => response.end('plain'))
      },
      () => {
        notPlain += 1
      },
    )
    const plainly = { ...services, tls: { port: other } }
    try {
      const ids = Array.from({ length: 16 }, (_, at) => `1${100 + at}`)
      await underLoad('/', ids, async (load) => {
        for (let turn = 0; turn < 2; turn++) {
          await gateway.configure('rules', { services: plainly })
          for (const id of ids)
            await eventually(`${id} is plain`, async () => (await send(id)).text === 'plain')
          await goesOn(load)
          await gateway.configure('rules', { services })
          for (const id of ids)
            await eventually(`${id} is by TLS`, async () => (await send(id)).text !== 'plain')
          await goesOn(load)
        }
      })
      assert.deepEqual([notPlain, receivers.get('good')?.plain()], [0, 0])
    } finally {
      await plain.close()
    }
  })
})
