import { cpSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { parse, stringify } from 'yaml'
import {
  ADMIN_VARIABLE,
  addressesOf,
  LISTEN_VARIABLE,
  readFallbackDns,
  tracingOf,
} from '../../src/config/envoy-settings.ts'
import { loadConfig } from '../../src/config/load.ts'
import { rulesOf } from '../../src/config/rules.ts'
import { renderFolder } from '../../src/envoy-files/folder.ts'
import { generate } from '../../src/envoy-files/generated.ts'
import { MALLOC_ENV, nodeOptions } from '../../src/launch/instance.ts'
import { freePort } from '../../test/support/ports.ts'
import { usageOf } from '../machine.ts'
import { type Child, type Installed, untilListening } from '../processes.ts'
import { askEach, asking, everywhere, expectStatus } from '../requests.ts'
import { receiverNetwork, searchDomain, type Zone } from '../zones.ts'
import { envoyInstalled, readStat, runEnvoy, startWithinMs } from './envoy.ts'
import type { Running, Setting, System } from './system.ts'

/** Zonegate as it ships, except that no system here writes an access log or makes request ids. Envoy routes learned zones. */
export const zonegate: System = {
  name: 'zonegate',
  title: 'Zonegate, learned zones',
  routesByZone: true,
  connectsByZone: true,
  installed,
  async start(setting) {
    const running = await startZonegate(setting, { learned: true, accessLog: false })
    return { ...running, ...onlyHot(running, setting.zones) }
  },
}

/** The same with `learned.sharedRoutes`: many zones share a virtual host. */
export const zonegateShared: System = {
  ...zonegate,
  name: 'zonegate-shared',
  title: 'Zonegate, learned zones with shared routes',
  onlyNamed: true,
  async start(setting) {
    const running = await startZonegate(setting, { learned: true, accessLog: false, sharedRoutes: true })
    return { ...running, ...onlyHot(running, setting.zones) }
  },
}

/**
 * The same with other rules. Every request has the id in every place, so these systems differ only in where they look for
 * it.
 */
export const zonegateBySource: readonly System[] = [
  bySource('header', 'id in a header', { id: { header: 'server' } }),
  bySource('query', 'id in the query', { id: { query: 'server' } }),
  bySource('path', 'id in the path', { id: { path: '/cb/{id}/*' } }),
  bySource('host', 'id in the host', { id: { host: '{id}.cb.test' } }),
  bySource('cookie', 'id in a cookie', { id: { cookie: 'server' } }),
  bySource('json', 'id in a JSON body', { id: { json: '/server' } }),
  bySource('form', 'id in a form, as its body', { id: { form: 'server' } }, everywhere('form')),
  bySource('rules', 'four rules by path, the last has the id in a header', [
    { name: 'pay', match: { paths: ['/pay/*'] }, id: { query: 'server' } },
    { name: 'chat', match: { paths: ['/chat/*'] }, id: { json: '/server' } },
    { name: 'notify', match: { paths: ['/notify/*'] }, id: { path: '/notify/{id}/*' } },
    { name: 'default', match: { paths: ['/c*'] }, id: { header: 'server' } },
  ]),
]

function bySource(name: string, title: string, rules: object, form = everywhere('json')): System {
  return {
    ...zonegate,
    name: `zonegate-${name}`,
    title: `Zonegate, ${title}`,
    onlyNamed: true,
    async start(setting) {
      const running = { ...(await startZonegate(setting, { learned: true, accessLog: false, rules })), form }
      return { ...running, ...onlyHot(running, setting.zones) }
    },
  }
}

/** Every request asks the processor. */
export const zonegateCold: System = {
  name: 'zonegate-cold',
  title: 'Zonegate, cold path',
  routesByZone: true,
  installed,
  start: (setting) => startZonegate(setting, { learned: false, accessLog: false }),
}

const root = fileURLToPath(new URL('../..', import.meta.url))

async function installed(): Promise<Installed> {
  const envoy = await envoyInstalled()
  if ('missing' in envoy) return envoy
  const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))
  return { version: `Zonegate ${version} on ${envoy.version} and Node ${process.versions.node}` }
}

