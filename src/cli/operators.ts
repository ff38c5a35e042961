import { Metrics } from '../admin/metrics.ts'
import { createPageHandler } from '../admin/page/serve-page.ts'
import { serveAdmin, type Unready } from '../admin/server.ts'
import type { LiveConfig } from '../config/live-config.ts'
import { hostPortOf } from '../config/schema.ts'
import { parseDomainName } from '../dns/domain-name.ts'
import type { Zone } from '../routing/rules.ts'
import { type ExplainedEnvoy, explain } from '../status/explain.ts'
import { readStatus, type StatusSources } from '../status/status.ts'
import { readBuild } from '../status/version.ts'
import { SLOT_SECONDS } from '../status/zone-activity.ts'
import type { LiveCertificates } from './live-certificates.ts'
import type { Lasting, Running } from './running.ts'

/** So often what Envoys answered to pushes is added up. */
const PUSH_COUNT_INTERVAL_MS = 1000

export interface OperatedParts {
  readonly lasting: Lasting
  readonly live: LiveConfig
  /** What runs now: a reload swaps it. */
  readonly running: () => Running
  readonly unready: () => Unready
  /** Of `listen.http`; null: none. */
  readonly token: string | null
  /** Of `listen.tls`; null: no TLS. */
  readonly certificates: LiveCertificates | null
}

/**
 * What operators see of a processor, over HTTP.
 * @returns ends it
 * @throws Error with what to do, where the address can't be had
 */
export async function serveOperators(parts: OperatedParts): Promise<() => void> {
  const { lasting, live, running, unready } = parts
  const { log, control, activity, pushes, decisions, queries } = lasting
  const sources = statusSources(parts)
  const metrics = new Metrics({
    build: sources.build,
    decisions,
    queries,
    dns: () => running().dns.status(),
    zones: () => ({ known: activity.size, learned: activity.learnedCount }),
    controlPlane: control.status,
    pushes: () => pushes.totals,
    config: () => live.status(),
    certificates: () => parts.certificates?.current.expiresAt ?? null,
    ready: () => Object.keys(unready()).length === 0,
  })
  const stopCounting = countRegularly(lasting)
  const admin = await serveAdmin({
    ...hostPortOf(live.config.listen.http),
    token: parts.token,
    status: (history) => readStatus(sources, history),
    unready,
    configFaults: () => live.status().faults,
    explain: (head) => {
      const { rules, search, dns } = running()
      return explain(head, {
        rules,
        search: search(),
        explainName: dns.explain,
        envoys: (zone) => envoysOf(zone, lasting),
      })
    },
    flush: (text) => {
      const name = text === null ? null : (parseDomainName(text) ?? text)
      running().dns.flush(name ?? undefined)
      return name
    },
    metrics: { contentType: metrics.contentType, text: () => metrics.text() },
    page: createPageHandler(),
    onBug: (error) => log.error({ err: error }, "a bug: this operator's request failed, all else goes on"),
  })
  return () => {
    stopCounting()
    admin.close()
    metrics.close()
  }
}

function statusSources({ lasting, live, running, unready }: OperatedParts): StatusSources {
  const { control, activity, decisions } = lasting
  const { version, envoy } = readBuild()
  return {
    build: {
      version,
      envoy,
      node: process.version,
      startedAt: new Date(performance.timeOrigin).toISOString(),
    },
    now: () => performance.timeOrigin + performance.now(),
    unready,
    config: () => live.status(),
    dns: () => running().dns,
    ttlSecondsMax: () => running().config.dns.ttlSeconds.max,
    activity,
    controlPlane: control.status,
    decisions,
  }
}

/** A zone on each connected Envoy: hot where it reports the zone's load as its own. */
function envoysOf({ service, id }: Zone, { control, activity }: Lasting): ExplainedEnvoy[] {
  const use = activity.find({ service: service.name, id })
  const connected = control.status()?.envoys ?? []
  return connected.map(({ envoy }) => ({
    envoy,
    route: use?.envoys.includes(envoy) === true ? 'hot' : 'cold',
  }))
}

function countRegularly({ activity, pushes, control }: Lasting): () => void {
  const timers = [
    setInterval(() => activity.nextSlot(), SLOT_SECONDS * 1000),
    setInterval(
      () => pushes.update(control.status()?.envoys ?? [], performance.now()),
      PUSH_COUNT_INTERVAL_MS,
    ),
  ]
  for (const timer of timers) timer.unref()
  return () => {
    for (const timer of timers) clearInterval(timer)
  }
}
