import type { Machine } from './machine.ts'
import type { Case, Figures, Turn } from './turn.ts'

/**
 * Each system is compared with these: the least that Envoy can cost, a hand-written configuration (lean, and with the policy
 * of Zonegate's files), and the recipe that Zonegate replaces.
 */
export const yardsticks = {
  bare: 'envoy-bare',
  hand: 'envoy-static',
  policy: 'envoy-static-policy',
  seed: 'seed',
} as const

export interface Row {
  readonly system: string
  readonly requestsPerSecond: number
  /** The lowest and the highest turn. */
  readonly range: readonly [number, number]
  readonly cpuMicrosPerRequest: number
  readonly p50Micros: number
  readonly p99Micros: number
  readonly coresUsedByOthers: number
  readonly processes: Figures['processes']
  /** Ratios to each yardstick in the same round; undefined where the yardstick has no figures. */
  readonly against: Readonly<Record<keyof typeof yardsticks, Ratio | undefined>>
  readonly turns: number
}

export interface Ratio {
  readonly requestsPerSecond: Spread
  readonly cpuMicrosPerRequest: Spread
  readonly p99Micros: Spread
}

/** The median of the rounds, and the quartiles around it. */
export interface Spread {
  readonly median: number
  readonly quartiles: readonly [number, number]
}

/**
 * Medians of the valid turns, one row for each system in `order`. A ratio is the median of the rounds' ratios. Both turns of
 * a round were moments apart, so a machine that slows down does not change their ratio.
 */
export function summarise(turns: readonly Turn[], order: readonly string[]): Row[] {
  const bySystem = new Map(order.map((system) => [system, figuresByRound(turns, system)]))
  return order.flatMap((system) => {
    const own = bySystem.get(system) ?? new Map<number, Figures>()
    const all = [...own.values()]
    if (all.length === 0) return []
    const against = (yardstick: string) => ratio(own, bySystem.get(yardstick))
    const rates = all.map((figures) => figures.requestsPerSecond)
    return {
      system,
      requestsPerSecond: median(rates),
      range: [Math.min(...rates), Math.max(...rates)] as const,
      cpuMicrosPerRequest: median(all.map((figures) => figures.cpuMicrosPerRequest)),
      p50Micros: median(all.map((figures) => figures.p50Micros)),
      p99Micros: median(all.map((figures) => figures.p99Micros)),
      coresUsedByOthers: median(all.map((figures) => figures.coresUsedByOthers)),
      processes: processMedians(all),
      against: {
        bare: against(yardsticks.bare),
        hand: against(yardsticks.hand),
        policy: against(yardsticks.policy),
        seed: against(yardsticks.seed),
      },
      turns: all.length,
    }
  })
}

function figuresByRound(turns: readonly Turn[], system: string): Map<number, Figures> {
  const figures = new Map<number, Figures>()
  for (const turn of turns) {
    if (turn.system === system && !('void' in turn.result)) figures.set(turn.round, turn.result)
  }
  return figures
}

function ratio(own: Map<number, Figures>, other: Map<number, Figures> | undefined): Ratio | undefined {
  const rounds = [...own.keys()].filter((round) => other?.has(round))
  if (rounds.length === 0) return undefined
  const of = (pick: (figures: Figures) => number) =>
    spread(rounds.map((round) => pick(own.get(round) as Figures) / pick(other?.get(round) as Figures)))
  return {
    requestsPerSecond: of((figures) => figures.requestsPerSecond),
    cpuMicrosPerRequest: of((figures) => figures.cpuMicrosPerRequest),
    p99Micros: of((figures) => figures.p99Micros),
  }
}

function processMedians(all: readonly Figures[]): Figures['processes'] {
  const roles = Object.keys(all[0]?.processes ?? {})
  return Object.fromEntries(
    roles.map((role) => {
      const costs = all.map(
        (figures) => figures.processes[role] ?? { cpuMicrosPerRequest: 0, memoryBytes: 0 },
      )
      const cpuMicrosPerRequest = median(costs.map((cost) => cost.cpuMicrosPerRequest))
      return [role, { cpuMicrosPerRequest, memoryBytes: median(costs.map((cost) => cost.memoryBytes)) }]
    }),
  )
}

export function spread(values: readonly number[]): Spread {
  const sorted = values.toSorted((a, b) => a - b)
  const [low, high] = [
    sorted.slice(0, Math.ceil(sorted.length / 2)),
    sorted.slice(Math.floor(sorted.length / 2)),
  ]
  return { median: median(sorted), quartiles: [median(low), median(high)] }
}

