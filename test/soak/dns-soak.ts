/**
 * Nameservers die, lie, slow down and come back in turn while requests flow; none of a resolved zone may fail, and
 * memory stays flat. Loopback only.
 */
import { startGateway, type TestGateway } from '../support/gateway.ts'
import { call } from '../support/http.ts'
import { type Load, percentile, startLoad } from '../support/load.ts'
import {
  a,
  type Query,
  type Script,
  type ScriptedNameserver,
  startNameserver,
} from '../support/nameserver.ts'
import { freePort } from '../support/ports.ts'
import { type Receiver, startReceiver } from '../support/receiver.ts'
import { afflict, faultsOf, seededRandom } from './faults.ts'
import { mean, pause, positiveNumber, readOptions, residentMb, untilInterrupted } from './run.ts'

const ZONES = 50
const NAMESERVERS = 3
const HOSTS = ['127.0.90.1', '127.0.90.2'] as const
const POISON = '127.0.90.9'
const FAULT_MS = 20_000
const ALL_DEAD = 'all dead for 10 s'
const ALL_DEAD_MS = 10_000
const CONNECTIONS = 4
const PAUSE_MS = 20 // 4 connections, one request in 20 ms each: 200 a second
const WARM_UP_MS = 60_000
const SAMPLE_MS = 2_000
const RSS_GROWTH_MB_MAX = 10

const USAGE = `npm run soak [-- OPTIONS]

Nameservers die, lie, slow down and come back in turn while ${ZONES} zones are requested, through a real Envoy. Says what
happens as it happens, and the figures at each minute. Uses loopback addresses only.

  --minutes 10   how long
  --seed N       repeats the order of faults of a run that printed this seed
  --learned      zones are learned, so that Envoy answers by itself
  --help

Exits with 1 when a request of a resolved zone failed, or when the processor's resident memory grew by more
than ${RSS_GROWTH_MB_MAX} MB after the warm-up; with 130 when it was interrupted.`

const options = readOptions(USAGE, {
  minutes: { type: 'string', default: '10' },
  seed: { type: 'string', default: String(Date.now() % 1_000_000) },
  learned: { type: 'boolean', default: false },
})
const totalMs = positiveNumber('minutes', options['minutes']) * 60_000
const seed = positiveNumber('seed', options['seed'])
const learned = options['learned'] === true
const random = seededRandom(seed)
const interrupted = untilInterrupted()
const over = new AbortController()
/** Ctrl-C, or one part of the run has failed. */
const ended = AbortSignal.any([interrupted, over.signal])
const ids = Array.from({ length: ZONES }, (_, index) => `s${index + 1}`)
/** Where each zone's receiver is now. */
const hostOf = new Map(ids.map((id) => [id, HOSTS[0] as string]))
const started = performance.now()
const say = (text: string): void => {
  const seconds = Math.floor((performance.now() - started) / 1000)
  console.log(`${String(seconds).padStart(4)} s  ${text}`)
}

const good: Script = (query) => {
  const [, id = ''] = /^zone(\w+)-/.exec(query.name) ?? []
  const host = hostOf.get(id)
  if (host === undefined) query.reply({ rcode: 3 })
  else query.reply({ answers: query.type === 'A' ? [a(query.name, host, 1)] : [] })
}

interface Stage {
  readonly gateway: TestGateway
  readonly nameservers: readonly ScriptedNameserver[]
}

/** Turns of faults until the end: the whole deck in an order of its own, then again. */
async function trouble({ nameservers }: Stage, untilMs: number): Promise<void> {
  const faults = faultsOf(good, POISON, random)
  let deck: string[] = []
  while (performance.now() < untilMs && !ended.aborted) {
    if (deck.length === 0) deck = shuffled([...Object.keys(faults), ALL_DEAD])
    const kind = deck.pop() ?? ALL_DEAD
    const turnEndsMs = Math.min(untilMs, performance.now() + FAULT_MS)
    const moved = ids.filter(() => random() < 0.5)
    for (const id of moved) hostOf.set(id, hostOf.get(id) === HOSTS[0] ? HOSTS[1] : HOSTS[0])
    const ill = kind === ALL_DEAD ? nameservers : shuffled(nameservers).slice(0, random() < 0.3 ? 2 : 1)
    const who = ill.map((nameserver) => nameservers.indexOf(nameserver) + 1).sort()
    say(`nameserver ${who.join(', ')} of ${NAMESERVERS}: ${kind}; ${moved.length} zones moved`)
    const fault = kind === ALL_DEAD ? 'stopped' : (faults[kind] ?? 'stopped')
    await Promise.all(ill.map((nameserver) => afflict(nameserver, fault)))
    await pause(Math.min(kind === ALL_DEAD ? ALL_DEAD_MS : FAULT_MS, turnEndsMs - performance.now()), ended)
    for (const nameserver of ill) {
      nameserver.script = good
      if (fault === 'stopped') await nameserver.start()
    }
    await pause(turnEndsMs - performance.now(), ended)
  }
}

function shuffled<T>(values: readonly T[]): T[] {
  return values
    .map((value) => ({ value, rank: random() }))
    .sort((one, other) => one.rank - other.rank)
    .map(({ value }) => value)
}

interface Figures {
  requests: number
  failures: number
  readonly samples: { atMs: number; processorMb: number }[]
}

async function watch(stage: Stage, load: Load, untilMs: number, figures: Figures): Promise<void> {
  const { gateway, nameservers } = stage
  let minute = 1
  while (performance.now() < untilMs && !ended.aborted) {
    await pause(Math.min(SAMPLE_MS, untilMs - performance.now()), ended)
    const nowMs = performance.now()
    figures.samples.push({ atMs: nowMs, processorMb: residentMb(gateway.processor?.process.pid) })
    // The records of what was asked are for tests; kept for ten minutes they would weigh on this process.
    for (const { queries } of nameservers) (queries as Query[]).length = 0
    if (nowMs - started < minute * 60_000 || nowMs >= untilMs) continue
    minute += 1
    await printMinute(gateway, load, figures)
  }
}

