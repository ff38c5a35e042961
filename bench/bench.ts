/** `npm run bench`: the comparison of Zonegate with its rivals, in one command. See options.ts for what it takes. */

import { writeFileSync } from 'node:fs'
import { countInstructions, findValgrind, type Instructions, renderInstructions } from './instructions.ts'
import { findWrk } from './load.ts'
import { describeMachine, openFilesMax } from './machine.ts'
import { type Many, measureMany, newZones, renderMany } from './many.ts'
import { startNameserver } from './nameserver.ts'
import { help, type Options, parseOptions } from './options.ts'
import { measurePage, renderPage } from './page.ts'
import { endAllOnExit, Processes } from './processes.ts'
import { startReceivers } from './receivers.ts'
import { caseTitle, renderMachine, renderRatios, renderTable, summarise } from './report.ts'
import { measureScale, renderScale, type Scale, sampleSize } from './scale.ts'
import { caddy } from './systems/caddy.ts'
import { envoyBare } from './systems/envoy-bare.ts'
import { envoyDns } from './systems/envoy-dns.ts'
import { envoyStatic, envoyStaticPolicy } from './systems/envoy-static.ts'
import { haproxy } from './systems/haproxy.ts'
import { nginxVariable } from './systems/nginx-variable.ts'
import { seed } from './systems/seed.ts'
import type { System } from './systems/system.ts'
import { zonegate, zonegateBySource, zonegateCold, zonegateShared } from './systems/zonegate.ts'
import { type Case, type Result, raise, type Stage, type Standing, type Turn, takeTurn } from './turn.ts'
import { firstZones, receiverAddresses } from './zones.ts'

const catalogue: readonly System[] = [
  envoyBare,
  seed,
  nginxVariable,
  haproxy,
  caddy,
  envoyDns,
  envoyStatic,
  envoyStaticPolicy,
  zonegate,
  zonegateCold,
  zonegateShared,
  ...zonegateBySource,
]

const isChosen =
  ({ systems }: Options) =>
  ({ name, onlyNamed = false }: System): boolean =>
    systems?.includes(name) ?? !onlyNamed

/** A line for above the figures; empty where all systems had the usual requests. */
function noteOn(systems: readonly System[]): string {
  return systems.some((system) => zonegateBySource.includes(system))
    ? 'Zonegate, id in …, and with four rules: each got the same requests, with the id in every place; the others shorter ones\n'
    : ''
}

async function main(): Promise<number> {
  const options = parseOptions(
    process.argv.slice(2),
    catalogue.map((system) => system.name),
  )
  if (options.help) {
    console.log(help(catalogue))
    return 0
  }
  if (options.scale !== undefined) return reportScale(options, options.scale)
  if (options.many !== undefined) return reportMany(options, options.many)
  if (options.page !== undefined) return reportPage(options, options.page)
  if (options.instructions) return reportInstructions(options)
  const chosen = catalogue.filter(isChosen(options))
  const { systems, versions, missing } = await installedOf(chosen)
  if (systems.length === 0) throw new Error('none of these systems is installed')
  const cases = options.zones.flatMap((zones) => options.workers.map((workers) => ({ zones, workers })))
  const stage = await setStage(options, systems, versions)
  const turns = await takeTurns(stage, systems, cases, options.rounds)
  await stage.processes.stop()
  report(options, { systems, versions, missing, cases, turns })
  return turns.some((turn) => 'void' in turn.result) ? 1 : 0
}

async function reportScale(options: Options, counts: readonly number[]): Promise<number> {
  const { versions } = await installedOf([zonegate])
  const stage = await setStage(
    { ...options, zones: counts.map((count) => count + sampleSize), workers: [1] },
    [zonegate],
    versions,
  )
  const scales: Scale[] = []
  for (const count of counts) {
    console.log(`measuring ${count} zones`)
    scales.push(await measureScale(stage, count, options.sharedRoutes))
  }
  await stage.processes.stop()
  const machine = describeMachine()
  console.log(`\n${renderMachine(machine, versions)}\n\n${renderScale(scales)}`)
  writeJson(options, { machine, options, versions: Object.fromEntries(versions), scales })
  return 0
}

