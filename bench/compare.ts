/**
 * `npm run compare`: makes docs/compare.md from bench/compare.template.md and the figures in bench/compare.json.
 * `npm run bench -- --compare` measures these figures anew.
 */

import { readFileSync, writeFileSync } from 'node:fs'
import { relative } from 'node:path'
import { fileURLToPath } from 'node:url'
import { type FaultFigures, movedWithinMs, outageMs, scan, ttlSeconds } from './faults.ts'
import type { Machine } from './machine.ts'
import { median, summarise } from './report.ts'
import type { System } from './systems/system.ts'
import type { Turn } from './turn.ts'

const path = (name: string): string => fileURLToPath(new URL(name, import.meta.url))
export const comparePaths = {
  figures: path('compare.json'),
  template: path('compare.template.md'),
  page: path('../docs/compare.md'),
} as const

/** Names of systems, in the order of the tables. */
export const comparedSystems = [
  'envoy-bare',
  'zonegate',
  'zonegate-cold',
  'envoy-dns',
  'seed',
  'nginx',
  'haproxy',
  'caddy',
] as const

/** What bench/compare.json holds. */
export interface Comparison {
  readonly command: string
  /** Year, month and day, UTC. */
  readonly date: string
  readonly machine: Machine
  readonly versions: Readonly<Record<string, string>>
  /** Why a system has no figures. */
  readonly missing: Readonly<Record<string, string>>
  readonly rounds: number
  readonly secondsPerTurn: number
  readonly connections: number
  /** CPU that other programs used during the turns, in cores: the median. */
  readonly coresUsedByOthers: number
  readonly speed: readonly { readonly zones: number; readonly systems: readonly Speed[] }[]
  readonly faults: readonly FaultFigures[]
}

/** Medians over the rounds. Ratios are to bare Envoy in the same round. */
export interface Speed {
  readonly system: string
  readonly title: string
  readonly cpu: number
  readonly requestsPerSecond: number
  readonly p99: number
  readonly mebibytes: number
  readonly turns: number
}

export function ratiosOf(turns: readonly Turn[], zones: number, systems: readonly System[]): Speed[] {
  const titles = new Map(systems.map(({ name, title }) => [name, title]))
  const own = turns.filter((turn) => turn.zones === zones)
  return summarise(own, comparedSystems).flatMap(({ system, against: { bare }, processes, turns }) => {
    if (bare === undefined) return []
    const bytes = Object.values(processes).reduce((sum, { memoryBytes }) => sum + memoryBytes, 0)
    return {
      system,
      title: titles.get(system) ?? system,
      cpu: bare.cpuMicrosPerRequest.median,
      requestsPerSecond: bare.requestsPerSecond.median,
      p99: bare.p99Micros.median,
      mebibytes: bytes / 2 ** 20,
      turns,
    }
  })
}

/** Writes the figures, and the page that shows them. Returns the paths of both. */
export function renderToFiles(comparison: Comparison): string[] {
  const figures = JSON.stringify(comparison, rounded, 2)
  writeFileSync(comparePaths.figures, `${figures}\n`)
  writeFileSync(comparePaths.page, render(readFileSync(comparePaths.template, 'utf8'), JSON.parse(figures)))
  return [comparePaths.figures, comparePaths.page].map((file) => relative(process.cwd(), file))
}

export function coresUsedByOthers(turns: readonly Turn[]): number {
  return median(turns.flatMap(({ result }) => ('void' in result ? [] : result.coresUsedByOthers)))
}

/** Five digits are enough for every figure. */
const rounded = (_: string, value: unknown): unknown =>
  typeof value === 'number' ? Number(value.toPrecision(5)) : value

/**
 * Fills the template. `{{name}}` stands for one of the tables and texts below, `{{figure SYSTEM ZONES}}` for one figure of
 * a system. Throws an error that names a placeholder without a value.
 */
export function render(template: string, comparison: Comparison): string {
  const { machine, versions, missing } = comparison
  const texts: Record<string, () => string> = {
    command: () => `\`${comparison.command}\``,
    date: () => comparison.date,
    machine: () =>
      `${machine.cpu}, ${machine.cores} cores, ${machine.memoryGiB} GiB, Linux ${machine.kernel}`,
    versions: () => [...new Set(Object.values(versions))].join(', '),
    missing: () =>
      Object.entries(missing)
        .map(([name, reason]) => `\n\nNot measured: ${name} (${reason}).`)
        .join(''),
    rounds: () => `${comparison.rounds}`,
    seconds: () => `${comparison.secondsPerTurn}`,
    connections: () => `${comparison.connections}`,
    others: () => comparison.coresUsedByOthers.toFixed(1),
    ttl: () => `${ttlSeconds}`,
    outage: () => `${outageMs / 1000}`,
    scanRate: () => scan.idsPerSecond.toLocaleString('en-GB'),
    scanSeconds: () => `${scan.seconds}`,
    speed: () => speedTable(comparison),
    faults: () => faultTable(comparison.faults),
  }
  return template.replaceAll(/\{\{(.+?)\}\}/g, (placeholder, name: string) => {
    const text = texts[name]?.() ?? figureOf(comparison, name)
    if (text === undefined) throw new Error(`${placeholder} of the template has no value`)
    return text
  })
}

