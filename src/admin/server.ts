import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import type { InForce } from '../diff/in-force.ts'
import type { OnBug } from '../guard.ts'
import type { HistoryPage, HistoryQuery } from '../history/read-history.ts'
import type { Explained } from '../status/explain.ts'
import { type ExplainedThen, isPathThen, type PathThen } from '../status/explain-then.ts'
import {
  BODY_OCTETS_MAX,
  DescriptionFault,
  descriptionOf,
  type RequestDescription,
} from '../status/request-description.ts'
import type { StatusReading } from '../status/status.ts'
import type { Turns } from '../turns.ts'
import { Access } from './access.ts'
import { historyQueryOf, momentOf } from './history-requests.ts'
import { sharedReading } from './shared-reading.ts'
import { StatusEvents, statusJson } from './status-events.ts'

/** Why the processor is not ready, by part. Empty: it is ready. */
export type Unready = Readonly<Record<string, string>>

export interface AdminOptions {
  readonly host: string
  readonly port: number
  /** The bearer token that clients must send. Null: they send none, and `host` is loopback. */
  readonly token: string | null
  /** With or without the zones' history. */
  readonly status: (history: boolean) => StatusReading
  readonly unready: () => Unready
  /** The faults of the configuration file as it is now. */
  readonly configFaults: () => readonly string[]
  /** @throws DescriptionFault */
  readonly explain: (request: RequestDescription) => Promise<Explained>
  readonly history: (query: HistoryQuery) => Promise<HistoryPage>
  /**
   * What the processor would have done at an earlier moment.
   * @param at milliseconds since 1970
   * @param path the way that the request took, if it is known
   * @throws DescriptionFault
   */
  readonly explainThen: (
    request: RequestDescription,
    at: number,
    path: PathThen | undefined,
  ) => Promise<ExplainedThen>
  /** The configuration that decides requests now. */
  readonly inForce: () => InForce
  /** Forgets a name's answers, or all answers for null. */
  readonly flush: (name: string | null) => Flushed
  readonly metrics: { readonly contentType: string; text(): Promise<string> }
  /** Answers requests for the page's files, which hold no secret. False: the request is for something else. */
  readonly page: (request: IncomingMessage, response: ServerResponse) => boolean
  /** Shares the event loop between what takes long. */
  readonly turns: Turns
  readonly onBug: OnBug
}

export interface AdminServer {
  readonly port: number
  close(): void
}

/** Explanations at once: each may ask nameservers. */
const EXPLANATIONS_MAX = 8
/** Histories at once: each reads a file line by line. */
const HISTORIES_MAX = 4
const CONNECTIONS_MAX = 256
/** A client has this long to send its request. */
const REQUEST_TIMEOUT_MS = 5000
/** How often Node looks for clients that exceed it. */
const CHECK_INTERVAL_MS = 1000
const URL_LENGTH_MAX = 4096
/** A described request as JSON: a body in base64, and as many headers as Envoy accepts. */
const DESCRIPTION_OCTETS_MAX = Math.ceil(BODY_OCTETS_MAX / 3) * 4 + 128 * 1024

const EVENTS = '/api/events'

/** The page sends its own. */
const SECURITY_HEADERS: Readonly<Record<string, string>> = {
  'cache-control': 'no-store',
  'x-content-type-options': 'nosniff',
  'x-frame-options': 'DENY',
  'referrer-policy': 'no-referrer',
  'cross-origin-resource-policy': 'same-origin',
  'content-security-policy': "default-src 'none'; frame-ancestors 'none'",
}

/** Answers a request that may ask. */
type Handler = (exchange: Exchange) => void | Promise<void>

interface Exchange {
  readonly url: URL
  readonly request: IncomingMessage
  readonly response: ServerResponse
  readonly send: Send
}

/**
 * HTTP for operators: health, metrics, status, explanations, history, flushing, and the page.
 * @throws Error that says what to do if it cannot listen on the address
 */
export function serveAdmin(options: AdminOptions): Promise<AdminServer> {
  const events = new StatusEvents(options.status, options.turns, options.onBug)
  const access = new Access(options.token, options.host)
  const handlers = handlersOf(options, events)
  const server = createServer({ connectionsCheckingInterval: CHECK_INTERVAL_MS }, (request, response) => {
    void answer(options, access, handlers, request, response)
  })
  server.requestTimeout = REQUEST_TIMEOUT_MS
  server.headersTimeout = REQUEST_TIMEOUT_MS
  makeRoom(server)
  return listen(server, options, events)
}