export interface ZonegateOptions {
  /** False: every request takes the cold path. */
  readonly learned: boolean
  readonly accessLog: boolean
  /** `rules` in zonegate.yaml; undefined: the defaults. */
  readonly rules?: object
  /** `learned.zonesMax`; undefined: room for all zones, and at least the default. */
  readonly zonesMax?: number
  /** `learned.sharedRoutes`. */
  readonly sharedRoutes?: boolean
  /** Node's options for the processor. */
  readonly nodeOptions?: readonly string[]
  readonly env?: NodeJS.ProcessEnv
}

export interface RunningZonegate extends Running {
  readonly adminPort: number
  /** The port of `listen.http`. */
  readonly httpPort: number
  readonly processor: Child
  readonly envoy: Child
  /** Starts another Envoy after the first has ended. */
  startEnvoy(): Promise<Child>
}

export async function startZonegate(setting: Setting, options: ZonegateOptions): Promise<RunningZonegate> {
  const [port, adminPort, httpPort] = [await freePort(), await freePort(), await freePort()]
  const { processes } = setting
  cpSync(join(root, 'envoy'), join(processes.scratch, 'envoy'), { recursive: true })
  if (setting.zones.length > zonesOfOneGibibyte)
    giveMemory(join(processes.scratch, 'envoy/envoy.yaml'), setting.zones.length)
  const file = join(processes.scratch, 'envoy/listener.yaml')
  if (!options.accessLog) writeFileSync(file, withoutExtras(readFileSync(file, 'utf8'), setting.requestIds))
  if (setting.under !== undefined) giveTime(join(processes.scratch, 'envoy'))
  const addresses = { [LISTEN_VARIABLE]: `127.0.0.1:${port}`, [ADMIN_VARIABLE]: `127.0.0.1:${adminPort}` }
  const processor = await startProcessor(
    setting,
    { ...options, env: { ...options.env, ...addresses } },
    httpPort,
  )
  const { config } = loadConfig(join(processes.scratch, 'zonegate.yaml'))
  renderFolder(
    processes.scratch,
    generate(rulesOf(config), readFallbackDns(config, {}), tracingOf(config)),
    addressesOf(config, addresses),
  )
  const startEnvoy = async (): Promise<Child> => {
    const envoy = await runEnvoy(setting, readFileSync(join(processes.scratch, 'run/envoy.yaml'), 'utf8'))
    await untilListening(envoy, '127.0.0.1', port, startWithinMs)
    return envoy
  }
  const envoy = await startEnvoy()
  return { port, adminPort, httpPort, children: [envoy, processor], processor, envoy, startEnvoy }
}

async function startProcessor(setting: Setting, options: ZonegateOptions, httpPort: number): Promise<Child> {
  const { processes, nameservers, zones } = setting
  const config = join(processes.scratch, 'zonegate.yaml')
  const own = {
    listen: { http: `127.0.0.1:${httpPort}` },
    ...(options.rules && { rules: options.rules }),
    dns: {
      nameservers: nameservers.map(({ address, port }) => `${address}:${port}`),
      search: searchDomain,
      // In a run's first pass every zone is new.
      unknownNames: { queriesBurst: Math.max(unknownBurstDefault, 4 * zones.length) },
      cacheEntriesMax: Math.max(cacheEntriesDefault, 2 * zones.length),
    },
    addresses: { allow: [receiverNetwork] },
    learned: options.learned
      ? {
          zonesMax: options.zonesMax ?? Math.max(zonesMaxDefault, zones.length),
          sharedRoutes: options.sharedRoutes ?? false,
        }
      : { enabled: false },
  }
  writeFileSync(config, stringify(own))
  const main = join(root, 'src/main.ts')
  const args = [...nodeOptions(), ...(options.nodeOptions ?? []), main, 'serve', '--config', config]
  const processor = await processes.start('processor', process.execPath, args, {
    env: { ...MALLOC_ENV, ...options.env },
  })
  await untilListening(processor, '127.0.0.1', httpPort)
  return processor
}

