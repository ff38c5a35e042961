import { Metrics } from '../admin/metrics.ts'
import { createPageHandler } from '../admin/page/serve-page.ts'
import { serveAdmin, type Unready } from '../admin/server.ts'
import { now } from '../clock.ts'
import { addressesOf } from '../config/envoy-settings.ts'
import { hostPortOf } from '../config/host-port.ts'
import type { LiveConfig } from '../config/live-config.ts'
import { rulesOf } from '../config/rules.ts'
import { placingOf } from '../config/same.ts'
import type { Config } from '../config/schema.ts'
import { parsePinned, parseZones } from '../config/zones.ts'
import { hashesOf, type InForce } from '../diff/in-force.ts'
import { parseDomainName } from '../dns/domain-name.ts'
import { isReadByEnvoy } from '../envoy-files/read-key.ts'
import { guarded } from '../guard.ts'
import type { PinText } from '../history/event.ts'
import type { History } from '../history/history.ts'
import type { GatewayThen } from '../history/past.ts'
import { readHistory } from '../history/read-history.ts'
import { authorityOf } from '../routing/decision.ts'
import { servicesOf, zoneNameOf } from '../routing/rules.ts'
import type { SaidEntry } from '../routing/said.ts'
import { type Explained, explain } from '../status/explain.ts'
import { type ExplainedThen, explainThen, type PathThen, type ThenWorld } from '../status/explain-then.ts'
import { describedRequest, type RequestDescription } from '../status/request-description.ts'
import { readStatus, type StatusSources } from '../status/status.ts'
import { readBuild } from '../status/version.ts'
import { SLOT_SECONDS } from '../status/zone-activity.ts'
import { nodeTimers } from '../timers.ts'
import { Turns } from '../turns.ts'
import { type ColdReasonParts, coldReasonOf, envoysWith } from './cold-reason.ts'
import type { LiveCertificates } from './live-certificates.ts'
import type { Lasting, Running } from './running.ts'
import { SaidNow } from './said-now.ts'
import { UpstreamCertificates } from './upstream-certificates.ts'

interface OperatedParts {
  readonly lasting: Lasting
  readonly live: LiveConfig
  /** What runs now: a reload swaps it. */
  readonly running: () => Running
  readonly unready: () => Unready
  /** The token of `listen.http`. Null if clients need none. */
  readonly token: string | null
  /** The certificates of `listen.tls`. Null without TLS. */
  readonly certificates: LiveCertificates | null
}

/**
 * Serves the operators of a processor over HTTP: page, metrics, status, explain.
 * @returns a function that stops serving
 * @throws Error that says what to do, if it can't listen on the address
 */
export async function serveOperators(parts: OperatedParts): Promise<() => void> {
  const { lasting, live, running, unready } = parts
  const { bugs, control, activity, worstZones, pushes, decisions, queries } = lasting
  const upstreamCertificates = new UpstreamCertificates(
    () => running().rules,
    () => new Date(),
  )
  const sources = statusSources(parts, upstreamCertificates)
  const metrics = new Metrics({
    build: sources.build,
    decisions,
    queries,
    dns: () => running().dns.status(),
    zones: () => ({ known: activity.size, learned: activity.learnedCount }),
    worstZones,
    spans: lasting.tracing.counts,
    pins: () => lasting.pins.status(),
    controlPlane: () => control.status(),
    pushes: () => pushes.totals,
    config: () => live.status(),
    policy: () => control.policy(),
    certificates: () => parts.certificates?.current.expiresAt ?? null,
    upstreamCertificates: () => upstreamCertificates.list(),
    ready: () => Object.keys(unready()).length === 0,
    bugs: () => bugs.counts,
    history: () => lasting.history.status(),
  })
  const stopCounting = countRegularly(lasting)
  const turns = new Turns(nodeTimers(now, bugs.at('operator')))
  const admin = await serveAdmin({
    ...hostPortOf(live.config.listen.http),
    token: parts.token,
    status: (history) => readStatus(sources, history),
    unready,
    configFaults: () => live.status().faults,
    explain: (description) => explainNow(description, parts),
    history: (query) => readHistory(lasting.history, query, (zone) => namesOf(zone, running())),
    inForce: () => inForceOf(parts),
    explainThen: (description, at, path) => explainPast(description, at, path, lasting.history, running()),
    flush: (text) => {
      const name = text === null ? null : (parseDomainName(text) ?? text)
      return { name, names: running().dns.flush(name ?? undefined) }
    },
    metrics: { contentType: metrics.contentType, text: () => metrics.text() },
    page: createPageHandler(),
    turns,
    onBug: bugs.at('operator'),
  })
  return () => {
    stopCounting()
    admin.close()
    turns.close()
    metrics.close()
  }
}

