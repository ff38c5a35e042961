import assert from 'node:assert/strict'
import { type Agent, request } from 'node:http'
import { request as requestTls } from 'node:https'
import { connect } from 'node:net'

export interface Call {
  readonly method?: string
  readonly path?: string
  /** Name, value pairs as sent: repeated names are repeated lines. */
  readonly headers?: readonly (readonly [string, string])[]
  readonly body?: string | Buffer
  readonly agent?: Agent
  readonly tls?: CallTls
  /** Milliseconds after which the call fails. */
  readonly timeoutMs?: number
}

/** What a client trusts, and by which name. */
export interface CallTls {
  readonly ca: string
  readonly servername: string
}

export interface Reply {
  readonly status: number
  readonly headers: Readonly<Record<string, string | string[] | undefined>>
  readonly text: string
  /** The body, parsed as JSON. */
  json(): Record<string, unknown>
}

/** One request to `127.0.0.1:port`, POST by default, on a connection of its own unless there is an agent. */
export function call(
  port: number,
  { method = 'POST', path = '/', headers = [], body, agent, tls, timeoutMs = 30_000 }: Call = {},
): Promise<Reply> {
  return new Promise((resolve, reject) => {
    const lines: string[] = headers.flat()
    if (!headers.some(([name]) => name.toLowerCase() === 'host')) lines.push('host', 'callback.test')
    if (body !== undefined) lines.push('content-length', String(Buffer.byteLength(body)))
    else if (method === 'POST') lines.push('content-length', '0')
    const target = { host: '127.0.0.1', port, method, path, headers: lines, agent: agent ?? false }
    const outgoing = (tls === undefined ? request : requestTls)(
      { ...target, ...tls, timeout: timeoutMs },
      (response) => {
        const chunks: Buffer[] = []
        response.on('data', (chunk: Buffer) => chunks.push(chunk))
        response.on('error', reject)
        response.on('end', () => {
          const text = Buffer.concat(chunks).toString('utf8')
          resolve({
            status: response.statusCode ?? 0,
            headers: response.headers,
            text,
            json: () => jsonOf(text),
          })
        })
      },
    )
    outgoing.on('timeout', () => outgoing.destroy(new Error(`no answer within ${timeoutMs} ms`)))
    outgoing.on('error', reject)
    outgoing.end(body)
  })
}

/** A test that reads a field of a body expects it to be there: another body is its assertion's failure, and no bug of it. */
export function jsonOf(text: string): Record<string, unknown> {
  try {
    return JSON.parse(text)
  } catch {
    return assert.fail(`expected JSON, got ${text.slice(0, 100)}`)
  }
}

/** How long to wait for the first octet. */
const ANSWER_WITHIN_MS = 30_000
const LOOK_MS = 50

/** Sends bytes as they are, and returns all that came back until the end, or until `waitMs` of silence after the answer. */
export function rawCall(
  port: number,
  bytes: string,
  waitMs = 500,
  answerWithinMs = ANSWER_WITHIN_MS,
): Promise<string> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1', () => socket.write(bytes, 'latin1'))
    let text = ''
    // Silence is counted in timer ticks, because while this process is blocked it does not see what has arrived.
    let silentLooks = 0
    const looking = setInterval(() => {
      silentLooks += 1
      if (silentLooks * LOOK_MS >= (text === '' ? answerWithinMs : waitMs)) socket.destroy()
    }, LOOK_MS)
    socket.on('data', (chunk) => {
      text += chunk.toString('latin1')
      silentLooks = 0
    })
    socket.on('error', () => undefined)
    socket.on('close', () => {
      clearInterval(looking)
      resolve(text)
    })
  })
}