/** Closes the oldest idle connection when there are too many, so that a flood of them keeps out no health check. */
function makeRoom(server: Server): void {
  const waiting = new Set<Socket>()
  let open = 0
  server.on('connection', (socket: Socket) => {
    open += 1
    waiting.add(socket)
    socket.once('close', () => {
      open -= 1
      waiting.delete(socket)
    })
    const [oldest] = waiting
    if (open <= CONNECTIONS_MAX || oldest === undefined) return
    waiting.delete(oldest)
    oldest.destroy()
  })
  server.on('request', ({ socket }: IncomingMessage, response: ServerResponse) => {
    waiting.delete(socket)
    response.once('close', () => {
      if (!socket.destroyed) waiting.add(socket)
    })
  })
}

type Send = (status: number, body: unknown, headers?: Readonly<Record<string, string>>) => void
type Methods = Readonly<Record<string, Handler>>

/** An exception ends this request only. */
async function answer(
  options: AdminOptions,
  access: Access,
  handlers: ReadonlyMap<string, Methods>,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  const send: Send = (status, body, headers = {}) => {
    response.writeHead(status, { ...SECURITY_HEADERS, 'content-type': 'application/json', ...headers })
    response.end(`${JSON.stringify(body)}\n`)
  }
  try {
    const reading = route(options, access, handlers, request, response, send)
    request.resume() // discards a body that no handler reads
    await reading
  } catch (error) {
    options.onBug(error)
    if (response.headersSent) response.destroy()
    else send(500, { error: 'internal error: see the log' })
  }
}

async function route(
  options: AdminOptions,
  access: Access,
  handlers: ReadonlyMap<string, Methods>,
  request: IncomingMessage,
  response: ServerResponse,
  send: Send,
): Promise<void> {
  const url = urlOf(request)
  if (url === null) return send(400, { error: `expected a URL of ${URL_LENGTH_MAX} characters or fewer` })
  if (options.page(request, response)) return
  const refusal = access.refusal(request)
  if (url.pathname === '/healthz') return send(200, { status: 'ok' })
  if (url.pathname === '/readyz') return sendReadiness(options, send, refusal === null)
  if (refusal !== null) return send(refusal.status, { error: refusal.error }, refusal.headers)

  const methods = handlers.get(url.pathname)
  if (methods === undefined) return send(404, { error: `not found; the paths are ${paths(handlers)}` })
  const method = request.method === 'HEAD' && url.pathname !== EVENTS ? 'GET' : (request.method ?? '')
  const handler = methods[method]
  if (handler === undefined)
    return send(405, { error: `expected ${Object.keys(methods).join(' or ')}` }, { allow: allow(methods) })
  await handler({ url, request, response, send })
}

function handlersOf(options: AdminOptions, events: StatusEvents): ReadonlyMap<string, Methods> {
  const explain = atMost(EXPLANATIONS_MAX, (exchange) => answerExplain(options, exchange))
  const readStatus = sharedReading(async () =>
    Buffer.from(`${await statusJson(options.status(true), options.turns)}\n`),
  )
  return new Map<string, Methods>([
    ['/metrics', { GET: ({ response }) => sendMetrics(options, response) }],
    ['/api/status', { GET: ({ response }) => sendStatus(readStatus, response) }],
    ['/api/explain', { GET: explain, POST: explain }],
    ['/api/history', { GET: atMost(HISTORIES_MAX, (exchange) => answerHistory(options, exchange)) }],
    ['/api/in-force', { GET: ({ send }) => send(200, options.inForce()) }],
    ['/api/flush', { POST: (exchange) => answerFlush(options, exchange) }],
    [EVENTS, { GET: (exchange) => answerEvents(events, exchange) }],
  ])
}

/** Refuses with 503 while `max` calls of the handler run. */
function atMost(max: number, handler: Handler): Handler {
  let running = 0
  return async (exchange) => {
    if (running >= max) return exchange.send(503, { error: 'too many such requests at once: try again' })
    running += 1
    try {
      await handler(exchange)
    } finally {
      running -= 1
    }
  }
}

/**
 * Anyone may ask whether the processor is ready. The reasons go only to clients that may ask for everything else.
 * @param mayKnow the client is one of those
 */
