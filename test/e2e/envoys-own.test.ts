import assert from 'node:assert/strict'
import { readFileSync, renameSync, writeFileSync } from 'node:fs'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { join } from 'node:path'
import { after, before, suite, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { startGateway, type TestGateway } from '../support/gateway.ts'
import { call, type Reply } from '../support/http.ts'
import { a, type ScriptedNameserver, startNameserver } from '../support/nameserver.ts'
import { freePort } from '../support/ports.ts'
import { eventually } from '../support/processor.ts'
import { type Receiver, startReceiver } from '../support/receiver.ts'
import { type ScriptedReceiver, startScriptedReceiver } from '../support/scripted-receiver.ts'

/**
 * What Envoy does by its own files, as docs/recipes/envoy.md has it, except for shorter times and smaller buckets. It is the same on
 * the cold path and on the hot one.
 */
const PAGE = readFileSync(fileURLToPath(new URL('../../docs/recipes/envoy.md', import.meta.url)), 'utf8')
const RESTARTING = '127.0.64.1'
const BREAKING = '127.0.64.2'
const [FIRST, SECOND] = ['127.0.64.3', '127.0.64.4'] as const
/** A zone that restarts. */
const DOWN_MS = 1000
/** Of a zone. */
const TOKENS = 5
/** All that the two paths may differ in. */
const RANDOM = /"request_id":"[^"]*"/

