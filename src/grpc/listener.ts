import { constants } from 'node:crypto'
import { mkdirSync } from 'node:fs'
import { createServer, type ListenOptions, type Server, type Socket } from 'node:net'
import { dirname } from 'node:path'
import { createServer as createTlsServer, type TLSSocket, type Server as TlsServer } from 'node:tls'
import { guarded, type OnBug } from '../guard.ts'
import { createLineLimit } from '../line-limit.ts'
import { removeStaleSocket } from '../stale-socket.ts'
import { type Certificates, oneLine } from './certificates.ts'
import { type Refusal, refusalOfCertificate, refusalOfHandshake } from './refused-clients.ts'

/** Mode of the Unix socket: owner and group, nobody else. Envoy and the processor share a group. */
const SOCKET_UMASK = 0o117
/** A Unix socket's path, octets, with its final NUL (unix(7), sun_path). */
const SOCKET_PATH_MAX = 107
/** Threads of one Envoy that connect, each by itself: so many workers (`--concurrency`), and the main thread. */
export const CONNECTIONS_PER_ENVOY_MAX = 65
/**
 * Connections at once; one more is closed at once. As many as ENVOYS_MAX Envoys have at most. Each costs some 20 KB, so that
 * all of them are 350 MB; an Envoy of four workers has five.
 */
export const CONNECTIONS_MAX = 16_640
/** How long a client that has connected may take, milliseconds. */
export const LISTENER_PATIENCE = {
  /** A TLS handshake over any network, with a client that means it. */
  handshakeMs: 5_000,
  /** Without an octet: HTTP/2 begins with the client's preface (RFC 9113 section 3.4). */
  silentMs: 10_000,
} as const
export type ListenerPatience = { readonly [Name in keyof typeof LISTENER_PATIENCE]: number }

export interface ListenerLog {
  warn(fields: object, text: string): void
  debug(fields: object, text: string): void
}

export interface ListenerOptions {
  /** `unix:PATH`, relative to the working directory, or a host and port. */
  readonly address: string | { readonly host: string; readonly port: number }
  /** Null: no TLS. */
  readonly certificates: Certificates | null
  readonly log: ListenerLog
  readonly patience: ListenerPatience
  /** CONNECTIONS_MAX, but in tests. */
  readonly connectionsMax: number
  /** Told of an exception over one connection. */
  readonly onBug: OnBug
  /** Told of each connection that may speak: with TLS, its client has proved who it is. */
  readonly onConnection: (socket: Socket) => void
}

export interface Listener {
  /** The port of a TCP listener; 0 for a Unix socket. */
  readonly port: number
  /** For connections to come; those that are there keep what they have. */
  setCertificates(certificates: Certificates): void
  close(): void
}

/**
 * Binds, and hands over connections.
 * @throws Error with what to do, where the address can't be had
 */
export async function listen(options: ListenerOptions): Promise<Listener> {
  const { address, certificates, log, connectionsMax } = options
  const path = typeof address === 'string' ? address.slice('unix:'.length) : null
  if (path !== null) await prepareSocket(path)
  const server = certificates === null ? plainServer(options) : tlsServer(options, certificates)
  const limit = createLineLimit(() => performance.now())
  server.maxConnections = connectionsMax
  const dropped = (): void => {
    const due = limit('drop')
    if (due !== null)
      log.warn({ connectionsMax, ...due }, 'listen.grpc: too many connections, one more was closed')
  }
  server.on('drop', guarded(options.onBug, dropped))
  await bind(
    server,
    typeof address === 'string' ? { path: path ?? '' } : address,
    String(path ?? hostPort(address)),
  )
  const bound = server.address()
  return {
    port: typeof bound === 'object' && bound !== null ? bound.port : 0,
    setCertificates: (next) => (server as TlsServer).setSecureContext(contextOf(next)),
    close: () => server.close(),
  }
}

function plainServer({ onConnection, patience, onBug }: ListenerOptions): Server {
  const connected = (socket: Socket): void => {
    closeIfSilent(socket, patience.silentMs)
    onConnection(socket)
  }
  return createServer({ noDelay: true }, guarded(onBug, connected))
}

