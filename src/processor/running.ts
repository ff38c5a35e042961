import type { Metadata } from '@grpc/grpc-js'
import { now } from '../clock.ts'
import { type NamesInForce, tracingOf } from '../config/envoy-settings.ts'
import { rulesOf } from '../config/rules.ts'
import { keepsDns, keepsSearch, SHAPING, same } from '../config/same.ts'
import type { Config } from '../config/schema.ts'
import type { Answer } from '../dns/answer.ts'
import type { Dns } from '../dns/dns.ts'
import type { DnsEvent } from '../dns/events.ts'
import { keyVersionOf } from '../envoy-files/key.ts'
import type { Addresses } from '../envoy-files/render.ts'
import { KEY_VERSION } from '../ext-proc/messages.ts'
import { OpenStreams } from '../ext-proc/open-streams.ts'
import {
  type ExtProcOptions,
  externalProcessorService,
  failSilent,
  type Handling,
  handlingOf,
} from '../ext-proc/service.ts'
import type { Service } from '../grpc/server.ts'
import { guarded, type OnBug } from '../guard.ts'
import { History, type HistoryOptions } from '../history/history.ts'
import type { Logger } from '../log.ts'
import { PINS_FILE, Pins } from '../pins/pins.ts'
import { createDecider } from '../routing/decision.ts'
import type { Rules, Zone } from '../routing/rules.ts'
import { DecisionCounts, DnsQueryCounts, PushCounts } from '../status/counts.ts'
import { isUnresolved } from '../status/rule-counts.ts'
import { WorstZones } from '../status/worst-zones.ts'
import { ZoneActivity } from '../status/zone-activity.ts'
import { Tracing } from '../tracing/tracing.ts'
import { awayMsUntil } from './alive-file.ts'
import { Bugs } from './bugs.ts'
import { OtherKeys } from './cold-reason.ts'
import { dnsEventLog } from './dns-event-log.ts'
import { EnvoyControl, type EnvoyControlEvents } from './envoy-control.ts'
import { openDns, searchFault } from './open-dns.ts'
import { HistoryRecorder } from './record-history.ts'
import { requestLog } from './request-log.ts'
import { SaidNow } from './said-now.ts'
import { learnZones, type ZoneLearning } from './zone-learning.ts'

/** A replaced DNS client stays open for this long after the budget of the last requests that wait for it. */
const RETIRE_MS = 500

/** How often the processor looks for silent streams. */
const SILENT_STREAMS_SWEEP_MS = 1000

/** The parts of a processor that live as long as it does, through all changes of configuration. */
export interface Lasting {
  readonly log: Logger
  readonly bugs: Bugs
  readonly environment: NodeJS.ProcessEnv
  readonly control: EnvoyControl
  readonly decisions: DecisionCounts
  readonly queries: DnsQueryCounts
  readonly pushes: PushCounts
  readonly activity: ZoneActivity
  readonly worstZones: WorstZones
  readonly history: History
  readonly recorder: HistoryRecorder
  readonly tracing: Tracing
  readonly onDnsEvent: (event: DnsEvent) => void
  readonly otherKeys: OtherKeys
  /** How long no processor served before this one, milliseconds. Null if unknown. */
  readonly awayMs: number | null
  /** The pins that operators set by command. */
  readonly pins: Pins
  /** Decides each request by the configuration in force when the request arrives. */
  readonly processor: Service
}

type Parts = Omit<Lasting, 'processor' | 'onDnsEvent'>

/**
 * @param addresses for the files that Envoy reads
 * @param running the configuration that runs; not called before the start is complete
 */
