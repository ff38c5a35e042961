import { existsSync } from 'node:fs'
import { type Browser, type BrowserContextOptions, chromium, type Page } from 'playwright-core'

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
  return chromium.launch({ headless: true, args: ARGUMENTS, ...(executablePath && { executablePath }) })
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
  page.setDefaultTimeout(10_000)
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
