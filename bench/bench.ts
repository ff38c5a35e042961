/** `npm run bench`: Zonegate beside what it is built on and what could replace it. options.ts has the options. */

import { writeFileSync } from 'node:fs'
import { type Comparison, comparedSystems, coresUsedByOthers, ratiosOf, renderToFiles } from './compare.ts'
import { measureFaults } from './faults.ts'
import { countInstructions, findValgrind, renderInstructions } from './instructions.ts'
import { describeMachine } from './machine.ts'
import { measureMany, newZones, renderMany } from './many.ts'
import { help, type Options, parseOptions } from './options.ts'
import { endAllOnExit } from './processes.ts'
import { caseTitle, columnsLegend, renderMachine, renderRatios, renderTable, summarise } from './report.ts'
import { measureScale, renderScale, sampleSize } from './scale.ts'
import { type Stage, setStage } from './stage.ts'
import { caddy } from './systems/caddy.ts'
import { envoyBare, envoyDns } from './systems/envoy-alone.ts'
import { envoyStatic, envoyStaticPolicy } from './systems/envoy-static.ts'
import { haproxy } from './systems/haproxy.ts'
import { nginxVariable, seed } from './systems/nginx.ts'
import type { System } from './systems/system.ts'
import { zonegate, zonegateBySource, zonegateCold, zonegateShared } from './systems/zonegate.ts'
import { type Case, type Result, raise, type Standing, type Turn, takeTurn } from './turn.ts'

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

/** The systems that run on Envoy, whose instructions can be counted. */
const counted = catalogue.filter(({ name }) => name.startsWith('envoy-') || name.startsWith('zonegate'))

async function main(): Promise<number> {
  const options = parseOptions(
    process.argv.slice(2),
    catalogue.map((system) => system.name),
  )
  if (options.help) {
    console.log(help(catalogue))
    return 0
  }
  const { scale, many } = options
  if (options.compare) return reportComparison(options)
  if (options.instructions) return reportInstructions(options)
  if (scale !== undefined) {
    const measure = (stage: Stage, count: number) => measureScale(stage, count, options.sharedRoutes)
    return reportCounts(options, { counts: scale, more: sampleSize, measure, render: renderScale })
  }
  if (many !== undefined) {
    const measure = (stage: Stage, count: number) => measureMany(stage, count, options)
    return reportCounts(options, { counts: many, more: newZones, measure, render: renderMany })
  }
  return reportTurns(options)
}

async function reportTurns(options: Options): Promise<number> {
  const present = await installedOf(catalogue, options)
  const { systems, versions } = present
  const cases = options.zones.flatMap((zones) => options.workers.map((workers) => ({ zones, workers })))
  const stage = await setStage(options, systems, versions)
  const turns: Turn[] = []
  for (const current of cases) turns.push(...(await takeTurns(stage, systems, [current], options.rounds)))
  await stage.processes.stop()
  report(options, present, cases, turns)
  return turns.some((turn) => 'void' in turn.result) ? 1 : 0
}

/** Speed in turns, then faults. Writes the figures and the page that shows them. */
async function reportComparison(options: Options): Promise<number> {
  const started = performance.now()
  const { systems, versions, missing } = await installedOf(catalogue, {
    ...options,
    systems: comparedSystems,
  })
  const cases = options.zones.map((zones) => ({ zones, workers: 1 }))
  const stage = await setStage({ ...options, workers: [1] }, systems, versions)
  const turns = await takeTurns(stage, systems, cases, options.rounds)
  const faults = await measureFaults(
    stage,
    systems.filter(({ routesByZone, onlyNamed }) => routesByZone && onlyNamed !== true),
  )
  await stage.processes.stop()
  const comparison: Comparison = {
    command: `npm run bench -- ${process.argv.slice(2).join(' ')}`,
    date: new Date().toISOString().slice(0, 10),
    machine: describeMachine(),
    versions: Object.fromEntries(versions),
    missing: Object.fromEntries(missing),
    rounds: options.rounds,
    secondsPerTurn: options.seconds,
    connections: options.connections,
    coresUsedByOthers: coresUsedByOthers(turns),
    speed: cases.map(({ zones }) => ({ zones, systems: ratiosOf(turns, zones, systems) })),
    faults,
  }
  for (const path of renderToFiles(comparison)) console.log(`wrote ${path}`)
  writeJson(options, { ...comparison, turns })
  console.log(`${((performance.now() - started) / 1000).toFixed(0)} s`)
  return turns.some((turn) => 'void' in turn.result) ? 1 : 0
}

interface Counts<Measured> {
  readonly counts: readonly number[]
  /** How many zones a measurement adds to each count. */
  readonly more: number
  measure(stage: Stage, count: number): Promise<Measured>
  render(all: readonly Measured[]): string
}

