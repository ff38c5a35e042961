/** Fuzzes the operators' port, with requests that anyone who reaches it may send. */
import assert from 'node:assert/strict'
import { request } from 'node:http'
import * as fc from 'fast-check'
import { type AdminOptions, serveAdmin } from '../../src/admin/server.ts'
import { rulesOf } from '../../src/config/rules.ts'
import { configSchema } from '../../src/config/schema.ts'
import type { InForce } from '../../src/diff/in-force.ts'
import { explain } from '../../src/status/explain.ts'
import type { ExplainedThen } from '../../src/status/explain-then.ts'
import { describedRequest } from '../../src/status/request-description.ts'
import type { StatusReading } from '../../src/status/status.ts'
import { nodeTimers } from '../../src/timers.ts'
import { Turns } from '../../src/turns.ts'
import { type Checked, type CheckOptions, type Target, target } from './target.ts'

const TOKEN = 'a token of sixteen'.replaceAll(' ', '-')
const bugs: unknown[] = []
const rules = rulesOf(configSchema.parse({}))
const options: AdminOptions = {
  host: '127.0.0.1',
  port: 0,
  token: TOKEN,
  status: () => ({ rest: { at: 0 }, zones: [] }) as unknown as StatusReading,
  turns: new Turns(
    nodeTimers(
      () => performance.now(),
      (error) => bugs.push(error),
    ),
  ),
  unready: () => ({}),
  configFaults: () => [],
  explain: async (description) =>
    explain(describedRequest(description, rules), {
      rules,
      search: 'game.test',
      explainName: async (name) => ({
        answer: { kind: 'nxdomain', name, ttlSeconds: 5, nameserver: 'a:53' },
        tries: [],
        cached: null,
      }),
      envoys: () => [],
    }),
  history: async () => ({ events: [], leftOut: 0, completeSince: null, fault: null }),
  explainThen: async () => ({}) as ExplainedThen,
  inForce: () => ({}) as InForce,
  flush: (name) => ({ name, names: 0 }),
  metrics: { contentType: 'text/plain', text: async () => 'a 1\n' },
  page: () => false,
  onBug: (error) => bugs.push(error),
}

interface Reply {
  readonly status: number
  readonly type: string
  readonly text: string
}

function call(
  port: number,
  method: string,
  path: string,
  headers: Record<string, string>,
  body = '',
): Promise<Reply> {
  return new Promise((resolve, reject) => {
    const outgoing = request({ host: '127.0.0.1', port, method, path, headers, agent: false }, (response) => {
      const chunks: Buffer[] = []
      response.on('data', (chunk: Buffer) => chunks.push(chunk))
      response.on('error', reject)
      response.on('end', () =>
        resolve({
          status: response.statusCode ?? 0,
          type: response.headers['content-type'] ?? '',
          text: Buffer.concat(chunks).toString(),
        }),
      )
    })
    outgoing.on('error', reject)
    outgoing.end(method === 'POST' ? body : '')
  })
}

const value = fc.oneof(
  fc.string(),
  fc.string({ unit: 'binary' }),
  fc.constantFrom(
    '1',
    '%',
    '%zz',
    '%00',
    '%f0%28',
    '&',
    '=',
    '#',
    '..',
    '/',
    '\\',
    '//host',
    'a'.repeat(5000),
  ),
)
const encoded = fc.oneof(
  value.map((text) => encodeURIComponent(text.toWellFormed())),
  // Node's client accepts only these characters on a request line.
  value.map((text) => text.replace(/[^\x21-\x7e]/g, '')),
)
const paths = fc
  .tuple(
    fc.constantFrom(
      '/api/explain',
      '/api/flush',
      '/api/status',
      '/metrics',
      '/healthz',
      '/readyz',
      '/',
      '//',
      '/api/',
    ),
    fc.array(fc.tuple(fc.constantFrom('id', 'path', 'method', 'name', 'x', '__proto__'), encoded), {
      maxLength: 4,
    }),
    fc.oneof({ weight: 3, arbitrary: fc.constant('') }, encoded),
  )
  .map(([path, query, more]) => `${path}${more}?${query.map((pair) => pair.join('=')).join('&')}`)
const headers = fc.oneof(
  { weight: 4, arbitrary: fc.constant({ authorization: `Bearer ${TOKEN}` }) },
  fc
    .tuple(fc.constantFrom('authorization', 'host', 'cookie', 'origin'), encoded)
    .map(([name, text]) => ({ [name]: text.slice(0, 2000) })),
)
/** Bodies that /api/explain accepts, bodies that it refuses, and texts that are not JSON. */
const line = fc.oneof(value, fc.constantFrom('server: 1', 'server: 2', ':path: /', 'a'))
const curl = fc.oneof(
  value.map((text) => `curl ${text}`),
  fc
    .array(
      fc.constantFrom(
        '-d',
        '-H',
        "'a: b'",
        '--json',
        "$'\\x41",
        '-G',
        'h/x',
        '"',
        '$(id)',
        '@f',
        '-X',
        '{',
        '\\',
      ),
    )
    .map((words) => `curl ${words.join(' ')}`),
)
const bodies = fc.oneof(
  value,
  fc
    .record(
      {
        method: value,
        path: fc.oneof(
          value,
          value.map((text) => `/${text}`),
        ),
        host: value,
        headers: fc.array(line, { maxLength: 3 }),
        body: value,
        bodyBase64: value,
        ids: fc.array(value, { maxLength: 2 }),
        curl,
        zone: fc.oneof(value, fc.record({ service: fc.constantFrom('mail', 'default', 'x'), id: value })),
        x: fc.anything(),
      },
      { requiredKeys: [] },
    )
    .map((body) => JSON.stringify(body, (_, one) => (typeof one === 'bigint' ? String(one) : one)) ?? ''),
)
const KNOWN = new Set([200, 400, 401, 403, 404, 405, 414, 421, 431, 503])

let port = 0

const requests = target(
  'admin: whatever is asked, the answer is one of those that are documented, and nothing fails inside',
  [fc.constantFrom('GET', 'POST', 'HEAD', 'PUT', 'DELETE', 'OPTIONS'), paths, headers, bodies],
  async (method, path, sent, body) => {
    const { status, type, text } = await call(port, method, path, sent, body)
    assert.deepEqual(bugs.splice(0), [])
    assert.ok(KNOWN.has(status), `${status} ${text}`)
    // Of `/healthz#?`, which no client sends, it is the path that counts.
    const isOpen = ['/healthz', '/readyz'].includes(new URL(`http://host${path}`).pathname)
    if (sent['authorization'] !== `Bearer ${TOKEN}` && status < 400)
      assert.ok(isOpen, `${path} without a token`)
    if (type === 'application/json' && method !== 'HEAD') JSON.parse(text)
    if (!path.startsWith('/api/explain?') || status !== 200 || method !== 'GET') return
    const { searchParams } = new URL(`http://host${path}`)
    const { request: head, id } = JSON.parse(text)
    const [only = '', ...more] = searchParams.getAll('id')
    const isOne = more.length === 0 && only !== '' && only !== '-' && !only.includes(',')
    if (head.method === 'POST' && isOne) assert.equal(id.value, only)
    assert.deepEqual(head.ids, searchParams.getAll('id'))
    assert.equal(head.path, searchParams.get('path') ?? '/')
  },
)

/** One server for all runs of a check. */
const withServer = async (check: CheckOptions): Promise<Checked> => {
  const server = await serveAdmin(options)
  port = server.port
  try {
    return await requests.check(check)
  } finally {
    server.close()
  }
}

export const adminTargets: readonly Target[] = [{ name: requests.name, check: withServer }]
