import { createServer, type Server, type Socket } from 'node:net'

export interface ScriptedReceiver {
  /** Requests that arrived whole, in order; Latin-1, an octet a character. */
  readonly requests: readonly string[]
  /** What it answers from now on, octet by octet, before it closes the connection. */
  answer(octets: string): void
  close(): Promise<void>
}

const OK = 'HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok'
const HEAD_END = '\r\n\r\n'

/** A zone's receiver that answers each whole request with given octets, which no HTTP library would send. */
export function startScriptedReceiver(host: string, port: number): Promise<ScriptedReceiver> {
  const requests: string[] = []
  const sockets = new Set<Socket>()
  let octets = OK
  const server: Server = createServer((socket) => {
    sockets.add(socket)
    let request = ''
    socket.on('error', () => undefined)
    socket.on('close', () => sockets.delete(socket))
    socket.on('data', (chunk) => {
      request += chunk.toString('latin1')
      if (socket.writableEnded || !isWhole(request)) return
      requests.push(request)
      socket.end(octets, 'latin1')
    })
  })
  return new Promise((resolve, reject) => {
    server.once('error', reject)
    server.listen(port, host, () =>
      resolve({
        requests,
        answer: (next) => {
          octets = next
        },
        close: () =>
          new Promise((done) => {
            server.close(() => done())
            for (const socket of sockets) socket.destroy()
          }),
      }),
    )
  })
}

function isWhole(request: string): boolean {
  const end = request.indexOf(HEAD_END)
  if (end < 0) return false
  const head = request.slice(0, end)
  const body = request.slice(end + HEAD_END.length)
  if (/^transfer-encoding: chunked$/im.test(head)) return body.endsWith(`0${HEAD_END}`)
  return body.length >= Number(/^content-length: (\d+)$/im.exec(head)?.[1] ?? 0)
}
