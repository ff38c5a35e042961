const HELP = `Three gateways behind one TCP balancer: what kills, faults and changes cost callers.

usage: npm run soak:fleet [-- --minutes 20] [--zones 2000] [--seed N]

A pod is a real Envoy with its processor; the balancer is an Envoy too. The run picks events at random: it kills a
processor, ends it, or stops it for 3 s; it drains and replaces an Envoy, or kills it; it changes zonegate.yaml and
routes.yaml in one pod after the other, sometimes with errors in them. Meanwhile nameservers die, lie and slow down, and
zones move. The run never kills the last pod's processes, because their memory has to show growth.

Bounds: no request for a resolved zone fails. There is one exception, which the run counts separately: a killed Envoy (-9)
loses its open connections, so within 0.5 s as many requests may end without an answer. Any answer other than 200 is a
failure. The memory of each process in the last pod grows by less than 16 MB.

Zones have 2 s for an answer instead of 0.5 s, so that a busy machine causes no failures.
Loopback only; needs some 1.5 GB. Ctrl-C ends it. Exit code 0 when all bounds hold.
`

import { openSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { stringify } from 'yaml'
import { type Part, startPart, untilReady } from '../../src/launch/instance.ts'
import { type Fleet, learnedIds, startFleet } from '../support/fleet.ts'
import type { TestGateway } from '../support/gateway.ts'
import { call } from '../support/http.ts'
import { type Failure, type Load, percentile, startLoad } from '../support/load.ts'
import { type ScriptedNameserver, startNameserver } from '../support/nameserver.ts'
import { freePort } from '../support/ports.ts'
import { afflict, answering, cure, faultsOf, moveSome, seededRandom, shuffled } from './faults.ts'
import { type KillWindow, Outcomes } from './fleet-outcomes.ts'
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

const PODS = 3
const NAMESERVERS = 3
const HOSTS = ['127.0.91.1', '127.0.91.2'] as const
const POISON = '127.0.91.9'
const TTL_SECONDS = 20
const CONNECTIONS = 12
const PAUSE_MS = 25 // each of 12 connections sends a request every 25 ms: about 400 a second
const FAULT_MS = 20_000
const EVENT_PAUSE_MS = 4_000
const HANG_MS = 3_000
const SAMPLE_MS = 5_000
const RSS_GROWTH_MB_MAX = 16
const WARM_UP_MS = 300_000
const WARM_WITHIN_MS = 60_000
const WARM_POLL_MS = 2_000 // each answer of Envoy has some MB
const RECEIVER = fileURLToPath(new URL('../../demo/receiver.ts', import.meta.url))

const options = readOptions(HELP, {
  minutes: { type: 'string', default: '20' },
  zones: { type: 'string', default: '2000' },
  seed: { type: 'string', default: String(Date.now() % 1_000_000) },
})
const totalMs = positiveNumber('minutes', options['minutes']) * 60_000
const zones = positiveNumber('zones', options['zones'])
const seed = positiveNumber('seed', options['seed'])
const random = seededRandom(seed)
const interrupted = untilInterrupted()
const over = new AbortController()
const ended = AbortSignal.any([interrupted, over.signal])
const ids = Array.from({ length: zones }, (_, index) => `f${index + 1}`)
const hostOf = new Map(ids.map((id) => [id, HOSTS[0] as string]))
let started = performance.now()
const say = (text: string): void => sayAt(started, text)

const good = answering(hostOf, TTL_SECONDS)

interface Stage {
  readonly fleet: Fleet
  readonly nameservers: readonly ScriptedNameserver[]
  readonly config: Record<string, Record<string, unknown>>
  readonly outcomes: Outcomes
}

const of = <T>(values: readonly T[]): T => values[Math.floor(random() * values.length)] as T

/** What may happen to a pod, by name. Each returns when the pod is complete again. */
const EVENTS: Record<string, (stage: Stage, pod: TestGateway) => Promise<void>> = {
  'processor: kill -9': async (_, pod) => {
    await pod.processor?.stop('SIGKILL')
    await pause(random() * 2000, ended)
    await pod.startProcessor()
  },
  'processor: SIGTERM, and the next one': async (_, pod) => {
    await pod.processor?.stop('SIGTERM')
    await pod.startProcessor()
  },
  'processor: stopped for 3 s': async (_, pod) => {
    pod.processor?.process.kill('SIGSTOP')
    await pause(HANG_MS, ended)
    pod.processor?.process.kill('SIGCONT')
  },
  'Envoy: drained and replaced': async ({ fleet }, pod) => fleet.replaceEnvoy(pod),
  'Envoy: kill -9': async ({ outcomes }, pod) => {
    // At most this many requests may end without an answer.
    const held = await pod.stat('http.callback.downstream_cx_active')
    outcomes.envoyKilled(performance.now(), held + 1)
    await pod.envoy.stop('SIGKILL')
    await pod.startEnvoy()
  },
}

async function trouble(stage: Stage, untilMs: number): Promise<void> {
  const killable = stage.fleet.pods.slice(0, -1)
  let deck: string[] = []
  while (performance.now() < untilMs && !ended.aborted) {
    if (deck.length === 0) deck = shuffled([...Object.keys(EVENTS), ROLLING_CHANGE], random)
    const kind = deck.pop() ?? ROLLING_CHANGE
    if (kind === ROLLING_CHANGE) {
      say(kind)
      await rollChange(stage)
    } else {
      const pod = of(killable)
      say(`pod ${stage.fleet.pods.indexOf(pod) + 1}: ${kind}`)
      await EVENTS[kind]?.(stage, pod)
      if (!ended.aborted) await untilWarm(pod)
    }
    await pause(EVENT_PAUSE_MS, ended)
  }
}

const ROLLING_CHANGE =
  'all pods, one after the other: zonegate.yaml broken, then another; routes.yaml another'

/** Rolls out a configuration. The broken file must change nothing. */
async function rollChange({ fleet, config }: Stage): Promise<void> {
  const timeoutMs = 150 + Math.floor(random() * 100)
  const perTry = `${(2 + random()).toFixed(2)}s`
  for (const pod of fleet.pods) {
    const file = join(pod.folder, 'zonegate.yaml')
    const listen = { http: `127.0.0.1:${pod.httpPort}` }
    writeFileSync(file, 'dns: { timeoutMs: [')
    await pause(1500, ended)
    writeFileSync(file, stringify({ ...config, dns: { ...config['dns'], timeoutMs }, listen }))
    const routes = join(pod.folder, 'envoy/routes.yaml')
    writeFileSync(
      routes,
      readFileSync(routes, 'utf8').replace(/per_try_timeout: [\d.]+s/, `per_try_timeout: ${perTry}`),
    )
    await pause(2000, ended)
  }
}

/** Waits until this pod's Envoy routes every zone itself. */
async function untilWarm(pod: TestGateway): Promise<void> {
  const deadline = performance.now() + WARM_WITHIN_MS
  while (!ended.aborted) {
    const { size } = await learnedIds(pod)
    if (size >= zones) return
    if (performance.now() > deadline)
      throw new Error(`only ${size} of ${zones} zones were learned in a minute`)
    await pause(WARM_POLL_MS, ended)
  }
}

/** Gives faults to one or two of the nameservers at a time. */
async function nameserverTrouble({ nameservers }: Stage, untilMs: number): Promise<void> {
  const faults = faultsOf(good, POISON, random)
  let deck: string[] = []
  while (performance.now() < untilMs && !ended.aborted) {
    if (deck.length === 0) deck = shuffled(Object.keys(faults), random)
    const kind = deck.pop() ?? 'silent'
    const ill = shuffled(nameservers, random).slice(0, random() < 0.3 ? 2 : 1)
    const moved = moveSome(hostOf, HOSTS, 0.1, random)
    const who = ill.map((nameserver) => nameservers.indexOf(nameserver) + 1).sort()
    say(`nameserver ${who.join(', ')} of ${NAMESERVERS}: ${kind}; ${moved} zones moved`)
    const fault = faults[kind] ?? 'stopped'
    await Promise.all(ill.map((nameserver) => afflict(nameserver, fault)))
    await pause(Math.min(FAULT_MS, untilMs - performance.now()), ended)
    for (const nameserver of ill) await cure(nameserver, fault, good)
  }
}

interface Sample {
  readonly atMs: number
  readonly processorMb: number
  readonly envoyMb: number
}

async function watch(stage: Stage, load: Load, untilMs: number, samples: Sample[]): Promise<void> {
  const last = stage.fleet.pods.at(-1)
  let minute = 1
  while (performance.now() < untilMs && !ended.aborted) {
    await pause(Math.min(SAMPLE_MS, untilMs - performance.now()), ended)
    samples.push({
      atMs: performance.now(),
      processorMb: residentMb(last?.processor?.process.pid),
      envoyMb: residentMb(last?.envoy.process.pid),
    })
    // Tests read these records. In a long run they would take memory and time here.
    for (const { queries } of stage.nameservers) (queries as unknown[]).length = 0
    if (performance.now() - started < minute * 60_000) continue
    minute += 1
    await printMinute(stage, load)
  }
}

async function printMinute({ fleet, outcomes }: Stage, load: Load): Promise<void> {
  const durationsMs = [...load.durationsMs]
  outcomes.requests += durationsMs.length
  load.reset()
  const allocatedMb = ((await fleet.pods.at(-1)?.stat('server.memory_allocated')) ?? 0) / 1e6
  const memory = fleet.pods.map(
    (pod) =>
      `${residentMb(pod.processor?.process.pid).toFixed(0)}/${residentMb(pod.envoy.process.pid).toFixed(0)}`,
  )
  say(
    `== ${durationsMs.length} requests, ${outcomes.failures.length} failures and ${outcomes.brokenOff} broken off so far; ` +
      `p50 ${percentile(durationsMs, 50).toFixed(1)} ms, p99 ${percentile(durationsMs, 99).toFixed(1)} ms; ` +
      `MB processor/Envoy of each pod ${memory.join(' ')}, ` +
      `${allocatedMb.toFixed(0)} of the last Envoy's in use`,
  )
}

function verdict({ outcomes }: Stage, all: readonly Sample[]): number {
  // By then each kind of change has happened several times. Memory that a change takes only once is no growth.
  const from = Math.min(WARM_UP_MS, totalMs / 4)
  const samples = all.filter(({ atMs }) => atMs - started >= from)
  const third = Math.max(1, Math.floor(samples.length / 3))
  const kills = outcomes.kills.length
  const lines = [
    [
      `requests ${outcomes.requests}, failures ${outcomes.failures.length} (bound 0)`,
      outcomes.failures.length === 0 && outcomes.requests > 0,
    ],
    [`broken off with ${kills} killed Envoys: ${outcomes.brokenOff} (bound ${outcomes.brokenOffMax})`, true],
  ] as [string, boolean][]
  for (const part of ['processorMb', 'envoyMb'] as const) {
    const values = samples.map((sample) => sample[part])
    const [first, last] = [mean(values.slice(0, third)), mean(values.slice(-third))]
    const text = `${part.replace('Mb', '')} of the last pod, RSS: first third ${first.toFixed(1)} MB, last third ${last.toFixed(1)} MB`
    lines.push([`${text} (bound +${RSS_GROWTH_MB_MAX})`, last - first <= RSS_GROWTH_MB_MAX])
  }
  console.log('')
  for (const [text, ok] of lines) console.log(`${text}: ${ok ? 'ok' : 'BROKEN'}`)
  return lines.every(([, ok]) => ok) ? 0 : 1
}

/** A separate process, which this one can't delay. */
async function startReceiver(host: string, port: number): Promise<Part> {
  const output = openSync('/dev/null', 'w')
  const args = [RECEIVER, '--zone', '1', '--listen', `${host}:${port}`]
  const part = startPart('receiver', process.execPath, args, { cwd: process.cwd(), output })
  await untilReady(part, host, port, '/')
  return part
}

/** Requests each zone twice through each pod, so that its Envoy learns the zone. */
async function warmUp({ pods }: Fleet): Promise<void> {
  const queue = pods.flatMap(({ port }) =>
    ids.flatMap((id) => [
      { port, id },
      { port, id },
    ]),
  )
  const worker = async (): Promise<void> => {
    for (let next = queue.shift(); next !== undefined && !ended.aborted; next = queue.shift()) {
      const { status, text } = await call(next.port, { headers: [['server', next.id]], body: 'x' })
      if (status !== 200) throw new Error(`zone ${next.id} fails before any fault: ${status} ${text}`)
    }
  }
  await Promise.all(Array.from({ length: 16 }, worker))
  for (const pod of pods) await untilWarm(pod)
}

async function main(): Promise<number> {
  const port = await freePort(HOSTS[0])
  const receivers: Part[] = []
  const nameservers: ScriptedNameserver[] = []
  let fleet: Fleet | undefined
  let load: Load | undefined
  try {
    for (const host of HOSTS) receivers.push(await startReceiver(host, port))
    // Each has its own address, where no outgoing connection can take its port while it is stopped.
    for (let i = 1; i <= NAMESERVERS; i += 1) nameservers.push(await startNameserver(good, `127.0.94.${i}`))
    const config = {
      rules: { port },
      dns: {
        nameservers: nameservers.map(({ address }) => address),
        search: 'game.test',
        rotate: true,
        timeoutMs: 200,
        ttlSeconds: { min: 1, max: TTL_SECONDS },
        unknownNames: { queriesPerSecond: 500, queriesBurst: 2 * zones }, // docs/capacity.md: a pod that starts
      },
      learned: { zonesMax: zones + 500 },
      addresses: { allow: ['127.0.91.0/24'] },
    }
    const patient = (text: string): string => text.replace('per_try_timeout: 0.5s', 'per_try_timeout: 2s')
    fleet = await startFleet(PODS, { config, timeoutsAsShipped: true, edit: { 'routes.yaml': patient } })
    say(`seed ${seed}, ${totalMs / 60_000} min, ${PODS} pods, ${zones} zones: warming up`)
    await warmUp(fleet)
    started = performance.now()
    say('every Envoy routes every zone itself')
    const outcomes = new Outcomes((failure: Failure, kill: KillWindow | undefined) => {
      if (kill === undefined) say(`   FAILED: ${failure.outcome}`)
    })
    load = startLoad(fleet.port, CONNECTIONS, ids, PAUSE_MS, (failure) => outcomes.failed(failure))
    const untilMs = started + totalMs
    const stage: Stage = { fleet, nameservers, config, outcomes }
    const samples: Sample[] = []
    await together(
      [trouble(stage, untilMs), nameserverTrouble(stage, untilMs), watch(stage, load, untilMs, samples)],
      over,
    )
    await load.stop()
    await printMinute(stage, load)
    return interrupted.aborted ? 130 : verdict(stage, samples)
  } finally {
    await load?.stop()
    await fleet?.stop()
    await Promise.all([
      ...nameservers.map((one) => one.stop()),
      ...receivers.map((one) => one.stop('SIGKILL')),
    ])
  }
}

process.exitCode = await main()
