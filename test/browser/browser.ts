import assert from 'node:assert/strict'
import { existsSync } from 'node:fs'
import { after, afterEach, before } from 'node:test'
import { type Browser, type BrowserContextOptions, chromium, type Locator, type Page } from 'playwright-core'
import { type FixtureOptions, FixtureProcessor } from './fixture-processor.ts'

/** Where distributions put it. */
const PATHS = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome']

/** Nothing but the test talks to a network. Playwright gives it a profile of its own, which it removes. */
const ARGUMENTS = [
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
]

const executablePath = PATHS.find((path) => existsSync(path))

/** For `describe`: why browser tests are skipped; false where they aren't. */
export const SKIP: string | false =
  executablePath === undefined ? 'no Chromium is installed here (Debian: apt-get install chromium)' : false

export function launchBrowser(): Promise<Browser> {
  return chromium.launch({
    headless: true,
    args: ARGUMENTS,
    timeout: 120_000,
    ...(executablePath && { executablePath }),
  })
}

export interface OpenPage {
  readonly page: Page
  /** What should never be: errors and warnings on the console, violated policies, requests to other hosts. */
  readonly problems: string[]
}

/** A page of its own: no storage or cache is shared. Laptop-sized, unless told otherwise. */
export async function openPage(
  browser: Browser,
  url: string,
  options: BrowserContextOptions = {},
): Promise<OpenPage> {
  const context = await browser.newContext({
    viewport: { width: 1440, height: 900 },
    reducedMotion: 'reduce',
    locale: 'en-GB',
    ...options,
  })
  const page = await context.newPage()
  page.setDefaultTimeout(60_000)
  const problems: string[] = []
  const { host } = new URL(url)
  page.on('console', (message) => {
    if (['error', 'warning'].includes(message.type())) problems.push(`${message.type()}: ${message.text()}`)
  })
  page.on('pageerror', (error) => problems.push(`exception: ${error.message}`))
  page.on('request', (request) => {
    if (new URL(request.url()).host !== host) problems.push(`request to another host: ${request.url()}`)
  })
  await page.goto(url)
  return { page, problems }
}

/** The browser says so itself when a server is gone, or wants a token: here that may be what is tested. */
const NETWORK_ERROR = /^error: Failed to load resource/

export interface Desk {
  /** A made-up processor, until the test ends. */
  serve(options: FixtureOptions): Promise<FixtureProcessor>
  open(fixture: FixtureProcessor, options?: BrowserContextOptions): Promise<Page>
  /** The same, once the first status is there. */
  openLive(fixture: FixtureProcessor, options?: BrowserContextOptions): Promise<Page>
  /** Says that servers were meant to be gone in this test. */
  expectNetworkErrors(): void
}

/** For a `describe`: a browser for all its tests. Each of them fails where a page had problems. */
export function useDesk(): Desk {
  let browser: Browser
  let fixtures: FixtureProcessor[] = []
  let opened: OpenPage[] = []
  let expected: RegExp | null = null

  before(async () => {
    browser = await launchBrowser()
  })
  after(() => browser?.close())
  afterEach(async () => {
    const problems = opened
      .flatMap((one) => one.problems)
      .filter((problem) => expected?.test(problem) !== true)
    await Promise.all(opened.map(({ page }) => page.context().close()))
    for (const fixture of fixtures) fixture.stop()
    fixtures = []
    opened = []
    expected = null
    assert.deepEqual(problems, [])
  })

  const desk: Desk = {
    async serve(options) {
      const fixture = await new FixtureProcessor(options).start()
      fixtures.push(fixture)
      return fixture
    },
    async open(fixture, options) {
      const one = await openPage(browser, fixture.url, options)
      opened.push(one)
      return one.page
    },
    async openLive(fixture, options) {
      const page = await desk.open(fixture, options)
      await page.getByText('Live', { exact: true }).waitFor()
      return page
    },
    expectNetworkErrors() {
      expected = NETWORK_ERROR
    },
  }
  return desk
}

/** Text as it is seen: without what is hidden. */
export function textOf(locator: Locator): Promise<string> {
  // biome-ignore lint/performance/useDomNodeTextContent: what is seen is what is tested
  return locator.innerText()
}

/** The text of what has the focus, or its label's. */
export function focused(page: Page): Promise<string> {
  return page.evaluate('(document.activeElement.labels?.[0] ?? document.activeElement).textContent.trim()')
}
