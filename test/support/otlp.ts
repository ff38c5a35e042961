import { Server, ServerCredentials } from '@grpc/grpc-js'
import protobuf from 'protobufjs'

/** A span as its sender wrote it; ids in hexadecimal, empty: none. */
export interface ReceivedSpan {
  /** `service.name` of who sent it. */
  readonly service: string
  readonly traceId: string
  readonly spanId: string
  readonly parentId: string
  readonly name: string
  /** 2: server, 3: client, 1: internal (OTLP, SpanKind). */
  readonly kind: number
  readonly startNanos: bigint
  readonly endNanos: bigint
  /** 2: an error (OTLP, StatusCode). */
  readonly status: number
  readonly attributes: Readonly<Record<string, string>>
}

/** A collector that keeps what it is sent over OTLP/gRPC. */
export interface OtlpReceiver {
  readonly port: number
  /** `http://127.0.0.1:PORT` */
  readonly url: string
  readonly spans: ReceivedSpan[]
  /** Those of one trace, by when they began. */
  trace(traceId: string): ReceivedSpan[]
  stop(): void
}

/** The fields in use of opentelemetry/proto/collector/trace/v1/trace_service.proto and what it imports. */
const { root } = protobuf.parse(`
  syntax = "proto3";
  message Request { repeated ResourceSpans resource_spans = 1; }
  message ResourceSpans { Resource resource = 1; repeated ScopeSpans scope_spans = 2; }
  message Resource { repeated KeyValue attributes = 1; }
  message ScopeSpans { repeated Span spans = 2; }
  message Span {
    bytes trace_id = 1; bytes span_id = 2; bytes parent_span_id = 4; string name = 5; int32 kind = 6;
    fixed64 start_time_unix_nano = 7; fixed64 end_time_unix_nano = 8; repeated KeyValue attributes = 9;
    Status status = 15;
  }
  message Status { int32 code = 3; }
  message KeyValue { string key = 1; AnyValue value = 2; }
  message AnyValue {
    oneof value { string string_value = 1; bool bool_value = 2; int64 int_value = 3; double double_value = 4; }
  }
`)
const REQUEST = root.lookupType('Request')
const EXPORT = '/opentelemetry.proto.collector.trace.v1.TraceService/Export'

export async function startOtlpReceiver(): Promise<OtlpReceiver> {
  const spans: ReceivedSpan[] = []
  const server = new Server()
  server.addService(
    {
      Export: {
        path: EXPORT,
        requestStream: false,
        responseStream: false,
        requestSerialize: (octets: Buffer) => octets,
        requestDeserialize: (octets: Buffer) => octets,
        responseSerialize: (octets: Buffer) => octets,
        responseDeserialize: (octets: Buffer) => octets,
      },
    },
    {
      Export: (call: { request: Buffer }, answer: (error: null, response: Buffer) => void): void => {
        spans.push(...spansIn(call.request))
        answer(null, Buffer.alloc(0))
      },
    },
  )
  const port = await new Promise<number>((resolve, reject) =>
    server.bindAsync('127.0.0.1:0', ServerCredentials.createInsecure(), (error, bound) =>
      error === null ? resolve(bound) : reject(error),
    ),
  )
  return {
    port,
    url: `http://127.0.0.1:${port}`,
    spans,
    trace: (traceId) =>
      spans.filter((span) => span.traceId === traceId).sort((a, b) => Number(a.startNanos - b.startNanos)),
    stop: () => server.forceShutdown(),
  }
}

interface Spans {
  readonly resourceSpans: readonly {
    readonly resource?: { readonly attributes: readonly KeyValue[] }
    readonly scopeSpans: readonly { readonly spans: readonly SentSpan[] }[]
  }[]
}

interface SentSpan {
  readonly traceId: Buffer
  readonly spanId: Buffer
  readonly parentSpanId?: Buffer
  readonly name?: string
  readonly kind?: number
  readonly startTimeUnixNano?: string
  readonly endTimeUnixNano?: string
  readonly attributes: readonly KeyValue[]
  readonly status?: { readonly code?: number }
}

interface KeyValue {
  readonly key: string
  readonly value?: Readonly<Record<string, unknown>>
}

function spansIn(octets: Buffer): ReceivedSpan[] {
  const request = REQUEST.toObject(REQUEST.decode(octets), { longs: String, arrays: true }) as Spans
  return request.resourceSpans.flatMap(({ resource, scopeSpans }) =>
    scopeSpans.flatMap(({ spans }) =>
      spans.map((span) => ({
        service: attributesOf(resource?.attributes)['service.name'] ?? '',
        traceId: hex(span.traceId),
        spanId: hex(span.spanId),
        parentId: hex(span.parentSpanId),
        name: span.name ?? '',
        kind: span.kind ?? 0,
        startNanos: BigInt(span.startTimeUnixNano ?? 0),
        endNanos: BigInt(span.endTimeUnixNano ?? 0),
        status: span.status?.code ?? 0,
        attributes: attributesOf(span.attributes),
      })),
    ),
  )
}

function attributesOf(pairs: readonly KeyValue[] = []): Record<string, string> {
  return Object.fromEntries(pairs.map(({ key, value }) => [key, String(Object.values(value ?? {})[0] ?? '')]))
}

function hex(octets: Buffer = Buffer.alloc(0)): string {
  return Buffer.from(octets).toString('hex')
}
