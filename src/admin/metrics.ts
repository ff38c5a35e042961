import { monitorEventLoopDelay } from 'node:perf_hooks'
import { collectDefaultMetrics, type Metric, Registry } from 'prom-client'
import type { DnsStatus } from '../dns/dns.ts'
import type { UpstreamCertificate } from '../grpc/certificates.ts'
import type { HistoryStatus } from '../history/history.ts'
import type { PinsStatus } from '../pins/pins.ts'
import type { RejectReason } from '../routing/reject-reason.ts'
import type { Answers, DecisionCounts, DnsQueryCounts, Histogram } from '../status/counts.ts'
import { isUnresolved, type RuleStatus } from '../status/rule-counts.ts'
import type { Build, ConfigStatus, PolicyStatus } from '../status/status.ts'
import { ERROR_SHARES, type WorstZones } from '../status/worst-zones.ts'
import type { SpanCounts } from '../tracing/request-trace.ts'
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
  /** Until when what is served on `listen.grpc` is valid; null: no TLS. */
  readonly certificates: () => { readonly cert: Date; readonly clientCa: Date } | null
  /** Of `upstream.tls`. */
  readonly upstreamCertificates: () => readonly UpstreamCertificate[]
  readonly ready: () => boolean
  readonly history: () => HistoryStatus
  /** Exceptions that were caught, by place. */
  readonly bugs: () => Readonly<Record<string, number>>
}

/** A value and its labels; `name` where it isn't the metric's own. */
interface Sample {
  readonly value: number
  readonly labels?: Readonly<Record<string, string | number>>
  readonly name?: string
}

/** A metric that is read when it is asked for: nothing is done for it at a request. */
interface View {
  readonly name: string
  readonly help: string
  readonly type: 'counter' | 'gauge' | 'histogram'
  readonly labels: readonly string[]
  readonly samples: () => Iterable<Sample>
}

/** Kinds of resources, as labels are written. */
const KINDS: Readonly<Record<string, string>> = {
  cluster: 'cluster',
  endpoints: 'endpoints',
  virtualHost: 'virtual_host',
}

/** Resolution of the event loop's delay, which is also what an idle loop shows. */
const LOOP_RESOLUTION_MS = 10

/** What Prometheus reads. Label sets are bounded: zones are named by `zone`, and only as many as metrics.topZones. */
export class Metrics {
  readonly #registry = new Registry()
  readonly #loop = monitorEventLoopDelay({ resolution: LOOP_RESOLUTION_MS })
  /** Everything named `zonegate_*`, for the documentation. */
  readonly views: readonly Omit<View, 'samples'>[]

