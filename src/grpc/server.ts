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

/** A service, what handles its calls, and what takes calls before they are handled. */
export type Service = readonly [ServiceDefinition, UntypedServiceImplementation, ServerInterceptor?]

/**
 * Streams at once on one connection (HTTP/2 SETTINGS_MAX_CONCURRENT_STREAMS). Each costs some 15 KB before it has said
 * anything, so that one client can't have more than 16 MB this way. An Envoy with more requests under way to the processor
 * opens another connection.
 */
export const STREAMS_PER_CONNECTION_MAX = 1024
/**
 * One message, octets. The largest that Envoy has to send is what it knows on reconnecting, some 50 for each zone and
 * kind: this is enough for 100,000 zones (`learned.zonesMax`). Beyond: RESOURCE_EXHAUSTED, for that stream alone.
 */
export const MESSAGE_OCTETS_MAX = 8 * 1024 * 1024
/** How long clients may take, milliseconds. */
export const PATIENCE = {
  ...LISTENER_PATIENCE,
  /** A peer that is gone without a word, or reads nothing: HTTP/2 PING after so long, and so long for the answer. */
  pingAfterMs: 60_000,
  pingAnswerMs: 20_000,
} as const
export type Patience = { readonly [Name in keyof typeof PATIENCE]: number }

export interface GrpcOptions {
  readonly address: ListenerOptions['address']
  /** Null: no TLS. */
  readonly certificates: Certificates | null
  readonly services: readonly Service[]
  readonly log: ListenerLog
  /** Told of an exception over one connection. */
  readonly onBug: OnBug
  /** PATIENCE, but in tests. */
  readonly patience?: Patience
  /** CONNECTIONS_MAX, but in tests. */
  readonly connectionsMax?: number
}

export interface GrpcServer {
  /** The port of a TCP listener; 0 for a Unix socket. */
  readonly port: number
  /** For connections to come; those that are there keep what they have. */
  setCertificates(certificates: Certificates): void
  /** Refuses new streams, lets those in flight end for `graceMs`, destroys what is left then. */
  drain(graceMs: number): Promise<void>
}

/**
 * Binds and serves. Connections are accepted, counted and, with TLS, authenticated by a listener of our own, and handed to
 * gRPC then: it neither limits them nor tells why a client was refused.
 * @throws Error with what to do, where the address can't be had
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
      log.warn(fields, 'listen.grpc: buffers are over their bound, the connection that sent most was closed'),
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
