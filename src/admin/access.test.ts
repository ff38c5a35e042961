import assert from 'node:assert/strict'
import crypto from 'node:crypto'
import type { IncomingMessage } from 'node:http'
import { syncBuiltinESMExports } from 'node:module'
import { test } from 'node:test'
import { Access } from './access.ts'

const TOKEN = 'correct-horse-battery'
const request = (headers: Record<string, string>, method = 'GET'): IncomingMessage =>
  ({ method, headers: { host: '127.0.0.1:9003', ...headers } }) as unknown as IncomingMessage

const open = new Access(null, '127.0.0.1')
const closed = new Access(TOKEN, '0.0.0.0')

const HOSTS: [host: string, letIn: boolean][] = [
  ['127.0.0.1:9003', true],
  ['127.0.0.1', true],
  ['localhost:9003', true],
  ['LOCALHOST', true],
  ['[::1]:9003', true],
  ['[::1]', true],
  ['10.1.2.3:9003', true],
  ['0.0.0.0:9003', false],
  ['[::]:9003', false],
  ['[::ffff:7f00:1]:9003', false],
  ['evil.example:9003', false],
  ['localhost.evil.example', false],
  ['127.0.0.1.evil.example:9003', false],
  ['', false],
]
for (const [host, letIn] of HOSTS)
  test(`without a token, Host "${host}" is ${letIn ? 'let in' : 'refused'}`, () =>
    assert.equal(open.refusal(request({ host }))?.status, letIn ? undefined : 421))

test('the name of listen.http is its own', () =>
  assert.equal(new Access(null, 'localhost.test').refusal(request({ host: 'localhost.test:1' })), null))

const ORIGINS: [title: string, headers: Record<string, string>, method: string, letIn: boolean][] = [
  ['a program says nothing', {}, 'POST', true],
  ['the same origin', { origin: 'http://127.0.0.1:9003' }, 'POST', true],
  ['the same origin behind TLS', { origin: 'https://127.0.0.1:9003' }, 'POST', true],
  ['another port is another origin', { origin: 'http://127.0.0.1:8080' }, 'POST', false],
  ['another site', { origin: 'https://evil.example' }, 'POST', false],
  ['no origin worth a name', { origin: 'null' }, 'POST', false],
  ['the same origin by Fetch Metadata', { 'sec-fetch-site': 'same-origin' }, 'GET', true],
  ['typed into the address bar', { 'sec-fetch-site': 'none' }, 'GET', true],
  ['an image of another site', { 'sec-fetch-site': 'cross-site', 'sec-fetch-mode': 'no-cors' }, 'GET', false],
  ['a page of the same site', { 'sec-fetch-site': 'same-site', 'sec-fetch-mode': 'cors' }, 'GET', false],
  [
    'a link or a frame of another site',
    { 'sec-fetch-site': 'cross-site', 'sec-fetch-mode': 'navigate' },
    'GET',
    false,
  ],
  ['a form of another site', { 'sec-fetch-site': 'cross-site', 'sec-fetch-mode': 'navigate' }, 'POST', false],
  ['fetched ahead for a page', { 'sec-fetch-site': 'none', 'sec-purpose': 'prefetch' }, 'GET', false],
]
for (const [title, headers, method, letIn] of ORIGINS) {
  test(`${title}: ${letIn ? 'let in' : 'refused'}, with and without a token`, () => {
    const status = letIn ? undefined : 403
    assert.equal(open.refusal(request(headers, method))?.status, status)
    const authorization = `Bearer ${TOKEN}`
    assert.equal(closed.refusal(request({ ...headers, authorization }, method))?.status, status)
  })
}

const CREDENTIALS: [title: string, authorization: string | undefined, letIn: boolean][] = [
  ['the token', `Bearer ${TOKEN}`, true],
  ['the token, its scheme in any case', `bearer ${TOKEN}`, true],
  ['none', undefined, false],
  ['another token', 'Bearer correct-horse-batterz', false],
  ['the beginning of the token', 'Bearer correct-horse', false],
  ['the token and more', `Bearer ${TOKEN}x`, false],
  ['an empty token', 'Bearer ', false],
  ['another scheme', `Basic ${TOKEN}`, false],
  ['megabytes', `Bearer ${'x'.repeat(100_000)}`, false],
]
for (const [title, authorization, letIn] of CREDENTIALS) {
  test(`where there is a token: ${title} is ${letIn ? 'let in' : 'refused'}`, () => {
    const refusal = closed.refusal(request(authorization === undefined ? {} : { authorization }))
    assert.equal(refusal?.status, letIn ? undefined : 401)
    if (!letIn) assert.match(refusal?.headers?.['www-authenticate'] ?? '', /^Bearer/)
  })
}

test('a token is compared in constant time, whatever its length: hashes of one length, and nothing before them', (context) => {
  const compared: number[][] = []
  const { timingSafeEqual } = crypto
  const watched = context.mock.method(crypto, 'timingSafeEqual', (one: Buffer, other: Buffer) => {
    compared.push([one.length, other.length])
    return timingSafeEqual(one, other)
  })
  syncBuiltinESMExports()
  try {
    for (const token of [TOKEN, '', 'x', 'correct-horse-batterz', `${TOKEN}x`])
      closed.refusal(request({ authorization: `Bearer ${token}` }))
  } finally {
    watched.mock.restore()
    syncBuiltinESMExports()
  }
  assert.deepEqual(compared, Array(5).fill([32, 32]))
})

test('with the token any Host will do: Prometheus asks by a name', () =>
  assert.equal(closed.refusal(request({ host: 'processor:9003', authorization: `Bearer ${TOKEN}` })), null))