async function reportMany(options: Options, counts: readonly number[]): Promise<number> {
  const { versions } = await installedOf([zonegate])
  const stage = await setStage(
    { ...options, zones: counts.map((count) => count + newZones), workers: [1] },
    [zonegate],
    versions,
  )
  const all: Many[] = []
  for (const count of counts) {
    console.log(`measuring ${count} zones`)
    all.push(await measureMany(stage, count, options))
  }
  await stage.processes.stop()
  const machine = describeMachine()
  console.log(`\n${renderMachine(machine, versions)}\n\n${renderMany(all)}`)
  writeJson(options, { machine, options, versions: Object.fromEntries(versions), many: all })
  return 0
}

/** Those that run on Envoy. */
const counted = [
  envoyBare,
  envoyStatic,
  envoyStaticPolicy,
  zonegate,
  zonegateCold,
  zonegateShared,
  ...zonegateBySource,
]

async function reportInstructions(options: Options): Promise<number> {
  findValgrind()
  const chosen = counted.filter(isChosen(options))
  const { systems, versions } = await installedOf(chosen)
  if (systems.length === 0)
    throw new Error(`instructions are counted of ${counted.map(({ name }) => name).join(', ')}`)
  const zones = options.zones[0] as number
  const stage = await setStage({ ...options, zones: [zones], workers: [1] }, systems, versions)
  const all: Instructions[] = []
  for (const system of systems) {
    console.log(`counting ${system.name}, ${zones} zones`)
    all.push(await countInstructions(stage, system, zones))
  }
  await stage.processes.stop()
  const machine = describeMachine()
  console.log(`\n${renderMachine(machine, versions)}\n${noteOn(systems)}\n${renderInstructions(all)}`)
  writeJson(options, { machine, options, versions: Object.fromEntries(versions), instructions: all })
  return 0
}

async function reportPage(options: Options, count: number): Promise<number> {
  const { versions } = await installedOf([zonegate])
  const stage = await setStage({ ...options, zones: [count], workers: [1] }, [zonegate], versions)
  const looked = await measurePage(stage, count, options.rounds)
  await stage.processes.stop()
  const machine = describeMachine()
  console.log(`\n${renderMachine(machine, versions)}\n\n${renderPage(looked)}`)
  writeJson(options, { machine, options, versions: Object.fromEntries(versions), looked })
  return 0
}

function writeJson({ jsonPath }: Options, everything: object): void {
  if (jsonPath !== undefined) writeFileSync(jsonPath, `${JSON.stringify(everything, null, 2)}\n`)
}

interface Present {
  readonly systems: readonly System[]
  readonly versions: Map<string, string>
  readonly missing: ReadonlyMap<string, string>
}

async function installedOf(chosen: readonly System[]): Promise<Present> {
  const [versions, missing] = [new Map<string, string>(), new Map<string, string>()]
  for (const system of chosen) {
    const state = await system.installed()
    if ('missing' in state) {
      missing.set(system.name, state.missing)
      console.log(`left out: ${system.name} (${system.title}): ${state.missing}`)
    } else {
      versions.set(system.name, state.version)
    }
  }
  return { systems: chosen.filter((system) => versions.has(system.name)), versions, missing }
}

/** Load generator, receivers and nameserver: the same for every turn. */
async function setStage(
  options: Options,
  systems: readonly System[],
  versions: Map<string, string>,
): Promise<Stage> {
  const wrk = await findWrk()
  versions.set('wrk', `wrk ${wrk.version}`)
  const zonesMax = Math.max(...options.zones)
  const connections = connectionsMax(systems, options)
  if (openFilesMax() < connections) {
    throw new Error(
      `so many systems, zones and workers at once need a limit of ${connections} open files (ulimit -n)`,
    )
  }
  const processes = new Processes()
  const receivers = await startReceivers(processes, connections)
  const nameserver = await startNameserver(processes, firstZones(zonesMax))
  const { seconds, requestIds } = options
  return {
    processes,
    wrk: wrk.path,
    receivers,
    nameserver,
    connections: options.connections,
    seconds,
    requestIds,
  }
}

