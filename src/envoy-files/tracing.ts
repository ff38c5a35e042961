import { ROUTE_HEADER } from '../ext-proc/messages.ts'
import type { Rules } from '../routing/rules.ts'
import { isOfRule } from './key.ts'

/** Where Envoy sends spans, and for how many requests. */
export interface TracingSettings {
  /** A collector that takes OTLP over gRPC. */
  readonly collector: { readonly host: string; readonly port: number }
  /** Percentage of requests to trace, 0 to 100. A request with a traceparent must have the sampled flag, too. */
  readonly samplePercent: number
}

/** Fields of the connection manager, in proto3's JSON mapping. */
export interface GeneratedTracing {
  readonly tracing: object
  readonly request_id_extension: object
}

const TYPE = 'type.googleapis.com/envoy'
/**
 * The deadline of each call to the collector (gRPC's service config). Envoy's tracer sets no deadline: if the collector never answers,
 * Envoy would keep all spans in memory. gRPC may count from two seconds before the call, so every call would fail with 1 s.
 */
const SERVICE_CONFIG = JSON.stringify({
  methodConfig: [
    { name: [{ service: 'opentelemetry.proto.collector.trace.v1.TraceService' }], timeout: '5s' },
  ],
})
/** The longest text of a client in a span, octets. */
const URL_LENGTH_MAX = 256

/**
 * Settings of Envoy's tracer. It uses Google's gRPC client, so that the listener has all settings and Envoy can reload them. For
 * Envoy's own client, the bootstrap would need a cluster.
 */
export function generateTracing(
  rules: Rules,
  { collector: { host, port }, samplePercent }: TracingSettings,
): GeneratedTracing {
  const address = host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`
  return {
    tracing: {
      // x-request-id decides, never x-client-trace-id.
      client_sampling: { value: 0 },
      random_sampling: { value: samplePercent },
      spawn_upstream_span: true, // each try has its own span
      provider: {
        name: 'envoy.tracers.opentelemetry',
        typed_config: {
          '@type': `${TYPE}.config.trace.v3.OpenTelemetryConfig`,
          service_name: 'zonegate',
          grpc_service: {
            google_grpc: {
              target_uri: address,
              stat_prefix: 'otlp',
              channel_args: { args: { 'grpc.service_config': { string_value: SERVICE_CONFIG } } },
            },
          },
        },
      },
      custom_tags: Object.entries(tags(rules)).map(([tag, value]) => ({ tag, value })),
    },
    // Otherwise Envoy would write into the client's x-request-id that the request is traced.
    request_id_extension: {
      typed_config: {
        '@type': `${TYPE}.extensions.request_id.uuid.v3.UuidRequestIdConfig`,
        pack_trace_reason: false,
      },
    },
  }
}

/** The tags have the same values as the access log. Envoy omits tags without a value. */
function tags(rules: Rules): Readonly<Record<string, string>> {
  return {
    'zonegate.zone':
      '%DYNAMIC_METADATA(zonegate:zone)%%METADATA(ROUTE:zonegate:zone)%%METADATA(CLUSTER:zonegate:zone)%',
    'zonegate.rule': `%CEL(${ruleOfKey(rules)})%`,
    'zonegate.path': '%METADATA(ROUTE:zonegate:path)%',
    'zonegate.reason': '%RESP(x-zonegate-reason):64%',
    // Replaces Envoy's own tag, which has the query and so may contain secrets.
    'http.url': `%REQ(x-forwarded-proto):8%://%REQ(x-forwarded-host):${URL_LENGTH_MAX}%%PATH(NQ):${URL_LENGTH_MAX}%`,
  }
}

/** A CEL expression that gets the rule's name from the key; its value is empty if no rule fits. */
function ruleOfKey(rules: Rules): string {
  const [only] = rules
  if (only?.prefix === '') return JSON.stringify(only.name)
  const key = `request.headers[${JSON.stringify(ROUTE_HEADER)}]`
  const name = rules.reduceRight((otherwise, rule) => {
    const { regex } = isOfRule(rule).string_match.safe_regex
    return `${key}.matches(${JSON.stringify(`^${regex}`)}) ? ${JSON.stringify(rule.name)} : ${otherwise}`
  }, '""')
  return `(${JSON.stringify(ROUTE_HEADER)} in request.headers ? (${name}) : "")`
}
