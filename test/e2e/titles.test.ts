import assert from 'node:assert/strict'
import { createServer, type Server } from 'node:net'
import { after, before, suite, test } from 'node:test'
import { startGateway, type TestGateway } from '../support/gateway.ts'
import { call } from '../support/http.ts'
import { a, type ScriptedNameserver, startNameserver } from '../support/nameserver.ts'
import { freePort } from '../support/ports.ts'

/** A title tells faults apart: each has its own, whoever refuses. */
const [TLS, CLOSING] = ['127.0.76.1', '127.0.76.2']
/** What a TLS server says to a request in the clear: an alert (RFC 8446 section 6). */
const ALERT = Buffer.from([0x15, 3, 3, 0, 2, 2, 70])
const DENIED = '169.254.169.254'

let gateway: TestGateway
let nameserver: ScriptedNameserver
let receivers: Server[]

suite('titles', () => {
  before(async () => {
    const port = await freePort(TLS)
    receivers = await Promise.all([listening(TLS, port, ALERT), listening(CLOSING, port, Buffer.alloc(0))])
    nameserver = await startNameserver((query) => {
      const id = /^zone(\w+)-/.exec(query.name)?.[1] ?? ''
      const addresses = { tls: TLS, closing: CLOSING, denied: DENIED, fenced: '127.0.77.1' } as Record<
        string,
        string
      >
      if (id === 'dead') return
      if (id === 'gone') query.reply({ rcode: 3 })
      else query.reply({ answers: addresses[id] ? [a(query.name, addresses[id], 5)] : [] })
    })
    gateway = await startGateway({
      config: {
        // Titles hold whatever the id's header is called.
        rules: { port, header: 'x-zone' },
        dns: { nameservers: [nameserver.address], search: 'game.test', timeoutMs: 200, budgetMs: 500 },
        addresses: { allow: ['127.0.76.0/24', '127.0.77.0/24'] },
      },
      envoyAllow: ['127.0.76.0/24'],
    })
  })
  after(async () => {
    await gateway?.stop()
    await nameserver?.stop()
    for (const receiver of receivers ?? []) receiver.close()
  })

  for (const [id, reason, title] of [
    ['gone', 'name_not_found', 'The zone is not in DNS'],
    ['empty', 'no_address', 'The zone has no address in DNS'],
    ['dead', 'nameservers_failed', 'No nameserver answered for the zone'],
    ['denied', 'address_denied', "The zone's address is not allowed"],
    ['fenced', 'address_denied', "The zone's address is not allowed"],
    ['tls', 'upstream_reset', "The zone's answer is not valid HTTP; does it expect TLS?"],
    ['closing', 'upstream_reset', 'The zone broke off the request'],
  ] as const)
    test(`zone ${id}: ${title}`, async () => {
      for (const path of ['cold', 'cold or hot', 'hot where it is learned']) {
        const reply = await call(gateway.port, { headers: [['x-zone', id]], body: 'x' })
        const { reason: given, title: told } = reply.json()
        assert.deepEqual([reply.status, given, told], [502, reason, title], path)
      }
    })

  for (const [what, headers, reason, title] of [
    ['none', [], 'server_header_missing', 'The id header is missing'],
    ['two', [['x-zone', '1,2']], 'server_header_invalid', 'The id header has no usable zone id'],
    ['asked for', [['x-zone', 'a_b']], 'server_header_invalid', 'The id header has no usable zone id'],
  ] as [string, [string, string][], string, string][])
    test(`an id header of another name, ${what}: ${title}`, async () => {
      const reply = await call(gateway.port, { headers, body: 'x' })
      const { reason: given, title: told } = reply.json()
      assert.deepEqual([reply.status, given, told], [403, reason, title])
    })
})

function listening(host: string, port: number, answer: Buffer): Promise<Server> {
  const server = createServer((peer) => {
    peer.on('error', () => undefined)
    peer.once('data', () => peer.end(answer))
  })
  return new Promise((resolve) => server.listen(port, host, () => resolve(server)))
}
