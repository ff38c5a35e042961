import { rulesOf } from '../config/rules.ts'
import type { Config } from '../config/schema.ts'
import type { Dns } from '../dns/dns.ts'
import type { DnsEvent } from '../dns/events.ts'
import { OpenStreams } from '../ext-proc/open-streams.ts'
import { type ExtProcOptions, externalProcessorService, failSilent } from '../ext-proc/service.ts'
import type { Service } from '../grpc/server.ts'
import type { Logger } from '../log.ts'
import { createDecider } from '../routing/decider.ts'
import type { Rules } from '../routing/rules.ts'
import { DecisionCounts } from '../status/decision-counts.ts'
import { DnsQueryCounts } from '../status/dns-query-counts.ts'
import { PushCounts } from '../status/push-counts.ts'
import { ZoneActivity } from '../status/zone-activity.ts'
import { dnsEventLog } from './dns-event-log.ts'
import { type EnvoyControl, startEnvoyControl } from './envoy-control.ts'
import { noSearchDomain, openDns } from './open-dns.ts'
import { requestLog } from './request-log.ts'
import { learnZones, type ZoneLearning } from './zone-learning.ts'

/** A DNS client that nobody asks any more still has this long to answer those who wait, beyond their budget. */
const RETIRE_MS = 500

/** How often it is looked which streams have not said anything. */
const SILENT_STREAMS_SWEEP_MS = 1000

/** What a processor has for as long as it lives, whatever its configuration becomes. */
export interface Lasting {
  readonly log: Logger
  readonly environment: NodeJS.ProcessEnv
  readonly control: EnvoyControl
  readonly decisions: DecisionCounts
  readonly queries: DnsQueryCounts
  readonly pushes: PushCounts
  readonly activity: ZoneActivity
  readonly onDnsEvent: (event: DnsEvent) => void
  readonly logRequest: ExtProcOptions['onDecision']
  readonly streams: ExtProcOptions['streams']
}

/** @param running what runs when an Envoy tells something, which is after the start */
export function startLasting(log: Logger, environment: NodeJS.ProcessEnv, running: () => Running): Lasting {
  const queries = new DnsQueryCounts()
  const activity = new ZoneActivity({ coldMax: 1, idleMs: 1 }, () => performance.now())
  const logDnsEvent = dnsEventLog(log)
  const streams: ExtProcOptions['streams'] = new OpenStreams(() => performance.now())
  setInterval(() => failSilent(streams), SILENT_STREAMS_SWEEP_MS).unref()
  return {
    log,
    environment,
    control: startEnvoyControl(
      {
        onZonesFound: (zones) => running().zones.found(zones),
        onLoad: (envoy, zone, load) => {
          running().zones.reported(zone, load)
          activity.reported(envoy, zone, load)
        },
      },
      log,
    ),
    decisions: new DecisionCounts(),
    queries,
    pushes: new PushCounts(),
    activity,
    onDnsEvent: (event) => {
      if (event.kind === 'query') queries.count(event.try)
      logDnsEvent(event)
    },
    logRequest: requestLog(log),
    streams,
  }
}

/** What runs by one configuration. Never changed: a new configuration gets a new one, which takes over. */
export interface Running {
  readonly config: Config
  readonly rules: Rules
  readonly dns: Dns
  readonly search: () => string
  readonly processor: Service
  readonly zones: ZoneLearning
}

/**
 * Makes a configuration run. Parts of the one before are taken over where their settings are the same: above all the DNS
 * client with its cache.
 * @throws Error where it can't run; the one before is untouched then
 */
export function run(config: Config, lasting: Lasting, before: Running | null): Running {
  const { log, control, activity } = lasting
  if (before !== null && same(config, before.config, ['dns', 'addresses', 'rules', 'learned']))
    return { ...before, config }
  const sameDns = before !== null && same(config, before.config, ['dns', 'addresses'])
  const dns = sameDns ? before.dns : startDns(config, lasting)
  const search = searchOf(dns)
  const rules = rulesOf(config)
  activity.options = { coldMax: config.learned.zonesMax, idleMs: config.learned.idleSeconds * 1000 }
  control.follow(rules, search())
  const zones = learnZones({ config, rules, search, dns, control, activity, log })
  if (before !== null) {
    zones.found(before.zones.zones())
    before.zones.close()
    if (!sameDns) retire(before)
  }
  return { config, rules, dns, search, processor: processorOf({ rules, dns, search, zones }, lasting), zones }
}

// No closure is made inside `run`: all that are made there share what one of them needs, and by way of the one before each
// configuration would hold on to all that ever ran.

function searchOf(dns: Dns): () => string {
  const atStart = dns.searchDomain() as string
  return () => dns.searchDomain() ?? atStart
}

function retire({ dns, config }: Running): void {
  setTimeout(() => dns.close(), config.dns.budgetMs + RETIRE_MS).unref()
}

function processorOf(
  { rules, dns, search, zones }: Pick<Running, 'rules' | 'dns' | 'search' | 'zones'>,
  { log, decisions, activity, logRequest, streams }: Lasting,
): Service {
  return externalProcessorService({
    streams,
    idHeader: rules.header,
    methods: rules.methods,
    decide: decisions.timed(createDecider(rules, search, dns.lookup), () => performance.now()),
    onDecision: (decision, request, metadata) => {
      decisions.count(decision)
      if (decision.kind === 'forward') {
        activity.forwarded(decision.zone)
        zones.used(decision.zone, decision.answer)
      } else if (decision.reason === 'name_not_found' && decision.zone !== undefined)
        activity.notFound(decision.zone)
      logRequest(decision, request, metadata)
    },
    onBug: (error) => log.error({ err: error }, 'a bug: this request failed with 502, others go on'),
  })
}

function same(a: Config, b: Config, sections: readonly (keyof Config)[]): boolean {
  return sections.every((section) => JSON.stringify(a[section]) === JSON.stringify(b[section]))
}

function startDns(config: Config, { environment, onDnsEvent }: Lasting): Dns {
  const dns = openDns(config, environment, onDnsEvent)
  if (dns.searchDomain() !== null) return dns
  dns.close()
  throw new Error(noSearchDomain(config))
}
