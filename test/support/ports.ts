import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { createServer, type Server } from 'node:net'

/**
 * Below 32768, where the kernel's ports for outgoing connections and queries begin. So none of those can take a port that was just
 * chosen, or whose server restarts.
 */
const [FIRST, LAST] = [10_000, 31_999]
const BLOCK = 100

let next = 0
let end = 0
/** The process that listens on the first port of a block owns the whole block. */
const claims: Server[] = []

/** A port that no other test uses, free on `host` over TCP and UDP. */
export async function freePort(host = '127.0.0.1'): Promise<number> {
  for (;;) {
    if (next >= end) await claimBlock()
    const port = next++
    if ((await listens(host, port)) && (await binds(host, port))) return port
  }
}

async function claimBlock(): Promise<void> {
  const blocks = (LAST + 1 - FIRST) / BLOCK
  let block = Math.floor(Math.random() * blocks)
  for (let tries = 0; tries < blocks; tries += 1) {
    const first = FIRST + block * BLOCK
    const claim = await listening('127.0.0.1', first)
    if (claim !== null) {
      claims.push(claim.unref())
      next = first + 1
      end = first + BLOCK
      return
    }
    block = (block + 1) % blocks
  }
  throw new Error('every block of ports is taken')
}

async function listening(host: string, port: number): Promise<Server | null> {
  const server = createServer()
  try {
    await once(server.listen(port, host), 'listening')
    return server
  } catch {
    return null
  }
}

async function listens(host: string, port: number): Promise<boolean> {
  const server = await listening(host, port)
  if (server === null) return false
  await new Promise((done) => server.close(done))
  return true
}

async function binds(host: string, port: number): Promise<boolean> {
  const socket = createSocket(host.includes(':') ? 'udp6' : 'udp4')
  try {
    socket.bind(port, host)
    await once(socket, 'listening')
  } catch {
    return false
  }
  await new Promise<void>((done) => socket.close(done))
  return true
}
