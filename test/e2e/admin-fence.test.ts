import assert from 'node:assert/strict'
import { statSync } from 'node:fs'
import type { OutgoingHttpHeaders } from 'node:http'
import { join } from 'node:path'
import { after, before, suite, test } from 'node:test'
import { startGateway, type TestGateway } from '../support/gateway.ts'
import { type Answered, ask, eventually } from '../support/processor.ts'

/** Envoy's admin interface behind the listener `admin`: programs of this machine reach it, a web page in its browser does not. */
let gateway: TestGateway

suite("the fence before Envoy's admin interface", () => {
  before(async () => {
    gateway = await startGateway({ config: { dns: { search: 'game.test' } } })
  })
  after(() => gateway?.stop())

  const asked = (path: string, method: string, headers: OutgoingHttpHeaders = {}): Promise<Answered> =>
    ask(gateway.adminPort, path, { method, headers })

  /** What gets through ends Envoy. */
  const statusOf = (path: string, method: string, headers?: OutgoingHttpHeaders): Promise<unknown> =>
    asked(path, method, headers).then(
      ({ status }) => status,
      () => 'no answer',
    )

  const ours = (): string => `127.0.0.1:${gateway.adminPort}`
  for (const [title, headers] of [
    ['another origin', { origin: 'http://evil.test' }],
    ['a sandboxed page', { origin: 'null' }],
    ['a form of a page on another port of this machine', { origin: 'http://127.0.0.1:8080' }],
    ['a name that leads to loopback (DNS rebinding)', { host: 'evil.test' }],
    ['such a name with the port', { host: 'evil.test:9901' }],
    ['a name that begins like an address', { host: '127.0.0.1.evil.test' }],
    ['a browser that says cross-site', { 'sec-fetch-site': 'cross-site' }],
    ['a browser that says same-site', { 'sec-fetch-site': 'same-site' }],
    ['a browser that fetches ahead for a page', { 'sec-fetch-site': 'none', 'sec-purpose': 'prefetch' }],
    ['0.0.0.0, where browsers say nothing', { host: '0.0.0.0:9901' }],
    ['[::], where browsers say nothing', { host: '[::]:9901' }],
    ['IPv4 inside IPv6, where browsers say nothing', { host: '[::ffff:7f00:1]:9901' }],
  ] as const)
    for (const [method, path] of [
      ['POST', '/quitquitquit'],
      ['POST', '/drain_listeners'],
      ['GET', '/config_dump'],
    ] as const)
      test(`${method} ${path} from ${title}: 403, and nothing is done`, async () => {
        assert.equal(await statusOf(path, method, headers), 403)
        assert.equal(await statusOf('/ready', 'GET'), 200)
      })

  for (const [title, headers] of [
    ['an address', {}],
    ['localhost', { host: 'localhost:9901' }],
    ['an IPv6 address', { host: '[::1]:9901' }],
    ["a pod's IPv6 address", { host: '[fd00::a:1]:9901' }],
    ['an address in a browser', { 'sec-fetch-site': 'none' }],
  ] as const)
    test(`by ${title} as Host: answered`, async () => {
      assert.match((await asked('/stats?filter=server.live', 'GET', headers)).text, /server\.live: 1/)
    })

  test('a program may change things: draining leaves this listener open', async () => {
    assert.equal((await asked('/drain_listeners?inboundonly', 'POST', { host: ours() })).status, 200)
    await eventually('callbacks are refused', () =>
      ask(gateway.port, '/').then(
        () => false,
        (error: Error) => /ECONNREFUSED/.test(error.message),
      ),
    )
    assert.equal((await asked('/ready', 'GET')).status, 200)
  })

  test("the interface itself is a socket of Envoy's user alone", () => {
    const { mode } = statSync(join(gateway.folder, 'run/envoy-admin.sock'))
    assert.equal(mode & 0o777, 0o600)
  })
})
