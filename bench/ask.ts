import { Agent, type IncomingMessage, request } from 'node:http'
import { plain, type RequestForm, withId, withoutId } from './request-form.ts'
import type { Running } from './systems/system.ts'
import type { Zone } from './zones.ts'

/** Single requests to a proxy on 127.0.0.1, to prove or bring about something; load is made by wrk. */

export interface Answer {
  readonly status: number
  readonly body: string
}

/** @param id undefined: a request that says none */
export type Ask = (method: string, id?: string, requestId?: string) => Promise<Answer>

const atOnce = 16
/** What runs under valgrind, on a busy machine, takes its time. */
const answerWithinMs = 60_000

/** Gives `use` a way to ask over kept-alive connections, which end with it. */
export async function asking<Result>(
  { port, form = plain }: Pick<Running, 'port' | 'form'>,
  use: (ask: Ask) => Promise<Result>,
): Promise<Result> {
  const agent = new Agent({ keepAlive: true, maxSockets: atOnce })
  try {
    return await use((method, id, requestId) => answer(agent, port, method, form, id, requestId))
  } finally {
    agent.destroy()
  }
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

function answer(
  agent: Agent,
  port: number,
  method: string,
  form: RequestForm,
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
