import assert from 'node:assert/strict'
import { readFileSync, writeFileSync } from 'node:fs'
import { createServer, type Server } from 'node:http'
import { join } from 'node:path'
import { after, before, suite, test } from 'node:test'
import type { Status } from '../../src/status/status.ts'
import { startGateway, type TestGateway } from '../support/gateway.ts'
import { call } from '../support/http.ts'
import { startLoad } from '../support/load.ts'
import { freePort } from '../support/ports.ts'
import { eventually } from '../support/processor.ts'
import { startZoneNameserver, type ZoneNameserver } from '../support/zone-nameserver.ts'

/** What an operator saves in `envoy/routes.yaml` means the same for a zone's first requests and for those that stay in Envoy. */
const HOST = '127.0.65.1'
const HOT = '1'
/** Ids for one cold request each. */
const COLD = Array.from({ length: 40 }, (_, index) => String(100 + index))

let gateway: TestGateway
let nameserver: ZoneNameserver
let receiver: Server
let shipped: string
let nextCold = 0

suite('one policy', () => {
  before(async () => {
    const port = await freePort(HOST)
    receiver = createServer((request, response) => {
      request.resume()
      const { 'x-secret': secret = null, host } = request.headers
      const from = request.socket.remoteAddress
      response.end(JSON.stringify({ url: request.url, secret, host, from }))
    })
    await new Promise<void>((done) => receiver.listen(port, HOST, done))
    nameserver = await startZoneNameserver(
      Object.fromEntries(
        [HOT, ...COLD].flatMap((id) => [
          [`zone${id}-default.game.test`, [HOST]],
          [`zone${id}-mail.game.test`, [HOST]],
        ]),
      ),
    )
    const dns = { nameservers: [nameserver.address], search: 'game.test' }
    gateway = await startGateway({
      config: {
        rules: { port, services: { default: {}, mail: { paths: ['/mail'] } } },
        dns,
        addresses: { allow: ['127.0.65.0/24'] },
      },
    })
    shipped = readFileSync(routes(), 'utf8')
  })
  after(async () => {
    await gateway?.stop()
    await nameserver?.close()
    receiver?.close()
    receiver?.closeAllConnections()
  })

  const routes = (): string => join(gateway.folder, 'envoy/routes.yaml')
  const send = async (id: string, path: string): Promise<string> => {
    const headers: [string, string][] = [
      ['server', id],
      ['x-secret', 'a'],
    ]
    const { status, text } = await call(gateway.port, { path, headers, body: 'x' })
    return `${status} ${text}`
  }
  const cold = (path: string): Promise<string> => send(COLD[nextCold++ % COLD.length] as string, path)
  /** Requests that Envoy routed to the zone by itself. */
  const hotRequests = (): Promise<number> => gateway.stat(`cluster.default/${HOT}.upstream_rq_total`)
  const untilHot = (path = '/'): Promise<void> =>
    eventually('the zone is hot', async () => {
      const before = await hotRequests()
      await send(HOT, path)
      return (await hotRequests()) > before
    })
  /** A push of routes comes a moment after Envoy has read its file. */
  const alikeSoon = (path: string): Promise<void> =>
    eventually('both are alike', async () => (await send(HOT, path)) === (await cold(path)))
  const policy = async (): Promise<Status['policy']> => (await gateway.status()).policy
  const save = (from: string, to: string): void => {
    assert.ok(shipped.includes(from), 'the edit changes something')
    writeFileSync(routes(), shipped.replace(from, to))
  }

  const alike: [title: string, from: string, to: string, seen: RegExp][] = [
    [
      'a prefix',
      'cluster: zones',
      'cluster: zones\n        prefix_rewrite: /api/',
      /"url":"\/api\/pay\?a=1"/,
    ],
    [
      'a header that the virtual host removes',
      'domains: ["*"]',
      'domains: ["*"]\n    request_headers_to_remove: [x-secret]',
      /"secret":null/,
    ],
    [
      'octets in base64, and a regular expression that only RE2 knows',
      'string_match: { exact: loop } }] }\n      direct_response: { status: 502 }\n',
      "string_match: { safe_regex: { regex: '(?i)loop' } } }] }\n      direct_response: { status: 502 }\n      request_headers_to_add: [{ header: { key: x-a, raw_value: UE9TVA== } }]\n",
      /"url":"\/pay\?a=1"/,
    ],
  ]
  for (const [title, from, to, seen] of alike) {
    test(`${title}: the same cold and hot`, async () => {
      await untilHot()
      save(from, to)
      await eventually('the cold path has it', async () => seen.test(await cold('/pay?a=1')))
      await eventually('the hot path has it', async () => seen.test(await send(HOT, '/pay?a=1')))
      await untilHot()
      await alikeSoon('/pay?a=1')
      // Once learned, a service with paths of its own.
      for (let count = 0; count < 3; count++) await send(HOT, '/mail?b')
      await eventually('the other service is hot', async () => {
        const before = await gateway.stat(`cluster.mail/${HOT}.upstream_rq_total`)
        await send(HOT, '/mail?b')
        return (await gateway.stat(`cluster.mail/${HOT}.upstream_rq_total`)) > before
      })
      await alikeSoon('/mail?b')
      assert.deepEqual(await policy(), { reasons: [], faults: [], needsRestart: [] })
    })
  }

  test('the cluster: the same cold and hot, live', async () => {
    await untilHot()
    const file = join(gateway.folder, 'envoy/clusters.yaml')
    const good = readFileSync(file, 'utf8')
    const bound = '\n  upstream_bind_config: { source_address: { address: 127.0.65.9, port_value: 0 } }\n'
    writeFileSync(file, good.replace(/\n {2}lb_policy: .*\n/, `$&${bound}`))
    const seen = /"from":"127\.0\.65\.9"/
    await eventually('the cold path has it', async () => seen.test(await cold('/pay')))
    await eventually('the hot path has it', async () => seen.test(await send(HOT, '/pay')))
    await untilHot()
    await alikeSoon('/pay')
    // What the processor can't read changes nothing, and takes nothing from an Envoy.
    writeFileSync(file, 'resources: []')
    await eventually('it is said', async () => (await policy()).faults.length > 0)
    assert.match(await cold('/pay'), seen)
    assert.match(await send(HOT, '/pay'), seen)
    await gateway.processor?.stop('SIGKILL')
    await gateway.startProcessor()
    await eventually('the cold path goes on', async () => seen.test(await cold('/pay')))
    writeFileSync(file, good)
    await eventually('all is as shipped', async () => (await cold('/pay')).includes('"from":"127.0.0.1"'))
    await untilHot()
  })

  test('addresses.allow, saved live, is in force in the processor and in Envoy', async () => {
    const status = async (): Promise<string> => (await cold('/pay')).slice(0, 3)
    assert.equal(await status(), '200')
    await gateway.configure('addresses', { allow: [] })
    await eventually('denied', async () => (await status()) === '502')
    await gateway.configure('addresses', { allow: ['127.0.65.0/24'] })
    await eventually('let through', async () => (await status()) === '200')
    await untilHot()
  })

  test('what no learned zone could do stops learning, says so, and fails no request', async () => {
    await untilHot()
    const load = startLoad(gateway.port, 8, [HOT])
    try {
      save('cluster: zones', 'cluster: zones\n        append_x_forwarded_host: true')
      await eventually('it is said', async () => (await policy()).reasons.length > 0)
      const [reason = ''] = (await policy()).reasons
      assert.match(reason, /^envoy\/routes\.yaml:\d+:\d+: .*\.append_x_forwarded_host: learned zones can't/)
      await eventually('the zone is cold', async () => {
        const before = await gateway.stat('cluster.zones.upstream_rq_total')
        await new Promise((tick) => setTimeout(tick, 100))
        return (await gateway.stat('cluster.zones.upstream_rq_total')) > before
      })
      assert.match(gateway.log('processor'), /no zone is learned/)
      const metrics = await (await fetch(`http://127.0.0.1:${gateway.httpPort}/metrics`)).text()
      assert.match(metrics, /^zonegate_policy_faults\{effect="cold_only"\} 1$/m)
      writeFileSync(routes(), shipped)
      await untilHot()
      assert.deepEqual([...load.outcomes.keys()], ['200'])
    } finally {
      await load.stop()
    }
  })

  const refused: [title: string, from: string, to: string, words: RegExp][] = [
    [
      'a cold route',
      'direct_response: { status: 400 }',
      'direct_response: { status: 9999 }',
      /DirectResponseAction/,
    ],
    [
      'a header of the whole route configuration',
      'virtual_hosts:',
      'request_headers_to_add: [{ header: { key: ":path", value: a } }]\n  virtual_hosts:',
      /:-prefixed or host headers may not be modified/,
    ],
    [
      'a second virtual host',
      'virtual_hosts:',
      'virtual_hosts:\n  - { name: other, domains: ["*.other.test"], routes: [{ match: { prefix: / }, direct_response: { status: 9999 } }] }',
      /DirectResponseAction/,
    ],
    [
      'the domains of a second virtual host',
      'virtual_hosts:',
      'virtual_hosts:\n  - { name: other, domains: [] }',
      /VirtualHostValidationError\.Domains/,
    ],
  ]
  for (const [title, from, to, words] of refused) {
    test(`${title}: what Envoy refuses changes neither path, and is told in its words`, async () => {
      await untilHot()
      const attempts = await gateway.stat('http.callback.rds.zonegate.update_attempt')
      assert.ok(shipped.includes(from), 'the edit changes something')
      const file = shipped
        .replace(from, to)
        .replace('num_retries: 1 ', 'num_retries: 5 ')
        .replace('cluster: zones', 'cluster: zones\n        prefix_rewrite: /api/')
      writeFileSync(routes(), file)
      await eventually('it is said', async () => (await policy()).faults.length > 0)
      const [fault = ''] = (await policy()).faults
      assert.match(fault, /Envoy refuses envoy\/routes\.yaml /)
      assert.match(fault, words)
      assert.match(gateway.log('processor'), words)
      for (let count = 0; count < 3; count++) {
        assert.match(await send(HOT, '/pay'), /"url":"\/pay"/)
        assert.match(await cold('/pay'), /"url":"\/pay"/)
      }
      await untilHot()
      assert.equal(await gateway.stat('http.callback.rds.zonegate.update_attempt'), attempts)
      writeFileSync(routes(), shipped)
      await eventually('all is well', async () => (await policy()).faults.length === 0)
    })
  }

  test('a saved envoy.yaml waits for a start of Envoy on both paths, and it is said', async () => {
    await untilHot()
    const file = join(gateway.folder, 'envoy/envoy.yaml')
    const good = readFileSync(file, 'utf8')
    const changed = good.replace('max_heap_size_bytes: 1073741824', 'max_heap_size_bytes: 1073741825')
    assert.notEqual(changed, good)
    const waiting = ['envoy/envoy.yaml']
    const isSaid = async (expected: readonly string[]): Promise<boolean> =>
      JSON.stringify((await policy()).needsRestart) === JSON.stringify(expected)
    writeFileSync(file, changed)
    await eventually('it is said', () => isSaid(waiting))
    assert.match(gateway.log('processor'), /"file":"envoy\/envoy\.yaml".*restart Envoy for it to take effect/)
    assert.deepEqual(await policy(), { reasons: [], faults: [], needsRestart: waiting })
    await untilHot()
    writeFileSync(file, good)
    await eventually('nothing waits', () => isSaid([]))
    writeFileSync(file, changed)
    await eventually('it is said again', () => isSaid(waiting))

    await gateway.envoy.stop('SIGKILL')
    await gateway.startEnvoy()
    await eventually('Envoy has read it', () => isSaid([]))
    writeFileSync(file, good)
    await eventually('that waits, too', () => isSaid(waiting))
    await gateway.envoy.stop('SIGKILL')
    await gateway.startEnvoy()
    await eventually('all is as shipped', () => isSaid([]))
    await untilHot()
  })

  test('a file that refers to itself ends nobody', async () => {
    await untilHot()
    save('zonegate: { path: cold }', 'zonegate: &a { path: cold, self: *a }')
    await eventually('it is said', async () => (await policy()).faults.length > 0)
    assert.match((await policy()).faults[0] ?? '', /expected no alias to a node around it: \*a/)
    await untilHot()
    assert.equal((await send(HOT, '/pay')).slice(0, 3), '200')
    writeFileSync(routes(), shipped)
    await eventually('all is well', async () => (await policy()).faults.length === 0)
  })

  test('a file that is saved while Envoy is asked about the one before ends nobody, and is judged by itself', async () => {
    await untilHot()
    gateway.envoy.process.kill('SIGSTOP')
    try {
      // Envoy has this one to answer for when it goes on, and never sees the one that stands in the file by then.
      save('cluster: zones', 'cluster: zones\n        prefix_rewrite: /api/')
      await new Promise((done) => setTimeout(done, 1500))
      save('zonegate: { path: cold }', 'zonegate: &a { path: cold, self: *a }')
    } finally {
      gateway.envoy.process.kill('SIGCONT')
    }
    await eventually('it is said', async () => (await policy()).faults.length > 0)
    await eventually('the one that Envoy was asked about is in force on both paths', async () => {
      const [hot, asked] = [await send(HOT, '/pay'), await cold('/pay')]
      return hot.includes('/api/pay') && asked.includes('/api/pay')
    })
    assert.ok((await policy()).faults.length > 0)
    writeFileSync(routes(), shipped)
    await untilHot()
  })
})
