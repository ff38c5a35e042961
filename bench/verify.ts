import { Agent, type IncomingMessage, request } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'
import type { Running, System } from './systems/system.ts'
import type { Zone } from './zones.ts'

/** Proves that a system does its job before its cost is measured: a fast wrong answer is worth nothing. */

const readyWithinMs = 10_000
const atOnce = 16

/** Asks for every zone once, and for what must be refused. Throws what was wrong. */
export async function verify(system: System, running: Running, zones: readonly Zone[]): Promise<void> {
  const agent = new Agent({ keepAlive: true, maxSockets: atOnce })
  const ask = (method: string, id?: string) => answer(agent, running.port, method, id)
  try {
    await untilForwarding(ask, zones[0] as Zone)
    const rest = zones[Symbol.iterator]()
    const worker = async () => {
      for (const zone of rest) expectZone(system, zone, await ask('POST', zone.id))
    }
    await Promise.all(Array.from({ length: atOnce }, worker))
    if (system.routesByZone) {
      expectStatus(405, await ask('GET', '1'), 'a GET')
      expectStatus(403, await ask('POST'), 'a POST without a server header')
    }
  } finally {
    agent.destroy()
  }
}

type Ask = (method: string, id?: string) => Promise<Answer>

/** A proxy that listens may still be waiting for its control plane or its first DNS answer. */
async function untilForwarding(ask: Ask, zone: Zone): Promise<void> {
  const deadline = Date.now() + readyWithinMs
  for (;;) {
    const { status } = await ask('POST', zone.id).catch(() => ({ status: 0 }))
    if (status === 200) return
    if (Date.now() > deadline)
      throw new Error(`zone ${zone.id} still gets ${status} after ${readyWithinMs} ms`)
    await sleep(50)
  }
}

function expectZone(system: System, zone: Zone, got: Answer): void {
  expectStatus(200, got, `zone ${zone.id}`)
  const [address] = got.body.split(' ')
  if (system.routesByZone && address !== zone.address) {
    throw new Error(`zone ${zone.id} was forwarded to ${address}, its address is ${zone.address}`)
  }
}

function expectStatus(status: number, got: Answer, what: string): void {
  if (got.status !== status)
    throw new Error(`${what} got ${got.status} instead of ${status}: ${got.body.trim()}`)
}

interface Answer {
  readonly status: number
  readonly body: string
}

function answer(agent: Agent, port: number, method: string, id?: string): Promise<Answer> {
  const headers = id === undefined ? {} : { server: id }
  return new Promise((resolve, reject) => {
    const outgoing = request({
      agent,
      host: '127.0.0.1',
      port,
      method,
      path: '/callback',
      headers,
      timeout: 10_000,
    })
    outgoing.once('timeout', () => outgoing.destroy(new Error('no answer within 10 s')))
    outgoing.once('error', reject)
    outgoing.once('response', (response: IncomingMessage) => {
      let body = ''
      response.setEncoding('utf8')
      response.on('data', (text: string) => {
        body += text
      })
      response.once('error', reject)
      response.once('end', () => resolve({ status: response.statusCode ?? 0, body }))
    })
    outgoing.end(method === 'POST' ? 'hello' : undefined)
  })
}
