import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { RequestHead } from '../routing/rules.ts'
import type { Explained } from '../status/explain.ts'
import type { Status } from '../status/status.ts'
import { Access } from './access.ts'
import { StatusEvents } from './status-events.ts'

/** Why the processor is not ready, by part; empty when it is. */
export type Unready = Readonly<Record<string, string>>

export interface AdminOptions {
  readonly host: string
  readonly port: number
  /** What clients must send; null: nothing, on loopback only. */
  readonly token: string | null
  /** With or without the zones' history. */
  readonly status: (history: boolean) => Status
  readonly unready: () => Unready
  /** What is wrong with the configuration's file as it is now. */
  readonly configFaults: () => readonly string[]
  readonly explain: (head: RequestHead) => Promise<Explained>
  /** Null: all names. Returns the name as DNS knows it. */
  readonly flush: (name: string | null) => string | null
  readonly metrics: { readonly contentType: string; text(): Promise<string> }
  /** Answers requests for the page's own files, which hold no secret; false: not one of them. */
  readonly page: (request: IncomingMessage, response: ServerResponse) => boolean
  readonly onBug: (error: unknown) => void
}

export interface AdminServer {
  readonly port: number
  close(): void
}

/** An explanation asks nameservers: so many at once. */
const EXPLANATIONS_MAX = 8
const CONNECTIONS_MAX = 256
/** To send a request, and how often Node looks who is over that. */
const REQUEST_TIMEOUT_MS = 5000
const CHECK_INTERVAL_MS = 1000
/** Longer than any id, path and name that make sense together. */
const URL_LENGTH_MAX = 4096

const EVENTS = '/api/events'

/** Of everything but the page, which has its own. */
const SECURITY_HEADERS: Readonly<Record<string, string>> = {
  'cache-control': 'no-store',
  'x-content-type-options': 'nosniff',
  'x-frame-options': 'DENY',
  'referrer-policy': 'no-referrer',
  'cross-origin-resource-policy': 'same-origin',
  'content-security-policy': "default-src 'none'; frame-ancestors 'none'",
}

/** Answers a request that was let in. */
type Handler = (exchange: Exchange) => void | Promise<void>

interface Exchange {
  readonly url: URL
  readonly response: ServerResponse
  send(status: number, body: unknown): void
}

/**
 * HTTP for operators: health, metrics, status, explanations, flushing, and the page.
 * @throws Error with what to do, where the address can't be had
 */
export function serveAdmin(options: AdminOptions): Promise<AdminServer> {
  const events = new StatusEvents(options.status)
  const access = new Access(options.token, options.host)
  const handlers = handlersOf(options, events)
  const server = createServer({ connectionsCheckingInterval: CHECK_INTERVAL_MS }, (request, response) => {
    request.resume() // no request has a body that matters
    const send = (status: number, body: unknown, headers: Readonly<Record<string, string>> = {}): void => {
      response.writeHead(status, { ...SECURITY_HEADERS, 'content-type': 'application/json', ...headers })
      response.end(`${JSON.stringify(body)}\n`)
    }
    const url = urlOf(request)
    if (url === null) return send(400, { error: `expected a URL of ${URL_LENGTH_MAX} characters or fewer` })
    if (options.page(request, response)) return
    const refusal = access.refusal(request)
    if (url.pathname === '/healthz') return send(200, { status: 'ok' })
    if (url.pathname === '/readyz') return sendReadiness(options, send, refusal === null)
    if (refusal !== null) return send(refusal.status, { error: refusal.error }, refusal.headers)

    const methods = handlers.get(url.pathname)
    if (methods === undefined) return send(404, { error: `no such path; there are ${paths(handlers)}` })
    const method = request.method === 'HEAD' && url.pathname !== EVENTS ? 'GET' : (request.method ?? '')
    const handler = methods[method]
    if (handler === undefined)
      return send(405, { error: `expected ${Object.keys(methods).join(' or ')}` }, { allow: allow(methods) })
    void answer(handler, { url, response, send }, options.onBug)
  })
  server.requestTimeout = REQUEST_TIMEOUT_MS
  server.headersTimeout = REQUEST_TIMEOUT_MS
  server.maxConnections = CONNECTIONS_MAX
  return listen(server, options, events)
}

