import { existsSync } from 'node:fs'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { dirname, join } from 'node:path'
import { RUN_FOLDER } from '../envoy-files/folder.ts'
import type { OnBug } from '../guard.ts'
import { removeStaleSocket } from '../stale-socket.ts'

/**
 * The socket for `zonegate pin`. Only the user who runs the processor can open it: the token of listen.http is not enough,
 * because everyone who reads metrics has it.
 */
export const PIN_SOCKET = join(RUN_FOLDER, 'pins.sock')
/** Only the owner may open it: Envoy shares the folder, and must not. */
const SOCKET_UMASK = 0o177
const BODY_OCTETS_MAX = 16_384
const REQUEST_TIMEOUT_MS = 5000
const CONNECTIONS_MAX = 16

/** Handlers of the commands. The result is sent as JSON; a thrown Error is sent as a refusal with its message. */
export interface PinCommands {
  /** @throws Error that says what was expected */
  readonly pin: (value: unknown) => object
  /** @throws Error that says what was expected */
  readonly unpin: (value: unknown) => object
}

/**
 * @returns closes the socket
 * @throws Error with the reason if it can't listen
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
    // The umask sets the mode at creation: with chmod anyone could connect before it runs.
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
  if (!existsSync(folder)) throw new Error(`the folder ${folder} does not exist`)
  const inTheWay = await removeStaleSocket(path)
  if (inTheWay === 'no socket') throw new Error(`${path} exists and is not a socket`)
  if (inTheWay === 'another processor') throw new Error(`another processor listens on ${path}`)
}