function statusSources(
  { lasting, live, running, unready }: OperatedParts,
  certificates: UpstreamCertificates,
): StatusSources {
  const { control, activity, decisions, bugs, pins } = lasting
  const { version, envoy } = readBuild()
  return {
    build: {
      version,
      envoy,
      node: process.version,
      startedAt: new Date(performance.timeOrigin).toISOString(),
    },
    awayMs: lasting.awayMs,
    now: () => performance.timeOrigin + performance.now(),
    unready,
    config: () => live.status(),
    policy: () => control.policy(),
    dns: () => running().dns,
    ttlSecondsMax: () => running().config.dns.ttlSeconds.max,
    activity,
    pins: () => pins.status(),
    certificates: () => certificates.list(),
    said: ({ service, id }) => running().said.of(service, id),
    spans: () => lasting.tracing.counts,
    controlPlane: () => control.status(),
    decisions,
    exceptions: () => bugs.counts,
    coldReason: (zone, state) => coldReasonOf(zone, state, coldParts(lasting, running)),
  }
}

async function explainNow(
  description: RequestDescription,
  { lasting, live, running }: OperatedParts,
): Promise<Explained> {
  const { rules, search, said, dns } = running()
  const { admin } = addressesOf(live.config, lasting.environment)
  return explain(describedRequest(description, rules), {
    rules,
    search: search(),
    said: said.now(),
    explainName: dns.explain,
    recent: ({ service, id }) => lasting.activity.sumsOf({ service: service.name, id }),
    envoyAdmin: admin && authorityOf(admin.host, admin.port),
    envoys: ({ service, id }, state, head) =>
      envoysWith(
        { service: service.name, id },
        state,
        isReadByEnvoy(head, id, rules),
        coldParts(lasting, running),
      ),
  })
}

async function explainPast(
  description: RequestDescription,
  at: number,
  path: PathThen | undefined,
  history: History,
  { rules, config }: Running,
): Promise<ExplainedThen> {
  const world = (then: GatewayThen) => worldThen(then, config)
  return explainThen(describedRequest(description, rules), at, { history, world }, path)
}

/** A zone's DNS names by the rules in force. @param zone `12` for all services, or `mail/12` */
function namesOf(zone: string, { rules, search, said }: Running): string[] {
  const id = zone.slice(zone.indexOf('/') + 1).toLowerCase()
  const service = zone.includes('/') ? zone.slice(0, zone.indexOf('/')).toLowerCase() : undefined
  const services = rules.flatMap(servicesOf).filter(({ name }) => service === undefined || name === service)
  return services.map(({ name }) => zoneNameOf(name, id, rules, search(), said.now()))
}

function inForceOf({ lasting, live, running }: OperatedParts): InForce {
  const { config, dns, search, zones } = running()
  const files = lasting.control.filesInForce
  return {
    version: readBuild().version,
    loadedAt: live.status().loadedAt,
    config: placingOf(config),
    search: search(),
    nameservers: dns.nameservers(),
    pins: lasting.pins.entries(),
    learned: [...(zones.learned?.zones() ?? [])].map(({ service, id }) => `${service}/${id}`),
    envoyFiles: files ? hashesOf(files) : null,
  }
}

function coldParts({ control, otherKeys }: Lasting, running: () => Running): ColdReasonParts {
  return { control, otherKeys, zones: running().zones }
}

function countRegularly({ activity, worstZones, decisions, bugs }: Lasting): () => void {
  const next = guarded(bugs.at('timer'), () => {
    activity.nextSlot()
    worstZones.nextSlot()
    decisions.rules.nextSlot()
  })
  const timer = setInterval(next, SLOT_SECONDS * 1000).unref()
  return () => clearInterval(timer)
}

/**
 * The rules, zones and pins of an earlier moment.
 * @param current used instead of a configuration that was too long for the history
 * @returns null if the configuration or search domain of that moment is unknown
 */
function worldThen(then: GatewayThen, current: Config): ThenWorld | null {
  if (then.config === null || then.search === null) return null
  const config = then.config.isWhole ? (then.config.values as Config) : current
  try {
    const rules = rulesOf(config)
    const pins = { entries: () => then.pins.flatMap(entryOf) }
    const said = new SaidNow(config, rules, pins).now()
    return { rules, said, search: then.search, staleMs: config.dns.staleSeconds * 1000 }
  } catch {
    return null // A version with other keys wrote it.
  }
}

function entryOf({ zone, addresses, who, because, until }: PinText): SaidEntry[] {
  const zones = parseZones(zone)
  if (typeof zones === 'string') return []
  const by = { who, because, untilMs: Date.parse(until) }
  const pinned = addresses.map(parsePinned).filter((address) => address !== null)
  return [{ key: zone, ...zones, says: { kind: 'pinned', addresses: pinned, by } }]
}
