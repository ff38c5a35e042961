import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { SKIP, textOf, useDesk } from './browser.ts'

describe("the page's connection", { skip: SKIP }, () => {
  const { serve, open, openLive, expectNetworkErrors } = useDesk()

  it('says so when it is not live, keeps what it has, and comes back', async () => {
    const fixture = await serve({ zones: 5 })
    const { port } = fixture
    const page = await openLive(fixture)
    fixture.stop()
    await page.getByText(/^Not live: the processor/).waitFor()
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

  it('rests while it is out of sight, and goes on when it is seen', async () => {
    const fixture = await serve({ zones: 1 })
    const page = await open(fixture)
    await page.clock.install()
    await page.reload()
    await page.getByText('Live', { exact: true }).waitFor()
    const hide = (hidden: boolean): Promise<unknown> =>
      page.evaluate(`Object.defineProperty(document, 'hidden', { configurable: true, value: ${hidden} })
        document.dispatchEvent(new Event('visibilitychange'))`)
    await hide(true)
    await page.clock.fastForward(61_000)
    await page.getByText('Paused while the tab is hidden').waitFor()
    await hide(false)
    await page.getByText('Live', { exact: true }).waitFor()
  })

  it('takes a silent processor for a lost one', async () => {
    const fixture = await serve({ zones: 1 })
    const page = await open(fixture)
    await page.clock.install()
    await page.reload()
    await page.getByText('Live', { exact: true }).waitFor()
    const now = (await page.evaluate('Date.now()')) as number
    await page.clock.pauseAt(now + 5000)
    // Updates come in real time: from the next one on the silence is counted from the paused moment.
    await page.waitForTimeout(2000)
    // And no further: the next try is less than a second away.
    await page.clock.fastForward(15_500)
    await page.getByText('Not live: the processor is silent').waitFor()
    await page.clock.resume()
    await page.getByText('Live', { exact: true }).waitFor()
  })

  it('asks for the token once, and keeps it for this tab only', async () => {
    const fixture = await serve({ zones: 3, token: 'correct horse' })
    const page = await open(fixture)
    const dialog = page.getByRole('dialog', { name: 'This processor needs its token' })
    await dialog.waitFor()
    await page.keyboard.press('Escape')
    assert.ok(await dialog.isVisible())
    await page.getByRole('textbox', { name: 'Token' }).fill('wrong')
    await page.keyboard.press('Enter')
    await page.getByText('The processor does not accept this token').waitFor()
    await page.getByRole('textbox', { name: 'Token' }).fill('correct horse')
    await page.getByRole('button', { name: 'Open' }).click()
    await page.getByRole('row', { name: /zone3-/ }).waitFor()
    await page.getByLabel('Id', { exact: true }).fill('2')
    await page.getByLabel('Id', { exact: true }).press('Enter')
    await page.getByRole('heading', { name: /^Forwarded to/ }).waitFor()
    await page.reload()
    await page.getByRole('row', { name: /zone3-/ }).waitFor()
    assert.equal(page.url(), fixture.url)
    const stored = await page.evaluate('[localStorage.length, document.cookie]')
    assert.deepEqual(stored, [0, ''])
    expectNetworkErrors()
  })
})
