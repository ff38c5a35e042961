import assert from 'node:assert/strict'
import { get, type IncomingMessage } from 'node:http'
import { connect } from 'node:net'
import { after, before, test } from 'node:test'
import { silent, startNameserver } from '../support/nameserver.ts'
import { eventually, runCli, startProcessorAlone, type TestProcessor } from '../support/processor.ts'

/** HTTP on `listen.http` of a real processor: what it tells, and whom. */
const TOKEN = 'correct-horse-battery'
let processor: TestProcessor
let guarded: TestProcessor

before(async () => {
  ;[processor, guarded] = await Promise.all([
    startProcessorAlone(),
    startProcessorAlone({ listen: { httpToken: TOKEN } }),
  ])
})
after(() => Promise.all([processor?.stop(), guarded?.stop()]))

test('/healthz and /readyz', async () => {
  assert.deepEqual((await processor.ask('/healthz')).json(), { status: 'ok' })
  assert.deepEqual((await processor.ask('/readyz')).json(), { status: 'ready' })
})

test('/api/status has all parts', async () => {
  const { status, json, headers } = await processor.ask('/api/status')
  assert.equal(status, 200)
  assert.match(headers['content-type'] ?? '', /^application\/json/)
  const body = json()
  assert.deepEqual(Object.keys(body).sort(), [
    'at',
    'awayMs',
    'build',
    'config',
    'decisions',
    'dns',
    'envoys',
    'exceptions',
    'history',
    'pins',
    'policy',
    'ready',
    'rules',
    'unready',
    'zones',
    'zonesLearned',
  ])
  assert.deepEqual(body.dns.nameservers[0].nameserver, '127.0.0.1:9')
  assert.equal(body.config.source, 'zonegate.yaml')
  assert.ok(Math.abs(body.at - Date.now()) < 60_000)
})

test('/api/explain walks through the decision', async () => {
  const { json } = await processor.ask('/api/explain?id=12&path=/mail')
  const { decision, zone, steps } = json()
  assert.deepEqual(zone, { service: 'mail', id: '12', name: 'zone12-mail.game.test' })
  assert.deepEqual([decision.result, decision.reason], ['refuse', 'nameservers_failed'])
  assert.match(decision.wayOut, /zonegate status nameservers/)
  assert.ok(steps.some(({ step, ok }: { step: string; ok: boolean }) => step === 'query' && !ok))
})

test('/api/explain of a request without an id, with two, and by another method', async () => {
  const reasonOf = async (query: string): Promise<string> =>
    (await processor.ask(`/api/explain?${query}`)).json().decision.reason
  assert.equal(await reasonOf(''), 'server_header_missing')
  assert.equal(await reasonOf('id=1&id=2'), 'server_header_invalid')
  assert.equal(await reasonOf('id=1&method=GET'), 'method_not_allowed')
})

const explainJson = async (body: unknown, headers: Record<string, string> = {}) =>
  processor.ask('/api/explain', {
    method: 'POST',
    headers,
    body: typeof body === 'string' ? body : JSON.stringify(body),
  })

test('/api/explain takes a whole request as JSON', async () => {
  const body = { path: '/mail', host: 'cb.test', headers: ['Server: 12'], body: '{}' }
  const explained = (await explainJson(body)).json()
  assert.deepEqual(explained.request, {
    method: 'POST',
    authority: 'cb.test',
    path: '/mail',
    ids: [],
    bodyOctets: 2,
  })
  assert.deepEqual([explained.rule, explained.id], ['default', { source: 'header server', value: '12' }])
  const curl = "curl -X POST https://cb.test/mail -H 'Server: 12' --json '{}'"
  const { request, id, zone } = (await explainJson({ curl })).json()
  assert.deepEqual([request, id, zone], [explained.request, explained.id, explained.zone])
  const bodyBase64 = Buffer.from('{}').toString('base64')
  assert.equal((await explainJson({ ids: ['12'], bodyBase64 })).json().request.bodyOctets, 2)
})

const NO_REQUEST: [title: string, body: unknown, error: RegExp][] = [
  ['no JSON', 'x', /^request: expected JSON$/],
  ["a key that there isn't", { uri: '/' }, /^request: /],
  ['a path without a slash', { path: 'mail' }, /^path: expected a path that begins/],
  [
    'a curl command that reads a file',
    { curl: 'curl -d @/etc/passwd h' },
    /^curl: the command reads the file/,
  ],
  ['a body of more than a rule can look into', { body: 'x'.repeat(1_048_577) }, /^body: expected 1048576/],
  ['more than any request', { body: 'x'.repeat(2_000_000) }, /^request: expected \d+ octets or fewer$/],
]
for (const [title, body, error] of NO_REQUEST) {
  test(`400 and why: ${title}`, async () => {
    const reply = await explainJson(body)
    assert.equal(reply.status, 400)
    assert.match(reply.json().error, error)
  })
}

