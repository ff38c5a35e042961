import assert from 'node:assert/strict'
import { createRequire } from 'node:module'
import { describe, it } from 'node:test'
import type { Page } from 'playwright-core'
import { focused, SKIP, textOf, useDesk } from './browser.ts'

/** Found by Node where it is installed; the page's own checks below run without. */
const AXE = resolveAxe()

describe('the page is for everybody', { skip: SKIP }, () => {
  const { serve, openLive } = useDesk()

  it('is used by keyboard alone', async () => {
    const page = await openLive(await serve({ zones: 200 }))
    await page.keyboard.press('Tab')
    assert.equal(await focused(page), 'Skip to the zones')
    await page.keyboard.press('Enter')
    await page.keyboard.press('Tab')
    assert.equal(await focused(page), 'Search zones')
    for (const head of [
      'Show zonesAll zones',
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

  it('follows arrows that come faster than frames, and from a row that was scrolled out of sight', async () => {
    const page = await openLive(await serve({ zones: 200 }))
    await page.locator('#rows button').first().focus()
    await page.evaluate(`for (let row = 0; row < 118; row++) document.activeElement.dispatchEvent(
      new KeyboardEvent('keydown', { key: 'ArrowDown', bubbles: true, cancelable: true }))`)
    assert.equal(await focused(page), '119')
    await page.evaluate('scrollTo(0, 0)')
    await page.getByRole('button', { name: '1', exact: true }).waitFor()
    await page.keyboard.press('ArrowDown')
    assert.equal(await focused(page), '120')
    await page.locator(':focus').waitFor()
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
    await page.locator('#rows tr').first().hover()
    const before = await order()
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
      await page.getByText('Host, headers, body, or a curl command').click()
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
      await page.getByLabel('Id', { exact: true }).fill('nosuch')
      await page.getByLabel('Id', { exact: true }).press('Enter')
      await page.getByRole('heading', { name: /^Refused/ }).waitFor()
      await page.getByText('Host, headers, body, or a curl command').click()
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
      'region "Rules"',
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