  constructor(sources: MetricSources) {
    collectDefaultMetrics({ register: this.#registry })
    this.#loop.enable()
    const views = [
      ...requestViews(sources),
      ...dnsViews(sources),
      ...worstZoneViews(sources),
      ...pinViews(sources),
      ...controlPlaneViews(sources),
      ...historyViews(sources),
      ...processViews(sources, () => this.#loopDelay()),
      ...spanViews(sources),
    ]
    for (const view of views) this.#registry.registerMetric(metricOf(view))
    this.views = views
  }

  get contentType(): string {
    return this.#registry.contentType
  }

  text(): Promise<string> {
    return this.#registry.metrics()
  }

  close(): void {
    this.#loop.disable()
    this.#registry.clear()
  }

  /** Since the last time, seconds. */
  #loopDelay(): { readonly p50: number; readonly p99: number; readonly max: number } {
    const seconds = (nanoseconds: number): number =>
      Math.max(0, (Number.isFinite(nanoseconds) ? nanoseconds : 0) / 1e9 - LOOP_RESOLUTION_MS / 1000)
    const { max } = this.#loop
    const delay = {
      p50: seconds(this.#loop.percentile(50)),
      p99: seconds(this.#loop.percentile(99)),
      max: seconds(max),
    }
    this.#loop.reset()
    return delay
  }
}

function requestViews({ decisions }: MetricSources): View[] {
  return [
    {
      name: 'zonegate_decisions_total',
      help: 'Requests that asked the processor, by result, and for those refused by reason.',
      type: 'counter',
      labels: ['result', 'reason'],
      samples: () => [
        { labels: { result: 'forwarded', reason: '' }, value: decisions.forwarded },
        ...Object.entries(decisions.refused).map(([reason, value]) => ({
          labels: { result: 'refused', reason },
          value,
        })),
      ],
    },
    {
      name: 'zonegate_rule_requests_total',
      help: "Requests of each rule: forwarded by way of the processor, those of learned zones as Envoys report them (hot), refused for what they are (refused) or for the zone's name (unresolved).",
      type: 'counter',
      labels: ['rule', 'result'],
      samples: () => decisions.rules.list().flatMap(ruleSamples),
    },
    {
      name: 'zonegate_decision_duration_seconds',
      help: 'From a request head to its decision, DNS included.',
      type: 'histogram',
      labels: [],
      samples: () => histogramSamples('zonegate_decision_duration_seconds', {}, decisions.seconds),
    },
    {
      name: 'zonegate_answers_total',
      help: 'What DNS said to requests: addresses (positive), addresses past their lifetime (stale), nxdomain, nodata or failure.',
      type: 'counter',
      labels: ['class'],
      samples: () => labelled('class', decisions.answers),
    },
  ]
}

function dnsViews({ dns, queries }: MetricSources): View[] {
  return [
    {
      name: 'zonegate_dns_lookups_total',
      help: 'Lookups of requests: from the cache within the lifetime (fresh), past it (stale), as a failure of a moment ago (backed_off), after asking (waited), or turned away because of queries in flight (overloaded) or of dns.unknownNames (rate_limited).',
      type: 'counter',
      labels: ['result'],
      samples: () => {
        const { backedOff, rateLimited, ...lookups } = dns().lookups
        return labelled('result', { ...lookups, backed_off: backedOff, rate_limited: rateLimited })
      },
    },
    {
      name: 'zonegate_dns_queries_total',
      help: 'Queries to nameservers, by RCODE or by why there was none.',
      type: 'counter',
      labels: ['nameserver', 'outcome'],
      samples: () =>
        [...queries.byNameserver].flatMap(([nameserver, { outcomes }]) =>
          [...outcomes].map(([outcome, value]) => ({ labels: { nameserver, outcome }, value })),
        ),
    },
    {
      name: 'zonegate_dns_query_duration_seconds',
      help: 'From a query to its answer or its end.',
      type: 'histogram',
      labels: ['nameserver'],
      samples: () =>
        [...queries.byNameserver].flatMap(([nameserver, { seconds }]) =>
          histogramSamples('zonegate_dns_query_duration_seconds', { nameserver }, seconds),
        ),
    },
    {
      name: 'zonegate_dns_nameserver_failing',
      help: 'Whether a nameserver in force is failing (1) and the others are asked first.',
      type: 'gauge',
      labels: ['nameserver'],
      samples: () =>
        dns().nameservers.map(({ nameserver, failures }) => ({
          labels: { nameserver },
          value: failures > 0 ? 1 : 0,
        })),
    },
    {
      name: 'zonegate_dns_queries_in_flight',
      help: 'Queries under way; dns.queriesInFlightMax is the most.',
      type: 'gauge',
      labels: [],
      samples: () => [{ value: dns().queriesInFlight }],
    },
    {
      name: 'zonegate_dns_refreshes_waiting',
      help: 'Names in use that wait for their turn to be asked again.',
      type: 'gauge',
      labels: [],
      samples: () => [{ value: dns().refreshesWaiting }],
    },
    {
      name: 'zonegate_dns_names',
      help: 'Names in the cache; dns.cacheEntriesMax is the most.',
      type: 'gauge',
      labels: [],
      samples: () => [{ value: dns().names }],
    },
  ]
}

function worstZoneViews({ worstZones }: MetricSources): View[] {
  const view = (of: 'requests' | 'errors' | 'refusals', help: string): View => ({
    name: `zonegate_zone_${of}`,
    help: `${help} Of the worst zones only, metrics.topZones at most.`,
    type: 'gauge',
    labels: ['zone', 'name'],
    samples: () =>
      worstZones.list().map(({ service, id, name, [of]: value }) => ({
        labels: { zone: `${service}/${id}`, name },
        value,
      })),
  })
  return [
    view('requests', 'Requests of a zone within five minutes.'),
    view(
      'errors',
      "Tries of a learned zone's requests within five minutes that ended with a 5xx status or without an answer, as Envoys report them.",
    ),
    view(
      'refusals',
      'Requests of a zone within five minutes that the processor refused because its name has no usable address.',
    ),
    {
      name: 'zonegate_zones_failing',
      help: 'Learned zones of which more than this share of the requests failed within five minutes (above: 0, 0.05 or 0.5), all of them. Not counted with metrics.topZones: 0.',
      type: 'gauge',
      labels: ['above'],
      samples: () =>
        ERROR_SHARES.map((above, at) => ({ labels: { above }, value: worstZones.failing[at] ?? 0 })),
    },
  ]
}

function pinViews({ pins }: MetricSources): View[] {
  return [
    {
      name: 'zonegate_pins',
      help: 'Zones that are pinned by command.',
      type: 'gauge',
      labels: [],
      samples: () => [{ value: pins().pins.length }],
    },
    {
      name: 'zonegate_pin_oldest_timestamp_seconds',
      help: 'When the oldest pin by command was set. Absent without pins.',
      type: 'gauge',
      labels: [],
      samples: () => {
        const times = pins().pins.map(({ since }) => Date.parse(since) / 1000)
        return times.length === 0 ? [] : [{ value: Math.min(...times) }]
      },
    },
    {
      name: 'zonegate_pins_fault',
      help: 'Whether the file of the pins by command could not be read or written (1): a restart may lose some.',
      type: 'gauge',
      labels: [],
      samples: () => [{ value: pins().fault === null ? 0 : 1 }],
    },
  ]
}

function historyViews({ history }: MetricSources): View[] {
  return [
    {
      name: 'zonegate_history_fault',
      help: "Whether history.path can't be written (1): a restart loses what is in memory only.",
      type: 'gauge',
      labels: [],
      samples: () => [{ value: history().fault === null ? 0 : 1 }],
    },
    {
      name: 'zonegate_history_lost_total',
      help: 'Events that are not in the file of history.path, as it could not be written.',
      type: 'counter',
      labels: [],
      samples: () => [{ value: history().lost }],
    },
    {
      name: 'zonegate_history_bytes',
      help: 'Memory of the history; history.bytes is the most.',
      type: 'gauge',
      labels: [],
      samples: () => [{ value: history().bytes }],
    },
    {
      name: 'zonegate_history_oldest_timestamp_seconds',
      help: 'When the oldest event that is kept happened. Absent where there is none.',
      type: 'gauge',
      labels: [],
      samples: () => {
        const { oldestAt } = history()
        return oldestAt === null ? [] : [{ value: oldestAt / 1000 }]
      },
    },
  ]
}

function controlPlaneViews({ zones, controlPlane, pushes }: MetricSources): View[] {
  return [
    {
      name: 'zonegate_zones',
      help: 'Zones that requests went to lately: all of them (known), and those pushed to Envoys (learned).',
      type: 'gauge',
      labels: ['set'],
      samples: () => labelled('set', zones()),
    },
    {
      name: 'zonegate_envoys_connected',
      help: 'Envoys that are connected for zones.',
      type: 'gauge',
      labels: [],
      samples: () => [{ value: controlPlane()?.envoys.length ?? 0 }],
    },
    {
      name: 'zonegate_xds_pushes_total',
      help: 'Pushes that Envoys have answered: ack (taken over) or nack (refused), by kind of resource.',
      type: 'counter',
      labels: ['kind', 'result'],
      samples: () =>
        Object.entries(pushes()).flatMap(([kind, { acks, nacks }]) => [
          { labels: { kind: KINDS[kind] ?? kind, result: 'ack' }, value: acks },
          { labels: { kind: KINDS[kind] ?? kind, result: 'nack' }, value: nacks },
        ]),
    },
    {
      name: 'zonegate_xds_resources_rejected',
      help: 'Resources that connected Envoys refuse at present, each found to be at fault by itself.',
      type: 'gauge',
      labels: ['kind'],
      samples: () => labelled('kind', rejected(controlPlane())),
    },
  ]
}

function processViews(
  { build, config, policy, certificates, upstreamCertificates, ready, bugs }: MetricSources,
  loopDelay: () => Record<string, number>,
): View[] {
  return [
    {
      name: 'zonegate_config_reloads_total',
      help: 'Readings of a changed configuration: accepted, or rejected with the one before still in force.',
      type: 'counter',
      labels: ['result'],
      samples: () => labelled('result', config().reloads),
    },
    {
      name: 'zonegate_config_faults',
      help: 'Faults in the configuration file as it is now; 0: what is in the file is in force.',
      type: 'gauge',
      labels: [],
      samples: () => [{ value: config().faults.length }],
    },
    {
      name: 'zonegate_policy_faults',
      help: "Why Envoy's files are not followed as they are now, by what that means: refused (nothing changes) or cold_only (no zone is learned). 0: they are.",
      type: 'gauge',
      labels: ['effect'],
      samples: () =>
        labelled('effect', { refused: policy().faults.length, cold_only: policy().reasons.length }),
    },
    {
      name: 'zonegate_certificate_expiry_timestamp_seconds',
      help: 'When a certificate of listen.tls in force ends, by key: cert, or the first of clientCa. Absent without listen.tls.',
      type: 'gauge',
      labels: ['file'],
      samples: () =>
        Object.entries(certificates() ?? {}).map(([file, at]) => ({
          labels: { file },
          value: at.getTime() / 1000,
        })),
    },
    {
      name: 'zonegate_upstream_certificate_expiry_timestamp_seconds',
      help: 'When a certificate of upstream.tls ends, by file and use: cert, or the next of ca. 0: it can not be read. Absent without upstream.tls, and where the processor does not see the folder.',
      type: 'gauge',
      labels: ['file', 'use'],
      samples: () =>
        upstreamCertificates()
          .filter(({ use, expiresAt, fault }) => use !== 'key' && (expiresAt !== null || fault !== null))
          .map(({ file, use, expiresAt }) => ({
            labels: { file, use },
            value: (expiresAt?.getTime() ?? 0) / 1000,
          })),
    },
    {
      name: 'zonegate_event_loop_delay_seconds',
      help: 'How late the event loop was since the last scrape: median (p50), p99 and max.',
      type: 'gauge',
      labels: ['stat'],
      samples: () => labelled('stat', loopDelay()),
    },
    {
      name: 'zonegate_ready',
      help: 'Whether the processor takes requests (1).',
      type: 'gauge',
      labels: [],
      samples: () => [{ value: ready() ? 1 : 0 }],
    },
    {
      name: 'zonegate_exceptions_total',
      help: 'Exceptions that were caught: bugs. Each cost no more than the one thing that place names, and has a line in the log.',
      type: 'counter',
      labels: ['place'],
      samples: () => labelled('place', bugs()),
    },
    {
      name: 'zonegate_build_info',
      help: 'Always 1; the version is in the labels.',
      type: 'gauge',
      labels: ['version', 'node'],
      samples: () => [{ labels: { version: build.version, node: build.node }, value: 1 }],
    },
  ]
}

function spanViews({ spans }: MetricSources): View[] {
  return [
    {
      name: 'zonegate_spans_total',
      help: 'Spans of the processor with tracing.otlp: made, taken by the collector (sent), or refused or unreachable (failed). Where more are made than sent and failed, they were dropped.',
      type: 'counter',
      labels: ['result'],
      samples: () => labelled('result', { ...spans }),
    },
  ]
}

function ruleSamples({ name, hot, forwarded, refused }: RuleStatus): Sample[] {
  const results = { hot, forwarded, refused: 0, unresolved: 0 }
  for (const [reason, count] of Object.entries(refused))
    results[isUnresolved(reason as RejectReason) ? 'unresolved' : 'refused'] += count
  return Object.entries(results).map(([result, value]) => ({ labels: { rule: name, result }, value }))
}

function rejected(status: ControlPlaneStatus | null): Record<string, number> {
  const sums = Object.fromEntries(Object.values(KINDS).map((kind) => [kind, 0]))
  for (const { resources } of status?.envoys ?? [])
    for (const [kind, resource] of Object.entries(resources))
      sums[KINDS[kind] ?? kind] = (sums[KINDS[kind] ?? kind] ?? 0) + resource.rejected
  return sums
}

function labelled(label: string, values: Readonly<Record<string, number>>): Sample[] {
  return Object.entries(values).map(([key, value]) => ({ labels: { [label]: key }, value }))
}

function histogramSamples(
  name: string,
  labels: Readonly<Record<string, string>>,
  histogram: Histogram,
): Sample[] {
  const bucket = (le: number | string, value: number): Sample => ({
    name: `${name}_bucket`,
    labels: { ...labels, le },
    value,
  })
  const cumulative = histogram.cumulative()
  return [
    ...histogram.bounds.map((bound, at) => bucket(bound, cumulative[at] ?? 0)),
    bucket('+Inf', histogram.count),
    { name: `${name}_sum`, labels, value: histogram.sum },
    { name: `${name}_count`, labels, value: histogram.count },
  ]
}

/** prom-client asks a registered metric for nothing but its name and `get`. */
function metricOf({ name, help, type, samples }: View): Metric<string> {
  const get = async () => ({
    name,
    help,
    type,
    values: [...samples()].map(({ name: metricName = name, labels = {}, value }) => ({
      metricName,
      labels,
      value,
    })),
  })
  return { name, get } as unknown as Metric<string>
}