test('400 and why: a way through Envoy that there is not', async () => {
  const reply = await processor.ask('/api/explain?at=1&path=warm', { method: 'POST', body: '{}' })
  assert.equal(reply.status, 400)
  assert.match(reply.json().error, /^path: expected hot, cold or fallback$/)
})

test('a body of 1 MiB is taken, in text and in base64', async () => {
  const octets = 'x'.repeat(1_048_576)
  for (const body of [{ body: octets }, { bodyBase64: Buffer.from(octets).toString('base64') }])
    assert.equal((await explainJson(body)).json().request.bodyOctets, octets.length)
})

test('a client that goes away in the middle of its question is no bug', async () => {
  const socket = connect(processor.port, '127.0.0.1')
  const begun = 'POST /api/explain HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 100\r\n\r\n{"path"'
  await new Promise((written) => socket.write(begun, written))
  socket.destroy()
  for (let asked = 0; asked < 20; asked += 1) assert.equal((await explainJson({})).status, 200)
  const { exceptions } = (await processor.ask('/api/status')).json()
  assert.ok(!Object.values(exceptions).some((count) => count !== 0), JSON.stringify(exceptions))
})

test('/api/explain as JSON has the fences of the other paths', async () => {
  assert.equal((await explainJson({}, { origin: 'https://evil.example' })).status, 403)
  assert.equal((await explainJson({}, { host: 'evil.example' })).status, 421)
  assert.equal((await guarded.ask('/api/explain', { method: 'POST', body: '{}' })).status, 401)
})

test('GET /api/in-force: what decides, and neither listen nor its token', async () => {
  assert.equal((await guarded.ask('/api/in-force')).status, 401)
  const { status, text, json } = await guarded.ask('/api/in-force', {
    headers: { authorization: `Bearer ${TOKEN}` },
  })
  assert.equal(status, 200)
  assert.deepEqual(Object.keys(json().config), ['dns', 'addresses', 'rules', 'zones', 'learned', 'fallback'])
  assert.ok(!text.includes(TOKEN) && !text.includes('listen'), text)
})

test('POST /api/flush', async () => {
  const post = { method: 'POST' }
  assert.deepEqual((await processor.ask('/api/flush', post)).json(), { flushed: 'all', names: 0 })
  assert.deepEqual((await processor.ask('/api/flush?name=a.test', post)).json(), {
    flushed: 'a.test',
    names: 0,
  })
  assert.equal((await processor.ask('/api/flush?name=', post)).status, 400)
})

const WRONG: [title: string, method: string, path: string, status: number, error: RegExp][] = [
  ['flushing is no GET', 'GET', '/api/flush', 405, /expected POST/],
  ['the status is not written', 'POST', '/api/status', 405, /expected GET/],
  ['an unknown path names those that there are', 'GET', '/api', 404, /\/api\/explain/],
  ['a path over 4,096 characters', 'GET', `/${'x'.repeat(5000)}`, 400, /4096 characters or fewer/],
]
for (const [title, method, path, status, error] of WRONG) {
  test(title, async () => {
    const reply = await processor.ask(path, { method })
    assert.equal(reply.status, status)
    assert.match(reply.json().error, error)
  })
}

test('HEAD has no body', async () => {
  const { status, text } = await processor.ask('/api/status', { method: 'HEAD' })
  assert.deepEqual([status, text], [200, ''])
})

test('every answer forbids sniffing and framing', async () => {
  for (const path of ['/healthz', '/readyz', '/api/status', '/metrics', '/nothing', '/']) {
    const { headers } = await processor.ask(path)
    assert.equal(headers['x-content-type-options'], 'nosniff', path)
    assert.equal(headers['x-frame-options'], 'DENY', path)
    assert.match(String(headers['content-security-policy']), /frame-ancestors 'none'/, path)
  }
})

test('the page is there, without a token', async () => {
  for (const { port, ask } of [processor, guarded]) {
    const { status, headers } = await ask('/')
    assert.equal(status, 200, String(port))
    assert.match(headers['content-type'] ?? '', /^text\/html/)
  }
})

test('a rebound name and another origin are refused', async () => {
  const status = async (
    headers: Record<string, string>,
    method = 'GET',
    path = '/api/status',
  ): Promise<number> => (await processor.ask(path, { headers, method })).status
  assert.equal(await status({ host: 'evil.example' }), 421)
  assert.equal(await status({ host: `localhost:${processor.port}` }), 200)
  assert.equal(await status({ origin: 'https://evil.example' }, 'POST', '/api/flush'), 403)
  assert.equal(await status({ origin: `http://127.0.0.1:${processor.port}` }, 'POST', '/api/flush'), 200)
})

test('with a token, nothing but health and the page is told without it', async () => {
  const authorization = `Bearer ${TOKEN}`
  for (const path of ['/metrics', '/api/status', '/api/explain?id=1', '/api/events', '/nothing'])
    assert.equal((await guarded.ask(path)).status, 401, path)
  assert.equal((await guarded.ask('/api/flush', { method: 'POST' })).status, 401)
  for (const path of ['/healthz', '/readyz']) assert.equal((await guarded.ask(path)).status, 200, path)
  for (const path of ['/metrics', '/api/status'])
    assert.equal((await guarded.ask(path, { headers: { authorization } })).status, 200, path)
})

