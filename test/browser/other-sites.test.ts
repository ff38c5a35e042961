import assert from 'node:assert/strict'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { after, before, describe, it } from 'node:test'
import type { Browser } from 'playwright-core'
import { launchBrowser, SKIP } from './browser.ts'
import { FixtureProcessor } from './fixture-processor.ts'

/** Everything that a page can have its browser fetch from another site without reading the answer. */
const ATTACK = `(async (urls) => {
  for (const url of urls) {
    const add = (name, fields) => document.body.append(Object.assign(document.createElement(name), fields))
    add('iframe', { src: url })
    add('object', { data: url })
    add('img', { src: url })
    add('link', { rel: 'prefetch', href: url })
    for (const ahead of ['prefetch', 'prerender'])
      add('script', { type: 'speculationrules', text: JSON.stringify({ [ahead]: [{ source: 'list', urls: [url + '&' + ahead] }] }) })
    for (const method of ['GET', 'POST']) fetch(url, { mode: 'no-cors', method }).catch(() => undefined)
    navigator.sendBeacon(url, '{}')
  }
  await new Promise((resolve) => setTimeout(resolve, 2000))
})`

describe('a page of another site', { skip: SKIP }, () => {
  let browser: Browser
  let site: Server
  let processor: FixtureProcessor

  before(async () => {
    browser = await launchBrowser()
    site = createServer((_, response) => response.end('<!doctype html><title>another site</title><body>'))
    await new Promise<void>((done) => site.listen(0, '127.0.0.1', done))
    processor = await new FixtureProcessor({ zones: 1 }).start()
  })
  after(async () => {
    await browser?.close()
    site?.close()
    site?.closeAllConnections()
    processor?.stop()
  })

  // Browsers say that a request is of another site only if they count the host as loopback.
  for (const host of ['127.0.0.1', 'localhost', '0.0.0.0', '[::ffff:127.0.0.1]'])
    it(`has the processor explain nothing at ${host}`, async () => {
      const context = await browser.newContext()
      const page = await context.newPage()
      const { port } = site.address() as AddressInfo
      // With another name for this machine than the processor's, it is cross-site and not only cross-origin.
      await page.goto(`http://${host === 'localhost' ? '127.0.0.1' : 'localhost'}:${port}/`)
      await page.evaluate(`${ATTACK}(['http://${host}:${processor.port}/api/explain?id=1'])`)
      await context.close()
      assert.deepEqual(processor.asked, [])
    })

  it('which asks itself is answered', async () => {
    await fetch(`${processor.url}api/explain?id=1`)
    assert.equal(processor.asked.length, 1)
  })
})
