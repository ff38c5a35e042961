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
import type { Status } from '../status/status.ts'
import { Access } from './access.ts'
import { historyQueryOf, momentOf } from './history-requests.ts'
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
  /** @throws DescriptionFault */
  readonly explain: (request: RequestDescription) => Promise<Explained>
  readonly history: (query: HistoryQuery) => Promise<HistoryPage>
  /** @param at milliseconds since 1970. @param path of the request, where it is known. @throws DescriptionFault */
  readonly explainThen: (
    request: RequestDescription,
    at: number,
    path: PathThen | undefined,
  ) => Promise<ExplainedThen>
  /** What requests are decided by now. */
  readonly inForce: () => InForce
  /** Null: all names. */
  readonly flush: (name: string | null) => Flushed
  readonly metrics: { readonly contentType: string; text(): Promise<string> }
  /** Answers requests for the page's own files, which hold no secret; false: not one of them. */
  readonly page: (request: IncomingMessage, response: ServerResponse) => boolean
  readonly onBug: OnBug
}

export interface AdminServer {
  readonly port: number
  close(): void
}

/** An explanation asks nameservers: so many at once. */
const EXPLANATIONS_MAX = 8
/** A history is read line by line: so many at once. */
const HISTORIES_MAX = 4
const CONNECTIONS_MAX = 256
/** To send a request, and how often Node looks who is over that. */
const REQUEST_TIMEOUT_MS = 5000
const CHECK_INTERVAL_MS = 1000
/** Longer than any id, path and name that make sense together. */
const URL_LENGTH_MAX = 4096
/** A described request as JSON: its body in base64, and as much as Envoy takes of headers and path. */
const DESCRIPTION_OCTETS_MAX = Math.ceil(BODY_OCTETS_MAX / 3) * 4 + 128 * 1024

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
  readonly request: IncomingMessage
  readonly response: ServerResponse
  readonly send: Send
}

/**
 * HTTP for operators: health, metrics, status, explanations, flushing, and the page.
 * @throws Error with what to do, where the address can't be had
 */
export function serveAdmin(options: AdminOptions): Promise<AdminServer> {
  const events = new StatusEvents(options.status, options.onBug)
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

/** A flood of connections that ask nothing keeps no health check and no scrape out: the oldest of them makes room. */
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

/** Whatever goes wrong in it is the end of this request, and of nothing else. */
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
    request.resume() // what no handler has begun to read is of no use
    await reading
  } catch (error) {
    options.onBug(error)
    if (response.headersSent) response.destroy()
    else send(500, { error: 'internal error, see the log' })
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
  if (methods === undefined) return send(404, { error: `no such path; there are ${paths(handlers)}` })
  const method = request.method === 'HEAD' && url.pathname !== EVENTS ? 'GET' : (request.method ?? '')
  const handler = methods[method]
  if (handler === undefined)
    return send(405, { error: `expected ${Object.keys(methods).join(' or ')}` }, { allow: allow(methods) })
  await handler({ url, request, response, send })
}

function handlersOf(options: AdminOptions, events: StatusEvents): ReadonlyMap<string, Methods> {
  return new Map<string, Methods>([
    ['/metrics', { GET: ({ response }) => sendMetrics(options, response) }],
    ['/api/status', { GET: ({ send }) => send(200, options.status(true)) }],
    ['/api/explain', explaining(options)],
    ['/api/history', history(options)],
    ['/api/in-force', { GET: ({ send }) => send(200, options.inForce()) }],
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

function history(options: AdminOptions): Methods {
  let running = 0
  const answer: Handler = async ({ url, send }) => {
    const query = historyQueryOf(url.searchParams)
    if (typeof query === 'string') return send(400, { error: query })
    if (running >= HISTORIES_MAX)
      return send(503, { error: 'too many look into the history at once, try again in a moment' })
    running += 1
    try {
      send(200, await options.history(query))
    } finally {
      running -= 1
    }
  }
  return { GET: answer }
}

/** By a query where that says it all, or by JSON. */
function explaining({ explain, explainThen }: AdminOptions): Methods {
  let running = 0
  const answer = async (
    { url, send, request }: Exchange,
    describe: () => RequestDescription | Promise<RequestDescription>,
  ): Promise<void> => {
    if (running >= EXPLANATIONS_MAX) {
      send(503, { error: 'too many explanations at once, try again in a moment' })
      return
    }
    const then = url.searchParams.get('at')
    const at = then === null ? null : momentOf(then)
    if (Number.isNaN(at)) return send(400, { error: 'at: expected milliseconds since 1970, or ISO 8601' })
    // With a described request by a query, `path` is that of the URL.
    const path = request.method === 'POST' ? url.searchParams.get('path') : null
    if (path !== null && !isPathThen(path))
      return send(400, { error: 'path: expected hot, cold or fallback' })
    running += 1
    try {
      const description = await describe()
      send(
        200,
        at === null ? await explain(description) : await explainThen(description, at, path ?? undefined),
      )
    } catch (error) {
      if (!(error instanceof DescriptionFault)) throw error
      send(400, { error: `${error.field}: ${error.message}` })
    } finally {
      running -= 1
    }
  }
  return {
    GET: (exchange) => {
      const { searchParams } = exchange.url
      return answer(exchange, () => ({
        method: searchParams.get('method') ?? undefined,
        path: searchParams.get('path') ?? undefined,
        host: searchParams.get('host') ?? undefined,
        ids: searchParams.getAll('id'),
      }))
    },
    POST: (exchange) => answer(exchange, async () => descriptionOf(await readDescription(exchange.request))),
  }
}

/** @throws DescriptionFault for one that is too long */
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
  /** As DNS knows it; null: all. */
  readonly name: string | null
  /** How many answers of the cache it was. */
  readonly names: number
}

function flush(options: AdminOptions, { url, send }: Exchange): void {
  const name = url.searchParams.get('name')
  if (name === '') {
    send(400, { error: 'expected ?name=NAME, or no name for all' })
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
      // A connection that could not be accepted, for want of file descriptors, say.
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
