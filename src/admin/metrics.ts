import { monitorEventLoopDelay } from 'node:perf_hooks'
import { collectDefaultMetrics, Registry } from 'prom-client'
import type { ConfigStatus } from '../config/live-config.ts'
import type { DnsStatus } from '../dns/dns.ts'
import type { UpstreamCertificate } from '../grpc/certificates.ts'
import type { HistoryStatus } from '../history/history.ts'
import type { PinsStatus } from '../pins/pins.ts'
import type { RejectReason } from '../routing/reject-reason.ts'
import type { Answers, DecisionCounts, DnsQueryCounts, Histogram, SpanCounts } from '../status/counts.ts'
import { isUnresolved, type RuleStatus } from '../status/rule-counts.ts'
import type { Build, PolicyStatus } from '../status/status.ts'
import { ERROR_SHARES, type WorstZones } from '../status/worst-zones.ts'
import type { ControlPlaneStatus } from '../xds/control-plane.ts'

export interface MetricSources {
  readonly build: Build
  readonly decisions: DecisionCounts
  readonly queries: DnsQueryCounts
  readonly dns: () => DnsStatus
  readonly zones: () => { readonly known: number; readonly learned: number }
  readonly worstZones: Pick<WorstZones, 'list' | 'failing'>
  readonly spans: SpanCounts
  readonly pins: () => PinsStatus
  readonly controlPlane: () => ControlPlaneStatus | null
  /** By kind of resource. */
  readonly pushes: () => Readonly<Record<string, Answers>>
  readonly config: () => ConfigStatus
  readonly policy: () => PolicyStatus
  /** When the certificates of `listen.tls` expire; null: no TLS. */
  readonly certificates: () => { readonly cert: Date; readonly clientCa: Date } | null
  /** Of `upstream.tls`. */
  readonly upstreamCertificates: () => readonly UpstreamCertificate[]
  readonly ready: () => boolean
  readonly history: () => HistoryStatus
  /** Caught exceptions, by place. */
  readonly bugs: () => Readonly<Record<string, number>>
}

/** A measurement, and the values of the metric's labels in their order. */
type Row<T> = readonly [measured: T, ...labels: string[]]

interface View {
  readonly name: string
  readonly help: string
  readonly type: 'counter' | 'gauge' | 'histogram'
  readonly labels: readonly string[]
  /** Lines of the text format. */
  readonly samples: () => string[]
}

/** The label of each kind of resource. */
const KINDS: Readonly<Record<string, string>> = {
  cluster: 'cluster',
  endpoints: 'endpoints',
  virtualHost: 'virtual_host',
}

/** The resolution of the event loop's delay: an idle loop measures this much. */
const LOOP_RESOLUTION_MS = 10

/**
 * Everything that Prometheus scrapes. The processor's own metrics are read at each scrape, so a request costs nothing for
 * them; prom-client adds those of the Node process. Labels are bounded: only `metrics.topZones` zones appear by name.
 */
export class Metrics {
  readonly #registry = new Registry()
  readonly #loop = monitorEventLoopDelay({ resolution: LOOP_RESOLUTION_MS })
  /** Everything named `zonegate_*`. */
  readonly views: readonly View[]

