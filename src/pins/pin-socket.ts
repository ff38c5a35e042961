import { existsSync } from 'node:fs'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { dirname, join } from 'node:path'
import { RUN_FOLDER } from '../envoy-files/folder.ts'
import type { OnBug } from '../guard.ts'
import { removeStaleSocket } from '../stale-socket.ts'

/**
 * Where pins are commanded: who may open this socket is who may run the processor. A token for listen.http is not enough, as
 * whoever reads metrics has it.
 */
export const PIN_SOCKET = join(RUN_FOLDER, 'pins.sock')
/** Its owner, and nobody else: Envoy, which shares the folder, is not to. */
const SOCKET_UMASK = 0o177
const BODY_OCTETS_MAX = 16_384
const REQUEST_TIMEOUT_MS = 5000
const CONNECTIONS_MAX = 16

/** What is commanded. The answer goes back as JSON; an Error's message goes back as a refusal. */
export interface PinCommands {
  /** @throws Error that says what was expected */
  readonly pin: (value: unknown) => object
  /** @throws Error that says what was expected */
  readonly unpin: (value: unknown) => object
}

/**
 * @returns ends it
 * @throws Error with why the socket can't be had
 */
export async function servePinSocket(path: string, commands: PinCommands, onBug: OnBug): Promise<() => void> {
  await makeWay(path)
  const server = createServer((request, response) => {
    answer(commands, request, response).catch((error: unknown) => {
      onBug(error)
      response.destroy()
    })
  })
  server.requestTimeout = REQUEST_TIMEOUT_MS
  server.headersTimeout = REQUEST_TIMEOUT_MS
  server.maxConnections = CONNECTIONS_MAX
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    // The socket is created with its mode: between a bind and a chmod anyone could connect.
    const before = process.umask(SOCKET_UMASK)
    server.listen(path, () => {
      server.removeAllListeners('error').on('error', (error) => onBug(error))
      resolve()
    })
    process.umask(before)
  })
  return () => {
    server.close()
    server.closeAllConnections()
  }
}

async function answer(
  commands: PinCommands,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const send = (status: number, body: object): void => {
    response.writeHead(status, { 'content-type': 'application/json' })
    response.end(`${JSON.stringify(body)}\n`)
  }
  const command = { '/pin': commands.pin, '/unpin': commands.unpin }[request.url ?? '']
  if (command === undefined || request.method !== 'POST')
    return send(404, { error: 'expected POST /pin or POST /unpin' })
  const text = await readText(request)
  if (text === null) return send(413, { error: `expected ${BODY_OCTETS_MAX} octets or fewer` })
  try {
    send(200, command(JSON.parse(text)))
  } catch (error) {
    send(400, { error: (error as Error).message })
  }
}

async function readText(request: IncomingMessage): Promise<string | null> {
  const chunks: Buffer[] = []
  let octets = 0
  for await (const chunk of request) {
    octets += chunk.length
    if (octets > BODY_OCTETS_MAX) return null
    chunks.push(chunk)
  }
  return Buffer.concat(chunks).toString('utf8')
}

async function makeWay(path: string): Promise<void> {
  const folder = dirname(path)
  if (!existsSync(folder)) throw new Error(`there is no folder ${folder}`)
  const inTheWay = await removeStaleSocket(path)
  if (inTheWay === 'no socket') throw new Error(`${path} is there and is no socket`)
  if (inTheWay === 'another processor') throw new Error(`another processor listens on ${path}`)
}
