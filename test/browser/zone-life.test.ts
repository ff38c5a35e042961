import assert from 'node:assert/strict'
import type { Socket } from 'node:dgram'
import { after, before, describe, it } from 'node:test'
import type { Browser, Page } from 'playwright-core'
import { startNameserver } from '../../demo/nameserver.ts'
import { startGateway, type TestGateway } from '../support/gateway.ts'
import { call } from '../support/http.ts'
import { freePort } from '../support/ports.ts'
import { type Receiver, startReceiver } from '../support/receiver.ts'
import { launchBrowser, type OpenPage, openPage, SKIP } from './browser.ts'

const NAME = 'zone12-default.game.test'
/** A line from the ground up. */
const RISES = /^M0\.0 23\.0L.*L100\.0 (?:\d|1\d)\.\d$/

/** A real processor, a real Envoy and a nameserver that dies: the page tells each turn, without being asked again. */
describe("a zone's life on the page", { skip: SKIP }, () => {
  const records: Record<string, readonly string[]> = { [NAME]: ['127.0.77.1'] }
  let gateway: TestGateway
  let nameserver: Socket
  let receiver: Receiver
  let browser: Browser
  let opened: OpenPage
  let page: Page

  before(async () => {
    const port = await freePort('127.0.77.1')
    receiver = await startReceiver('127.0.77.1', port)
    nameserver = await startNameserver('127.0.0.1', await freePort(), records)
    gateway = await startGateway({
      config: {
        rules: { port },
        dns: {
          nameservers: [`127.0.0.1:${nameserver.address().port}`],
          search: 'game.test',
          ttlSeconds: { min: 1, max: 2 },
          timeoutMs: 200,
          negativeTtlSecondsMax: 1,
        },
        addresses: { allow: ['127.0.77.0/24'] },
      },
    })
    browser = await launchBrowser()
    opened = await openPage(browser, `http://127.0.0.1:${gateway.httpPort}/`)
    page = opened.page
    await page.getByText('Live', { exact: true }).waitFor()
  })
  after(async () => {
    await browser?.close()
    await gateway?.stop()
    await Promise.all([closed(nameserver), receiver?.close()])
  })

  const ask = (id: string) => call(gateway.port, { headers: [['server', id]], body: 'x' })
  const row = (words: RegExp) => page.getByRole('row', { name: words })

  it('begins with its first request', async () => {
    assert.ok(await page.getByText('No requests yet').isVisible())
    assert.equal((await ask('12')).status, 200)
    await row(/12.*zone12-default\.game\.test.*cold.*127\.0\.77\.1/s).waitFor()
  })

  it('turns hot when Envoy has taken it over', async () => {
    await ask('12')
    await row(/zone12-default.*hot/s).waitFor()
    await page.getByRole('row', { name: /all 0$/ }).waitFor()
  })

  it('has the requests that never came to the processor', async () => {
    const until = Date.now() + 60_000
    let [text, line] = ['', '']
    while (Date.now() < until && !(/[1-9]/.test(text) && RISES.test(line))) {
      for (let request = 0; request < 20; request++) assert.equal((await ask('12')).status, 200)
      await new Promise((done) => setTimeout(done, 200))
      text = (await page.locator('#rows .c-rate').textContent()) ?? ''
      line = (await page.locator('#rows .c-rate .line').getAttribute('d')) ?? ''
    }
    assert.match(text, /[1-9]/)
    assert.match(line, RISES)
  })

  it('is explained: hot on this Envoy', async () => {
    await row(/zone12-default/)
      .getByRole('button')
      .click()
    await page.getByRole('heading', { name: /^Forwarded to 127\.0\.77\.1:\d+$/ }).waitFor()
    await page.getByText(/: hot, routed inside Envoy/).waitFor()
  })

  it('turns stale when its nameserver dies, and still serves', async () => {
    const { port } = nameserver.address()
    await closed(nameserver)
    await row(/zone12-default.*stale.*\d+ s over/s).waitFor()
    await page.getByRole('row', { name: /failing/ }).waitFor()
    assert.equal((await ask('12')).status, 200)
    nameserver = await startNameserver('127.0.0.1', port, records)
    await page.getByRole('row', { name: /healthy/ }).waitFor()
    await row(/zone12-default.*stale/s).waitFor({ state: 'detached' })
  })

  it('ends when its name is gone; what was refused is counted', async () => {
    delete records[NAME]
    await row(/zone12-default/).waitFor({ state: 'detached' })
    assert.equal((await ask('12')).status, 502)
    await page.getByRole('row', { name: /^name_not_found 1 1$/ }).waitFor()
    await page.getByLabel('Id', { exact: true }).press('Enter')
    await page.getByRole('heading', { name: 'Refused with 502 name_not_found' }).waitFor()
  })

  it('went without an error on the console, or a request to anybody else', () => {
    assert.deepEqual(opened.problems, [])
  })
})

function closed(socket: Socket | undefined): Promise<void> {
  return new Promise((done) => {
    if (socket === undefined) return done()
    try {
      socket.close(() => done())
    } catch {
      done() // closed before
    }
  })
}
