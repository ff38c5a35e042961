/**
 * Scans thousands of random ids, first unknown ones, then (with wildcard DNS) ones that resolve, while clients request
 * zones in use at a steady rate. Shows what the scan costs in memory, what it costs those zones, and how many queries
 * nameservers get, which dns.unknownNames bounds. Loopback only; wrk makes the scan.
 */
import { type ChildProcess, fork, spawn } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { findCommand } from '../../bench/processes.ts'
import { configSchema } from '../../src/config/schema.ts'
import { startGateway, type TestGateway } from '../support/gateway.ts'
import { type Load, percentile, startLoad } from '../support/load.ts'
import { freePort } from '../support/ports.ts'
import type { FarSideMessage, Queries } from './far-side.ts'
import { pause, positiveNumber, readOptions, residentMb, untilInterrupted } from './run.ts'

type Kind = 'unknown' | 'wildcard'

const KNOWN_IDS = Array.from({ length: 20 }, (_, index) => `known${index + 1}`)
const HOST = '127.0.91.1'
/** Longer than the run, so a query for a known zone means that the cache had evicted it. */
const KNOWN_TTL_SECONDS = 3600
const QUIET_MS = 20_000
const WARM_UP_MS = 5_000
const CONNECTIONS = 4
const PAUSE_MS = 20
const SCAN_CONNECTIONS = 64
const RSS_GROWTH_MB_MAX = 30
const P99_FACTOR_MAX = 2
/** The run is valid only if this share of the ids was scanned. */
const SCANNED_PART_MIN = 0.97

const USAGE = `npm run scan [-- OPTIONS]

Scans random ids through a real Envoy while ${KNOWN_IDS.length} zones are in use: first unknown ids, then (with wildcard DNS) ids that
resolve. Prints each figure beside its bound. Needs wrk. Uses loopback addresses only.

  --rate 5000     ids a second; 1667 is 100,000 in a minute
  --seconds 60    length of each of the two scans
  --cold          learned zones off, so the zones in use depend on the processor too
  --help

Exits with 1 when a figure is beyond its bound, with 130 when interrupted.`

const options = readOptions(USAGE, {
  rate: { type: 'string', default: '5000' },
  seconds: { type: 'string', default: '60' },
  cold: { type: 'boolean', default: false },
})
const rate = positiveNumber('rate', options['rate'])
const seconds = positiveNumber('seconds', options['seconds'])
const idsTotal = rate * seconds
const cold = options['cold'] === true
const interrupted = untilInterrupted()

const { queriesPerSecond, queriesBurst } = configSchema.parse({}).dns.unknownNames

interface FarSide {
  readonly nameserver: string
  queries(): Promise<Queries>
  stop(): Promise<void>
}

async function startFarSide(port: number, kind: Kind): Promise<FarSide> {
  const file = fileURLToPath(new URL('far-side.ts', import.meta.url))
  const child = fork(file, [HOST, String(port), String(KNOWN_TTL_SECONDS), kind])
  const exited = once(child, 'exit')
  const next = async (): Promise<FarSideMessage> => {
    const [message] = await Promise.race([once(child, 'message'), exited])
    if (typeof message !== 'object') throw new Error('the process with nameserver and receiver has ended')
    return message as FarSideMessage
  }
  const first = await next()
  if (!('nameserver' in first)) throw new Error('the first message must be the nameserver')
  return {
    nameserver: first.nameserver,
    queries: async () => {
      child.send('queries')
      const message = await next()
      if ('nameserver' in message) throw new Error('only the first message may be the nameserver')
      return message
    },
    stop: async () => {
      if (child.connected) child.disconnect()
      await exited
    },
  }
}

interface Scanned {
  readonly requests: number
  /** Answers of status 400 and up. */
  readonly refused: number
  readonly broken: number
}

async function scan(wrk: string, port: number): Promise<Scanned> {
  const script = fileURLToPath(new URL('scan.lua', import.meta.url))
  const url = `http://127.0.0.1:${port}`
  const paced = [String(rate), String(process.pid)]
  const child: ChildProcess = spawn(
    wrk,
    ['-t1', `-c${SCAN_CONNECTIONS}`, `-d${seconds}s`, '-s', script, url, '--', ...paced],
    { stdio: ['ignore', 'pipe', 'inherit'] },
  )
  const stop = (): void => void child.kill()
  interrupted.addEventListener('abort', stop)
  let output = ''
  child.stdout?.on('data', (chunk: Buffer) => {
    output += chunk
  })
  await once(child, 'close')
  interrupted.removeEventListener('abort', stop)
  const [result] = /^\{"requests".*\}$/m.exec(output) ?? []
  if (result === undefined) throw new Error(`wrk failed or was killed:\n${output}`)
  return JSON.parse(result) as Scanned
}