test('it does not start anywhere but on loopback without a token', async () => {
  for (const http of ['0.0.0.0:9003', '[::]:9003', '10.0.0.1:9003']) {
    const { code, stderr } = await runCli(['serve'], processor.folder, { ZONEGATE_HTTP: http })
    assert.equal(code, 1)
    assert.match(
      stderr,
      /^zonegate: ZONEGATE_HTTP: listen\.http: expected listen\.httpToken or listen\.httpTokenFile/,
    )
  }
})

test('server-sent events: a snapshot, then updates', async () => {
  const { response, text } = await events(processor.port)
  assert.equal(response.headers['content-type'], 'text/event-stream')
  const seen = await text((all) => all.includes('event: update'))
  assert.match(seen, /^retry: \d+\n\nevent: snapshot\ndata: \{"at":/)
  response.destroy()
})

test('more than 16 open pages are turned away, and room is made when one closes', async () => {
  const open = await Promise.all(Array.from({ length: 16 }, () => events(processor.port)))
  // Not `ask`: one that is let in never ends.
  const another = await events(processor.port)
  assert.equal(another.response.statusCode, 503)
  const body = await another.text((all) => all.endsWith('\n'))
  assert.deepEqual(JSON.parse(body), { error: 'too many open pages: close one' })
  for (const { response } of open) response.destroy()
  await eventually('there is room', async () => {
    const { response } = await events(processor.port)
    response.destroy()
    return response.statusCode === 200
  })
})

test('explanations at once are bounded', async () => {
  const nameserver = await startNameserver(silent)
  const dns = { nameservers: [nameserver.address], search: 'game.test', timeoutMs: 5000, budgetMs: 1500 }
  const waiting = await startProcessorAlone({ config: { dns } })
  try {
    const replies = await Promise.all(
      Array.from({ length: 30 }, (_, id) => waiting.ask(`/api/explain?id=${id}`)),
    )
    const statuses = replies.map(({ status }) => status)
    assert.ok(statuses.includes(200) && statuses.includes(503), statuses.join())
  } finally {
    await waiting.stop()
    await nameserver.stop()
  }
})

test('of connections that ask nothing 256 stay, and health checks and scrapes are answered beside them', async () => {
  const sockets = Array.from({ length: 400 }, () => connect(processor.port, '127.0.0.1'))
  for (const socket of sockets) socket.on('error', () => undefined).resume()
  try {
    await eventually('all were taken', () => sockets.every(({ connecting }) => !connecting))
    for (const path of ['/healthz', '/readyz', '/metrics'])
      assert.equal((await processor.ask(path)).status, 200, path)
    await eventually('the oldest are closed', () => sockets.filter(({ closed }) => !closed).length <= 256)
    assert.ok(sockets.slice(0, 100).every(({ closed }) => closed))
    assert.ok(sockets.slice(-100).every(({ closed }) => !closed))
    // The limit closed them. The timeout for a request would close the others just behind them.
    let answer = ''
    const [last] = sockets.slice(-1)
    last?.setEncoding('utf8').on('data', (text: string) => {
      answer += text
    })
    last?.write('GET /healthz HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n')
    await eventually('one of the others is answered', () => answer.startsWith('HTTP/1.1 200'))
  } finally {
    for (const socket of sockets) socket.destroy()
  }
})

test('headers of more than 16 KiB: 431', async () => {
  const reply = await processor.ask('/healthz', { headers: { 'x-long': 'a'.repeat(20_000) } })
  assert.equal(reply.status, 431)
})

test('a client that never finishes its request is cut off', async () => {
  const socket = connect(processor.port, '127.0.0.1')
  socket.on('error', () => undefined)
  socket.write('GET /healthz HTTP/1.1\r\nhost: 127.0.0.1\r\nx-')
  let text = ''
  socket.setEncoding('utf8').on('data', (chunk) => {
    text += chunk
  })
  await eventually('it is closed', () => socket.closed)
  assert.match(text, /^HTTP\/1\.1 408 /)
})

/** Opens the stream of events. */
function events(
  port: number,
): Promise<{ response: IncomingMessage; text: (enough: (all: string) => boolean) => Promise<string> }> {
  return new Promise((resolve, reject) => {
    const call = get({ host: '127.0.0.1', port, path: '/api/events', agent: false }, (response) => {
      let all = ''
      let look = (): void => undefined
      response.setEncoding('utf8').on('error', () => undefined)
      response.on('data', (chunk: string) => {
        all += chunk
        look()
      })
      const text = (enough: (all: string) => boolean): Promise<string> =>
        new Promise((done) => {
          look = () => {
            if (enough(all)) done(all)
          }
          look()
        })
      resolve({ response, text })
    })
    call.on('error', reject)
  })
}
