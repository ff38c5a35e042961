import { setTimeout as sleep } from 'node:timers/promises'
import { now } from '../clock.ts'
import { changesOf } from '../config/changes.ts'
import { ConfigError } from '../config/faults.ts'
import { loadConfig } from '../config/load.ts'
import { rulesOf } from '../config/rules.ts'
import { keepsDns, keepsSearch, type Placing, placingOf, same } from '../config/same.ts'
import type { Config } from '../config/schema.ts'
import { Answers, answersInForce, type Turn, turnsAt } from '../diff/answers.ts'
import type { Diff } from '../diff/diff.ts'
import { hashesOf, type InForce } from '../diff/in-force.ts'
import { diffLog, type LogDiff } from '../diff/log.ts'
import type { Outcome, World } from '../diff/outcome.ts'
import { readPolicies } from '../diff/policy.ts'
import { diffZones } from '../diff/zones.ts'
import type { Answer } from '../dns/answer.ts'
import type { Dns } from '../dns/dns.ts'
import { ENVOY_FOLDER, readEnvoyFiles } from '../envoy-files/folder.ts'
import { keyVersionOf } from '../envoy-files/key.ts'
import type { EnvoyFiles } from '../envoy-files/render.ts'
import { openDns, searchFault } from '../processor/open-dns.ts'
import { routingRules } from '../processor/routing-rules.ts'
import { SaidNow } from '../processor/said-now.ts'
import type { ColdReason } from '../status/cold-reasons.ts'
import type { Status } from '../status/status.ts'
import { readBuild } from '../status/version.ts'
import { pinOf } from '../xds/pins.ts'
import type { PolicyReading } from '../xds/policy.ts'
import { hostKeyOf } from '../xds/routing-rules.ts'
import type { ZoneRef } from '../zones/learned-zones.ts'
import { ProcessorClient } from './client.ts'
import {
  type Arguments,
  CLIENT_DETAILS,
  CLIENT_OPTIONS,
  type Command,
  type Terminal,
  UsageError,
} from './command.ts'
import { diffText } from './diff-text.ts'
import { readLines } from './read-lines.ts'
import { json, paintFor } from './text.ts'
import { reportText, validate } from './validate.ts'

const NAMES_PER_SECOND = 100
const NAMES_PER_SECOND_MAX = 10_000
const EXAMPLES = 3
/** How often the terminal is told how far it is, milliseconds. */
const PROGRESS_MS = 2000

/** As diff(1) has them. */
const EXIT: Readonly<Record<Diff['result'], number>> = { same: 0, moves: 1, unknown: 2 }

export const diffCommand: Command = {
  summary: 'what a new configuration would move, before it is in force',
  usage: 'NEW.yaml [--envoy DIR] [--log FILE]',
  details: `  NEW.yaml         the new configuration. It is compared with the one that a running processor has in force, which stays
  --envoy DIR      new routes.yaml and clusters.yaml, too, compared with those in ./${ENVOY_FOLDER}: run it where the processor runs
  --log FILE       an access log of Envoy: which of its requests would be decided in another way; - reads standard input
  --examples N     of a log, so many lines of each kind; ${EXAMPLES} by default
  --rate N         names that DNS is asked for in a second; ${NAMES_PER_SECOND} by default, ${NAMES_PER_SECOND_MAX} at most
${CLIENT_DETAILS}

Names the zones that requests go to now and that would have another name, address, port or policy, be refused, or ask the
processor, the busiest first. Pins by command count. What the processor knows is taken from it; other names are asked for by this
command: of the new nameservers, each name once. "*" in place of an id: all ids that are not in DNS. Of a log,
DNS is not asked for anything; what a line does not say, such as a header that only the new rules look at, is unknown.
Exit 0: nothing moves. Exit 1: something moves. Exit 2: nobody can tell, or the new files are at fault.`,
  example: 'zonegate diff new.yaml --log envoy.log',
  options: {
    ...CLIENT_OPTIONS,
    envoy: { type: 'string' },
    log: { type: 'string' },
    examples: { type: 'string' },
    rate: { type: 'string' },
  },
  positionalsMax: 1,
  run: async (args, terminal) => {
    try {
      return await run(args, terminal)
    } catch (error) {
      // Exit 1 is for what moves.
      if (error instanceof ConfigError) throw new UsageError(error.faults.join('\n'))
      throw error instanceof UsageError ? error : new UsageError((error as Error).message)
    }
  },
}