/** The default of `dns.unknownNames.queriesBurst`. */
const unknownBurstDefault = 2000
/** The default of `dns.cacheEntriesMax`. */
const cacheEntriesDefault = 10_000
/** More zones, each with an open connection, need more than the shipped `max_heap_size_bytes`. */
const zonesOfOneGibibyte = 15_000

/** Twice what a zone with an open connection takes. */
const bytesPerZone = 80_000

function giveMemory(file: string, zones: number): void {
  const text = readFileSync(file, 'utf8')
  writeFileSync(
    file,
    text.replace(/max_heap_size_bytes: \d+/, `max_heap_size_bytes: ${zones * bytesPerZone}`),
  )
}

/** The default of `learned.zonesMax`. */
const zonesMaxDefault = 2_000

/** The listener file without what no other system does. */
function withoutExtras(text: string, requestIds: boolean): string {
  const config = parse(text)
  const listener = config.resources.find(({ name }: { name: string }) => name === 'callback')
  const connectionManager = listener.filter_chains[0].filters[0].typed_config
  delete connectionManager.access_log
  connectionManager.generate_request_id = requestIds
  return stringify(config)
}

/** Envoy is slow under another program, so its files get longer timeouts. */
function giveTime(folder: string): void {
  for (const [name, key] of [
    ['listener.yaml', 'message_timeout'],
    ['routes.yaml', 'per_try_timeout'],
  ] as const) {
    const file = join(folder, name)
    writeFileSync(file, readFileSync(file, 'utf8').replace(new RegExp(`${key}: [0-9.]+s`), `${key}: 60s`))
  }
}

const hotWithinMs = 240_000
const hotWithinMsPerZone = 10
/** Several times as long as a push of routes takes. */
const betweenPassesMs = 200
/** Share of a core. The processor keeps addresses fresh and reads load reports, but gets no requests. */
const idleCpuShareMax = 0.1

/** Makes every zone hot. Afterwards any request that asks the processor is a fault. */
function onlyHot(
  running: RunningZonegate,
  zones: readonly Zone[],
): Required<Pick<Running, 'settle' | 'fault'>> {
  let settled = { asked: 0, cpuMicros: 0, atMs: 0 }
  const state = async () => ({
    asked: await askedSoFar(running),
    cpuMicros: usageOf([running.processor.pid]).get(running.processor.pid)?.cpuMicros ?? 0,
    atMs: performance.now(),
  })
  return {
    async settle() {
      await untilHot(running, zones)
      settled = await state()
    },
    async fault() {
      const { asked, cpuMicros, atMs } = await state()
      if (asked > settled.asked) return `${asked - settled.asked} requests for hot zones asked the processor`
      const share = (cpuMicros - settled.cpuMicros) / 1000 / (atMs - settled.atMs)
      return share > idleCpuShareMax
        ? `the processor used ${(share * 100).toFixed(0)} % of a core`
        : undefined
    },
  }
}

/** Asks for all zones until no request reaches the processor. Every zone must have had a request before. */
export async function untilHot(running: RunningZonegate, zones: readonly Zone[]): Promise<void> {
  const withinMs = Math.max(hotWithinMs, zones.length * hotWithinMsPerZone)
  const deadline = performance.now() + withinMs
  await asking(running, async (ask) => {
    for (;;) {
      const before = await askedSoFar(running)
      await askEach(ask, zones, (zone, got) => expectStatus(200, got, `zone ${zone.id}`))
      if ((await askedSoFar(running)) === before) return
      if (performance.now() > deadline) throw new Error(`not all zones are hot after ${withinMs / 1000} s`)
      await sleep(betweenPassesMs)
    }
  })
}

/** How many streams Envoy has opened to the processor: one for each request that asks, and two that stay. */
export function askedSoFar({ adminPort }: RunningZonegate): Promise<number> {
  return readStat(adminPort, 'cluster.processor.upstream_rq_total')
}
