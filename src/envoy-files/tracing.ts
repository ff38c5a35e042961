import { ROUTE_HEADER } from '../ext-proc/messages.ts'
import type { Rules } from '../routing/rules.ts'
import { isOfRule } from './key.ts'

/** Where spans go, and of how many requests. */
export interface TracingSettings {
  /** The collector of OTLP over gRPC. */
  readonly collector: { readonly host: string; readonly port: number }
  /** Of all requests, 0 to 100; of those with a traceparent its flag must say so, too. */
  readonly samplePercent: number
}

/** Fields of the connection manager. Messages are Envoy's, in proto3's JSON mapping. */
export interface GeneratedTracing {
  readonly tracing: object
  readonly request_id_extension: object
}

const TYPE = 'type.googleapis.com/envoy'
/**
 * A collector that does not answer is waited for so long. Envoy's tracer sets no deadline, and would hold all that it has ever
 * sent: the channel sets it for each call (gRPC's service config). gRPC counts such a time from up to two seconds before the call:
 * with 1 s every call fails.
 */
const SERVICE_CONFIG = JSON.stringify({
  methodConfig: [
    { name: [{ service: 'opentelemetry.proto.collector.trace.v1.TraceService' }], timeout: '5s' },
  ],
})
/** Octets of a span's name of a field that a client wrote. */
const URL_LENGTH_MAX = 256

/**
 * Envoy's own tracer. It sends by gRPC's own client, so that all there is to it stands in the listener, which is live: a cluster
 * for it would have to be in the bootstrap, too.
 */
export function generateTracing(
  rules: Rules,
  { collector: { host, port }, samplePercent }: TracingSettings,
): GeneratedTracing {
  const address = host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`
  return {
    tracing: {
      // By the digits of x-request-id, and not because of x-client-trace-id.
      client_sampling: { value: 0 },
      random_sampling: { value: samplePercent },
      spawn_upstream_span: true, // each try is a span of its own
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
    // Envoy would write into the client's x-request-id whether the request is traced.
    request_id_extension: {
      typed_config: {
        '@type': `${TYPE}.extensions.request_id.uuid.v3.UuidRequestIdConfig`,
        pack_trace_reason: false,
      },
    },
  }
}

/** The same as the access log says of a request; a tag without a value is left out. */
function tags(rules: Rules): Readonly<Record<string, string>> {
  return {
    'zonegate.zone':
      '%DYNAMIC_METADATA(zonegate:zone)%%METADATA(ROUTE:zonegate:zone)%%METADATA(CLUSTER:zonegate:zone)%',
    'zonegate.rule': `%CEL(${ruleOfKey(rules)})%`,
    'zonegate.path': '%METADATA(ROUTE:zonegate:path)%',
    'zonegate.reason': '%RESP(x-zonegate-reason):64%',
    // In place of Envoy's own, which has the query: that may hold secrets.
    'http.url': `%REQ(x-forwarded-proto):8%://%REQ(x-forwarded-host):${URL_LENGTH_MAX}%%PATH(NQ):${URL_LENGTH_MAX}%`,
  }
}

/** The rule's name, which the key says, as a CEL expression; empty where none fits. */
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
