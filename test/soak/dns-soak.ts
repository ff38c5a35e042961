/**
 * Nameservers die, lie, slow down and come back in turn, under load. No request for a resolved zone may fail, and memory
 * must not grow. Loopback only.
 */
import { startGateway, type TestGateway } from '../support/gateway.ts'
import { call } from '../support/http.ts'
import { type Load, percentile, startLoad } from '../support/load.ts'
import { type Query, type ScriptedNameserver, startNameserver } from '../support/nameserver.ts'
import { freePort } from '../support/ports.ts'
import { type Receiver, startReceiver } from '../support/receiver.ts'
import { afflict, answering, cure, faultsOf, moveSome, seededRandom, shuffled } from './faults.ts'
import {
  mean,
  pause,
  positiveNumber,
  readOptions,
  residentMb,
  sayAt,
  together,
  untilInterrupted,
} from './run.ts'

const ZONES = 50
const NAMESERVERS = 3
const HOSTS = ['127.0.90.1', '127.0.90.2'] as const
const POISON = '127.0.90.9'
const FAULT_MS = 20_000
const ALL_DEAD = 'all dead for 10 s'
const ALL_DEAD_MS = 10_000
const CONNECTIONS = 4
const PAUSE_MS = 20 // each of 4 connections sends a request every 20 ms: 200 a second
const WARM_UP_MS = 60_000
const SAMPLE_MS = 2_000
const RSS_GROWTH_MB_MAX = 10

const USAGE = `npm run soak [-- OPTIONS]

Nameservers die, lie, slow down and come back in turn, while clients request ${ZONES} zones through a real Envoy. Prints each
fault when it begins, and figures every minute. Uses loopback addresses only.

  --minutes 10   length of the run
  --seed N       repeats the faults of the run that printed this seed
  --learned      Envoy learns the zones, so their requests do not ask the processor
  --help

Exits with 1 when a request for a resolved zone failed, or when the processor's resident memory grew by more
than ${RSS_GROWTH_MB_MAX} MB after the warm-up. Exits with 130 when interrupted.`

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
/** Ctrl-C, or a part of the run has failed. */
const ended = AbortSignal.any([interrupted, over.signal])
const ids = Array.from({ length: ZONES }, (_, index) => `s${index + 1}`)
/** Where each zone's receiver is now. */
const hostOf = new Map(ids.map((id) => [id, HOSTS[0] as string]))
const started = performance.now()
const say = (text: string): void => sayAt(started, text)

const good = answering(hostOf, 1)

interface Stage {
  readonly gateway: TestGateway
  readonly nameservers: readonly ScriptedNameserver[]
}

/** Faults until the end: all of them in random order, then again. */
async function trouble({ nameservers }: Stage, untilMs: number): Promise<void> {
  const faults = faultsOf(good, POISON, random)
  let deck: string[] = []
  while (performance.now() < untilMs && !ended.aborted) {
    if (deck.length === 0) deck = shuffled([...Object.keys(faults), ALL_DEAD], random)
    const kind = deck.pop() ?? ALL_DEAD
    const turnEndsMs = Math.min(untilMs, performance.now() + FAULT_MS)
    const moved = moveSome(hostOf, HOSTS, 0.5, random)
    const ill =
      kind === ALL_DEAD ? nameservers : shuffled(nameservers, random).slice(0, random() < 0.3 ? 2 : 1)
    const who = ill.map((nameserver) => nameservers.indexOf(nameserver) + 1).sort()
    say(`nameserver ${who.join(', ')} of ${NAMESERVERS}: ${kind}; ${moved} zones moved`)
    const fault = kind === ALL_DEAD ? 'stopped' : (faults[kind] ?? 'stopped')
    await Promise.all(ill.map((nameserver) => afflict(nameserver, fault)))
    await pause(Math.min(kind === ALL_DEAD ? ALL_DEAD_MS : FAULT_MS, turnEndsMs - performance.now()), ended)
    for (const nameserver of ill) await cure(nameserver, fault, good)
    await pause(turnEndsMs - performance.now(), ended)
  }
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
    // Tests read these records. Over ten minutes they would take memory and time here.
    for (const { queries } of nameservers) (queries as Query[]).length = 0
    if (nowMs - started < minute * 60_000 || nowMs >= untilMs) continue
    minute += 1
    await printMinute(gateway, load, figures)
  }
}

/** Prints what happened since the last call. */
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

/** Resolves every zone once. From here on a failure is a failure of a known zone. */
async function resolveAll(gateway: TestGateway): Promise<void> {
  for (const id of ids) {
    const { status, text } = await call(gateway.port, { headers: [['server', id]], body: 'x' })
    if (status !== 200) throw new Error(`zone ${id} fails before any fault: ${status} ${text}`)
  }
}

function verdict({ requests, failures, samples }: Figures): number {
  // In a short run the warm-up is a quarter of it.
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
    // Each has its own address, where no outgoing connection can take its port while it is stopped.
    for (let i = 1; i <= NAMESERVERS; i += 1) nameservers.push(await startNameserver(good, `127.0.95.${i}`))
    gateway = await startGateway({
      timeoutsAsShipped: true,
      config: {
        rules: { port },
        dns: {
          nameservers: nameservers.map(({ address }) => address),
          search: 'game.test',
          rotate: true, // otherwise the second and third would get few queries
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
    await together([trouble(stage, untilMs), watch(stage, load, untilMs, figures)], over)
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