/** Prints what happened since the last time, and starts anew. */
async function printMinute(gateway: TestGateway, load: Load, figures: Figures): Promise<void> {
  const outcomes = new Map(load.outcomes)
  const durationsMs = [...load.durationsMs]
  load.reset()
  const failed = [...outcomes].filter(([outcome]) => outcome !== '200')
  figures.requests += durationsMs.length
  figures.failures += failed.reduce((sum, [, count]) => sum + count, 0)
  const queries = await queriesByOutcome(gateway.httpPort)
  say(
    [
      `== ${durationsMs.length} requests, ${figures.failures} failures so far`,
      `p50 ${percentile(durationsMs, 50).toFixed(1)} ms, p99 ${percentile(durationsMs, 99).toFixed(1)} ms`,
      `RSS processor ${residentMb(gateway.processor?.process.pid).toFixed(1)} MB, Envoy ${residentMb(gateway.envoy.process.pid).toFixed(1)} MB`,
      `queries ${[...queries].map(([outcome, count]) => `${outcome} ${count}`).join(', ')}`,
    ].join('; '),
  )
  for (const [outcome, count] of failed) say(`   failed: ${count} x ${outcome}`)
}

async function queriesByOutcome(httpPort: number): Promise<Map<string, number>> {
  const response = await fetch(`http://127.0.0.1:${httpPort}/metrics`)
  const text = await response.text()
  const sums = new Map<string, number>()
  for (const [, labels = '', value] of text.matchAll(/^zonegate_dns_queries_total\{(.*)\} (\d+)$/gm)) {
    const outcome = /outcome="([^"]*)"/.exec(labels)?.[1] ?? labels
    sums.set(outcome, (sums.get(outcome) ?? 0) + Number(value))
  }
  return sums
}

/** Every zone resolved once: what fails from here on, fails though its answer was known. */
async function resolveAll(gateway: TestGateway): Promise<void> {
  for (const id of ids) {
    const { status, text } = await call(gateway.port, { headers: [['server', id]], body: 'x' })
    if (status !== 200) throw new Error(`zone ${id} fails before any fault: ${status} ${text}`)
  }
}

function verdict({ requests, failures, samples }: Figures): number {
  // A run too short for the whole warm-up leaves a quarter of itself.
  const from = started + Math.min(WARM_UP_MS, totalMs / 4)
  const warm = samples.filter(({ atMs }) => atMs >= from).map(({ processorMb }) => processorMb)
  const third = Math.max(1, Math.floor(warm.length / 3))
  const [first, last] = [mean(warm.slice(0, third)), mean(warm.slice(-third))]
  const flat = last - first <= RSS_GROWTH_MB_MAX
  console.log(`\nrequests ${requests}, failures ${failures} (bound 0): ${failures === 0 ? 'ok' : 'BROKEN'}`)
  console.log(
    `processor RSS, first third ${first.toFixed(1)} MB, last third ${last.toFixed(1)} MB, ` +
      `growth ${(last - first).toFixed(1)} MB (bound ${RSS_GROWTH_MB_MAX}): ${flat ? 'ok' : 'BROKEN'}`,
  )
  return failures === 0 && requests > 0 && flat ? 0 : 1
}

/** Until all have ended; where one fails the others end early. */
async function together(tasks: readonly Promise<void>[]): Promise<void> {
  try {
    await Promise.all(tasks)
  } finally {
    over.abort()
    await Promise.allSettled(tasks)
  }
}

async function main(): Promise<number> {
  const figures: Figures = { requests: 0, failures: 0, samples: [] }
  const port = await freePort(HOSTS[0])
  const receivers: Receiver[] = []
  const nameservers: ScriptedNameserver[] = []
  let gateway: TestGateway | undefined
  let load: Load | undefined
  try {
    const answer = (_: unknown, response: { end(text: string): void }): void => response.end('ok')
    for (const host of HOSTS) receivers.push(await startReceiver(host, port, answer))
    // On addresses of their own: one that is stopped finds its port free again, whatever connects from 127.0.0.1.
    for (let i = 1; i <= NAMESERVERS; i += 1) nameservers.push(await startNameserver(good, `127.0.95.${i}`))
    gateway = await startGateway({
      timeoutsAsShipped: true,
      config: {
        rules: { port },
        dns: {
          nameservers: nameservers.map(({ address }) => address),
          search: 'game.test',
          rotate: true, // in file order the second and third would hardly be asked
          timeoutMs: 200,
          ttlSeconds: { min: 1, max: 2 },
          staleSeconds: 60,
        },
        learned: { enabled: learned },
        addresses: { allow: ['127.0.90.0/24'] },
      },
    })
    say(`seed ${seed}, ${totalMs / 60_000} min, ${ZONES} zones, learned zones ${learned ? 'on' : 'off'}`)
    await resolveAll(gateway)
    load = startLoad(gateway.port, CONNECTIONS, ids, PAUSE_MS)
    const untilMs = started + totalMs
    const stage = { gateway, nameservers }
    await together([trouble(stage, untilMs), watch(stage, load, untilMs, figures)])
    await load.stop()
    await printMinute(gateway, load, figures)
    return interrupted.aborted ? 130 : verdict(figures)
  } finally {
    await load?.stop()
    await gateway?.stop()
    await Promise.all([...nameservers.map((one) => one.stop()), ...receivers.map((one) => one.close())])
  }
}

process.exitCode = await main()