/** The middle one, or the mean of the two in the middle. */
export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b)
  const middle = sorted.length / 2
  const [low, high] = [sorted[Math.ceil(middle) - 1] ?? Number.NaN, sorted[Math.floor(middle)] ?? Number.NaN]
  return (low + high) / 2
}

const columns = [
  'system',
  'req/s',
  'low-high',
  '× bare',
  '× hand',
  '× policy',
  '× seed',
  'CPU µs/req',
  '× bare',
  '× hand',
  '× policy',
  '× seed',
  'p50 ms',
  'p99 ms',
  'MiB',
  'others',
  'CPU µs/req by process',
]

export const columnsLegend = `× bare, hand, policy, seed: ratio to bare Envoy, to hand-written Envoy (lean, or with the same policy), and to the recipe.
Others: CPU of other programs meanwhile, where 100 % is one core.`

export function caseTitle({ zones, workers }: Case): string {
  return `${zones} ${zones === 1 ? 'zone' : 'zones'}, ${workers} ${workers === 1 ? 'worker' : 'workers'}`
}

export function renderTable(rows: readonly Row[], titles: ReadonlyMap<string, string>): string {
  const cells = rows.map((row) => [
    titles.get(row.system) ?? row.system,
    thousands(row.requestsPerSecond),
    row.range.map(thousands).join('-'),
    times(row.against.bare?.requestsPerSecond),
    times(row.against.hand?.requestsPerSecond),
    times(row.against.policy?.requestsPerSecond),
    times(row.against.seed?.requestsPerSecond),
    row.cpuMicrosPerRequest.toFixed(1),
    times(row.against.bare?.cpuMicrosPerRequest),
    times(row.against.hand?.cpuMicrosPerRequest),
    times(row.against.policy?.cpuMicrosPerRequest),
    times(row.against.seed?.cpuMicrosPerRequest),
    (row.p50Micros / 1000).toFixed(2),
    (row.p99Micros / 1000).toFixed(2),
    mebibytes(Object.values(row.processes).reduce((sum, process) => sum + process.memoryBytes, 0)),
    `${(row.coresUsedByOthers * 100).toFixed(0)} %`,
    byProcess(row),
  ])
  return align([columns, ...cells], [columns.length - 1])
}

/** The system's ratios to each yardstick that ran with it, with their quartiles. */
export function renderRatios(row: Row, titles: ReadonlyMap<string, string>): string {
  const title = (name: string) => titles.get(name) ?? name
  const lines = Object.entries(row.against).flatMap(([yardstick, ratio]) => {
    const name = yardsticks[yardstick as keyof typeof yardsticks]
    if (ratio === undefined || name === row.system) return []
    const { requestsPerSecond, cpuMicrosPerRequest } = ratio
    return `${title(row.system)} ÷ ${title(name)}: throughput ${within(requestsPerSecond)}, CPU ${within(cpuMicrosPerRequest)}`
  })
  return lines.join('\n')
}

export function within({ median, quartiles: [low, high] }: Spread): string {
  return `${median.toFixed(2)} (middle half of the rounds ${low.toFixed(2)}-${high.toFixed(2)})`
}

function byProcess(row: Row): string {
  const processes = Object.entries(row.processes)
  if (processes.length < 2) return ''
  return processes.map(([role, cost]) => `${role} ${cost.cpuMicrosPerRequest.toFixed(1)}`).join(' + ')
}

/** The lines of a table. Figures are aligned right; the first column and `textColumns` are text. */
export function align(lines: readonly (readonly string[])[], textColumns: readonly number[] = []): string {
  const widths = (lines[0] ?? []).map((_, i) => Math.max(...lines.map((line) => line[i]?.length ?? 0)))
  const isText = (i: number) => i === 0 || textColumns.includes(i)
  const pad = (cell: string, i: number) =>
    isText(i) ? cell.padEnd(widths[i] ?? 0) : cell.padStart(widths[i] ?? 0)
  return lines.map((line) => line.map(pad).join('  ').trimEnd()).join('\n')
}

export function renderMachine(machine: Machine, versions: ReadonlyMap<string, string>): string {
  const unique = [...new Set(versions.values())].join(', ')
  return `${machine.cpu}, ${machine.cores} cores, ${machine.memoryGiB} GiB, Linux ${machine.kernel}\n${unique}`
}

function thousands(value: number): string {
  return Math.round(value).toLocaleString('en-GB')
}

function times(value: Spread | undefined): string {
  return value === undefined ? '-' : value.median.toFixed(2)
}

function mebibytes(bytes: number): string {
  return (bytes / 2 ** 20).toFixed(0)
}
