import assert from 'node:assert/strict'
import { createRequire } from 'node:module'
import { after, afterEach, before, describe, it } from 'node:test'
import type { Browser, BrowserContextOptions, Locator, Page } from 'playwright-core'
import { launchBrowser, type OpenPage, openPage, SKIP } from './browser.ts'
import { type FixtureOptions, FixtureProcessor } from './fixture-processor.ts'

/** Found by Node where it is installed; the page's own checks below run without. */
const AXE = resolveAxe()
/** The browser says so itself when a server is gone, or wants a token: here that is what is tested. */
const NETWORK_ERROR = /^error: Failed to load resource/

describe('the page', { skip: SKIP }, () => {
  let browser: Browser
  let fixtures: FixtureProcessor[] = []
  let opened: OpenPage[] = []

  before(async () => {
    browser = await launchBrowser()
  })
  after(() => browser?.close())
  afterEach(async () => {
    const problems = opened.flatMap((one) => one.problems)
    await Promise.all(opened.map(({ page }) => page.context().close()))
    for (const fixture of fixtures) fixture.stop()
    fixtures = []
    opened = []
    assert.deepEqual(problems, [])
  })

  async function serve(options: FixtureOptions): Promise<FixtureProcessor> {
    const fixture = await new FixtureProcessor(options).start()
    fixtures.push(fixture)
    return fixture
  }

  async function open(fixture: FixtureProcessor, options?: BrowserContextOptions): Promise<Page> {
    const one = await openPage(browser, fixture.url, options)
    opened.push(one)
    return one.page
  }

  async function openLive(fixture: FixtureProcessor, options?: BrowserContextOptions): Promise<Page> {
    const page = await open(fixture, options)
    await page.getByText('Live', { exact: true }).waitFor()
    return page
  }

  /** Takes what the network's failures put on the console out of the problems. */
  function expectNetworkErrors(): void {
    for (const { problems } of opened) {
      const others = problems.filter((problem) => !NETWORK_ERROR.test(problem))
      problems.splice(0, problems.length, ...others)
    }
  }

  it('shows zones, nameservers, Envoys and refusals as the processor tells them', async () => {
    const page = await openLive(await serve({ zones: 30, trouble: true }))
    const row = page.getByRole('row', { name: /zone7-default/ })
    assert.match(
      await textOf(row),
      /^7\s+default\s+zone7-default\.game\.example\s+hot\s+10\.40\.6\.11\s+(?:TTL\s+)?\d+ s\s+[\d.]+\s+6$/,
    )
    assert.match(await textOf(page.getByRole('row', { name: /zone5-default/ })), /hot\s+stale/)
    assert.match(await textOf(page.getByRole('row', { name: /zone18-mail/ })), /NXDOMAIN/)
    const nameservers = page.getByRole('table', { name: 'Nameservers' })
    assert.match(await textOf(nameservers), /10\.0\.0\.3:53\s+12 ms\s+41\s+penalised\s+4 failures in a row/)
    const envoys = page.getByRole('table', { name: 'Envoys' })
    assert.match(await textOf(envoys), /edge-1\s+all\s+0\s+Connected for 2 h/)
    assert.match(await textOf(envoys), /edge-2\s+not all\s+2[\s\S]+Last NACK: Error adding\/updating cluster/)
    const refusals = page.getByRole('table', { name: 'Refusals' })
    assert.match(await textOf(refusals), /name_not_found\s+0\s+1,841\s+A nameserver says/)
  })

  it('keeps up: rates, new zones, zones that are gone, refusals', async () => {
    const fixture = await serve({ zones: 5 })
    const page = await openLive(fixture)
    const [first] = fixture.zones
    assert.ok(first)
    Object.assign(first, { requestsPerSecond: 4321, state: 'stale', expiresAt: Date.now() - 9000 })
    fixture.zones.splice(1, 1)
    fixture.refused['no_address'] = 17
    await page.getByRole('row', { name: /zone1-default.*stale.*\d+ s over.*4,321/s }).waitFor()
    await page.getByRole('row', { name: /zone2-/ }).waitFor({ state: 'detached' })
    await page.getByRole('row', { name: /no_address 17 17/ }).waitFor()
    assert.equal(await textOf(page.locator('#zones-count')), '4 zones')
  })

  it('says what is wrong with the processor, and its configuration', async () => {
    const fixture = await serve({ zones: 1 })
    const page = await openLive(fixture)
    fixture.faults = ['zonegate.yaml:3:5: dns.budgetMs: expected a number']
    fixture.unready = { processor: 'stopping' }
    await page.getByText('zonegate.yaml:3:5: dns.budgetMs: expected a number').waitFor()
    await page.getByText('Not ready: processor: stopping').waitFor()
  })

  it('has words for having nothing to show', async () => {
    const page = await openLive(await serve({ zones: 0, envoys: 0 }))
    for (const text of ['No zone has been asked for yet', 'No Envoy is connected', 'refused nothing']) {
      assert.ok(await page.getByText(text).isVisible(), text)
    }
    assert.ok(await page.locator('table.zone-table').isHidden())
  })

  it('searches, and says how many it found', async () => {
    const page = await openLive(await serve({ zones: 300, trouble: true }))
    await page.keyboard.press('/')
    await page.keyboard.type('zone12-')
    assert.equal(await textOf(page.locator('#zones-count')), '1 of 300 zones')
    await page.getByRole('row', { name: /zone12-/ }).waitFor()
    await page.keyboard.press('Escape')
    assert.equal(await textOf(page.locator('#zones-count')), '300 zones')
    await page.getByLabel('Show').selectOption('stale')
    assert.equal(await textOf(page.locator('#zones-count')), '4 of 300 zones')
    await page.getByLabel('Search zones').fill('nothing has this')
    await page.getByRole('button', { name: 'Show all zones' }).click()
    assert.equal(await textOf(page.locator('#zones-count')), '300 zones')
  })

  it('sorts by each column, and back', async () => {
    const page = await openLive(await serve({ zones: 300, trouble: true }))
    const heads = page.locator('#columns th')
    const numbers = async (column: string): Promise<number[]> => {
      const texts = await page.locator(`#rows .c-${column}`).allInnerTexts()
      return texts.slice(0, 10).map((text) => Number(/[\d.,]+/.exec(text)?.[0].replace(',', '')))
    }
    assert.equal(await heads.nth(0).getAttribute('aria-sort'), 'ascending')
    await page.getByRole('button', { name: 'Req/s' }).click()
    assert.equal(await heads.nth(0).getAttribute('aria-sort'), null)
    assert.equal(await page.locator('th[data-key=rate]').getAttribute('aria-sort'), 'descending')
    const rates = await numbers('rate')
    assert.deepEqual(
      rates,
      [...rates].sort((a, b) => b - a),
    )
    assert.ok((rates[0] ?? 0) > 10)
    await page.getByRole('button', { name: 'Id' }).click()
    await page.getByRole('button', { name: 'Id' }).click()
    assert.deepEqual((await numbers('id')).slice(0, 3), [300, 299, 298])
    for (const head of ['Service', 'Name', 'State', 'Addresses', 'TTL left', 'Errors']) {
      await page.getByRole('button', { name: head }).click()
      assert.equal(await page.locator('th[aria-sort]').count(), 1)
    }
  })

  it('explains a request step by step: the cause and the way out', async () => {
    const fixture = await serve({ zones: 20 })
    const page = await openLive(fixture)
    await page.getByLabel('Server id').fill('nosuch')
    await page.getByLabel('Path').fill('/mail?x=1')
    await page.getByRole('button', { name: 'Explain', exact: true }).click()
    await page.getByRole('heading', { name: 'Refused with 502 name_not_found' }).waitFor()
    const box = await textOf(page.locator('#explained'))
    assert.match(box, /Why\. A nameserver says that the zone's name does not exist/)
    assert.match(box, /The way out\. Add the name to DNS/)
    assert.match(box, /Name\s*:?\s*zonenosuch-mail\.game\.example/)
    assert.deepEqual(fixture.asked, [{ method: 'POST', path: '/mail?x=1', ids: ['nosuch'] }])
    await page.getByRole('button', { name: 'Close' }).click()
    assert.equal(await textOf(page.locator('#explained')), '')
  })

  it('explains a listed zone at a press', async () => {
    const fixture = await serve({ zones: 20 })
    const page = await openLive(fixture)
    await page
      .getByRole('row', { name: /zone4-mail/ })
      .getByRole('button')
      .click()
    await page.getByRole('heading', { name: 'Forwarded to 10.40.3.11:8101' }).waitFor()
    assert.deepEqual(fixture.asked, [{ method: 'POST', path: '/mail', ids: ['4'] }])
    assert.match(await textOf(page.locator('#explained')), /10\.0\.0\.3:53 asked for A over udp: timeout/)
    assert.match(await textOf(page.locator('#explained')), /edge-1: hot/)
  })

  it('takes what callers send for text', async () => {
    const fixture = await serve({ zones: 1 })
    const page = await openLive(fixture)
    const markup = '<img src=x onerror=alert(1)>'
    await page.getByLabel('Server id').fill(markup)
    await page.getByLabel('Server id').press('Enter')
    await page.getByRole('heading', { name: 'Refused with 403 server_header_invalid' }).waitFor()
    assert.ok((await textOf(page.locator('#explained'))).includes(markup))
    assert.equal(await page.locator('img').count(), 0)
  })

  it('is used by keyboard alone', async () => {
    const page = await openLive(await serve({ zones: 200 }))
    await page.keyboard.press('Tab')
    assert.equal(await focused(page), 'Skip to the zones')
    await page.keyboard.press('Enter')
    await page.keyboard.press('Tab')
    assert.equal(await focused(page), 'Search zones/')
    for (const head of [
      'ShowAll zones',
      'Id',
      'Service',
      'Name',
      'State',
      'Addresses',
      'TTL left',
      'Req/s',
      'Errors',
    ]) {
      await page.keyboard.press('Tab')
      assert.match(await focused(page), new RegExp(`^${head}`))
    }
    for (const id of ['1', '2']) {
      await page.keyboard.press('Tab')
      assert.equal(await focused(page), id)
    }
    // Far beyond the rows that were in the document at first.
    for (let row = 0; row < 118; row++) await page.keyboard.press('ArrowDown')
    assert.equal(await focused(page), '120')
    assert.ok(await page.locator(':focus').isVisible())
    await page.keyboard.press('Enter')
    await page.getByRole('heading', { name: /^Forwarded to/ }).waitFor()
    await page.keyboard.press('Tab')
    assert.equal(await focused(page), 'Close')
    await page.keyboard.press('Enter')
    assert.equal(await focused(page), '120')
  })

  it('shows where the focus is', async () => {
    const page = await openLive(await serve({ zones: 3 }))
    for (let stop = 0; stop < 12; stop++) {
      await page.keyboard.press('Tab')
      const outline = await page.evaluate('getComputedStyle(document.activeElement).outlineStyle')
      assert.notEqual(outline, 'none', await focused(page))
    }
  })

  it('keeps the focus, and the rows under the pointer, while values change', async () => {
    const fixture = await serve({ zones: 40 })
    const page = await openLive(fixture)
    await page.getByRole('button', { name: 'Req/s' }).click()
    const order = async (): Promise<string[]> =>
      (await page.locator('#rows .c-id').allInnerTexts()).slice(0, 5)
    const before = await order()
    await page.locator('#rows tr').first().hover()
    for (const [at, zone] of fixture.zones.entries()) zone.requestsPerSecond = at
    await page.getByRole('row', { name: /zone39-.*38\.0/s }).waitFor()
    assert.deepEqual(await order(), before)
    await page.mouse.move(5, 5)
    await page.locator('#rows tr:first-child', { hasText: 'zone40-' }).waitFor()
    await page.locator('#rows button').nth(2).focus()
    const zone = await focused(page)
    for (const [at, zone] of fixture.zones.entries()) zone.requestsPerSecond = 100 - at
    await page.getByRole('row', { name: /zone39-.*62\.0/s }).waitFor()
    assert.equal(await focused(page), zone)
  })

  it('says so when it is not live, keeps what it has, and comes back', async () => {
    const fixture = await serve({ zones: 5 })
    const { port } = fixture
    const page = await openLive(fixture)
    fixture.stop()
    await page.getByText(/^Not live: processor/).waitFor()
    assert.equal(await page.title(), 'Not live · Zonegate')
    assert.ok(await page.getByRole('row', { name: /zone1-/ }).isVisible())
    assert.match(await textOf(page.locator('#live-detail')), /as of \d\d:\d\d:\d\d/)
    fixture.zones.pop()
    await fixture.start(port)
    await page
      .getByRole('button', { name: 'Try now' })
      .click({ timeout: 1000 })
      .catch(() => undefined)
    await page.getByText('Live', { exact: true }).waitFor()
    await page.getByRole('row', { name: /zone5-/ }).waitFor({ state: 'detached' })
    expectNetworkErrors()
  })

  it('comes back by itself', async () => {
    const fixture = await serve({ zones: 1 })
    const { port } = fixture
    const page = await openLive(fixture)
    fixture.stop()
    await page.getByText(/^Not live/).waitFor()
    await fixture.start(port)
    await page.getByText('Live', { exact: true }).waitFor()
    expectNetworkErrors()
  })

  it('asks for the token once, and keeps it for this tab only', async () => {
    const fixture = await serve({ zones: 3, token: 'correct horse' })
    const page = await open(fixture)
    const dialog = page.getByRole('dialog', { name: 'This processor asks for its token' })
    await dialog.waitFor()
    await page.keyboard.press('Escape')
    assert.ok(await dialog.isVisible())
    await page.getByRole('textbox', { name: 'Token' }).fill('wrong')
    await page.keyboard.press('Enter')
    await page.getByText('That token was not accepted').waitFor()
    await page.getByRole('textbox', { name: 'Token' }).fill('correct horse')
    await page.getByRole('button', { name: 'Open' }).click()
    await page.getByRole('row', { name: /zone3-/ }).waitFor()
    await page.getByLabel('Server id').fill('2')
    await page.getByLabel('Server id').press('Enter')
    await page.getByRole('heading', { name: /^Forwarded to/ }).waitFor()
    await page.reload()
    await page.getByRole('row', { name: /zone3-/ }).waitFor()
    assert.equal(page.url(), fixture.url)
    const stored = await page.evaluate('[localStorage.length, document.cookie]')
    assert.deepEqual(stored, [0, ''])
    expectNetworkErrors()
  })

  it('fits a phone, a tablet, a laptop and 4K: nothing sticks out', async () => {
    const fixture = await serve({ zones: 60, trouble: true })
    for (const [width, height] of [
      [320, 640],
      [390, 844],
      [820, 1180],
      [1180, 820],
      [1440, 900],
      [3840, 2160],
    ] as const) {
      const page = await openLive(fixture, { viewport: { width, height } })
      const out = await page.evaluate(STICKS_OUT)
      assert.deepEqual(out, { scroll: width, beyond: [] }, `${width} × ${height}`)
    }
  })

  it('sorts on a phone, where columns have no heads', async () => {
    const page = await openLive(await serve({ zones: 60 }), {
      viewport: { width: 390, height: 844 },
      hasTouch: true,
    })
    assert.ok(await page.locator('#columns').isHidden())
    await page.getByLabel('Sort by').selectOption('id descending')
    assert.equal(await textOf(page.locator('#rows .c-id').first()), '60')
  })

  it('is dark or light as the reader likes', async () => {
    const fixture = await serve({ zones: 3 })
    const paper = (page: Page): Promise<string> =>
      page.evaluate('getComputedStyle(document.documentElement).backgroundColor')
    const light = await paper(await openLive(fixture, { colorScheme: 'light' }))
    const dark = await paper(await openLive(fixture, { colorScheme: 'dark' }))
    assert.ok(luminance(light) > 0.85, light)
    assert.ok(luminance(dark) < 0.1, dark)
  })

  for (const [colorScheme, width] of [
    ['light', 1440],
    ['dark', 1440],
    ['light', 390],
    ['dark', 390],
  ] as const) {
    const skip = AXE === null && 'axe-core is not installed'
    it(`has nothing that axe finds fault with: ${colorScheme}, ${width} wide`, { skip }, async () => {
      const fixture = await serve({ zones: 60, trouble: true })
      const page = await openLive(fixture, { colorScheme, viewport: { width, height: 900 }, bypassCSP: true })
      await page.getByLabel('Server id').fill('nosuch')
      await page.getByLabel('Server id').press('Enter')
      await page.getByRole('heading', { name: /^Refused/ }).waitFor()
      await page.addScriptTag({ path: AXE ?? '' })
      const violations = await page.evaluate('axe.run().then(({ violations }) => violations)')
      const found = (
        violations as { id: string; impact: string; nodes: { html: string; failureSummary: string }[] }[]
      ).map(({ id, impact, nodes }) => ({
        id,
        impact,
        nodes: nodes.map(({ html, failureSummary }) => [html, failureSummary]),
      }))
      assert.deepEqual(found, [])
    })
  }

  it('gives everything that can be used a name, and each part a landmark', async () => {
    const page = await openLive(await serve({ zones: 3, trouble: true }))
    const tree = await page.locator('body').ariaSnapshot()
    assert.doesNotMatch(tree, /^\s*- (?:button|link|textbox|searchbox|combobox)(?::|$)/m)
    for (const part of [
      'banner',
      'navigation "Overview"',
      'main',
      'region "Explain a request"',
      'region "Zones"',
      'region "Nameservers"',
      'region "Envoys"',
      'region "Refusals"',
      'table "Zones"',
      'columnheader "TTL left"',
      'rowheader "1"',
      'searchbox "Search zones"',
    ]) {
      assert.ok(tree.includes(part), `${part} is not in\n${tree}`)
    }
    const table = page.getByRole('table', { name: 'Zones' })
    assert.equal(await table.getAttribute('aria-rowcount'), '4')
    assert.equal(await page.getByRole('row', { name: /zone3-/ }).getAttribute('aria-rowindex'), '4')
  })
})

/** How wide the document is, and what reaches beyond the window. */
const STICKS_OUT = `({
  scroll: document.documentElement.scrollWidth,
  beyond: [...document.querySelectorAll('body *')]
    .filter((one) => one.getBoundingClientRect().right > innerWidth + 1)
    .map((one) => one.outerHTML.slice(0, 90)),
})`

/** Text as it is seen: without what is hidden. */
function textOf(locator: Locator): Promise<string> {
  // biome-ignore lint/performance/useDomNodeTextContent: what is seen is what is tested
  return locator.innerText()
}

/** The text of what has the focus, or its label's. */
function focused(page: Page): Promise<string> {
  return page.evaluate('(document.activeElement.labels?.[0] ?? document.activeElement).textContent.trim()')
}

/** Of an `rgb(...)`, from 0 to 1, roughly. */
function luminance(color: string): number {
  const [red = 0, green = 0, blue = 0] = color.match(/\d+/g)?.map(Number) ?? []
  return (0.2126 * red + 0.7152 * green + 0.0722 * blue) / 255
}

function resolveAxe(): string | null {
  try {
    return createRequire(import.meta.url).resolve('axe-core/axe.min.js')
  } catch {
    return null
  }
}
