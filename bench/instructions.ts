import { readdirSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { findCommand, Processes, runCommand } from './processes.ts'
import { align } from './report.ts'
import { askAll } from './requests.ts'
import { type Stage, settingOf } from './stage.ts'
import type { System } from './systems/system.ts'
import { firstZones } from './zones.ts'

/**
 * How many instructions Envoy's worker spends on a request, without those of the kernel. Callgrind counts them, so a busy
 * machine does not change the figure.
 */

export interface Instructions {
  readonly system: string
  readonly title: string
  readonly perRequest: number
}

const requestsMin = 3_000
/** Afterwards connections are open, statistics exist and the allocator's caches are full: counts no longer change. */
const passesBefore = 3

/** @returns the path of valgrind; throws an error that says how to get it */
export function findValgrind(): string {
  const path = findCommand('valgrind')
  if (path === undefined || findCommand('callgrind_control') === undefined) {
    throw new Error('valgrind counts the instructions, and it is not installed: apt-get install valgrind')
  }
  return path
}

export async function countInstructions(stage: Stage, system: System, count: number): Promise<Instructions> {
  const processes = new Processes()
  const out = join(processes.scratch, 'callgrind.out')
  const under = [
    findValgrind(),
    '--tool=callgrind',
    '--separate-threads=yes',
    '--instr-atstart=no', // several times faster until then
    `--callgrind-out-file=${out}`,
    '--quiet',
  ]
  try {
    const zones = firstZones(count)
    const running = await system.start({ ...settingOf(stage, zones, processes), under })
    for (let pass = 0; pass < passesBefore; pass++) await askAll(running, zones)
    await running.settle?.()
    const envoy = running.children.find(({ role }) => role === 'envoy')
    if (envoy === undefined) throw new Error(`${system.name} does not run on Envoy`)

    await control('--instr=on', envoy.pid)
    const passes = Math.ceil(requestsMin / count)
    for (let pass = 0; pass < passes; pass++) await askAll(running, zones)
    await control('--dump', envoy.pid)
    const fault = await running.fault?.()
    if (fault !== undefined) throw new Error(`${system.name}: ${fault}`)
    return {
      system: system.name,
      title: system.title,
      perRequest: busiestThread(processes.scratch) / (passes * count),
    }
  } finally {
    await processes.stop()
  }
}

async function control(option: '--instr=on' | '--dump', pid: number): Promise<void> {
  const { ok, text } = await runCommand('callgrind_control', [option, `${pid}`])
  if (!ok) throw new Error(`callgrind_control ${option}: ${text}`)
}

/** The worker, which has more to do than any other thread. */
function busiestThread(folder: string): number {
  const dumps = readdirSync(folder).filter((name) => name.startsWith('callgrind.out'))
  const totals = dumps.map((name) => {
    const path = join(folder, name)
    const total = Number(readFileSync(path, 'utf8').match(/^(?:totals|summary): (\d+)/m)?.[1] ?? 0)
    rmSync(path)
    return total
  })
  return Math.max(...totals)
}

/** @param all the others are compared with the first */
export function renderInstructions(all: readonly Instructions[]): string {
  const first = all[0]?.perRequest ?? Number.NaN
  const lines = all.map(({ title, perRequest }) => [
    title,
    Math.round(perRequest).toLocaleString('en'),
    (perRequest / first).toFixed(3),
  ])
  return align([['system', 'instructions/request', '× first'], ...lines])
}