/** `cpu zonegate 100`: a field of `Speed`, a system and a number of zones. "not measured" where there is no figure. */
function figureOf({ speed }: Comparison, name: string): string | undefined {
  const [field = '', system, zones] = name.split(' ')
  const format = formats[field as keyof typeof formats]
  if (format === undefined || system === undefined) return undefined
  const table = speed.find((one) => `${one.zones}` === zones)
  const figures = table?.systems.find((one) => one.system === system)
  return figures === undefined ? 'not measured' : format(figures)
}

const formats = {
  cpu: ({ cpu }: Speed) => cpu.toFixed(1),
  requestsPerSecond: ({ requestsPerSecond }: Speed) => requestsPerSecond.toFixed(2),
  p99: ({ p99 }: Speed) => p99.toFixed(1),
  mebibytes: ({ mebibytes }: Speed) => mebibytes.toFixed(0),
} as const

function speedTable({ speed }: Comparison): string {
  const most = speed.at(-1)
  const titles = new Map(speed.flatMap(({ systems }) => systems.map(({ system, title }) => [system, title])))
  const header = [
    'system',
    ...speed.map(({ zones }) => `CPU, ${zonesText(zones)}`),
    ...speed.map(({ zones }) => `requests/s, ${zonesText(zones)}`),
    ...speed.map(({ zones }) => `p99, ${zonesText(zones)}`),
    'MiB',
  ]
  const rows = comparedSystems
    .filter((system) => titles.has(system))
    .map((system) => {
      const cells = (format: (figures: Speed) => string) =>
        speed.map(({ systems }) => {
          const figures = systems.find((one) => one.system === system)
          return figures === undefined ? '–' : format(figures)
        })
      const memory = most?.systems.find((one) => one.system === system)
      return [
        titles.get(system) ?? system,
        ...cells(formats.cpu),
        ...cells(formats.requestsPerSecond),
        ...cells(formats.p99),
        memory === undefined ? '–' : formats.mebibytes(memory),
      ]
    })
  return markdownTable([header, ...rows])
}

const zonesText = (zones: number): string => `${zones} ${zones === 1 ? 'zone' : 'zones'}`

function faultTable(all: readonly FaultFigures[]): string {
  const faults = comparedSystems.flatMap((name) => all.filter(({ system }) => system === name))
  const row = (title: string, cell: (figures: FaultFigures) => string) => [title, ...faults.map(cell)]
  const firsts = ({ answered, slowestMs }: FaultFigures['silentNameserver']) =>
    answered === 0 ? 'none' : `${percent(answered)}, ${(slowestMs / 1000).toFixed(1)} s`
  return markdownTable([
    row('', ({ title }) => title),
    row('first nameserver silent: new zones that succeed, slowest', (one) => firsts(one.silentNameserver)),
    row('first nameserver says SERVFAIL: the same', (one) => firsts(one.servfailNameserver)),
    row('both nameservers silent: zones in use that succeed', ({ outage }) => percent(outage)),
    row('one of two addresses refuses: requests that succeed', ({ addressDead }) => percent(addressDead)),
    row('address changed: old one in use for', ({ movedSeconds }) =>
      movedSeconds === null ? `more than ${movedWithinMs / 1000} s` : `${movedSeconds.toFixed(1)} s`,
    ),
    row('scan: random ids answered a second', (one) => one.scan.idsPerSecond.toFixed(0)),
    row('scan: DNS queries for each random id', (one) => one.scan.queriesPerId.toFixed(2)),
    row('scan: requests for zones in use that succeed', (one) => percent(one.scan.inUse)),
    row('DNS queries for each of these requests', (one) => one.scan.queriesInUse.toFixed(2)),
    row(
      'scan: new zones that succeed, first try / third',
      ({ scan: { newZones, newZonesRetried } }) => `${percent(newZones)} / ${percent(newZonesRetried)}`,
    ),
    row('scan: memory added', (one) => `${one.scan.addedMebibytes.toFixed(0)} MiB`),
  ])
}

const percent = (share: number): string => {
  const text = (share * 100).toFixed(share > 0.99 && share < 1 ? 1 : 0)
  // A share below 1 never reads as 100.
  return share < 1 && Number(text) === 100 ? '>99.9 %' : `${text} %`
}

function markdownTable([header = [], ...rows]: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]) => `| ${cells.join(' | ')} |`
  return [line(header), `|${header.map(() => '---').join('|')}|`, ...rows.map(line)].join('\n')
}

if (import.meta.main) {
  const file = process.argv[2] ?? comparePaths.figures
  const comparison = JSON.parse(readFileSync(file, 'utf8')) as Comparison
  for (const written of renderToFiles(comparison)) console.log(`wrote ${written}`)
}
