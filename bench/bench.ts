/** `npm run bench`: the comparison of Zonegate with its rivals, in one command. See options.ts for what it takes. */

import { writeFileSync } from 'node:fs'
import { findWrk } from './load.ts'
import { describeMachine, openFilesMax } from './machine.ts'
import { startNameserver } from './nameserver.ts'
import { help, type Options, parseOptions } from './options.ts'
import { Processes } from './processes.ts'
import { startReceivers } from './receivers.ts'
import { caseTitle, renderMachine, renderTable, summarise } from './report.ts'
import { caddy } from './systems/caddy.ts'
import { envoyBare } from './systems/envoy-bare.ts'
import { envoyDns } from './systems/envoy-dns.ts'
import { envoyStatic } from './systems/envoy-static.ts'
import { haproxy } from './systems/haproxy.ts'
import { nginxVariable } from './systems/nginx-variable.ts'
import { seed } from './systems/seed.ts'
import type { System } from './systems/system.ts'
import { zonegateCold } from './systems/zonegate.ts'
import { type Case, type Stage, type Turn, takeTurn } from './turn.ts'
import { firstZones } from './zones.ts'

const catalogue: readonly System[] = [
  envoyBare,
  seed,
  nginxVariable,
  haproxy,
  caddy,
  envoyDns,
  envoyStatic,
  zonegateCold,
]

/** Everything started so far; whatever way this process ends, it all ends with it. */
const owned = new Set<Processes>()

process.once('exit', () => {
  for (const processes of owned) processes.kill()
})
for (const [signal, number] of [
  ['SIGINT', 2],
  ['SIGTERM', 15],
  ['SIGHUP', 1],
] as const) {
  process.on(signal, () => process.exit(128 + number))
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
  const chosen = catalogue.filter((system) => options.systems?.includes(system.name) ?? true)
  const { systems, versions, missing } = await installedOf(chosen)
  if (systems.length === 0) throw new Error('none of these systems is installed')
  const cases = options.zones.flatMap((zones) => options.workers.map((workers) => ({ zones, workers })))
  const stage = await setStage(options, versions)
  const turns = await takeTurns(stage, systems, cases, options.rounds)
  report(options, { systems, versions, missing, cases, turns })
  return turns.some((turn) => 'void' in turn.result) ? 1 : 0
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
async function setStage(options: Options, versions: Map<string, string>): Promise<Stage> {
  const wrk = await findWrk()
  versions.set('wrk', `wrk ${wrk.version}`)
  const zonesMax = Math.max(...options.zones)
  // Each worker keeps a connection to each zone, beside those of the load.
  const connections = zonesMax * Math.max(...options.workers) + 2 * options.connections + 1_000
  if (openFilesMax() < connections + 1_000) {
    throw new Error(`so many zones and workers need a limit of ${connections + 1_000} open files (ulimit -n)`)
  }
  const processes = new Processes()
  owned.add(processes)
  const receivers = await startReceivers(processes, connections)
  const nameserver = await startNameserver(processes, firstZones(zonesMax))
  const { seconds, requestIds } = options
  return {
    wrk: wrk.path,
    receivers,
    nameserver,
    connections: options.connections,
    seconds,
    requestIds,
    owned,
  }
}

/** Round by round every system takes its turn, each round beginning with another one. */
async function takeTurns(stage: Stage, systems: readonly System[], cases: readonly Case[], rounds: number) {
  const turns: Turn[] = []
  for (const current of cases) {
    for (let round = 0; round < rounds; round++) {
      const first = round % Math.max(1, systems.length)
      for (const system of [...systems.slice(first), ...systems.slice(0, first)]) {
        const where = `${caseTitle(current)}, round ${round + 1}/${rounds}, ${system.name}`
        const result = await takeTurn(stage, system, current)
        turns.push({ system: system.name, round, ...current, result })
        const outcome =
          'void' in result
            ? `void: ${result.void}`
            : `${Math.round(result.requestsPerSecond)} req/s, ${result.cpuMicrosPerRequest.toFixed(1)} µs/req`
        console.log(`${where}: ${outcome}`)
      }
    }
  }
  return turns
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
  for (const { rows, voids, ...current } of summaries) {
    console.log(`\n${caseTitle(current)}\n${rows.length === 0 ? 'no figures' : renderTable(rows, titles)}`)
    for (const turn of voids)
      console.log(`void: ${turn.system}, round ${turn.round + 1}: ${voidReason(turn)}`)
  }
  for (const [name, reason] of missing) console.log(`left out: ${name}: ${reason}`)
  if (options.jsonPath === undefined) return
  const everything = {
    machine,
    options,
    versions: Object.fromEntries(versions),
    missing: Object.fromEntries(missing),
    summaries,
    turns,
  }
  writeFileSync(options.jsonPath, `${JSON.stringify(everything, null, 2)}\n`)
}

function voidReason(turn: Turn): string {
  return 'void' in turn.result ? turn.result.void : ''
}

try {
  const code = await main()
  for (const processes of owned) await processes.stop()
  process.exit(code)
} catch (error) {
  console.error(`bench: ${(error as Error).message}`)
  process.exit(1)
}