export function startLasting(
  log: Logger,
  historyOptions: HistoryOptions,
  environment: NodeJS.ProcessEnv,
  addresses: Addresses,
  running: () => Running,
): Lasting {
  const queries = new DnsQueryCounts()
  const activity = new ZoneActivity({ coldMax: 1, idleMs: 1 }, () => performance.now())
  const worstZones = new WorstZones(activity, () => running().config.metrics.topZones)
  const bugs = new Bugs(log, () => performance.now())
  const history = new History(historyOptions, { date: () => Date.now(), now, log, onBug: bugs.at('timer') })
  const recorder = recorderOf(history, running)
  const pins = new Pins(PINS_FILE, {
    log,
    date: () => Date.now(),
    onChange: (zones) => rePin(running(), zones),
    onPin: (what, pin) => recorder.pin(what, pin),
    onBug: bugs.at('timer'),
  })
  const tracing = new Tracing(log, bugs.at('timer'))
  const decisions = new DecisionCounts()
  const pushes = new PushCounts()
  const otherKeys = new OtherKeys(() => performance.now())
  const logDnsEvent = dnsEventLog(log)
  const followNames = (): void => {
    control.followNames(namesOf(running().dns))
  }
  const told = controlEvents(running, { activity, decisions, pushes, recorder })
  const control = new EnvoyControl(told, addresses, log, bugs)
  const lasting = {
    log,
    bugs,
    environment,
    control,
    decisions,
    queries,
    pushes,
    activity,
    worstZones,
    history,
    recorder,
    tracing,
    otherKeys,
    pins,
    awayMs: awayMsUntil(Date.now()),
  }
  const onDnsEvent = (event: DnsEvent): void => {
    recorder.dns(event)
    if (event.kind === 'query') {
      queries.count(event.try)
      tracing.queried(event)
    }
    if (event.kind === 'bug') bugs.at('dns')(event.error)
    else logDnsEvent(event)
    // A new DNS client sends this event while it is created. That client may never be in force, so look a turn later.
    if (event.kind === 'resolv_conf_loaded') setImmediate(guarded(bugs.at('dns'), followNames))
  }
  return { ...lasting, onDnsEvent, processor: processorOf(running, lasting) }
}

function recorderOf(history: History, running: () => Running): HistoryRecorder {
  const hasFallback = (): boolean =>
    Object.values(running().config.zones).some(({ fallback }) => fallback !== undefined)
  return new HistoryRecorder((event) => history.record(event), now, hasFallback)
}

function controlEvents(
  running: () => Running,
  { activity, decisions, pushes, recorder }: Pick<Parts, 'activity' | 'decisions' | 'pushes' | 'recorder'>,
): EnvoyControlEvents {
  return {
    onZonesFound: (zones) => running().zones.found(zones),
    onLoad: (envoy, zone, load) => {
      running().zones.reported(zone, load)
      activity.reported(envoy, zone, load)
      decisions.rules.countHot(zone.service, load.requests)
    },
    onAnswer: (kind, answer) => pushes.count(kind, answer),
    onEnvoy: (event) => recorder.envoy(event),
    onFiles: (event) => recorder.envoyFiles(event),
    onColdOnly: () => running().zones.learned?.forgetAll('policy'),
  }
}

function processorOf(
  running: () => Running,
  { log, bugs, decisions, activity, worstZones, recorder, tracing, otherKeys }: Parts,
): Service {
  const streams: ExtProcOptions['streams'] = new OpenStreams(() => performance.now())
  const sweep = guarded(bugs.at('timer'), () => failSilent(streams))
  setInterval(sweep, SILENT_STREAMS_SWEEP_MS).unref()
  const logRequest = requestLog(log)
  const used = (zone: Zone, answer: Answer | null, metadata: Metadata): void => {
    activity.used(zone)
    // With a key of other rules, another zone's requests could reach this zone's routes.
    const [keyVersion = running().keyVersion] = metadata.get(KEY_VERSION)
    if (keyVersion === running().keyVersion) running().zones.used(zone, answer)
    else otherKeys.seen()
  }
  return externalProcessorService({
    streams,
    inForce: () => running().handlings,
    // The request may have waited for DNS while the configuration changed, so the zone goes to the configuration that runs now.
    onDecision: (decision, request, metadata) => {
      decisions.count(decision)
      tracing.decided(decision, request, metadata)
      const { zone } = decision
      if (decision.kind === 'forward') used(decision.zone, decision.answer, metadata)
      else if (zone !== undefined && decision.reason === 'maintenance') used(zone, null, metadata)
      else if (zone !== undefined) {
        if (decision.reason === 'name_not_found') activity.notFound(zone)
        if (isUnresolved(decision.reason)) worstZones.refused(zone)
      }
      if (decision.kind === 'reject') recorder.refused(decision, request)
      logRequest(decision, request, metadata)
    },
    onBug: bugs.at('request'),
  })
}

/** What runs for one configuration. Immutable: a new configuration creates a new one, which takes over. */
export interface Running {
  readonly config: Config
  readonly rules: Rules
  /** The version of the rules' keys. */
  readonly keyVersion: string
  readonly dns: Dns
  readonly search: () => string
  readonly said: SaidNow
  /** For its own rules first, then for earlier rules. */
  readonly handlings: readonly [Handling, ...Handling[]]
  readonly rulesBefore: readonly Rules[]
  readonly zones: ZoneLearning
}

