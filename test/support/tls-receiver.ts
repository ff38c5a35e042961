import type { IncomingMessage, ServerResponse } from 'node:http'
import {
  createSecureServer,
  type Http2SecureServer,
  type Http2ServerRequest,
  type Http2ServerResponse,
} from 'node:http2'
import { createServer } from 'node:https'
import type { TLSSocket, TlsOptions } from 'node:tls'

/** What a receiver saw of a request. */
export interface SeenByReceiver {
  readonly server: string
  readonly servername: string | false | null
  readonly protocol: string
  /** Common name of the client's certificate; null: it had none. */
  readonly client: string | null
  readonly host: string | undefined
  readonly body: string
}

export interface TlsReceiver {
  /** Connections on which something other than TLS arrived. */
  readonly plain: () => number
  /** Sets another certificate for new connections. */
  setSecureContext(options: TlsOptions): void
  close(): Promise<void>
}

/** A zone's receiver with TLS, and HTTP/2 if the client wants it. It answers with what it saw, as JSON. */
export function startTlsReceiver(
  host: string,
  port: number,
  options: TlsOptions & { readonly http2?: boolean },
): Promise<TlsReceiver> {
  let plain = 0
  const answer = (
    request: IncomingMessage | Http2ServerRequest,
    response: ServerResponse | Http2ServerResponse,
  ): void => {
    const chunks: Buffer[] = []
    request.on('data', (chunk: Buffer) => chunks.push(chunk))
    request.on('end', () => {
      const socket = (
        request.httpVersionMajor === 2
          ? (request as Http2ServerRequest).stream.session?.socket
          : request.socket
      ) as TLSSocket
      const seen: SeenByReceiver = {
        server: host,
        servername: (socket as TLSSocket & { servername: string | false | null }).servername,
        protocol: request.httpVersion,
        client: String(socket.getPeerCertificate?.().subject?.CN ?? '') || null,
        host: request.headers.host ?? (request.headers[':authority'] as string | undefined),
        body: Buffer.concat(chunks).toString(),
      }
      ;(response as ServerResponse).end(JSON.stringify(seen))
    })
  }
  const server: Http2SecureServer | ReturnType<typeof createServer> =
    options.http2 === true
      ? createSecureServer({ ...options, allowHTTP1: false }, answer)
      : createServer(options, answer)
  server.on('tlsClientError', (error: NodeJS.ErrnoException) => {
    if (
      /WRONG_VERSION|HTTP_REQUEST|unsupported protocol|wrong version number|http request/i.test(
        `${error.code} ${error.message}`,
      )
    )
      plain += 1
  })
  const sockets = new Set<{ destroy(): void }>()
  server.on('connection', (socket) => {
    sockets.add(socket)
    socket.on('close', () => sockets.delete(socket))
  })
  return new Promise((resolve, reject) => {
    server.once('error', reject)
    server.listen(port, host, () =>
      resolve({
        plain: () => plain,
        setSecureContext: (next) => server.setSecureContext(next),
        close: () =>
          new Promise((done) => {
            server.close(() => done())
            for (const socket of sockets) socket.destroy()
          }),
      }),
    )
  })
}
