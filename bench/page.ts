import type { Browser } from 'playwright-core'
import { launchBrowser, openPage, SKIP } from '../test/browser/browser.ts'
import { askEach, asking, expectStatus } from './ask.ts'
import { Processes } from './processes.ts'
import { align, median, spread, within } from './report.ts'
import { askedSoFar, type RunningZonegate, startZonegate, untilHot, zonegate } from './systems/zonegate.ts'
import { type Figures, type Stage, type Standing, takeTurn } from './turn.ts'
import { firstZones } from './zones.ts'

/** What it costs to look at a gateway of so many learned zones: a scrape, the page, and the requests meanwhile. */

const scrapes = 20
const paints = 5

export interface Looked {
  readonly zones: number
  readonly scrapeMs: readonly number[]
  readonly scrapeOctets: number
  /** First contentful paint, each in a browser context without a cache. */
  readonly paintMs: readonly number[]
  readonly rounds: readonly Round[]
}

/**
 * Where the page is open: nowhere; in a browser on another machine, which costs this one the events alone; or in one here,
 * which competes with the gateway for the cores.
 */
const PAGES = ['closed', 'elsewhere', 'here'] as const
type Round = Readonly<Record<(typeof PAGES)[number], Cost>>

/** CPU microseconds for each hot request. */
interface Cost {
  readonly envoyMicros: number
  readonly processorMicros: number
  readonly requestsPerSecond: number
}

export async function measurePage(stage: Stage, count: number, rounds: number): Promise<Looked> {
  if (SKIP !== false) throw new Error(SKIP)
  const browser = await launchBrowser()
  const processes = new Processes()
  try {
    const zones = firstZones(count)
    const { nameserver } = stage
    const setting = { zones, workers: 1, nameserver, processes, requestIds: true }
    const running = await startZonegate(setting, { learned: true, accessLog: false })
    await asking(running, (ask) =>
      askEach(ask, zones, (zone, got) => expectStatus(200, got, `zone ${zone.id}`)),
    )
    await untilHot(running, zones)
    const { scrapeMs, scrapeOctets } = await scrape(running)
    const paintMs: number[] = []
    for (let paint = 0; paint < paints; paint++) paintMs.push(await firstPaint(browser, running))
    const standing = { system: zonegate, case: { zones: count, workers: 1 }, running, processes }
    return {
      zones: count,
      scrapeMs,
      scrapeOctets,
      paintMs,
      rounds: await costInTurns(stage, standing, browser, rounds),
    }
  } finally {
    await browser.close()
    await processes.stop()
  }
}

async function scrape({ httpPort }: RunningZonegate): Promise<Pick<Looked, 'scrapeMs' | 'scrapeOctets'>> {
  const scrapeMs: number[] = []
  let scrapeOctets = 0
  for (let turn = 0; turn < scrapes; turn++) {
    const startedMs = performance.now()
    const body = await (await fetch(`http://127.0.0.1:${httpPort}/metrics`)).arrayBuffer()
    scrapeMs.push(performance.now() - startedMs)
    scrapeOctets = body.byteLength
  }
  return { scrapeMs, scrapeOctets }
}

async function firstPaint(browser: Browser, { httpPort }: RunningZonegate): Promise<number> {
  const { page } = await openPage(browser, `http://127.0.0.1:${httpPort}/`)
  try {
    await page.getByText('Live', { exact: true }).waitFor()
    return await page.evaluate<number>(
      "performance.getEntriesByName('first-contentful-paint', 'paint')[0].startTime",
    )
  } finally {
    await page.context().close()
  }
}

async function costInTurns(
  stage: Stage,
  standing: Standing & { readonly running: RunningZonegate },
  browser: Browser,
  rounds: number,
): Promise<readonly Round[]> {
  const { running } = standing
  const settled = await askedSoFar(running)
  const cost = async (): Promise<Cost> => {
    const result = await takeTurn(stage, standing)
    if ('void' in result) throw new Error(result.void)
    return costOf(result)
  }
  const url = `http://127.0.0.1:${running.httpPort}/`
  const measured: Readonly<Record<(typeof PAGES)[number], () => Promise<Cost>>> = {
    closed: cost,
    elsewhere: async () => {
      const reader = new AbortController()
      const events = await fetch(`${url}api/events`, { signal: reader.signal })
      const read = events.body?.pipeTo(new WritableStream()).catch(() => undefined)
      try {
        return await cost()
      } finally {
        reader.abort()
        await read
      }
    },
    here: async () => {
      const { page } = await openPage(browser, url)
      try {
        await page.getByText('Live', { exact: true }).waitFor()
        return await cost()
      } finally {
        await page.context().close()
      }
    },
  }
  const all: Round[] = []
  for (let round = 0; round < rounds; round++) {
    const costs: Partial<Record<(typeof PAGES)[number], Cost>> = {}
    const first = round % PAGES.length
    for (const page of [...PAGES.slice(first), ...PAGES.slice(0, first)]) costs[page] = await measured[page]()
    all.push(costs as Round)
  }
  const asked = (await askedSoFar(running)) - settled
  if (asked > 0) throw new Error(`${asked} requests were asked about by hot zones`)
  return all
}

function costOf({ processes, requestsPerSecond }: Figures): Cost {
  const { envoy, processor } = processes
  if (envoy === undefined || processor === undefined)
    throw new Error('Envoy and the processor have no figures')
  return {
    envoyMicros: envoy.cpuMicrosPerRequest,
    processorMicros: processor.cpuMicrosPerRequest,
    requestsPerSecond,
  }
}

export function renderPage({ zones, scrapeMs, scrapeOctets, paintMs, rounds }: Looked): string {
  const ms = (values: readonly number[]): string =>
    `median ${median(values).toFixed(1)} ms, longest ${Math.max(...values).toFixed(1)} ms`
  const rows = PAGES.map((page) => {
    const of = (pick: (cost: Cost) => number): number => median(rounds.map((round) => pick(round[page])))
    return [
      page,
      of(({ requestsPerSecond }) => requestsPerSecond).toFixed(0),
      of(({ envoyMicros }) => envoyMicros).toFixed(1),
      of(({ processorMicros }) => processorMicros).toFixed(1),
      `${of(({ processorMicros, requestsPerSecond }) => (processorMicros * requestsPerSecond) / 1e4).toFixed(1)} %`,
    ]
  })
  const against = (page: 'elsewhere' | 'here', pick: (cost: Cost) => number): string =>
    within(spread(rounds.map((round) => pick(round[page]) / pick(round.closed))))
  const ratios = (['elsewhere', 'here'] as const).map(
    (page) =>
      `open ${page} ÷ closed: Envoy ${against(page, ({ envoyMicros }) => envoyMicros)}, with the processor ${against(page, ({ envoyMicros, processorMicros }) => envoyMicros + processorMicros)}`,
  )
  return `${zones} learned zones

metrics: ${scrapes} scrapes, ${ms(scrapeMs)}, ${(scrapeOctets / 1000).toFixed(1)} KB
page: first contentful paint of ${paintMs.length}, ${ms(paintMs)}

${align([['page open', 'req/s', 'Envoy CPU µs/req', 'processor', 'of a core'], ...rows])}
${ratios.join('\n')}
Elsewhere: a browser on another machine, of which this one has the events alone. Here: it takes CPU from the gateway, too.`
}