function sendReadiness({ unready, configFaults }: AdminOptions, send: Send, mayKnow: boolean): void {
  const reasons = unready()
  const faults = configFaults()
  const ready = Object.keys(reasons).length === 0
  send(ready ? 200 : 503, {
    status: ready ? 'ready' : 'not ready',
    ...(mayKnow && !ready && { reasons }),
    ...(mayKnow && faults.length > 0 && { config: { notTaken: faults } }),
  })
}

async function sendStatus(read: () => Promise<Buffer>, response: ServerResponse): Promise<void> {
  const json = await read()
  response.writeHead(200, { ...SECURITY_HEADERS, 'content-type': 'application/json' })
  response.end(json)
}

async function sendMetrics({ metrics }: AdminOptions, response: ServerResponse): Promise<void> {
  const text = await metrics.text()
  response.writeHead(200, { ...SECURITY_HEADERS, 'content-type': metrics.contentType })
  response.end(text)
}

function answerEvents(events: StatusEvents, { response, send }: Exchange): void {
  if (!events.add(response, SECURITY_HEADERS)) send(503, { error: 'too many open pages: close one' })
}

async function answerHistory(options: AdminOptions, { url, send }: Exchange): Promise<void> {
  const query = historyQueryOf(url.searchParams)
  if (typeof query === 'string') return send(400, { error: query })
  send(200, await options.history(query))
}

/** GET describes a request in the query; POST describes it as JSON, and its query says of which moment. */
async function answerExplain({ explain, explainThen }: AdminOptions, exchange: Exchange): Promise<void> {
  const { url, send, request } = exchange
  const isPost = request.method === 'POST'
  const then = url.searchParams.get('at')
  const at = then === null ? null : momentOf(then)
  if (Number.isNaN(at)) return send(400, { error: 'at: expected milliseconds since 1970, or ISO 8601' })
  const path = isPost ? url.searchParams.get('path') : null
  if (path !== null && !isPathThen(path)) return send(400, { error: 'path: expected hot, cold or fallback' })
  try {
    const description = isPost ? descriptionOf(await readDescription(request)) : describedBy(url.searchParams)
    send(200, await (at === null ? explain(description) : explainThen(description, at, path ?? undefined)))
  } catch (error) {
    if (!(error instanceof DescriptionFault)) throw error
    send(400, { error: `${error.field}: ${error.message}` })
  }
}

function describedBy(query: URLSearchParams): RequestDescription {
  return {
    method: query.get('method') ?? undefined,
    path: query.get('path') ?? undefined,
    host: query.get('host') ?? undefined,
    ids: query.getAll('id'),
  }
}

/** @throws DescriptionFault if it is too long, or the connection breaks off */
async function readDescription(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = []
  let octets = 0
  try {
    for await (const chunk of request) {
      octets += chunk.length
      if (octets <= DESCRIPTION_OCTETS_MAX) chunks.push(chunk)
    }
  } catch {
    throw new DescriptionFault('request', 'its connection broke off')
  }
  if (octets > DESCRIPTION_OCTETS_MAX)
    throw new DescriptionFault('request', `expected ${DESCRIPTION_OCTETS_MAX} octets or fewer`)
  return Buffer.concat(chunks).toString('utf8')
}

export interface Flushed {
  /** The name as DNS knows it. Null: all names. */
  readonly name: string | null
  /** How many answers left the cache. */
  readonly names: number
}

function answerFlush(options: AdminOptions, { url, send }: Exchange): void {
  const name = url.searchParams.get('name')
  if (name === '') {
    send(400, { error: 'expected ?name=NAME, or no name to flush all' })
    return
  }
  const { name: flushed, names } = options.flush(name)
  send(200, { flushed: flushed ?? 'all', names })
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

function listen(
  server: Server,
  { host, port, onBug }: AdminOptions,
  events: StatusEvents,
): Promise<AdminServer> {
  return new Promise((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => {
      const why = error.code === 'EADDRINUSE' ? 'the port is in use' : error.message
      reject(new Error(`listen.http: can't listen on ${host}:${port}: ${why}; name another address`))
    })
    server.listen(port, host, () => {
      // A connection that could not be accepted, for example because file descriptors ran out.
      server.removeAllListeners('error').on('error', (error) => onBug(error))
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
