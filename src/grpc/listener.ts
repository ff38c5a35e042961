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

/** Gives the Unix socket to its owner and group only. Envoy and the processor share a group. */
const SOCKET_UMASK = 0o117
/** Octets of a Unix socket's path: 108 minus the final NUL (unix(7), sun_path). */
const SOCKET_PATH_MAX = 107
/** Connections of one Envoy: one for each of 64 workers (`--concurrency`), and one of the main thread. */
export const CONNECTIONS_PER_ENVOY_MAX = 65
/**
 * Connections at once, as many as ENVOYS_MAX Envoys can have. A further one is closed immediately. Each takes some 20 KB, all of
 * them 350 MB. An Envoy with four workers has five.
 */
export const CONNECTIONS_MAX = 16_640
/** How long a client may take after it has connected, milliseconds. */
export const LISTENER_PATIENCE = {
  /** For the TLS handshake. Enough on any network. */
  handshakeMs: 5_000,
  /** Until its first octet. HTTP/2 begins with the client's preface (RFC 9113 section 3.4). */
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
  /** CONNECTIONS_MAX except in tests. */
  readonly connectionsMax: number
  /** Hears of an exception while a connection is handled, which is a bug. */
  readonly onBug: OnBug
  /** Gets each accepted connection. With TLS, its client is authenticated. */
  readonly onConnection: (socket: Socket) => void
}

export interface Listener {
  /** The port of a TCP listener; 0 for a Unix socket. */
  readonly port: number
  /** Used for new connections; existing ones keep theirs. */
  setCertificates(certificates: Certificates): void
  close(): void
}

/**
 * Listens, and passes accepted connections on.
 * @throws Error that says what to do, if the address can't be used
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

/** Mutual TLS: a client without a valid certificate is refused right after the handshake. */
function tlsServer(
  { onConnection, log, patience, onBug }: ListenerOptions,
  certificates: Certificates,
): TlsServer {
  const limit = createLineLimit(() => performance.now())
  const refuse = (socket: TLSSocket, why: Refusal, more: object = {}): void => {
    const { remoteAddress: client } = socket
    socket.destroy()
    // Load balancers that check whether the port is open do this every few seconds.
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
    // Node would close the connection without a word. `connected` does it, and logs why and whose it was.
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
    // No session resumption: it would skip the check of the client's certificate. Envoy has few connections, which live long.
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
    // A umask, because anyone could connect between a bind and a later chmod.
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

/** Creates the socket's folder, and removes a stale socket. */
async function prepareSocket(path: string): Promise<void> {
  if (Buffer.byteLength(path) > SOCKET_PATH_MAX) {
    throw new Error(
      `listen.grpc: ${path} is longer than the ${SOCKET_PATH_MAX} bytes of a socket's path; use a relative or shorter one`,
    )
  }
  mkdirSync(dirname(path), { recursive: true })
  const inTheWay = await removeStaleSocket(path)
  if (inTheWay === 'no socket')
    throw new Error(`listen.grpc: ${path} exists and is not a socket; remove it or name another path`)
  if (inTheWay === 'another processor')
    throw new Error(`listen.grpc: another processor listens on ${path}; stop it or name another path`)
}
