import {
  type ClientHttp2Session,
  type ClientHttp2Stream,
  connect,
  constants,
  type IncomingHttpHeaders,
  type OutgoingHttpHeaders,
} from 'node:http2'
import { setImmediate as turn } from 'node:timers/promises'
import { type Call, type CallTls, jsonOf, type Reply } from './http.ts'

const CONNECT_WITHIN_MS = 30_000
/** Below max_concurrent_streams of listener.yaml. Further streams would wait here, and be reset before they are sent. */
const RESETS_AT_ONCE = 50
/** A connection that accepts no octets for so long counts as ended. */
const STUCK_AFTER_MS = 1000

/** A connection to `127.0.0.1:port`, with prior knowledge or, with `tls`, as agreed by ALPN. */
export function connectHttp2(port: number, tls?: CallTls): Promise<ClientHttp2Session> {
  return new Promise((resolve, reject) => {
    const session = connect(`${tls === undefined ? 'http' : 'https'}://127.0.0.1:${port}`, tls)
    const timer = setTimeout(
      () => session.destroy(new Error(`no connection within ${CONNECT_WITHIN_MS} ms`)),
      CONNECT_WITHIN_MS,
    )
    session.on('error', reject) // and later ones: who calls on it sees them in its streams
    session.once('close', () => clearTimeout(timer))
    session.once('connect', () => {
      clearTimeout(timer)
      resolve(session)
    })
  })
}

/** One request, POST by default. */
export function callHttp2(
  session: ClientHttp2Session,
  {
    method = 'POST',
    path = '/',
    headers = [],
    body = '',
    timeoutMs = 30_000,
  }: Omit<Call, 'agent' | 'tls'> = {},
): Promise<Reply> {
  return new Promise((resolve, reject) => {
    const lines: OutgoingHttpHeaders = { ':method': method, ':path': path, ':authority': 'callback.test' }
    for (const [name, value] of headers) lines[name === 'host' ? ':authority' : name] = value
    const stream = session.request(lines, { endStream: body.length === 0 })
    let answer: IncomingHttpHeaders & { ':status'?: number | undefined } = {}
    const chunks: Buffer[] = []
    stream.setTimeout(timeoutMs, () => stream.destroy(new Error(`no answer within ${timeoutMs} ms`)))
    stream.on('response', (received) => {
      answer = received
    })
    stream.on('data', (chunk: Buffer) => chunks.push(chunk))
    stream.on('error', reject)
    stream.on('close', () => {
      const { ':status': status, ...fields } = answer
      if (status === undefined) return reject(new Error('the stream ended without an answer'))
      const text = Buffer.concat(chunks).toString('utf8')
      resolve({ status, headers: fields, text, json: () => jsonOf(text) })
    })
    if (body.length > 0) stream.end(body)
  })
}

/**
 * Opens streams and resets them at once, until the other side ends the connection or `resetsMax` were reset. Whether it
 * did is for its own counters to say: Node's session does not always notice a connection that was reset under its writes.
 *
 * A request is reset only after it has left: while a write is under way nghttp2 keeps new requests in its queue, and drops
 * one that is reset there without a word to the other side.
 */
export async function resetFlood(
  session: ClientHttp2Session,
  headers: OutgoingHttpHeaders,
  resetsMax: number,
): Promise<void> {
  session.on('error', () => undefined)
  for (let resets = 0; resets < resetsMax && isOpen(session); resets += RESETS_AT_ONCE) {
    const streams: ClientHttp2Stream[] = []
    for (let count = 0; count < RESETS_AT_ONCE && isOpen(session); count++)
      streams.push(session.request({ ':method': 'POST', ...headers }).on('error', () => undefined))
    if (!(await hasLeft(session))) break
    for (const stream of streams) stream.close(constants.NGHTTP2_CANCEL)
    if (!(await hasLeft(session))) break
  }
  session.destroy()
}

/** True when nothing waits to be written; false when the connection has ended, or takes nothing more. */
async function hasLeft(session: ClientHttp2Session): Promise<boolean> {
  const deadline = performance.now() + STUCK_AFTER_MS
  while (isOpen(session) && (session.state.outboundQueueSize ?? 0) > 0) {
    if (performance.now() > deadline) return false
    await turn()
  }
  return isOpen(session)
}

function isOpen(session: ClientHttp2Session): boolean {
  return !session.closed && !session.destroyed
}
