import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { after, before, describe, it } from 'node:test'
import { createPageHandler } from './serve-page.ts'

describe("the page's files", () => {
  let server: Server
  let url: string

  before(async () => {
    const handle = createPageHandler()
    server = createServer((request, response) => {
      if (!handle(request, response)) response.writeHead(418).end()
    })
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  })
  after(() => {
    server.close()
    server.closeAllConnections()
  })

  it('are all served: what the page and its scripts name is there', async () => {
    const folder = new URL('.', import.meta.url)
    const names = readdirSync(folder).filter((name) => /\.(?:js|css|svg)$/.test(name))
    for (const name of names) {
      const response = await fetch(`${url}/page/${name}`)
      assert.equal(response.status, 200, name)
      assert.equal(await response.text(), readFileSync(new URL(name, folder), 'utf8'))
    }
    const html = await (await fetch(url)).text()
    for (const [, path = ''] of html.matchAll(/(?:href|src)="(page\/[^"]+)"/g)) {
      assert.equal((await fetch(`${url}/${path}`)).status, 200, path)
    }
    for (const name of names.filter((name) => name.endsWith('.js'))) {
      assert.ok(html.includes(`page/${name}`), `${name} is not loaded ahead`)
    }
  })

  it('have types that browsers insist on', async () => {
    for (const [path, type] of [
      ['/', 'text/html; charset=utf-8'],
      ['/page/page.css', 'text/css; charset=utf-8'],
      ['/page/page.js', 'text/javascript; charset=utf-8'],
      ['/page/icon.svg', 'image/svg+xml'],
      ['/page/reasons.json', 'application/json'],
    ]) {
      assert.equal((await fetch(url + path)).headers.get('content-type'), type, path)
    }
  })

  it('allow nothing inline, nothing from elsewhere, no frame', async () => {
    const { headers } = await fetch(url)
    const policy = headers.get('content-security-policy') ?? ''
    assert.match(policy, /default-src 'none'.*frame-ancestors 'none'.*require-trusted-types-for 'script'/)
    assert.doesNotMatch(policy, /unsafe|https?:|\*/)
    assert.equal(headers.get('x-content-type-options'), 'nosniff')
    assert.equal(headers.get('x-frame-options'), 'DENY')
    assert.equal(headers.get('referrer-policy'), 'no-referrer')
  })

  it('are sent once: 304 to who has them', async () => {
    const first = await fetch(url)
    const etag = first.headers.get('etag') ?? ''
    assert.match(etag, /^"[\w-]{22}"$/)
    assert.equal(first.headers.get('cache-control'), 'no-cache')
    for (const known of [etag, `W/${etag}`, `"other", ${etag}`, '*']) {
      const again = await fetch(url, { headers: { 'if-none-match': known } })
      assert.equal(again.status, 304, known)
      assert.equal(await again.text(), '')
    }
    assert.equal((await fetch(url, { headers: { 'if-none-match': '"other"' } })).status, 200)
  })

  it('answer HEAD without a body', async () => {
    const response = await fetch(url, { method: 'HEAD' })
    assert.equal(response.status, 200)
    assert.ok(Number(response.headers.get('content-length')) > 1000)
    assert.equal(await response.text(), '')
  })

  it('are a closed list: anything else is not answered here', async () => {
    for (const path of [
      '/page/',
      '/page/serve-page.ts',
      '/page/../server.ts',
      '/page/%2e%2e/server.ts',
      '/page/page.html',
    ]) {
      assert.equal((await fetch(url + path)).status, 418, path)
    }
    assert.equal((await fetch(url, { method: 'POST' })).status, 418)
  })
})