/**
 * Runs a configuration. It keeps parts of the previous one whose settings are the same, above all the DNS client with its cache.
 * @throws Error if the configuration can't run; the previous one then runs on unchanged
 */
export function run(config: Config, lasting: Lasting, before: Running | null): Running {
  const { log, bugs, control, activity, recorder, decisions, pins, tracing } = lasting
  if (before !== null && same(config, before.config, SHAPING)) return { ...before, config }
  const sameDns = before !== null && keepsDns(before.config, config)
  const dns = sameDns ? before.dns : startDns(config, lasting, before)
  const search = searchOf(dns)
  const rules = rulesOf(config)
  const said = new SaidNow(config, rules, pins)
  const followed = { config, rules, search: search(), names: namesOf(dns), said: said.now }
  const fault = searchFault(config, dns.searchDomain()) ?? control.faultOf(followed)
  if (fault !== null) {
    if (!sameDns) dns.close()
    throw new Error(fault)
  }
  const keyVersion = keyVersionOf(rules)
  // Requests may still arrive with keys of the earlier rules. Only requests with new keys make a zone learned again.
  if (before !== null && keyVersion !== before.keyVersion) before.zones.learned?.forgetAll('rekeyed')
  activity.options = { coldMax: config.learned.zonesMax, idleMs: config.learned.idleSeconds * 1000 }
  control.follow(followed)
  tracing.follow(tracingOf(config))
  decisions.rules.follow(rules)
  const zones = learnZones({
    config,
    rules,
    search,
    said: said.now,
    dns,
    control,
    activity,
    recorder,
    log,
    bugs,
  })
  if (before !== null) {
    const samePlaces = same(config, before.config, ['rules', 'zones']) && search() === before.search()
    zones.takeOver(before.zones, samePlaces)
    if (!sameDns) retire(before, bugs.at('timer'))
  }
  const rulesBefore = before === null ? [] : earlierRules(before, config)
  const handlings = handlingsBy([rules, ...rulesBefore], dns, search, said, lasting, config)
  return { config, rules, keyVersion, rulesBefore, dns, search, said, handlings, zones }
}

/** Called when pins of these zones have been set or removed. */
function rePin({ said, zones }: Running, pinned: readonly string[]): void {
  for (const zone of said.renew(pinned)) zones.placed(zone)
}

// `run` must not create closures: they share a scope with `before`, so each configuration would keep all earlier ones in memory.

function namesOf(dns: Dns): NamesInForce {
  return { nameservers: dns.nameservers(), search: dns.searchDomain() }
}

function searchOf(dns: Dns): () => string {
  const atStart = dns.searchDomain() as string
  return () => dns.searchDomain() ?? atStart
}

function retire({ dns, config }: Running, onBug: OnBug): void {
  const close = guarded(onBug, () => dns.close())
  setTimeout(close, config.dns.budgetMs + RETIRE_MS).unref()
}

function handlingsBy(
  [rules, ...before]: readonly [Rules, ...Rules[]],
  dns: Dns,
  search: () => string,
  said: SaidNow,
  { decisions, tracing }: Lasting,
  config: Config,
): Running['handlings'] {
  const isTraced = config.tracing.otlp !== null
  const handling = (by: Rules): Handling => {
    const decide = createDecider(by, search, dns.lookup, { said: said.now })
    return handlingOf(
      by,
      decisions.timed(isTraced ? tracing.traced(decide) : decide, () => performance.now()),
    )
  }
  return [handling(rules), ...before.map(handling)]
}

/** How many earlier rules the processor keeps for requests that still come through an earlier listener. */
const RULES_BEFORE_MAX = 4

function earlierRules({ config, rules, rulesBefore }: Running, next: Config): readonly Rules[] {
  return same(config, next, ['rules']) ? rulesBefore : [rules, ...rulesBefore].slice(0, RULES_BEFORE_MAX)
}

function startDns(
  config: Config,
  { environment, onDnsEvent, tracing }: Lasting,
  before: Running | null,
): Dns {
  const searchBefore =
    before !== null && keepsSearch(before.config, config) ? before.dns.searchDomain() : null
  return openDns(config, environment, onDnsEvent, searchBefore, tracing.current)
}
