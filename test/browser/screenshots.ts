/**
 * Makes the docs' pictures of the page, over a made-up processor: node scripts/with-node.mjs test/browser/screenshots.ts docs/images
 */
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import type { BrowserContextOptions } from 'playwright-core'
import { launchBrowser, openPage, SKIP } from './browser.ts'
import { FixtureProcessor } from './fixture-processor.ts'

const LAPTOP = { viewport: { width: 1440, height: 900 } }
const PHONE = { viewport: { width: 390, height: 844 }, deviceScaleFactor: 2, hasTouch: true }

const PICTURES: Readonly<Record<string, { options: BrowserContextOptions; explain?: string; at?: string }>> =
  {
    'page-light': { options: { ...LAPTOP, colorScheme: 'light' } },
    'page-dark': { options: { ...LAPTOP, colorScheme: 'dark' }, explain: '12' },
    'page-explain': { options: { ...LAPTOP, colorScheme: 'light' }, explain: 'nosuch' },
    'page-phone': { options: { ...PHONE, colorScheme: 'light' }, at: '#zones' },
  }

async function main(): Promise<void> {
  const [folder] = process.argv.slice(2)
  if (folder === undefined) throw new Error('expected a folder for the pictures')
  if (SKIP !== false) throw new Error(SKIP)
  mkdirSync(folder, { recursive: true })
  const fixture = await new FixtureProcessor({ zones: 2000, trouble: true, busy: true }).start()
  const browser = await launchBrowser()
  try {
    for (const [name, { options, explain, at }] of Object.entries(PICTURES)) {
      const { page } = await openPage(browser, fixture.url, options)
      await page.getByText('Live', { exact: true }).waitFor()
      if (explain !== undefined) {
        await page.getByLabel('Server id').fill(explain)
        await page.getByLabel('Server id').press('Enter')
        await page.getByRole('heading', { level: 3 }).waitFor()
      }
      if (at !== undefined) await page.evaluate(`document.querySelector('${at}').scrollIntoView()`)
      await page.waitForTimeout(1500)
      await page.screenshot({ path: join(folder, `${name}.png`) })
      await page.context().close()
    }
  } finally {
    await browser.close()
    fixture.stop()
  }
}

await main()