suite("Envoy's own policies on both paths", () => {
  let gateway: TestGateway
  let nameserver: ScriptedNameserver
  let port: number
  let restarting: Receiver
  let breaking: ScriptedReceiver
  const checked = new Map<string, CheckedReceiver>()
  /** Of zones with several, by the beginning of their ids. */
  let several: readonly string[] = [FIRST, SECOND]

  before(async () => {
    port = await freePort(RESTARTING)
    restarting = await startReceiver(RESTARTING, port)
    breaking = await startScriptedReceiver(BREAKING, port)
    breaking.answer('')
    for (const host of [FIRST, SECOND]) checked.set(host, await CheckedReceiver.start(host, port))
    nameserver = await startNameserver((query) => {
      const [, path = '', kind = ''] = /^zone(hot|cold)(\w)/.exec(query.name) ?? []
      const all: Record<string, readonly string[]> = {
        r: [RESTARTING],
        b: [BREAKING],
        h: several,
        l: [FIRST],
      }
      // What may not be kept is never learned.
      const ttl = path === 'hot' ? 1 : 0
      query.reply({ answers: (all[kind] ?? []).map((address) => a(query.name, address, ttl)) })
    })
    gateway = await startGateway({
      config: {
        rules: { port },
        dns: {
          nameservers: [nameserver.address],
          search: 'game.test',
          ttlSeconds: { min: 0, max: 1 },
          timeoutMs: 2000,
        },
        addresses: { allow: ['127.0.64.0/24'] },
      },
      edit: {
        'routes.yaml': (text) => withRateLimitOn(withRetries(text)),
        'clusters.yaml': withHealthChecks,
        'listener.yaml': (text) => withRateLimit(text, 100_000),
      },
    })
  })
  after(async () => {
    await gateway?.stop()
    await nameserver?.stop()
    await restarting?.close()
    await breaking?.close()
    for (const receiver of checked.values()) receiver.close()
  })

  const send = (id: string, path = '/'): Promise<Reply> =>
    call(gateway.port, { path, headers: [['server', id]], body: 'paid' })
  const asked = (): Promise<number> => gateway.stat('cluster.processor.upstream_rq_total')
  const askedBy = async (what: () => Promise<unknown>): Promise<number> => {
    const before = await asked()
    await what()
    return (await asked()) - before
  }
  const untilHot = (id: string): Promise<void> =>
    eventually(`${id} is hot`, async () => (await askedBy(() => send(id))) === 0)
  const seen = ({ status, text, headers }: Reply): unknown => [
    status,
    text.replace(RANDOM, ''),
    ...['content-type', 'x-zonegate-reason', 'retry-after'].map((name) => headers[name]),
  ]
  test('with all recipes zones are learned', async () => {
    const { reasons, faults } = (await gateway.status()).policy
    assert.deepEqual([reasons, faults], [[], []])
  })

  suite('retries', () => {
    const PATHS = ['hot', 'cold'] as const

    test('a zone that restarts: each request comes to it, once', async () => {
      await untilHot('hotr')
      await restarting.close()
      await eventually('no connection is left', async () => {
        const left = ['cluster.default/hotr', 'cluster.zones'].map((name) => `${name}.upstream_cx_active`)
        return (await Promise.all(left.map((name) => gateway.stat(name)))).every((count) => count === 0)
      })
      const replies = PATHS.map((path) => send(`${path}r`, `/restart/${path}`))
      await new Promise((done) => setTimeout(done, DOWN_MS))
      restarting = await startReceiver(RESTARTING, port)
      const [hot, cold] = (await Promise.all(replies)).map(seen)
      assert.deepEqual(hot, cold)
      assert.deepEqual(hot, seen(await send('coldr', '/again')))
      const got = restarting.requests.map(({ path, body }) => `${path} ${body}`).sort()
      assert.deepEqual(got, ['/again paid', '/restart/cold paid', '/restart/hot paid'])
      for (const path of PATHS) {
        const uri = `"uri":"/restart/${path}"`
        await eventually('the line is written', () => gateway.log('envoy').includes(uri))
        const lines = gateway.log('envoy').split('\n')
        const line = JSON.parse(lines.find((each) => each.includes(uri)) ?? '{}')
        assert.equal(line.path, path)
        assert.ok(line.attempts > 1, `${line.attempts} attempts`)
      }
    })

    test('a request that was sent is never sent again', async () => {
      await untilHot('hotb')
      const outcomes: unknown[] = []
      for (const path of PATHS) {
        const before = breaking.requests.length
        const asks = await asked()
        const reply = await send(`${path}b`)
        assert.equal((await asked()) - asks, path === 'hot' ? 0 : 1)
        outcomes.push([seen(reply), breaking.requests.length - before])
        assert.deepEqual([reply.status, reply.json()['reason']], [502, 'upstream_reset'])
      }
      assert.deepEqual(outcomes[0], outcomes[1])
      assert.match(JSON.stringify(outcomes), /,1\]\]$/)
    })
  })

  suite('health checks', () => {
    const of = (host: string): CheckedReceiver => checked.get(host) as CheckedReceiver
    /** How many of so many requests came to each address. */
    const counted = async (id: string, requests = 20): Promise<Record<string, number>> => {
      const counts: Record<string, number> = { [FIRST]: 0, [SECOND]: 0 }
      for (let count = 0; count < requests; count++) {
        const { status, text } = await send(id)
        assert.equal(status, 200)
        counts[text] = (counts[text] ?? 0) + 1
      }
      return counts
    }

    test('cold: an address is tried whatever a check would say, and none is checked', async () => {
      of(SECOND).well = false
      const counts = await counted('coldh', 30)
      assert.ok((counts[FIRST] ?? 0) > 0 && (counts[SECOND] ?? 0) > 0, JSON.stringify(counts))
      assert.deepEqual(of(FIRST).checkedAs, [])
    })

    test('hot: a zone with one address is not checked', async () => {
      await untilHot('hotl')
      assert.deepEqual(await counted('hotl', 5), { [FIRST]: 5, [SECOND]: 0 })
      assert.deepEqual(of(FIRST).checkedAs, [])
    })

    test('hot: an address whose check fails gets no request', async () => {
      await untilHot('hoth')
      assert.deepEqual(await counted('hoth'), { [FIRST]: 20, [SECOND]: 0 })
      assert.ok(of(SECOND).checkedAs.every((host) => host === 'health.zonegate'))
      of(FIRST).well = false
      of(SECOND).well = true
      await eventually('the other one gets all', async () => (await counted('hoth', 4))[SECOND] === 4)
    })

    test('hot: where all checks fail all addresses get requests', async () => {
      of(SECOND).well = false
      // Envoy's workers hear of what changed in one second together.
      await eventually('both get some', async () => {
        const counts = await counted('hoth', 6)
        return (counts[FIRST] ?? 0) > 0 && (counts[SECOND] ?? 0) > 0
      })
      assert.equal(await gateway.stat('cluster.default/hoth.membership_healthy'), 0)
    })

    test('hot: an address that DNS has no more gets none, though its check succeeds', async () => {
      of(SECOND).well = true
      await eventually('the other one gets all', async () => (await counted('hoth', 4))[SECOND] === 4)
      several = [FIRST]
      await eventually('it is gone', async () => (await counted('hoth', 4))[FIRST] === 4)
      assert.equal(await gateway.stat('cluster.default/hoth.membership_total'), 1)
      assert.equal(await askedBy(() => send('hoth')), 0)
    })
  })

  suite('rate limits', () => {
    const outcomes = async (id: string, requests: number): Promise<Reply[]> => {
      const replies: Reply[] = []
      for (let count = 0; count < requests; count++) replies.push(await send(id))
      return replies
    }

    before(async () => {
      await untilHot('hotl2')
      await untilHot('hotl3')
      const file = join(gateway.folder, 'envoy/listener.yaml')
      const text = readFileSync(file, 'utf8').replaceAll(tokens(100_000), tokens(TOKENS))
      writeFileSync(`${file}.new`, text)
      renameSync(`${file}.new`, file)
      await eventually('it is in force', async () => (await send('coldl9')).status === 429)
    })

    test('hot and cold have as many, and are refused in the same words', async () => {
      const more = 3
      const all: unknown[] = []
      for (const [id, asks] of [
        ['hotl2', 0],
        ['coldl2', TOKENS],
      ] as const) {
        const replies: Reply[] = []
        // What is refused doesn't ask.
        assert.equal(await askedBy(async () => replies.push(...(await outcomes(id, TOKENS + more)))), asks)
        all.push(replies.map(seen))
        assert.deepEqual(
          replies.map(({ status }) => status),
          [...Array(TOKENS).fill(200), ...Array(more).fill(429)],
        )
      }
      assert.deepEqual(all[0], all[1])
      const { headers, json } = await send('hotl2')
      const { request_id, ...body } = json()
      assert.equal(typeof request_id, 'string')
      assert.deepEqual(body, {
        reason: 'rate_limited',
        status: 429,
        title: 'Too many requests in a short time',
      })
      assert.equal(headers['content-type'], 'application/problem+json')
    })

    test('a zone that is learned in between has no more than others', async () => {
      const cold = await outcomes('hotl4', 2)
      await eventually(
        'it is learned',
        async () => (await gateway.stat('cluster.default/hotl4.membership_total')) === 1,
      )
      // Routes follow within moments; a push of other zones' routes begins no count anew either.
      const hot = await outcomes('hotl4', TOKENS)
      assert.deepEqual(
        [...cold, ...hot].map(({ status }) => status),
        [...Array(TOKENS).fill(200), 429, 429],
      )
      assert.equal((await send('hotl3')).status, 200)
      assert.equal((await send('hotl2')).status, 429)
    })

    test('a count in routes.yaml stops learning, wherever it stands, and it is said', async () => {
      const file = join(gateway.folder, 'envoy/routes.yaml')
      const good = readFileSync(file, 'utf8')
      const limit =
        '{ "@type": type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit, stat_prefix: a, token_bucket: { max_tokens: 1, fill_interval: 3600s } }'
      const pin = `  virtual_hosts:\n  - name: pin\n    domains: [POST/99]\n    typed_per_filter_config: { rate_limit: ${limit} }\n    routes: [{ match: { prefix: / }, direct_response: { status: 403 } }]\n`
      writeFileSync(file, good.replace('  virtual_hosts:\n', pin))
      await eventually('it is said', async () =>
        /virtual_hosts\[0\]\.typed_per_filter_config\.rate_limit: .*docs\/recipes\/envoy\.md/.test(
          String((await gateway.status()).policy.reasons),
        ),
      )
      writeFileSync(file, good)
      await eventually('nothing is said', async () => (await gateway.status()).policy.reasons.length === 0)
    })
  })
})

