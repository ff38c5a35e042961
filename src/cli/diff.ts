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
import type { PolicyReading } from '../envoy-files/policy.ts'
import type { EnvoyFiles } from '../envoy-files/render.ts'
import { openDns, searchFault } from '../processor/open-dns.ts'
import { routingRules } from '../processor/routing-rules.ts'
import { SaidNow } from '../processor/said-now.ts'
import type { ColdReason } from '../status/cold-reasons.ts'
import type { Status } from '../status/status.ts'
import { readBuild } from '../status/version.ts'
import { pinOf } from '../xds/pins.ts'
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
/** How often progress is shown, milliseconds. */
const PROGRESS_MS = 2000

/** As in diff(1). */
const EXIT: Readonly<Record<Diff['result'], number>> = { same: 0, moves: 1, unknown: 2 }

export const diffCommand: Command = {
  summary: 'show what a new configuration would change, before you apply it',
  usage: 'NEW.yaml [--envoy DIR] [--log FILE]',
  details: `  NEW.yaml         the new configuration. It is compared with the one that a running processor uses, and not applied
  --envoy DIR      also compare routes.yaml and clusters.yaml in DIR with those in ./${ENVOY_FOLDER}. Run this where the processor runs
  --log FILE       an access log of Envoy: show which of its requests would be decided differently; - reads standard input
  --examples N     lines of the log to show for each kind of change; default: ${EXAMPLES}
  --rate N         DNS names to ask for each second; default: ${NAMES_PER_SECOND}, maximum: ${NAMES_PER_SECOND_MAX}
${CLIENT_DETAILS}

Lists the zones in use that would get another name, address, port or policy, or would be refused or stay cold, the busiest
first. Pins stay in effect. The processor's cached answers are used; this command asks the new nameservers for other names,
once each. "*" as an id stands for all ids that are not in DNS. For a log, DNS is not asked. What a log line does
not contain, for example a header that only the new rules read, is reported as unknown.
Exit code 0: nothing changes. 1: something changes. 2: unknown, or the new files have errors.`,
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
      // Exit code 1 means that something changes.
      if (error instanceof ConfigError) throw new UsageError(error.faults.join('\n'))
      throw error instanceof UsageError ? error : new UsageError((error as Error).message)
    }
  },
}

async function run(args: Arguments, terminal: Terminal): Promise<number> {
  const [file] = args.positionals
  if (file === undefined) throw new UsageError('expected the new configuration: zonegate diff NEW.yaml')
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

/** Attempts to read the status and the configuration while neither changes. */
const TRIES = 3

/** @throws Error that tells the user what to do */
async function askProcessor(client: ProcessorClient): Promise<Asked> {
  const own = readBuild().version
  for (let left = TRIES; left > 0; left--) {
    const status = await client.json<Status>('/api/status')
    if (status.build.version !== own)
      throw new Error(
        `the processor has version ${status.build.version} and this command ${own}: use the command of the processor's version`,
      )
    const inForce = await client.json<InForce>('/api/in-force')
    if (inForce.loadedAt === status.config.loadedAt) return { status, inForce }
  }
  throw new Error('the configuration changed several times meanwhile: try again later')
}

interface Comparison {
  readonly before: World
  readonly after: World
  readonly namesAsked: () => number
  readonly close: () => void
}

/** @throws Error if the new configuration could not run */
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

/** The resolv.conf that counts is the one of the processor's machine. */
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

/** The files in force. @param isNeeded false if they only help: then undefined instead of an error */
function filesInForce({ envoyFiles }: InForce, isNeeded: boolean): EnvoyFiles | undefined {
  const wayOut =
    'run this where the processor runs, while its own files have no errors (see "zonegate status")'
  if (envoyFiles === null) {
    if (isNeeded)
      throw new Error(`--envoy: the processor does not know which of Envoy's files are in force; ${wayOut}`)
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
    throw new Error(`--envoy: ./${ENVOY_FOLDER} differs from the files that the processor uses; ${wayOut}`)
  return undefined
}

/** Why a zone that is learned now would stay cold. */
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
      'the new rules change the keys of requests: every learned zone becomes cold, and is learned again',
    )
  if (!same(inForce.config, config, ['fallback']))
    notes.push('fallback changes nothing while the processor answers')
  const others = (['listener', 'bootstrap'] as const).filter(
    (file) => files !== undefined && envoyFiles !== undefined && files[file].text !== envoyFiles[file].text,
  )
  for (const file of others) notes.push(`${envoyFiles?.[file].path} differs, too; its effect is not compared`)
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
