import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { SKIP, textOf, useDesk } from './browser.ts'

describe('the page', { skip: SKIP }, () => {
  const { serve, openLive } = useDesk()

  it('shows zones, nameservers, Envoys and refusals as the processor tells them', async () => {
    const page = await openLive(await serve({ zones: 30, trouble: true }))
    const row = page.getByRole('row', { name: /zone7-default/ })
    assert.match(
      await textOf(row),
      /^7\s+default\s+zone7-default\.game\.example\s+hot\s+10\.40\.6\.11\s+(?:TTL\s+)?\d+ s\s+[\d.]+\s+4$/,
    )
    assert.match(await textOf(page.getByRole('row', { name: /zone5-default/ })), /hot\s+stale/)
    assert.match(await textOf(page.getByRole('row', { name: /zone18-mail/ })), /NXDOMAIN/)
    const nameservers = page.getByRole('table', { name: 'Nameservers' })
    assert.match(await textOf(nameservers), /10\.0\.0\.3:53\s+12 ms\s+41\s+penalised\s+4 failures in a row/)
    const envoys = page.getByRole('table', { name: 'Envoys' })
    assert.match(await textOf(envoys), /edge-1\s+all\s+0\s+Envoy 1\.40\.0\. Connected for 2 h/)
    assert.match(await textOf(envoys), /edge-2\s+not all\s+2[\s\S]+Last NACK: Error adding\/updating cluster/)
    const refusals = page.getByRole('table', { name: 'Refusals' })
    assert.match(await textOf(refusals), /name_not_found\s+0\s+1,841\s+A nameserver says/)
  })

  it('marks an Envoy of a version that this release is not tested with', async () => {
    const page = await openLive(await serve({ zones: 1, envoys: 3 }))
    const envoys = page.getByRole('table', { name: 'Envoys' })
    assert.match(
      await textOf(envoys),
      /edge-3\s+all\s+0\s+Envoy 1\.39\.2, not the tested 1\.40\.0\. Connected/,
    )
    assert.equal(await envoys.locator('[data-tone=warn]').count(), 1)
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
})