async function answer(handler: Handler, exchange: Exchange, onBug: AdminOptions['onBug']): Promise<void> {
  try {
    await handler(exchange)
  } catch (error) {
    onBug(error)
    if (exchange.response.headersSent) exchange.response.destroy()
    else exchange.send(500, { error: 'internal error, see the log' })
  }
}

type Methods = Readonly<Record<string, Handler>>

function handlersOf(options: AdminOptions, events: StatusEvents): ReadonlyMap<string, Methods> {
  return new Map<string, Methods>([
    ['/metrics', { GET: ({ response }) => sendMetrics(options, response) }],
    ['/api/status', { GET: ({ send }) => send(200, options.status(true)) }],
    ['/api/explain', { GET: explaining(options) }],
    ['/api/flush', { POST: (exchange) => flush(options, exchange) }],
    [
      EVENTS,
      {
        GET: ({ response, send }) => {
          if (!events.add(response, SECURITY_HEADERS)) send(503, { error: 'too many open pages' })
        },
      },
    ],
  ])
}

/** Whether it is ready is for anyone to know, why not only for who may ask. */
function sendReadiness(
  { unready, configFaults }: AdminOptions,
  send: (status: number, body: unknown) => void,
  mayKnow: boolean,
): void {
  const reasons = unready()
  const faults = configFaults()
  const ready = Object.keys(reasons).length === 0
  send(ready ? 200 : 503, {
    status: ready ? 'ready' : 'not ready',
    ...(mayKnow && !ready && { reasons }),
    ...(mayKnow && faults.length > 0 && { config: { notTaken: faults } }),
  })
}

async function sendMetrics({ metrics }: AdminOptions, response: ServerResponse): Promise<void> {
  const text = await metrics.text()
  response.writeHead(200, { ...SECURITY_HEADERS, 'content-type': metrics.contentType })
  response.end(text)
}

function explaining({ explain }: AdminOptions): Handler {
  let running = 0
  return async ({ url, send }) => {
    if (running >= EXPLANATIONS_MAX) {
      send(503, { error: 'too many explanations at once, try again in a moment' })
      return
    }
    running += 1
    try {
      const { searchParams } = url
      send(
        200,
        await explain({
          method: searchParams.get('method') ?? 'POST',
          path: searchParams.get('path') ?? '/',
          ids: searchParams.getAll('id'),
        }),
      )
    } finally {
      running -= 1
    }
  }
}

function flush(options: AdminOptions, { url, send }: Exchange): void {
  const name = url.searchParams.get('name')
  if (name === '') {
    send(400, { error: 'expected ?name=NAME, or no name for all' })
    return
  }
  send(200, { flushed: options.flush(name) ?? 'all' })
}

function urlOf({ url = '/' }: IncomingMessage): URL | null {
  if (url.length > URL_LENGTH_MAX || !url.startsWith('/')) return null
  return URL.parse(`http://host${url}`)
}

function paths(handlers: ReadonlyMap<string, Methods>): string {
  return ['/healthz', '/readyz', ...handlers.keys()].join(', ')
}

function allow(methods: Methods): string {
  return Object.keys(methods)
    .flatMap((method) => (method === 'GET' ? ['GET', 'HEAD'] : [method]))
    .join(', ')
}

function listen(server: Server, { host, port }: AdminOptions, events: StatusEvents): Promise<AdminServer> {
  return new Promise((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => {
      const why = error.code === 'EADDRINUSE' ? 'the port is in use' : error.message
      reject(new Error(`listen.http: can't listen on ${host}:${port}: ${why}; name another address`))
    })
    server.listen(port, host, () => {
      const address = server.address()
      resolve({
        port: typeof address === 'object' && address !== null ? address.port : port,
        close: () => {
          events.close()
          server.close()
          server.closeAllConnections()
        },
      })
    })
  })
}
