import type { Socket } from 'node:net'
import {
  Server,
  ServerCredentials,
  type ServerInterceptor,
  type ServiceDefinition,
  type UntypedServiceImplementation,
} from '@grpc/grpc-js'
import type { OnBug } from '../guard.ts'
import { BufferGuard } from './buffer-guard.ts'
import type { Certificates } from './certificates.ts'
import {
  CONNECTIONS_MAX,
  LISTENER_PATIENCE,
  type ListenerLog,
  type ListenerOptions,
  listen,
} from './listener.ts'

/** A service, its handlers, and optionally an interceptor that takes calls before the handlers. */
export type Service = readonly [ServiceDefinition, UntypedServiceImplementation, ServerInterceptor?]

/**
 * Streams at once on one connection (HTTP/2 SETTINGS_MAX_CONCURRENT_STREAMS). A silent stream takes some 15 KB, so one connection
 * can take 16 MB this way. An Envoy that needs more streams opens another connection.
 */
export const STREAMS_PER_CONNECTION_MAX = 1024
/**
 * Octets of one message. Envoy's largest is the list of what it has when it reconnects, some 50 octets for each zone and kind: this
 * is enough for 100,000 zones (`learned.zonesMax`). The stream of a larger message gets RESOURCE_EXHAUSTED.
 */
export const MESSAGE_OCTETS_MAX = 8 * 1024 * 1024
/** How long to wait for clients, milliseconds. */
export const PATIENCE = {
  ...LISTENER_PATIENCE,
  /** A client that is silent for so long gets an HTTP/2 PING, because it may be gone or hang. */
  pingAfterMs: 60_000,
  /** A client that does not answer a PING for so long is disconnected. */
  pingAnswerMs: 20_000,
} as const
export type Patience = { readonly [Name in keyof typeof PATIENCE]: number }

export interface GrpcOptions {
  readonly address: ListenerOptions['address']
  /** Null: no TLS. */
  readonly certificates: Certificates | null
  readonly services: readonly Service[]
  readonly log: ListenerLog
  /** Hears of an exception while a connection is handled, which is a bug. */
  readonly onBug: OnBug
  /** PATIENCE except in tests. */
  readonly patience?: Patience
  /** CONNECTIONS_MAX except in tests. */
  readonly connectionsMax?: number
}

export interface GrpcServer {
  /** The port of a TCP listener; 0 for a Unix socket. */
  readonly port: number
  /** Used for new connections; existing ones keep theirs. */
  setCertificates(certificates: Certificates): void
  /** Refuses new streams, waits up to `graceMs` for those in flight, then destroys the rest. */
  drain(graceMs: number): Promise<void>
}

/**
 * Serves gRPC. `listen` accepts, counts and (with TLS) authenticates connections before gRPC gets them, because gRPC has no limit
 * for connections and does not say why it refused a client.
 * @throws Error that says what to do, if the address can't be used
 */
export async function serveGrpc(options: GrpcOptions): Promise<GrpcServer> {
  const {
    address,
    certificates,
    services,
    log,
    onBug,
    patience = PATIENCE,
    connectionsMax = CONNECTIONS_MAX,
  } = options
  const server = new Server({
    'grpc.max_concurrent_streams': STREAMS_PER_CONNECTION_MAX,
    'grpc.max_receive_message_length': MESSAGE_OCTETS_MAX,
    'grpc.keepalive_time_ms': patience.pingAfterMs,
    'grpc.keepalive_timeout_ms': patience.pingAnswerMs,
    'grpc.enable_channelz': 0,
    interceptors: services.flatMap(([, , interceptor]) => interceptor ?? []),
  })
  for (const [definition, implementation] of services) server.addService(definition, implementation)
  const injector = server.createConnectionInjector(ServerCredentials.createInsecure())
  const guard = bufferGuard(log, onBug)
  const stopGuard = guard.start()
  const listener = await listen({
    address,
    certificates,
    log,
    patience,
    connectionsMax,
    onBug,
    onConnection: (socket: Socket) => {
      guard.add(socket)
      socket.once('close', () => guard.remove(socket))
      injector.injectConnection(socket)
    },
  })
  return {
    port: listener.port,
    setCertificates: listener.setCertificates,
    drain: (graceMs) => {
      stopGuard()
      listener.close()
      return drain(server, graceMs)
    },
  }
}

function bufferGuard(log: ListenerLog, onBug: OnBug): BufferGuard {
  return new BufferGuard({
    now: () => performance.now(),
    buffered: () => process.memoryUsage().arrayBuffers,
    onClosed: (fields) =>
      log.warn(fields, 'listen.grpc: buffers are too large; the connection that sent most was closed'),
    onBug,
  })
}

function drain(server: Server, graceMs: number): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(() => {
      server.forceShutdown()
      resolve()
    }, graceMs)
    server.tryShutdown(() => {
      clearTimeout(timer)
      resolve()
    })
  })
}