async function run(args: Arguments, terminal: Terminal): Promise<number> {
  const [file] = args.positionals
  if (file === undefined) throw new UsageError('name the new configuration: zonegate diff NEW.yaml')
  const perSecond = numberOf(args, 'rate', NAMES_PER_SECOND, NAMES_PER_SECOND_MAX)
  const examples = numberOf(args, 'examples', EXAMPLES, 1000)
  const folder = args.text('envoy')
  const envoyFiles = folder === undefined ? undefined : readEnvoyFiles(folder)
  const report = await validate(file, folder ?? ENVOY_FOLDER, terminal)
  if (!report.ok) {
    terminal.stdout.write(
      args.flag('json')
        ? json({ result: 'unknown', faults: report.faults })
        : reportText(report, paintFor(terminal)),
    )
    return EXIT.unknown
  }
  const { config } = loadConfig(file, terminal.environment)
  const asked = await askProcessor(ProcessorClient.of(args, terminal))
  const turn = turnsAt(perSecond, now, sleep)
  const comparison = openComparison(config, asked, turn, terminal.environment)
  try {
    const diff = await compare(comparison, config, asked, envoyFiles, terminal)
    const log = args.text('log')
    const { before, after } = comparison
    const withLog =
      log === undefined
        ? diff
        : combined(diff, await diffLog(readLines(log, '--log'), before, after, examples))
    terminal.stdout.write(args.flag('json') ? json(withLog) : diffText(withLog, paintFor(terminal)))
    return EXIT[withLog.result]
  } finally {
    comparison.close()
  }
}

function numberOf(args: Arguments, option: string, otherwise: number, max: number): number {
  const text = args.text(option)
  if (text === undefined) return otherwise
  const number = Number(text)
  if (!/^\d+$/.test(text) || number < 1 || number > max)
    throw new UsageError(`--${option}: expected a number from 1 to ${max}, got "${text}"`)
  return number
}

interface Asked {
  readonly status: Status
  readonly inForce: InForce
}

/** How often it is asked again where the configuration has changed meanwhile. */
const TRIES = 3

/** @throws Error that says what to do */
async function askProcessor(client: ProcessorClient): Promise<Asked> {
  const own = readBuild().version
  for (let left = TRIES; left > 0; left--) {
    const status = await client.json<Status>('/api/status')
    if (status.build.version !== own)
      throw new Error(
        `the processor is version ${status.build.version}, and this command is ${own}: run the command of its version`,
      )
    const inForce = await client.json<InForce>('/api/in-force')
    if (inForce.loadedAt === status.config.loadedAt) return { status, inForce }
  }
  throw new Error('the configuration in force changes again and again: run it once that is over')
}

interface Comparison {
  readonly before: World
  readonly after: World
  readonly namesAsked: () => number
  readonly close: () => void
}

/** @throws Error where the new configuration could not run */
function openComparison(
  config: Config,
  { status, inForce }: Asked,
  turn: Turn,
  environment: NodeJS.ProcessEnv,
): Comparison {
  const opened: Dns[] = []
  const answersBy = (
    placing: Placing,
    known: ReadonlyMap<string, Answer>,
  ): { dns: Dns; answers: Answers } => {
    const dns = openDns({ ...config, ...placing }, environment)
    opened.push(dns)
    return { dns, answers: new Answers(known, async (name) => (await dns.explain(name)).answer, turn) }
  }
  const close = (): void => {
    for (const dns of opened) dns.close()
  }
  try {
    const was = answersBy(asThere(inForce.config, inForce), answersInForce(status.zones))
    const is = keepsDns(inForce.config, config)
      ? was
      : answersBy(asThere(placingOf(config), inForce), new Map())
    const search = is.dns.searchDomain()
    const fault = searchFault(config, search)
    if (search === null || fault !== null) throw new Error(fault ?? '')
    return {
      before: worldOf({ ...config, ...inForce.config }, inForce.search, inForce, was.answers),
      after: worldOf(config, search, inForce, is.answers),
      namesAsked: () => was.answers.asked + (is === was ? 0 : is.answers.asked),
      close,
    }
  } catch (error) {
    close()
    throw error
  }
}

/** What resolv.conf says is what it says where the processor is. */
function asThere(placing: Placing, { config, search, nameservers }: InForce): Placing {
  const isSameFile = placing.dns.resolvConf === config.dns.resolvConf
  return {
    ...placing,
    dns: {
      ...placing.dns,
      ...(placing.dns.search === null && keepsSearch(config, placing) && { search }),
      ...(placing.dns.nameservers === null &&
        config.dns.nameservers === null &&
        isSameFile && { nameservers: [...nameservers] }),
    },
  }
}

function worldOf(config: Config, search: string, { pins }: InForce, answers: Answers): World {
  const rules = rulesOf(config)
  const said = new SaidNow(config, rules, { entries: () => [...pins] })
  const saidBy = JSON.stringify([config.zones, config.addresses, pins])
  return { rules, search, said: said.now(), saidBy, answerOf: answers.of }
}