/** A connection that was unused for a second is closed: no more zones than that have one at once. */
const connectedZonesMax = 10_000

/** What the receivers must bear: all systems of a case keep their connections to the zones, each worker its own. */
function connectionsMax(systems: readonly System[], { zones, workers, connections }: Options): number {
  const perSystem = systems.map(({ connectsByZone }) =>
    Math.max(connectsByZone ? Math.min(Math.max(...zones), connectedZonesMax) : 0, receiverAddresses.length),
  )
  return perSystem.reduce((sum, targets) => sum + targets * Math.max(...workers) + 2 * connections, 1_000)
}

/** All systems of a case are up together, idle but for the one whose turn it is: what is compared lies moments apart. */
async function takeTurns(stage: Stage, systems: readonly System[], cases: readonly Case[], rounds: number) {
  const turns: Turn[] = []
  const note = (turn: Turn) => {
    turns.push(turn)
    console.log(
      `${caseTitle(turn)}, round ${turn.round + 1}/${rounds}, ${turn.system}: ${outcomeOf(turn.result)}`,
    )
  }
  for (const current of cases) {
    console.log(`${caseTitle(current)}: starting ${systems.length} systems`)
    const standing: Standing[] = []
    for (const system of systems) {
      const raised = await raise(stage, system, current)
      if (!('void' in raised)) standing.push(raised)
      else note({ system: system.name, round: 0, ...current, result: raised })
    }
    for (let round = 0; round < rounds; round++) {
      const first = round % Math.max(1, standing.length)
      for (const state of [...standing.slice(first), ...standing.slice(0, first)]) {
        note({ system: state.system.name, round, ...current, result: await takeTurn(stage, state) })
      }
    }
    for (const { processes } of standing) await processes.stop()
  }
  return turns
}

function outcomeOf(result: Result): string {
  return 'void' in result
    ? `void: ${result.void}`
    : `${Math.round(result.requestsPerSecond)} req/s, ${result.cpuMicrosPerRequest.toFixed(1)} µs/req`
}

interface Outcome extends Present {
  readonly cases: readonly Case[]
  readonly turns: readonly Turn[]
}

function report(options: Options, { systems, versions, missing, cases, turns }: Outcome): void {
  const machine = describeMachine()
  const titles = new Map(systems.map((system) => [system.name, system.title]))
  const summaries = cases.map((current) => {
    const own = turns.filter((turn) => turn.zones === current.zones && turn.workers === current.workers)
    const rows = summarise(
      own,
      systems.map((system) => system.name),
    )
    return { ...current, rows, voids: own.filter((turn) => 'void' in turn.result) }
  })
  console.log(`\n${renderMachine(machine, versions)}`)
  console.log(
    `wrk: 1 thread, ${options.connections} connections; medians of ${options.rounds} turns of ${options.seconds} s`,
  )
  process.stdout.write(noteOn(systems))
  for (const { rows, voids, ...current } of summaries) {
    console.log(`\n${caseTitle(current)}\n${rows.length === 0 ? 'no figures' : renderTable(rows, titles)}`)
    const own = rows.find((row) => row.system === zonegate.name)
    if (own !== undefined) console.log(renderRatios(own, titles))
    for (const turn of voids)
      console.log(`${turn.system}, round ${turn.round + 1}: ${outcomeOf(turn.result)}`)
  }
  for (const [name, reason] of missing) console.log(`left out: ${name}: ${reason}`)
  writeJson(options, {
    machine,
    options,
    versions: Object.fromEntries(versions),
    missing: Object.fromEntries(missing),
    summaries,
    turns,
  })
}

endAllOnExit()
main().then(
  (code) => process.exit(code),
  (error: unknown) => {
    console.error(`bench: ${(error as Error).message}`)
    process.exit(1)
  },
)