interface Figures {
  readonly kind: Kind
  readonly scanned: Scanned
  readonly rssMb: { readonly before: number; readonly peak: number; readonly after: number }
  readonly p99Ms: { readonly quiet: number; readonly scanned: number }
  readonly knownRequests: number
  readonly knownFailures: ReadonlyMap<string, number>
  readonly queries: Queries
  /** How long wrk ran, with a moment before and after. */
  readonly scanSeconds: number
  /** The processor's refusals, by reason. */
  readonly refusals: ReadonlyMap<string, number>
  /** How many known zones Envoy routes itself after the scan. */
  readonly hot: number
}

/** The highest value seen while `work` runs. */
async function peakDuring<T>(probe: () => number, work: Promise<T>): Promise<{ peak: number; result: T }> {
  let peak = probe()
  const timer = setInterval(() => {
    peak = Math.max(peak, probe())
  }, 500)
  try {
    const result = await work
    return { peak: Math.max(peak, probe()), result }
  } finally {
    clearInterval(timer)
  }
}

async function measure(kind: Kind, wrk: string, gateway: TestGateway, far: FarSide): Promise<Figures> {
  const processorMb = (): number => residentMb(gateway.processor?.process.pid)
  const known: Load = startLoad(gateway.port, CONNECTIONS, KNOWN_IDS, PAUSE_MS)
  const say = (text: string): void => console.log(`${kind} ids: ${text}`)
  try {
    say(`${KNOWN_IDS.length} zones in use, ${(WARM_UP_MS + QUIET_MS) / 1000} s without a scan`)
    await pause(WARM_UP_MS, interrupted)
    known.reset()
    await pause(QUIET_MS, interrupted)
    const quiet = percentile(known.durationsMs, 99)
    const [queriesBefore, refusalsBefore] = [await far.queries(), await refusalsOf(gateway)]
    const before = processorMb()
    known.reset()
    say(`${rate} ids a second for ${seconds} s`)
    const startedMs = performance.now()
    const { peak, result: scanned } = await peakDuring(processorMb, scan(wrk, gateway.port))
    const scanSeconds = (performance.now() - startedMs) / 1000
    const p99Ms = { quiet, scanned: percentile(known.durationsMs, 99) }
    const outcomes = new Map(known.outcomes)
    const knownRequests = known.durationsMs.length
    outcomes.delete('200')
    return {
      kind,
      scanned,
      rssMb: { before, peak, after: processorMb() },
      p99Ms,
      knownRequests,
      knownFailures: outcomes,
      queries: less(await far.queries(), queriesBefore),
      scanSeconds,
      refusals: increase(await refusalsOf(gateway), refusalsBefore),
      hot: (await hotIds(gateway)).length,
    }
  } finally {
    await known.stop()
  }
}

function less(one: Queries, other: Queries): Queries {
  return { known: one.known - other.known, scanned: one.scanned - other.scanned }
}

function increase(
  now: ReadonlyMap<string, number>,
  before: ReadonlyMap<string, number>,
): Map<string, number> {
  const grown = [...now].map(([key, count]) => [key, count - (before.get(key) ?? 0)] as const)
  return new Map(grown.filter(([, count]) => count > 0))
}

async function refusalsOf({ httpPort }: TestGateway): Promise<Map<string, number>> {
  const text = await (await fetch(`http://127.0.0.1:${httpPort}/metrics`)).text()
  const lines = text.matchAll(/^zonegate_decisions_total\{result="refused",reason="(\w+)"\} (\d+)$/gm)
  return new Map([...lines].map(([, reason = '', count]) => [reason, Number(count)]))
}

async function hotIds({ adminPort }: TestGateway): Promise<string[]> {
  const url = `http://127.0.0.1:${adminPort}/config_dump?resource=dynamic_route_configs`
  const text = await (await fetch(url)).text()
  return KNOWN_IDS.filter((id) => text.includes(`"name": "zonegate/${id}"`))
}

