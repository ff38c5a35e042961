import { createSocket } from 'node:dgram'
import { createServer } from 'node:net'

// Below the range of ports that Linux gives to outgoing connections (32768 and up), which load fills.
const lowest = 20_000
const highest = 32_000

/** A port of `address` that nobody uses, neither over TCP nor over UDP. */
export async function freePort(address = '127.0.0.1'): Promise<number> {
  for (let tries = 0; tries < 100; tries++) {
    const port = lowest + Math.floor(Math.random() * (highest - lowest))
    if ((await isFreeForTcp(address, port)) && (await isFreeForUdp(address, port))) return port
  }
  throw new Error(`no free port on ${address} between ${lowest} and ${highest}`)
}

export function isFreeForTcp(address: string, port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer()
    server.once('error', () => resolve(false))
    server.listen(port, address, () => server.close(() => resolve(true)))
  })
}

function isFreeForUdp(address: string, port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = createSocket('udp4')
    socket.once('error', () => socket.close(() => resolve(false)))
    socket.bind(port, address, () => socket.close(() => resolve(true)))
  })
}