async function compare(
  { before, after, namesAsked }: Comparison,
  config: Config,
  { status, inForce }: Asked,
  envoyFiles: EnvoyFiles | undefined,
  terminal: Terminal,
): Promise<Diff> {
  const files = filesInForce(inForce, envoyFiles !== undefined)
  const policies = files === undefined ? undefined : readPolicies(config, files, envoyFiles ?? files)
  const zones = await diffZones(status.zones, {
    before,
    after,
    coldAfter: coldBy(config, after, inForce, policies?.after),
    onProgress: progressTo(terminal),
  })
  const changes = zones.flatMap((zone) => zone.changes)
  const moves = changes.some(({ change }) => change !== 'unknown') || (policies?.diff.changes.length ?? 0) > 0
  return {
    result: moves ? 'moves' : changes.length > 0 ? 'unknown' : 'same',
    changed: changesOf(inForce.config, placingOf(config)),
    live: status.zones.length,
    requestsPerSecond: sum(status.zones.map(({ requestsPerSecond }) => requestsPerSecond)),
    zones,
    ...(envoyFiles !== undefined && policies && { policy: policies.diff }),
    namesAsked: namesAsked(),
    notes: notesOf(before, after, config, inForce, files, envoyFiles),
  }
}

/** @param isNeeded false: they are of use, and nothing is compared with them */
function filesInForce({ envoyFiles }: InForce, isNeeded: boolean): EnvoyFiles | undefined {
  const wayOut =
    'run it where the processor runs, with its own files in order ("zonegate status" says whether they are)'
  if (envoyFiles === null) {
    if (isNeeded) throw new Error(`--envoy: nobody knows which of Envoy's files are in force; ${wayOut}`)
    return undefined
  }
  try {
    const files = readEnvoyFiles(ENVOY_FOLDER)
    const { routes, clusters } = hashesOf(files)
    if (routes === envoyFiles.routes && clusters === envoyFiles.clusters) return files
  } catch (error) {
    if (isNeeded) throw error
  }
  if (isNeeded)
    throw new Error(`--envoy: ./${ENVOY_FOLDER} is not what the processor has in force; ${wayOut}`)
  return undefined
}

/** Why a zone that is learned now would not be. */
function coldBy(
  config: Config,
  { rules, search, said }: World,
  { learned }: InForce,
  policy: PolicyReading | undefined,
): (zone: ZoneRef, after: Outcome) => ColdReason | null {
  const routing = routingRules(rules, search, config.fallback.enabled, () => said)
  const pins = policy?.kind === 'policy' ? (policy.policy.routes.pins ?? []) : []
  const tooMany = Math.max(0, learned.length - config.learned.zonesMax)
  const evicted = new Set(learned.slice(0, tooMany))
  return ({ service, id }, after) => {
    if (!config.learned.enabled) return 'learning_off'
    if (policy?.kind === 'cold only') return 'envoy_files'
    if (pins.length > 0 && pinOf(pins, hostKeyOf(service, id, routing), '', routing) !== undefined)
      return 'pinned'
    if (after.result === 'forward' && after.isUncached) return 'ttl_zero'
    return evicted.has(`${service}/${id}`) ? 'zones_max' : null
  }
}

function notesOf(
  before: World,
  after: World,
  config: Config,
  inForce: InForce,
  files: EnvoyFiles | undefined,
  envoyFiles: EnvoyFiles | undefined,
): string[] {
  const notes: string[] = []
  const isOtherKey = keyVersionOf(before.rules) !== keyVersionOf(after.rules)
  if (config.learned.enabled && inForce.learned.length > 0 && isOtherKey)
    notes.push(
      'requests have other keys by the new rules: every learned zone asks the processor again, until it is learned anew',
    )
  if (!same(inForce.config, config, ['fallback']))
    notes.push('fallback moves no zone while the processor answers')
  const others = (['listener', 'bootstrap'] as const).filter(
    (file) => files !== undefined && envoyFiles !== undefined && files[file].text !== envoyFiles[file].text,
  )
  for (const file of others)
    notes.push(`${envoyFiles?.[file].path} is another, too: what that changes is not looked at`)
  return notes
}

function combined(diff: Diff, log: LogDiff): Diff {
  if (diff.result === 'moves' || log.differently > 0) return { ...diff, log, result: 'moves' }
  return { ...diff, log, result: log.unknown.requests > 0 ? 'unknown' : diff.result }
}

function progressTo({ stderr }: Terminal): (done: number, of: number) => void {
  let nextAtMs = now() + PROGRESS_MS
  return (done, of) => {
    if (now() < nextAtMs) return
    nextAtMs = now() + PROGRESS_MS
    stderr.write(`zonegate: ${done} of ${of} zones compared\n`)
  }
}

function sum(numbers: readonly number[]): number {
  return Math.round(numbers.reduce((total, each) => total + each, 0) * 10) / 10
}