  constructor(sources: MetricSources) {
    collectDefaultMetrics({ register: this.#registry })
    this.#loop.enable()
    this.views = [
      ...requestViews(sources),
      ...dnsViews(sources),
      ...worstZoneViews(sources),
      ...pinViews(sources),
      ...controlPlaneViews(sources),
      ...historyViews(sources),
      ...configViews(sources),
      ...processViews(sources, () => this.#loopDelay()),
    ]
  }

  get contentType(): string {
    return this.#registry.contentType
  }

  async text(): Promise<string> {
    return this.views.map(textOf).join('') + (await this.#registry.metrics())
  }

  close(): void {
    this.#loop.disable()
    this.#registry.clear()
  }

  /** Seconds, since the last call. */
  #loopDelay(): Record<'p50' | 'p99' | 'max', number> {
    const seconds = (nanoseconds: number): number =>
      Math.max(0, (Number.isFinite(nanoseconds) ? nanoseconds : 0) / 1e9 - LOOP_RESOLUTION_MS / 1000)
    const [p50, p99] = [this.#loop.percentile(50), this.#loop.percentile(99)]
    const delay = { p50: seconds(p50), p99: seconds(p99), max: seconds(this.#loop.max) }
    this.#loop.reset()
    return delay
  }
}

function requestViews({ decisions }: MetricSources): View[] {
  return [
    counter(
      'zonegate_decisions_total',
      ['result', 'reason'],
      'Requests that the processor decided, by result; refused ones also by reason.',
      () => [
        [decisions.forwarded, 'forwarded', ''],
        ...Object.entries(decisions.refused).map(
          ([reason, count]): Row<number> => [count, 'refused', reason],
        ),
      ],
    ),
    counter(
      'zonegate_rule_requests_total',
      ['rule', 'result'],
      'Requests of each rule: routed inside Envoy, as Envoys report them (hot), forwarded by the processor (forwarded), refused for the request itself (refused), or refused because the zone has no usable address (unresolved).',
      () => decisions.rules.list().flatMap(ruleRows),
    ),
    histogram(
      'zonegate_decision_duration_seconds',
      [],
      "Time from a request's headers to its decision, DNS included.",
      () => [[decisions.seconds]],
    ),
    counter(
      'zonegate_answers_total',
      ['class'],
      'DNS results that requests got: addresses (positive), addresses past their TTL (stale), nxdomain, nodata or failure.',
      () => byLabel(decisions.answers),
    ),
  ]
}

function dnsViews({ dns, queries }: MetricSources): View[] {
  return [
    counter(
      'zonegate_dns_lookups_total',
      ['result'],
      'Lookups for requests: answered from the cache within the TTL (fresh) or past it (stale), failed because of a recent failure (backed_off), answered after a query (waited), or refused because of too many queries in flight (overloaded) or of dns.unknownNames (rate_limited).',
      () => {
        const { backedOff, rateLimited, ...lookups } = dns().lookups
        return byLabel({ ...lookups, backed_off: backedOff, rate_limited: rateLimited })
      },
    ),
    counter(
      'zonegate_dns_queries_total',
      ['nameserver', 'outcome'],
      'Queries to nameservers, by RCODE, or by why no usable answer came.',
      () =>
        [...queries.byNameserver].flatMap(([nameserver, { outcomes }]) =>
          [...outcomes].map(([outcome, count]) => [count, nameserver, outcome]),
        ),
    ),
    histogram(
      'zonegate_dns_query_duration_seconds',
      ['nameserver'],
      'Time from a query to its answer or its failure.',
      () => [...queries.byNameserver].map(([nameserver, { seconds }]) => [seconds, nameserver]),
    ),
    gauge(
      'zonegate_dns_nameserver_failing',
      ['nameserver'],
      '1 while a nameserver fails; the processor then asks the others first.',
      () => dns().nameservers.map(({ nameserver, failures }) => [failures > 0 ? 1 : 0, nameserver]),
    ),
    gauge(
      'zonegate_dns_queries_in_flight',
      [],
      'Queries in flight; dns.queriesInFlightMax is the limit.',
      () => [[dns().queriesInFlight]],
    ),
    gauge('zonegate_dns_refreshes_waiting', [], 'Names in use that wait for their refresh.', () => [
      [dns().refreshesWaiting],
    ]),
    gauge('zonegate_dns_names', [], 'Names in the cache; dns.cacheEntriesMax is the limit.', () => [
      [dns().names],
    ]),
  ]
}

function worstZoneViews({ worstZones }: MetricSources): View[] {
  const view = (of: 'requests' | 'errors' | 'refusals', help: string): View =>
    gauge(
      `zonegate_zone_${of}`,
      ['zone', 'name'],
      `${help} Only for the worst zones, at most metrics.topZones.`,
      () => worstZones.list().map(({ service, id, name, [of]: count }) => [count, `${service}/${id}`, name]),
    )
  return [
    view('requests', 'Requests to a zone within the last five minutes.'),
    view(
      'errors',
      "Tries of a learned zone's requests within the last five minutes that ended with a 5xx status or without an answer, as Envoys report them.",
    ),
    view(
      'refusals',
      'Requests to a zone within the last five minutes that the processor refused because the name has no usable address.',
    ),
    gauge(
      'zonegate_zones_failing',
      ['above'],
      'Learned zones where more than this share of the requests (above: 0, 0.05 or 0.5) failed within the last five minutes. All learned zones count, not only the worst. Always 0 if metrics.topZones is 0.',
      () => ERROR_SHARES.map((above, at) => [worstZones.failing[at] ?? 0, String(above)]),
    ),
  ]
}

function pinViews({ pins }: MetricSources): View[] {
  return [
    gauge('zonegate_pins', [], 'Zones pinned by command.', () => [[pins().pins.length]]),
    gauge(
      'zonegate_pin_oldest_timestamp_seconds',
      [],
      'When the oldest pin by command was set. Absent without pins.',
      () => {
        const times = pins().pins.map(({ since }) => Date.parse(since) / 1000)
        return times.length === 0 ? [] : [[Math.min(...times)]]
      },
    ),
    gauge(
      'zonegate_pins_fault',
      [],
      '1 if the file of pins by command could not be read or written; a restart may then lose pins.',
      () => [[pins().fault === null ? 0 : 1]],
    ),
  ]
}

function controlPlaneViews({ zones, controlPlane, pushes }: MetricSources): View[] {
  return [
    gauge(
      'zonegate_zones',
      ['set'],
      'Zones with recent requests: all of them (known), and those pushed to Envoys (learned).',
      () => byLabel(zones()),
    ),
    gauge('zonegate_envoys_connected', [], 'Envoys that are connected to the control plane.', () => [
      [controlPlane()?.envoys.length ?? 0],
    ]),
    counter(
      'zonegate_xds_pushes_total',
      ['kind', 'result'],
      'Pushes that Envoys answered: accepted (ack) or rejected (nack), by kind of resource.',
      () =>
        Object.entries(pushes()).flatMap(([kind, { acks, nacks }]) => [
          [acks, KINDS[kind] ?? kind, 'ack'],
          [nacks, KINDS[kind] ?? kind, 'nack'],
        ]),
    ),
    gauge(
      'zonegate_xds_resources_rejected',
      ['kind'],
      'Resources that connected Envoys reject at present. Each was found at fault by itself, not only in a push with others.',
      () => byLabel(rejected(controlPlane())),
    ),
  ]
}

function historyViews({ history }: MetricSources): View[] {
  return [
    gauge(
      'zonegate_history_fault',
      [],
      '1 if history.path cannot be written; a restart then loses the events that are only in memory.',
      () => [[history().fault === null ? 0 : 1]],
    ),
    counter(
      'zonegate_history_lost_total',
      [],
      'Events that are missing in the file of history.path because it could not be written.',
      () => [[history().lost]],
    ),
    gauge('zonegate_history_bytes', [], 'Memory that the history takes; history.bytes is the limit.', () => [
      [history().bytes],
    ]),
    gauge(
      'zonegate_history_oldest_timestamp_seconds',
      [],
      'When the oldest event of the history happened. Absent without events.',
      () => {
        const { oldestAt } = history()
        return oldestAt === null ? [] : [[oldestAt / 1000]]
      },
    ),
  ]
}

function configViews({ config, policy, certificates, upstreamCertificates }: MetricSources): View[] {
  return [
    counter(
      'zonegate_config_reloads_total',
      ['result'],
      'Reloads of a changed configuration: accepted, or rejected (the one before stays in force).',
      () => byLabel(config().reloads),
    ),
    gauge(
      'zonegate_config_faults',
      [],
      'Faults in the configuration file as it is now. 0: the file is in force.',
      () => [[config().faults.length]],
    ),
    gauge(
      'zonegate_policy_faults',
      ['effect'],
      "Faults in Envoy's files as they are now, by effect: refused (the files before stay in force) or cold_only (no zone is learned). 0: the files are in force.",
      () => [
        [policy().faults.length, 'refused'],
        [policy().reasons.length, 'cold_only'],
      ],
    ),
    gauge(
      'zonegate_certificate_expiry_timestamp_seconds',
      ['file'],
      'When a certificate of listen.tls expires: cert, or the first one of clientCa. Absent without listen.tls.',
      () => Object.entries(certificates() ?? {}).map(([file, at]) => [at.getTime() / 1000, file]),
    ),
    gauge(
      'zonegate_upstream_certificate_expiry_timestamp_seconds',
      ['file', 'use'],
      'When a certificate of upstream.tls expires, by file and use: cert, or the first one of ca. 0 if the file cannot be read. Absent without upstream.tls, or if the processor cannot see the folder.',
      () =>
        upstreamCertificates()
          .filter(({ use, expiresAt, fault }) => use !== 'key' && (expiresAt !== null || fault !== null))
          .map(({ file, use, expiresAt }) => [(expiresAt?.getTime() ?? 0) / 1000, file, use]),
    ),
  ]
}

function processViews(
  { build, ready, bugs, spans }: MetricSources,
  loopDelay: () => Record<string, number>,
): View[] {
  return [
    gauge(
      'zonegate_event_loop_delay_seconds',
      ['stat'],
      'How late the event loop ran since the last scrape: median (p50), p99 and max.',
      () => byLabel(loopDelay()),
    ),
    gauge('zonegate_ready', [], '1 while the processor takes requests.', () => [[ready() ? 1 : 0]]),
    counter(
      'zonegate_exceptions_total',
      ['place'],
      'Exceptions that were caught. Each is a bug: it ended the one thing that place names, and the log has a line about it.',
      () => byLabel(bugs()),
    ),
    gauge('zonegate_build_info', ['version', 'node'], 'Always 1; the labels hold the versions.', () => [
      [1, build.version, build.node],
    ]),
    counter(
      'zonegate_spans_total',
      ['result'],
      "The processor's spans with tracing.otlp: made, accepted by the collector (sent), or not delivered (failed). Spans that are made, but neither sent nor failed, still wait or were dropped.",
      () => byLabel({ ...spans }),
    ),
  ]
}

function ruleRows({ name, hot, forwarded, refused }: RuleStatus): Row<number>[] {
  const results = { hot, forwarded, refused: 0, unresolved: 0 }
  for (const [reason, count] of Object.entries(refused))
    results[isUnresolved(reason as RejectReason) ? 'unresolved' : 'refused'] += count
  return Object.entries(results).map(([result, count]) => [count, name, result])
}

function rejected(status: ControlPlaneStatus | null): Record<string, number> {
  const sums = Object.fromEntries(Object.values(KINDS).map((kind) => [kind, 0]))
  for (const { resources } of status?.envoys ?? [])
    for (const [kind, resource] of Object.entries(resources))
      sums[KINDS[kind] ?? kind] = (sums[KINDS[kind] ?? kind] ?? 0) + resource.rejected
  return sums
}

function byLabel(values: Readonly<Record<string, number>>): Row<number>[] {
  return Object.entries(values).map(([label, value]) => [value, label])
}

function counter(name: string, labels: readonly string[], help: string, read: () => Row<number>[]): View {
  return { ...gauge(name, labels, help, read), type: 'counter' }
}

function gauge(name: string, labels: readonly string[], help: string, read: () => Row<number>[]): View {
  const samples = () => read().map(([value, ...values]) => sample(name, labels, values, value))
  return { name, help, type: 'gauge', labels, samples }
}

function histogram(
  name: string,
  labels: readonly string[],
  help: string,
  read: () => Row<Histogram>[],
): View {
  const samples = () =>
    read().flatMap(([histogram, ...values]) => {
      const cumulative = histogram.cumulative()
      const bucket = (le: number | string, count: number): string =>
        sample(`${name}_bucket`, [...labels, 'le'], [...values, String(le)], count)
      return [
        ...histogram.bounds.map((bound, at) => bucket(bound, cumulative[at] ?? 0)),
        bucket('+Inf', histogram.count),
        sample(`${name}_sum`, labels, values, histogram.sum),
        sample(`${name}_count`, labels, values, histogram.count),
      ]
    })
  return { name, help, type: 'histogram', labels, samples }
}

/** Prometheus's text format 0.0.4 (prometheus.io/docs/instrumenting/exposition_formats). */
function textOf({ name, help, type, samples }: View): string {
  return [`# HELP ${name} ${help}`, `# TYPE ${name} ${type}`, ...samples(), '', ''].join('\n')
}

function sample(name: string, labels: readonly string[], values: readonly string[], value: number): string {
  const pairs = labels.map((label, at) => `${label}="${(values[at] ?? '').replace(/[\\"\n]/g, escaped)}"`)
  return `${name}${pairs.length === 0 ? '' : `{${pairs.join(',')}}`} ${value}`
}

function escaped(character: string): string {
  return character === '\n' ? '\\n' : `\\${character}`
}
