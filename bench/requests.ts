import { Agent, type IncomingMessage, request } from 'node:http'
import { setTimeout as sleep } from 'node:timers/promises'
import type { RequestForm, Running, System } from './systems/system.ts'
import type { Zone } from './zones.ts'

export const plain: RequestForm = { path: '/callback', headers: { server: '{id}' }, body: 'hello' }
export const withoutId: RequestForm = { ...plain, headers: {} }

/** The id in every place where a rule may look for it. */
export function everywhere(body: 'json' | 'form'): RequestForm {
  return {
    path: '/cb/{id}/pay?a=1&server={id}',
    headers: {
      Host: '{id}.cb.test',
      server: '{id}',
      cookie: 'server={id}; a=1',
      'content-type': body === 'json' ? 'application/json' : 'application/x-www-form-urlencoded',
    },
    body: body === 'json' ? '{"server":"{id}"}' : 'server={id}',
  }
}

export function withId({ path, headers, body }: RequestForm, id: string): RequestForm {
  const put = (text: string) => text.replaceAll('{id}', id)
  return {
    path: put(path),
    headers: Object.fromEntries(Object.entries(headers).map(([name, value]) => [name, put(value)])),
    body: put(body),
  }
}

export interface Answer {
  readonly status: number
  readonly body: string
}

/** POSTs or GETs. Without an id the request names no zone. */
export type Ask = (method: string, id?: string, requestId?: string) => Promise<Answer>

const atOnce = 16
/** Enough for an Envoy under valgrind on a busy machine. */
const patienceMs = 60_000

/** Gives `use` a function that asks over keep-alive connections to 127.0.0.1, and closes these afterwards. */
export async function asking<Result>(
  { port, form = plain }: Pick<Running, 'port' | 'form'>,
  use: (ask: Ask) => Promise<Result>,
  answerWithinMs = patienceMs,
): Promise<Result> {
  const agent = new Agent({ keepAlive: true, maxSockets: atOnce })
  try {
    const target = { agent, port, form, answerWithinMs }
    return await use((method, id, requestId) => answer(target, method, id, requestId))
  } finally {
    agent.destroy()
  }
}

/** POSTs to every zone once. Throws unless each answers 200. */
export function askAll(running: Pick<Running, 'port' | 'form'>, zones: readonly Zone[]): Promise<void> {
  return asking(running, (ask) =>
    askEach(ask, zones, (zone, got) => expectStatus(200, got, `zone ${zone.id}`)),
  )
}

/** POSTs to every zone once, several at a time. */
export async function askEach(ask: Ask, zones: readonly Zone[], expect: (zone: Zone, got: Answer) => void) {
  const rest = zones[Symbol.iterator]()
  const worker = async () => {
    for (const zone of rest) expect(zone, await ask('POST', zone.id))
  }
  await Promise.all(Array.from({ length: atOnce }, worker))
}

export function expectStatus(status: number, got: Answer, what: string): void {
  if (got.status !== status)
    throw new Error(`${what} got ${got.status} instead of ${status}: ${got.body.trim()}`)
}

interface Target {
  readonly agent: Agent
  readonly port: number
  readonly form: RequestForm
  readonly answerWithinMs: number
}

function answer(
  { agent, port, form, answerWithinMs }: Target,
  method: string,
  id?: string,
  requestId?: string,
): Promise<Answer> {
  const { path, headers: own, body: sent } = id === undefined ? withoutId : withId(form, id)
  const headers = {
    ...own,
    ...(requestId !== undefined && { 'x-request-id': requestId }),
  }
  return new Promise((resolve, reject) => {
    const outgoing = request({
      agent,
      host: '127.0.0.1',
      port,
      method,
      path,
      headers,
      timeout: answerWithinMs,
    })
    outgoing.once('timeout', () => outgoing.destroy(new Error(`no answer within ${answerWithinMs / 1000} s`)))
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
    outgoing.end(method === 'POST' ? sent : undefined)
  })
}

const readyWithinMs = 10_000

/**
 * Checks that a system does its job: it forwards to every zone, and refuses what it must refuse. A fast wrong answer is
 * worth nothing. Throws what is wrong.
 */
export async function verify(system: System, running: Running, zones: readonly Zone[]): Promise<void> {
  await asking(running, async (ask) => {
    await untilForwarding(ask, zones[0] as Zone)
    await askEach(ask, zones, (zone, got) => expectZone(system, zone, got))
    if (system.routesByZone) {
      expectStatus(405, await ask('GET', '1'), 'a GET')
      expectStatus(403, await ask('POST'), 'a POST without an id')
    }
  })
}

/** A proxy that listens may still wait for its control plane or its first DNS answer. */
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