/** Mutual TLS: a client whose certificate is not in order gets no further than the handshake. */
function tlsServer(
  { onConnection, log, patience, onBug }: ListenerOptions,
  certificates: Certificates,
): TlsServer {
  const limit = createLineLimit(() => performance.now())
  const refuse = (socket: TLSSocket, why: Refusal, more: object = {}): void => {
    const { remoteAddress: client } = socket
    socket.destroy()
    // A load balancer that looks whether the port is open does this every few seconds.
    if (why === 'it left during the handshake') log.debug({ client }, 'listen.grpc: a client left')
    else {
      const due = limit(why)
      if (due !== null) log.warn({ why, client, ...more, ...due }, 'listen.grpc: a client was refused')
    }
  }
  const server = createTlsServer({
    ...contextOf(certificates),
    noDelay: true,
    ALPNProtocols: ['h2'],
    handshakeTimeout: patience.handshakeMs,
    requestCert: true,
    // Node would only close the connection; here the log says why, and whose it was.
    rejectUnauthorized: false,
  })
  const connected = (socket: TLSSocket): void => {
    socket.on('error', () => undefined) // its `close` follows
    if (socket.authorized !== true) {
      const { subject } = socket.getPeerX509Certificate() ?? {}
      const why = refusalOfCertificate(String(socket.authorizationError), subject !== undefined)
      refuse(socket, why, {
        ...(subject !== undefined && { subject: oneLine(subject) }),
        code: socket.authorizationError,
      })
    } else if (socket.alpnProtocol !== 'h2') refuse(socket, 'it does not speak HTTP/2')
    else {
      closeIfSilent(socket, patience.silentMs)
      onConnection(socket)
    }
  }
  const failed = ({ code = '' }: NodeJS.ErrnoException, socket: TLSSocket): void =>
    refuse(socket, refusalOfHandshake(code), { code })
  server.on('secureConnection', guarded(onBug, connected))
  server.on('tlsClientError', guarded(onBug, failed))
  return server
}

function contextOf({ cert, key, ca }: Certificates) {
  return {
    cert,
    key,
    ca,
    minVersion: 'TLSv1.2' as const,
    // A resumed session would skip the look at the client's certificate; Envoy's connections are few and live long.
    secureOptions: constants.SSL_OP_NO_TICKET,
  }
}

function closeIfSilent(socket: Socket, silentMs: number): void {
  const timer = setTimeout(() => {
    if (socket.bytesRead === 0) socket.destroy()
  }, silentMs)
  timer.unref()
  socket.once('close', () => clearTimeout(timer))
}

function bind(server: Server, options: ListenOptions, name: string): Promise<void> {
  return new Promise((resolve, reject) => {
    // The socket is created with its mode: between a bind and a chmod anyone could connect.
    const before = options.path === undefined ? undefined : process.umask(SOCKET_UMASK)
    const done = (): void => {
      if (before !== undefined) process.umask(before)
    }
    server.once('error', (error: NodeJS.ErrnoException) => {
      done()
      const why = error.code === 'EADDRINUSE' ? 'the port is in use' : error.message
      reject(new Error(`listen.grpc: can't listen on ${name}: ${why}; name another address`))
    })
    server.listen(options, () => {
      done()
      server.removeAllListeners('error')
      server.on('error', () => undefined)
      resolve()
    })
  })
}

function hostPort(address: ListenerOptions['address']): string {
  if (typeof address === 'string') return address
  return address.host.includes(':') ? `[${address.host}]:${address.port}` : `${address.host}:${address.port}`
}

/** Makes the socket's folder, and room for the socket. */
async function prepareSocket(path: string): Promise<void> {
  if (Buffer.byteLength(path) > SOCKET_PATH_MAX) {
    throw new Error(
      `listen.grpc: ${path} is longer than the ${SOCKET_PATH_MAX} bytes of a socket's path; use a relative or shorter one`,
    )
  }
  mkdirSync(dirname(path), { recursive: true })
  const inTheWay = await removeStaleSocket(path)
  if (inTheWay === 'no socket')
    throw new Error(`listen.grpc: ${path} is there and is no socket; remove it or name another path`)
  if (inTheWay === 'another processor')
    throw new Error(`listen.grpc: another processor listens on ${path}; stop it or name another path`)
}