/** A block of the page, in its section. */
function block(section: string, at = 0): string {
  const [, text = ''] = PAGE.split(`\n## ${section}\n`)
  const [found] = [...text.matchAll(/^```yaml\n([\s\S]*?)^```/gm)].slice(at)
  return found?.[1] ?? assert.fail(`no block in ${section}`)
}

/** More patience than the page has, as of all gateways of tests. */
function withRetries(text: string): string {
  const own = block('Retries that wait for a zone').replace('per_try_timeout: 0.5s', 'per_try_timeout: 10s')
  return text
    .replace(/^ {8}timeout: .*\n/m, '')
    .replace(/^ {8}retry_policy:\n(?: {10}.*\n)+/m, own.replace('timeout: 10s', 'timeout: 30s'))
}

function withHealthChecks(text: string): string {
  const own = block('Health checks').replaceAll('interval: 5s', 'interval: 0.2s')
  return text.replace('  lb_policy:', `${own}$&`)
}

const tokens = (count: number): string =>
  `{ max_tokens: ${count}, tokens_per_fill: ${count}, fill_interval: 3600s }`

function withRateLimit(text: string, count: number): string {
  const own = block('Rate limits')
    .replace(/\{ max_tokens: 50, .*?\}/, tokens(count))
    .replace(/max_tokens: 2000, tokens_per_fill: 2000/, 'max_tokens: 1000000, tokens_per_fill: 1000000')
  return text.replace('        - name: ext_proc\n', `${own}$&`)
}

/** On both routes. */
function withRateLimitOn(text: string): string {
  const own = block('Rate limits', 1)
  return text.replaceAll('      typed_per_filter_config:\n', `$&${own}`)
}

/** A receiver that says in its answer to `/health` whether it is well; anything else it answers by its address. */
class CheckedReceiver {
  well = true
  /** Host of each check. */
  readonly checkedAs: string[] = []
  readonly #server

  private constructor(host: string) {
    this.#server = createServer((request: IncomingMessage, response: ServerResponse) => {
      request.resume()
      if (request.url === '/health') {
        this.checkedAs.push(request.headers.host ?? '')
        response.statusCode = this.well ? 200 : 503
      }
      response.end(host)
    })
  }

  static async start(host: string, port: number): Promise<CheckedReceiver> {
    const receiver = new CheckedReceiver(host)
    await new Promise<void>((done) => receiver.#server.listen(port, host, done))
    return receiver
  }

  close(): void {
    this.#server.close()
    this.#server.closeAllConnections()
  }
}
