import { createServer, type Server } from 'node:http'
import { parseArgs } from 'node:util'
import { parseHostPort } from '../src/config/host-port.ts'

/** It returns at most this much of a body. */
const ECHO_MAX_BYTES = 64 * 1024

/** A zone's receiver. Answers every request with what it got, as JSON. */
export function startReceiver(zone: string, host: string, port: number): Promise<Server> {
  const server = createServer((request, response) => {
    const chunks: Buffer[] = []
    let length = 0
    request.on('data', (chunk: Buffer) => {
      if (length < ECHO_MAX_BYTES) chunks.push(chunk)
      length += chunk.length
    })
    request.on('end', () => {
      const { method, url, headers, socket } = request
      const body = Buffer.concat(chunks).toString('utf8').slice(0, ECHO_MAX_BYTES)
      const receiver = `${socket.localAddress}:${socket.localPort}`
      response.setHeader('content-type', 'application/json')
      response.end(`${JSON.stringify({ zone, receiver, method, path: url, headers, body }, null, 2)}\n`)
    })
  })
  return new Promise((resolve, reject) => {
    server.once('error', reject)
    server.listen(port, host, () => resolve(server))
  })
}

/** For containers: `node demo/receiver.ts --zone 1 --listen 0.0.0.0:8101`. */
async function main(): Promise<void> {
  const { zone = '1', listen = '' } = parseArgs({
    options: { zone: { type: 'string' }, listen: { type: 'string' } },
  }).values
  const address = parseHostPort(listen)
  if (address === null) throw new Error(`--listen: expected host:port, got "${listen}"`)
  const server = await startReceiver(zone, address.host, address.port)
  process.once('SIGTERM', () => server.close())
}

if (import.meta.main) await main()