/** One scan of a new gateway. */
async function run(kind: Kind, wrk: string): Promise<Figures> {
  const port = await freePort(HOST)
  const far = await startFarSide(port, kind)
  let gateway: TestGateway | undefined
  try {
    gateway = await startGateway({
      timeoutsAsShipped: true,
      config: {
        rules: { port },
        dns: {
          nameservers: [far.nameserver],
          search: 'game.test',
          ttlSeconds: { min: 1, max: KNOWN_TTL_SECONDS },
        },
        learned: { enabled: !cold },
        addresses: { allow: ['127.0.91.0/24'] },
      },
    })
    return await measure(kind, wrk, gateway, far)
  } finally {
    await gateway?.stop()
    await far.stop()
  }
}

/** Prints the figures beside their bounds; true where all hold. */
function holds({
  kind,
  scanned,
  rssMb,
  p99Ms,
  knownRequests,
  knownFailures,
  queries,
  scanSeconds,
  refusals,
  hot,
}: Figures): boolean {
  const failures = [...knownFailures].map(([outcome, count]) => `${count} x ${outcome}`)
  const factor = p99Ms.scanned / p99Ms.quiet
  const allowed = queriesBurst + queriesPerSecond * scanSeconds
  const expected = new Set(['lookup_rate_limited', ...(kind === 'unknown' ? ['name_not_found'] : [])])
  const refused = [...refusals.values()].reduce((sum, count) => sum + count, 0)
  const reasons = [...refusals].map(([reason, count]) => `${count} ${reason}`).join(', ')
  const lines: readonly (readonly [string, boolean])[] = [
    [
      `${scanned.requests} of ${idsTotal} ids scanned in ${scanSeconds.toFixed(1)} s, ${scanned.refused} refused, ${scanned.broken} broken`,
      scanned.requests >= idsTotal * SCANNED_PART_MIN && scanned.broken === 0,
    ],
    [
      `the processor refused: ${reasons || 'none'} (bound: all refusals, for ${[...expected].join(' or ')})`,
      // wrk does not count requests that are under way when it ends.
      refused >= scanned.refused &&
        refused <= scanned.refused + SCAN_CONNECTIONS &&
        [...refusals.keys()].every((reason) => expected.has(reason)),
    ],
    [
      `the nameserver saw ${queries.scanned} queries of the scan (bound ${Math.floor(allowed)}: ` +
        `${queriesBurst} at once, then ${queriesPerSecond} a second)`,
      queries.scanned <= allowed,
    ],
    [
      `processor RSS ${rssMb.before.toFixed(1)} MB before, ${rssMb.peak.toFixed(1)} MB at most, ${rssMb.after.toFixed(1)} MB after: ` +
        `${(rssMb.peak - rssMb.before).toFixed(1)} MB (bound ${RSS_GROWTH_MB_MAX})`,
      rssMb.peak - rssMb.before <= RSS_GROWTH_MB_MAX,
    ],
    [
      `known zones: ${knownRequests} requests, failures ${failures.join(', ') || 0} (bound 0)`,
      knownRequests > 0 && failures.length === 0,
    ],
    [`known zones: ${queries.known} queries to the nameserver (bound 0)`, queries.known === 0],
    [`known zones: ${hot} of ${KNOWN_IDS.length} in Envoy after the scan`, cold || hot === KNOWN_IDS.length],
    [
      `known zones: p99 ${p99Ms.quiet.toFixed(2)} ms quiet, ${p99Ms.scanned.toFixed(2)} ms under the scan: ` +
        `${factor.toFixed(2)}x (bound ${P99_FACTOR_MAX}x)`,
      factor <= P99_FACTOR_MAX,
    ],
  ]
  console.log(`\n${kind} ids, learned zones ${cold ? 'off' : 'on'}`)
  for (const [line, ok] of lines) console.log(`  ${ok ? 'ok    ' : 'BROKEN'}  ${line}`)
  return lines.every(([, ok]) => ok)
}

async function main(): Promise<number> {
  const wrk = findCommand('wrk')
  if (wrk === undefined) {
    console.error('wrk makes the scan, and it is not installed: apt-get install wrk')
    return 2
  }
  let allHold = true
  for (const kind of ['unknown', 'wildcard'] as const) {
    if (interrupted.aborted) return 130
    try {
      const figures = await run(kind, wrk)
      if (interrupted.aborted) return 130
      allHold = holds(figures) && allHold
    } catch (error) {
      if (interrupted.aborted) return 130
      throw error
    }
  }
  return allHold ? 0 : 1
}

process.exitCode = await main()
