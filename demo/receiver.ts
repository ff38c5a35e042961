import { createServer, type Server } from 'node:http'

/** At most this much of a body is echoed. */
const ECHO_MAX_BYTES = 64 * 1024

/** A zone's receiver: answers every request with what it got, as JSON. */
export function startReceiver(zone: string, host: string, port: number): Promise<Server> {
  const server = createServer((request, response) => {
    const chunks: Buffer[] = []
    let length = 0
    request.on('data', (chunk: Buffer) => {
      if (length < ECHO_MAX_BYTES) chunks.push(chunk)
      length += chunk.length
    })
    request.on('end', () => {
      const { method, url, headers } = request
      const body = Buffer.concat(chunks).toString('utf8').slice(0, ECHO_MAX_BYTES)
      response.setHeader('content-type', 'application/json')
      response.end(
        `${JSON.stringify({ zone, receiver: `${host}:${port}`, method, path: url, headers, body }, null, 2)}\n`,
      )
    })
  })
  return new Promise((resolve, reject) => {
    server.once('error', reject)
    server.listen(port, host, () => resolve(server))
  })
}
