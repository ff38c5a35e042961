import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import { promisify } from 'node:util'

export interface Receiver {
  readonly host: string
  /** Requests that arrived whole, in order. */
  readonly requests: readonly ReceivedRequest[]
  /** How many are open. */
  connections(): Promise<number>
  close(): Promise<void>
}

export interface ReceivedRequest {
  readonly method: string
  readonly path: string
  /** Name, value, name, value, as they arrived. */
  readonly rawHeaders: readonly string[]
  readonly headers: Readonly<Record<string, string | string[] | undefined>>
  readonly body: string
  /** Name, value, name, value, as they came behind the body. */
  readonly rawTrailers: readonly string[]
}

type Handler = (request: IncomingMessage, response: ServerResponse) => void

/**
 * A zone's receiver on a loopback address; answers 200 with its own address, or as `handler` says.
 * @param onNoHttp called when something other than HTTP arrives
 */
export function startReceiver(
  host: string,
  port: number,
  handler?: Handler,
  onNoHttp: () => void = () => undefined,
): Promise<Receiver> {
  const requests: ReceivedRequest[] = []
  const server: Server = createServer((request, response) => {
    if (handler !== undefined) return handler(request, response)
    const chunks: Buffer[] = []
    request.on('data', (chunk: Buffer) => chunks.push(chunk))
    request.on('end', () => {
      const { method = '', url: path = '', rawHeaders, headers } = request
      const body = Buffer.concat(chunks).toString('latin1')
      requests.push({ method, path, rawHeaders, headers, body, rawTrailers: request.rawTrailers })
      response.end(`receiver ${host}`)
    })
  })
  server.keepAliveTimeout = 30_000
  server.on('clientError', (error: NodeJS.ErrnoException, socket) => {
    if (error.code?.startsWith('HPE_') === true) onNoHttp()
    socket.destroy()
  })
  return new Promise((resolve, reject) => {
    server.once('error', reject)
    server.listen(port, host, () =>
      resolve({
        host,
        requests,
        connections: () => promisify(server.getConnections.bind(server))(),
        close: () =>
          new Promise((done) => {
            server.close(() => done())
            server.closeAllConnections()
          }),
      }),
    )
  })
}
