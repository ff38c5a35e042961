/**
 * Makes the docs' pictures of the page, over a made-up processor: node scripts/with-node.mjs test/browser/screenshots.ts docs/images
 */
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import type { BrowserContextOptions } from 'playwright-core'
import { rulesOf } from '../../src/config/rules.ts'
import { configSchema } from '../../src/config/schema.ts'
import { launchBrowser, openPage, SKIP } from './browser.ts'
import { FixtureProcessor } from './fixture-processor.ts'

const LAPTOP = { viewport: { width: 1440, height: 900 } }
const PHONE = { viewport: { width: 390, height: 844 }, deviceScaleFactor: 2, hasTouch: true }

/** The last one has the made-up zones. */
const RULES = rulesOf(
  configSchema.parse({
    rules: [
      { name: 'pay', match: { paths: ['/pay/*'], hosts: ['pay.example'] }, id: { query: 'server_id' } },
      { name: 'chat', match: { paths: ['/chat/*'] }, id: { json: '/attach/server' } },
      { name: 'default', services: { mail: { paths: ['/mail'] }, default: {} } },
    ],
  }),
)

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
  const fixture = await new FixtureProcessor({ zones: 2000, trouble: true, busy: true, rules: RULES }).start()
  fixture.rules = fixture.rules.map((rule, at) => ({
    ...rule,
    requests: [48_211, 2113, 912_480][at] ?? 0,
    requestsPerSecond: [81.4, 3.2, 1904.7][at] ?? 0,
    refused:
      [{ id_invalid: 12 }, { id_missing: 96 }, { name_not_found: 1841, nameservers_failed: 12 }][at] ?? {},
  }))
  const browser = await launchBrowser()
  try {
    for (const [name, { options, explain, at }] of Object.entries(PICTURES)) {
      const { page } = await openPage(browser, fixture.url, options)
      await page.getByText('Live', { exact: true }).waitFor()
      if (explain !== undefined) {
        await page.getByLabel('Id', { exact: true }).fill(explain)
        await page.getByLabel('Id', { exact: true }).press('Enter')
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
