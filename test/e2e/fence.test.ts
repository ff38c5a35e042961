import assert from 'node:assert/strict'
import { after, before, suite, test } from 'node:test'
import { startGateway, type TestGateway } from '../support/gateway.ts'
import { rawCall } from '../support/http.ts'
import { freePort } from '../support/ports.ts'
import { type Receiver, startReceiver } from '../support/receiver.ts'
import { startZoneNameserver, type ZoneNameserver } from '../support/zone-nameserver.ts'

/**
 * No trick with Host, path or headers makes Envoy dial anything but the zone's address. Two baits listen where such a
 * trick would lead: Envoy's own admin page, and a receiver on the zone's port that no name in DNS has.
 */
let gateway: TestGateway
let nameserver: ZoneNameserver
let zone: Receiver
let bait: Receiver
let port: number

for (const isAway of [false, true])
  suite(isAway ? 'the fence while the processor is away' : 'the fence', () => {
    before(async () => {
      port = await freePort('127.0.65.1')
      zone = await startReceiver('127.0.65.1', port)
      bait = await startReceiver('127.0.65.66', port)
      nameserver = await startZoneNameserver({
        'zone1-default.game.test': ['127.0.65.1'],
        'zone2-default.game.test': ['127.0.65.66', '169.254.169.254'],
      })
      const dns = { nameservers: [nameserver.address], search: 'game.test' }
      gateway = await startGateway({
        config: {
          rules: { port },
          dns,
          addresses: { allow: ['127.0.65.1/32'] },
          fallback: { enabled: isAway },
        },
        // The second fence would hide that the first has a hole: `attack-denied-addresses` has it alone.
        ...(isAway ? { processor: false } : { envoyAllow: ['127.0.0.0/8'] }),
      })
    })
    after(async () => {
      await gateway?.stop()
      await nameserver?.close()
      await Promise.all([zone?.close(), bait?.close()])
    })

    const body = 'content-length: 1\r\nconnection: close\r\n\r\nx'
    const admin = (): string => `127.0.0.1:${gateway.adminPort}`
    const baited = (): string => `127.0.65.66:${port}`

    const TRICKS: [title: string, request: () => string][] = [
      ["Envoy's admin page as Host", () => `POST / HTTP/1.1\r\nhost: ${admin()}\r\nserver: 1\r\n${body}`],
      ['another receiver as Host', () => `POST / HTTP/1.1\r\nhost: ${baited()}\r\nserver: 1\r\n${body}`],
      [
        'an absolute URL',
        () => `POST http://${baited()}/x HTTP/1.1\r\nhost: callback.test\r\nserver: 1\r\n${body}`,
      ],
      [
        'an absolute URL of the admin page',
        () => `POST http://${admin()}/quitquitquit HTTP/1.1\r\nhost: x\r\nserver: 1\r\n${body}`,
      ],
      [
        "a client's own forward header",
        () => `POST / HTTP/1.1\r\nhost: x\r\nserver: 1\r\nx-zonegate-route: ${baited()}\r\n${body}`,
      ],
      [
        'the forward header twice',
        () =>
          `POST / HTTP/1.1\r\nhost: x\r\nserver: 1\r\nx-zonegate-route: ${baited()}\r\nx-zonegate-route: ${admin()}\r\n${body}`,
      ],
      [
        'the forward header without a usable id',
        () =>
          `POST / HTTP/1.1\r\nhost: ${baited()}\r\nserver: a.b\r\nx-zonegate-route: ${baited()}\r\n${body}`,
      ],
      [
        'the forward header without an id',
        () => `POST / HTTP/1.1\r\nhost: ${baited()}\r\nx-zonegate-route: ${baited()}\r\n${body}`,
      ],
      [
        'the forward header with GET',
        () =>
          `GET / HTTP/1.1\r\nhost: ${baited()}\r\nserver: 1\r\nx-zonegate-route: ${baited()}\r\nconnection: close\r\n\r\n`,
      ],
      [
        'the forward header named in Connection',
        () =>
          `POST / HTTP/1.1\r\nhost: x\r\nserver: 1\r\nx-zonegate-route: ${baited()}\r\nconnection: close, x-zonegate-route\r\ncontent-length: 1\r\n\r\nx`,
      ],
      [
        "Envoy's own control headers",
        () =>
          `POST / HTTP/1.1\r\nhost: x\r\nserver: 1\r\nx-envoy-original-dst-host: ${baited()}\r\nx-envoy-original-path: /y\r\n${body}`,
      ],
      [
        'forwarded headers',
        () =>
          `POST / HTTP/1.1\r\nhost: x\r\nserver: 1\r\nx-forwarded-host: ${baited()}\r\nforwarded: host=${baited()}\r\n${body}`,
      ],
      ['an id that is an address', () => `POST / HTTP/1.1\r\nhost: x\r\nserver: ${baited()}\r\n${body}`],
      ['an id that ends the name', () => `POST / HTTP/1.1\r\nhost: x\r\nserver: 1.evil.test.\r\n${body}`],
      ['a zone with denied addresses only', () => `POST / HTTP/1.1\r\nhost: x\r\nserver: 2\r\n${body}`],
      [
        'a path that looks like a host',
        () => `POST //${baited()}/ HTTP/1.1\r\nhost: x\r\nserver: 1\r\n${body}`,
      ],
      ['user information in Host', () => `POST / HTTP/1.1\r\nhost: x@${baited()}\r\nserver: 1\r\n${body}`],
      ['two Hosts', () => `POST / HTTP/1.1\r\nhost: x\r\nhost: ${baited()}\r\nserver: 1\r\n${body}`],
      ['no Host', () => `POST / HTTP/1.1\r\nserver: 1\r\n${body}`],
      [
        'a smuggled second request',
        () =>
          `POST / HTTP/1.1\r\nhost: x\r\nserver: 1\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n0\r\n\r\nPOST / HTTP/1.1\r\nhost: ${baited()}\r\n\r\n`,
      ],
    ]

    for (const [title, request] of TRICKS) {
      test(`${title} leads to the zone or to a refusal, and nowhere else`, async () => {
        const text = await rawCall(gateway.port, request(), 1000)
        assert.match(text, /^HTTP\/1\.1 (200|400|403|404|405|502) /)
        if (/^HTTP\/1\.1 200 /.test(text)) assert.match(text, /receiver 127\.0\.65\.1$/m)
        assert.doesNotMatch(text, /Envoy Admin|OK\n$/)
        assert.deepEqual(bait.requests, [])
        assert.equal((await fetch(`http://${admin()}/ready`)).status, 200, 'Envoy still runs')
      })
    }
  })
