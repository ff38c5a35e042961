import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import type { Browser, CDPSession, Page } from 'playwright-core'
import { eventually } from '../support/processor.ts'
import { launchBrowser, openPage, SKIP } from './browser.ts'
import { FixtureProcessor } from './fixture-processor.ts'

const ZONES = 2000
const UPDATES = 10
/** A frame at 60 Hz. */
const SCRIPT_MS_MAX = 16
const FIRST_PAINT_MS_MAX = 1000
/** What is in sight at this size, and the overscan on either side. */
const ROWS_MAX = 60
/** Rows that come into sight are laid out, and nothing else is: about 40 elements each. */
const ELEMENTS_PER_FRAME_MAX = 250

/** Scripts in the browser's traces: what the stream's promises run, and what timers and events run. */
const SCRIPTING: ReadonlySet<string> = new Set(['BlinkScheduler_PerformMicrotaskCheckpoint', 'FunctionCall'])

/** The same on every machine, and what it costs on one of which the limits above hold. */
const REFERENCE = `(() => {
  const numbers = Array.from({ length: 200_000 }, (_, at) => (at * 2_654_435_761) % 1_000_003)
  return numbers.sort((one, other) => one - other).length
})()`
const REFERENCE_MS = 45
const REFERENCE_PAINT_MS = 100

/** On a machine shared with others: CPU time and work done are measured, and against what a reference costs there. */
describe(`${ZONES} zones`, { skip: SKIP }, () => {
  let browser: Browser
  let fixture: FixtureProcessor
  let page: Page
  let cdp: CDPSession

  before(async () => {
    fixture = await new FixtureProcessor({ zones: ZONES, trouble: true, busy: true }).start()
    browser = await launchBrowser()
    page = (await openPage(browser, fixture.url)).page
    await page.getByText('Live', { exact: true }).waitFor()
    cdp = await page.context().newCDPSession(page)
  })
  after(async () => {
    await browser?.close()
    fixture?.stop()
  })

  it(`are painted first within ${FIRST_PAINT_MS_MAX} ms`, async (test) => {
    const ms = await firstPaint(browser, fixture.url)
    // A page of one line, from the same server.
    const slowness = Math.max(1, (await firstPaint(browser, `${fixture.url}healthz`)) / REFERENCE_PAINT_MS)
    test.diagnostic(`first contentful paint after ${Math.round(ms)} ms, slowness ${slowness.toFixed(1)}`)
    assert.ok(ms <= FIRST_PAINT_MS_MAX * slowness, `${ms} ms, slowness ${slowness}`)
  })

  it(`cost less than ${SCRIPT_MS_MAX} ms of scripting an update`, async (test) => {
    await page.getByRole('button', { name: 'Req/s' }).click()
    const events = await traced(cdp, () => page.waitForTimeout(UPDATES * 1000))
    const scripting = events.filter(({ name }) => SCRIPTING.has(name))
    const microseconds = scripting.reduce((sum, { tdur = 0 }) => sum + tdur, 0)
    // None at all would be another browser's names.
    assert.ok(microseconds > 0)
    const ms = microseconds / 1000 / UPDATES
    const slowness = Math.max(1, (await referenceMs(cdp, page)) / REFERENCE_MS)
    test.diagnostic(`${ms.toFixed(1)} ms of scripting an update, slowness ${slowness.toFixed(1)}`)
    assert.ok(ms < SCRIPT_MS_MAX * slowness, `${ms} ms, slowness ${slowness}`)
  })

  it('are scrolled by laying out what comes into sight only', async (test) => {
    const events = await traced(cdp, () => page.evaluate(SCROLL_THROUGH))
    const styles = events.filter(({ name }) => name === 'UpdateLayoutTree')
    const elements = styles.reduce((sum, { args }) => sum + (args?.elementCount ?? 0), 0) / styles.length
    test.diagnostic(`${Math.round(elements)} elements restyled a frame, ${styles.length} frames`)
    assert.ok(elements < ELEMENTS_PER_FRAME_MAX, `${elements} elements`)
    assert.ok((await page.locator('#rows tr').count()) <= ROWS_MAX)
  })

  it('are all there: the last one at the end, the first one at the beginning', async () => {
    await page.getByRole('button', { name: 'Id', exact: true }).click()
    for (const [to, id] of [
      ['document.body.scrollHeight', '2000'],
      ['0', '1'],
    ] as const) {
      await page.evaluate(`scrollTo(0, ${to})`)
      await page.locator('#rows tr', { hasText: `zone${id}-` }).waitFor()
      assert.ok((await page.locator('#rows tr').count()) <= ROWS_MAX)
    }
  })

  it('are searched as one types', async () => {
    const found = await page.evaluate(`(() => {
      document.querySelector('#search').value = 'zone1999-'
      document.querySelector('#search').dispatchEvent(new Event('input'))
      return [...document.querySelectorAll('#rows tr')].map((row) => row.textContent)
    })()`)
    assert.match((found as string[]).join('\n'), /^1999.*zone1999-[^\n]*$/, 'at once, in no later task')
  })
})

const FIRST_PAINT = `performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? 0`

/** Of the best of three pages: what else runs here is no part of it. */
async function firstPaint(browser: Browser, url: string): Promise<number> {
  let best = Number.POSITIVE_INFINITY
  for (let count = 0; count < 3; count += 1) {
    const { page } = await openPage(browser, url)
    let ms = 0
    await eventually('it is painted', async () => {
      ms = (await page.evaluate(FIRST_PAINT)) as number
      return ms > 0
    })
    best = Math.min(best, ms)
    await page.context().close()
  }
  return best
}

/** CPU time of the reference, once it has been compiled. */
async function referenceMs(cdp: CDPSession, page: Page): Promise<number> {
  const events = await traced(cdp, async () => {
    for (let count = 0; count < 6; count += 1)
      await page.evaluate(`new Promise((done) => setTimeout(() => { ${REFERENCE}; done() }))`)
  })
  const costs = events.filter(({ name }) => name === 'FunctionCall').map(({ tdur = 0 }) => tdur / 1000)
  return costs.sort((one, other) => other - one)[2] ?? 0
}

/** Sixty pixels a frame for two seconds. */
const SCROLL_THROUGH = `new Promise((done) => {
  const started = performance.now()
  const step = (now) => {
    scrollBy(0, 60)
    if (now - started < 2000) requestAnimationFrame(step)
    else done()
  }
  requestAnimationFrame(step)
})`

interface TraceEvent {
  readonly name: string
  /** CPU time, microseconds. */
  readonly tdur?: number
  readonly args?: { readonly elementCount?: number }
}

async function traced(cdp: CDPSession, run: () => Promise<unknown>): Promise<TraceEvent[]> {
  const events: TraceEvent[] = []
  const collect = ({ value }: { value: object[] }): void => {
    events.push(...(value as TraceEvent[]))
  }
  cdp.on('Tracing.dataCollected', collect)
  await cdp.send('Tracing.start', {
    traceConfig: { includedCategories: ['devtools.timeline', 'toplevel'] },
    transferMode: 'ReportEvents',
  })
  await run()
  const complete = new Promise<unknown>((done) => cdp.once('Tracing.tracingComplete', done))
  await cdp.send('Tracing.end')
  await complete
  cdp.off('Tracing.dataCollected', collect)
  return events
}