/** Measures Zonegate alone, once for each number of zones. */
async function reportCounts<Measured>(
  options: Options,
  { counts, more, measure, render }: Counts<Measured>,
): Promise<number> {
  const zones = counts.map((count) => count + more)
  const { stage, versions } = await stageOf(options, [zonegate], zones)
  const all: Measured[] = []
  for (const count of counts) {
    console.log(`measuring ${count} zones`)
    all.push(await measure(stage, count))
  }
  await stage.processes.stop()
  conclude(options, versions, render(all), all)
  return 0
}

async function reportInstructions(options: Options): Promise<number> {
  findValgrind()
  const zones = options.zones[0] as number
  const { stage, systems, versions } = await stageOf(options, counted, [zones])
  const all = []
  for (const system of systems) {
    console.log(`counting ${system.name}, ${zones} zones`)
    all.push(await countInstructions(stage, system, zones))
  }
  await stage.processes.stop()
  conclude(options, versions, `${noteOn(systems)}${renderInstructions(all)}`, all)
  return 0
}

async function stageOf(options: Options, candidates: readonly System[], zones: readonly number[]) {
  const present = await installedOf(candidates, options)
  const stage = await setStage({ ...options, zones, workers: [1] }, present.systems, present.versions)
  return { ...present, stage }
}

function conclude(options: Options, versions: Map<string, string>, text: string, measured: object): void {
  const machine = describeMachine()
  console.log(`\n${renderMachine(machine, versions)}\n\n${text}`)
  writeJson(options, { machine, options, versions: Object.fromEntries(versions), measured })
}

function writeJson({ jsonPath }: Options, everything: object): void {
  if (jsonPath !== undefined) writeFileSync(jsonPath, `${JSON.stringify(everything, null, 2)}\n`)
}

interface Present {
  readonly systems: readonly System[]
  readonly versions: Map<string, string>
  readonly missing: ReadonlyMap<string, string>
}

/** The chosen systems that are installed. Throws when none is. */
async function installedOf(
  candidates: readonly System[],
  { systems: named }: Pick<Options, 'systems'>,
): Promise<Present> {
  const chosen = candidates.filter(({ name, onlyNamed = false }) => named?.includes(name) ?? !onlyNamed)
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
  if (versions.size === 0) {
    throw new Error(
      `this measures ${candidates.map(({ name }) => name).join(', ')}; none was both chosen and installed`,
    )
  }
  return { systems: chosen.filter((system) => versions.has(system.name)), versions, missing }
}

/**
 * Starts each system once, for the case with most zones, and gives it one turn in each round of each case. The systems
 * that wait are idle, so what is compared was measured moments apart.
 */
async function takeTurns(
  stage: Stage,
  systems: readonly System[],
  cases: readonly Case[],
  rounds: number,
): Promise<Turn[]> {
  const turns: Turn[] = []
  const note = (turn: Turn) => {
    turns.push(turn)
    console.log(
      `${caseTitle(turn)}, round ${turn.round + 1}/${rounds}, ${turn.system}: ${outcomeOf(turn.result)}`,
    )
  }
  const largest = cases.reduce((one, other) => (other.zones > one.zones ? other : one))
  console.log(`${caseTitle(largest)}: starting ${systems.length} systems`)
  const standing: Standing[] = []
  for (const system of systems) {
    const raised = await raise(stage, system, largest)
    if (!('void' in raised)) standing.push(raised)
    else for (const current of cases) note({ system: system.name, round: 0, ...current, result: raised })
  }
  for (const current of cases) {
    for (let round = 0; round < rounds; round++) {
      const first = round % Math.max(1, standing.length)
      for (const state of [...standing.slice(first), ...standing.slice(0, first)]) {
        const result = await takeTurn(stage, { ...state, case: current })
        note({ system: state.system.name, round, ...current, result })
      }
    }
  }
  for (const { processes } of standing) await processes.stop()
  return turns
}

function outcomeOf(result: Result): string {
  return 'void' in result
    ? `void: ${result.void}`
    : `${Math.round(result.requestsPerSecond)} req/s, ${result.cpuMicrosPerRequest.toFixed(1)} µs/req`
}

/** A line above the figures where some systems got other requests. */
function noteOn(systems: readonly System[]): string {
  return systems.some((system) => zonegateBySource.includes(system))
    ? 'The systems named "Zonegate, id in …" and "four rules" got longer requests, which have the id in every place.\n'
    : ''
}

function report(
  options: Options,
  { systems, versions, missing }: Present,
  cases: readonly Case[],
  turns: readonly Turn[],
): void {
  const machine = describeMachine()
  const titles = new Map(systems.map((system) => [system.name, system.title]))
  const names = systems.map((system) => system.name)
  const summaries = cases.map((current) => {
    const own = turns.filter((turn) => turn.zones === current.zones && turn.workers === current.workers)
    return { ...current, rows: summarise(own, names), voids: own.filter((turn) => 'void' in turn.result) }
  })
  console.log(`\n${renderMachine(machine, versions)}`)
  console.log(
    `wrk: 1 thread, ${options.connections} connections; medians of ${options.rounds} turns of ${options.seconds} s`,
  )
  process.stdout.write(`${columnsLegend}\n${noteOn(systems)}`)
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
