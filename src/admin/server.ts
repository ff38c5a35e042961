import { createServer, type Server } from 'node:http'

/** Why the processor is not ready, by part; empty when it is. */
export type Unready = Readonly<Record<string, string>>

export interface AdminServer {
  readonly port: number
  close(): void
}

/**
 * Health over HTTP: `/healthz` (the process runs) and `/readyz` (it takes requests; 503 with the reasons in JSON).
 * @throws Error with what to do, where the address can't be had
 */
export function serveAdmin(host: string, port: number, unready: () => Unready): Promise<AdminServer> {
  const server = createServer((request, response) => {
    const path = request.url?.split('?', 1)[0]
    const send = (status: number, body: unknown): void => {
      response.writeHead(status, { 'content-type': 'application/json', 'cache-control': 'no-store' })
      response.end(`${JSON.stringify(body)}\n`)
    }
    if (request.method !== 'GET' && request.method !== 'HEAD') return send(405, { error: 'only GET' })
    if (path === '/healthz') return send(200, { status: 'ok' })
    if (path !== '/readyz') return send(404, { error: 'try /healthz or /readyz' })
    const reasons = unready()
    const ready = Object.keys(reasons).length === 0
    return send(ready ? 200 : 503, ready ? { status: 'ready' } : { status: 'not ready', reasons })
  })
  server.requestTimeout = 5000
  server.maxConnections = 256
  return listen(server, host, port)
}

function listen(server: Server, host: string, port: number): Promise<AdminServer> {
  return new Promise((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => {
      const why = error.code === 'EADDRINUSE' ? 'the port is in use' : error.message
      reject(new Error(`listen.http: can't listen on ${host}:${port}: ${why}`))
    })
    server.listen(port, host, () => {
      const address = server.address()
      resolve({
        port: typeof address === 'object' && address !== null ? address.port : port,
        close: () => {
          server.close()
          server.closeAllConnections()
        },
      })
    })
  })
}
