import { cpSync, mkdirSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import {
  type ClientHttp2Session,
  connect as connectHttp2,
  constants,
  type OutgoingHttpHeaders,
} from 'node:http2'
import { connect, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { Server, ServerCredentials, status } from '@grpc/grpc-js'
import { parse, stringify } from 'yaml'
import { parseConfig } from '../../src/config/load.ts'
import { rulesOf } from '../../src/config/rules.ts'
import { askingSettings } from '../../src/envoy-files/body-filters.ts'
import { readEnvoyFiles } from '../../src/envoy-files/folder.ts'
import { generate } from '../../src/envoy-files/generated.ts'
import { domainsOf, unusualOf } from '../../src/envoy-files/key.ts'
import type { FallbackDns } from '../../src/envoy-files/names-cluster.ts'
import { render } from '../../src/envoy-files/render.ts'
import { OpenStreams } from '../../src/ext-proc/open-streams.ts'
import {
  acceptBy,
  type ExtProcOptions,
  externalProcessorService,
  handlingOf,
} from '../../src/ext-proc/service.ts'
import { directCalls } from '../../src/grpc/direct-calls.ts'
import { externalProcessor } from '../../src/grpc/protos.ts'
import { ensureEnvoy } from '../../src/launch/envoy-binary.ts'
import { startEnvoy, untilReady } from '../../src/launch/instance.ts'
import {
  isZone,
  looksIntoBody,
  type Refusal,
  type Rule,
  type Rules,
  type Zone,
  zoneOf,
} from '../../src/routing/rules.ts'
import type { Sent } from './generated-requests.ts'
import { freePort } from './ports.ts'

const ENVOY_FILES = fileURLToPath(new URL('../../envoy', import.meta.url))
const TYPE = 'type.googleapis.com/envoy.extensions.filters.http.ext_proc.v3.ExtProcPerRoute'
/** gRPC metadata with which Envoy says which route a request took. */
const ROUTE = 'x-route'
const ANSWER_WITHIN_MS = 5_000

// biome-ignore lint/suspicious/noExplicitAny: YAML as it comes
type Yaml = any

/** What became of one request. */
export interface Readings {
  /** Envoy's: `hot RULE ID`, `unusual RULE ID`, `refused NAME`, `cold`; undefined: Envoy answered before there was a route. */
  readonly envoy: string | undefined
  /** The processor's: `RULE ID`, or the reason of its refusal. */
  readonly processor: string | undefined
  /** What Envoy would have resolved by itself. */
  readonly name?: string
  readonly status: number
}

/** Of the fallback, whose names are told and not looked up. */
const FALLBACK: FallbackDns = {
  search: 'game.test',
  nameservers: ['127.0.0.1:53'],
  family: 'ipv4',
  budgetMs: 1000,
  queriesInFlightMax: 1,
  namesMax: 1,
  fence: { denied: ['127.0.0.0/8'], allowed: [] },
}
/** What the answer of such a request has. */
const NAME = 'x-name'

/** Real Envoy with the files as they are rendered, a listener for each of several lists of rules, and zones of some ids. */
export interface ReadingEnvoy {
  readonly ports: readonly number[]
  /** What both made of the request with this `x-request-id`. */
  readingsOf(requestId: string, status: number): Readings
  log(): string
  stop(): Promise<void>
}

/**
 * @param inline headers that are inline beside those of `configs`
 * @param ids that have a virtual host
 * @param isAway the processor answers none: Envoy tells the name that it would resolve, and the processor's reading is one, too
 */
export async function startReadingEnvoy(
  configs: readonly { readonly rules: unknown; readonly inline?: boolean }[],
  ids: readonly string[],
  isAway = false,
): Promise<ReadingEnvoy> {
  const lists = configs.map(({ rules }) => rulesOf(parseConfig(stringify({ rules }), 'zonegate.yaml')))
  const folder = mkdtempSync(join(tmpdir(), 'zonegate-reading-'))
  mkdirSync(join(folder, 'run'))
  cpSync(ENVOY_FILES, join(folder, 'envoy'), { recursive: true })
  const seen = new Map<string, { envoy: string; processor: string }>()
  const processors: Server[] = []
  const ports: number[] = []
  const parts: { listener: Yaml; cluster: Yaml }[] = []
  const adminPort = await freePort()
  let bootstrap: Yaml
  const inlineHeaders = new Set<string>()
  for (const [index, { inline = true }] of configs.entries())
    if (inline) for (const name of generate(lists[index] as Rules).inlineHeaders) inlineHeaders.add(name)
  for (const rules of lists) {
    const index = ports.length
    const socket = join(folder, 'run', `p${index}.sock`)
    processors.push(await startReader(socket, rules, seen, isAway))
    const port = await freePort()
    const generated = generate(rules, isAway ? FALLBACK : undefined, undefined, inlineHeaders)
    const rendered = render(readEnvoyFiles(join(folder, 'envoy')), generated, {
      processor: `unix:${socket}`,
      listen: { host: '127.0.0.1', port },
      admin: { host: '127.0.0.1', port: adminPort },
    })
    ports.push(port)
    bootstrap ??= parse(rendered.bootstrap)
    const cluster = parse(rendered.bootstrap).static_resources.clusters.find(
      ({ name }: Yaml) => name === 'processor',
    )
    parts.push(partOf(`rules${index}`, rules, rendered, cluster, ids))
  }
  bootstrap.inline_headers = [
    ...bootstrap.inline_headers.filter(({ inline_header_name: name }: Yaml) => name.startsWith('x-zonegate')),
    ...[...inlineHeaders].map((name) => ({ inline_header_name: name, inline_header_type: 'REQUEST_HEADER' })),
  ]
  delete bootstrap.dynamic_resources
  delete bootstrap.cluster_manager
  bootstrap.static_resources.listeners.push(...parts.map(({ listener }) => listener))
  bootstrap.static_resources.clusters.push(...parts.map(({ cluster }) => cluster))
  writeFileSync(join(folder, 'run', 'envoy.yaml'), stringify(bootstrap, { lineWidth: 0 }))
  const output = openSync(join(folder, 'envoy.log'), 'a')
  const envoy = startEnvoy({ binary: await ensureEnvoy(), cwd: folder, output, concurrency: 1 })
  const log = () => readFileSync(join(folder, 'envoy.log'), 'utf8')
  const stop = async (): Promise<void> => {
    await envoy.stop('SIGKILL')
    for (const processor of processors) processor.forceShutdown()
    rmSync(folder, { recursive: true, force: true })
  }
  try {
    await untilReady(envoy, '127.0.0.1', adminPort, '/ready')
  } catch (error) {
    const said = log()
    await stop()
    throw new Error(`${(error as Error).message}\n${said}`)
  }
  return {
    ports,
    readingsOf: (requestId, status) => {
      const both = seen.get(requestId)
      seen.delete(requestId)
      return { envoy: both?.envoy, processor: both?.processor, status }
    },
    log,
    stop,
  }
}

/** The processor, except that it refuses every request and records how it read it. */
async function startReader(
  socket: string,
  rules: Rules,
  seen: Map<string, { envoy: string; processor: string }>,
  isAway: boolean,
): Promise<Server> {
  const handling = handlingOf(rules, () => ({ kind: 'reject', reason: 'no_rule' }))
  const readingOf = (outcome: Zone | Refusal): string => {
    if (!isZone(outcome)) return outcome.reason
    return isAway ? outcome.name : `${outcome.service.rule} ${outcome.id}`
  }
  let isDecided = false
  const options: ExtProcOptions = {
    inForce: () => [
      {
        ...handling,
        decide: (head) => {
          const outcome = zoneOf(head, rules, 'game.test')
          const requestId = (head as { requestId?: string }).requestId ?? ''
          seen.set(requestId, { envoy: '', processor: readingOf(outcome) })
          isDecided = true
          return isAway ? new Promise(() => {}) : { kind: 'reject', reason: 'no_rule' }
        },
      },
    ],
    onDecision: (_, { requestId }, metadata) => {
      const reading = seen.get(requestId)
      if (reading !== undefined) reading.envoy = String(metadata.get(ROUTE)[0] ?? 'cold')
    },
    onBug: (error) => {
      throw error
    },
    streams: new OpenStreams(() => performance.now()),
  }
  const [definition] = externalProcessorService(options)
  const accept = acceptBy(options)
  const awayOnceDecided: typeof accept = (call) => {
    const handler = accept(call)
    return (
      handler && {
        receive: (message) => {
          isDecided = false
          handler.receive(message)
          // The same error as for a server that can't be reached.
          if (isDecided) call.fail(status.UNAVAILABLE, 'away')
        },
        halfClosed: () => handler.halfClosed(),
        closed: () => handler.closed(),
      }
    )
  }
  const { path } = externalProcessor.Process
  const server = new Server({
    interceptors: [directCalls(path, isAway ? awayOnceDecided : accept, options.onBug)],
  })
  server.addService(definition, {})
  await new Promise<void>((resolve, reject) =>
    server.bindAsync(`unix:${socket}`, ServerCredentials.createInsecure(), (error) =>
      error === null ? resolve() : reject(error),
    ),
  )
  return server
}

function partOf(
  name: string,
  rules: Rules,
  rendered: { listener: string; routes: string },
  cluster: Yaml,
  ids: readonly string[],
): { listener: Yaml; cluster: Yaml } {
  const [listener] = parse(rendered.listener).resources
  const manager = listener.filter_chains[0].filters[0].typed_config
  const routes = parse(rendered.routes).resources[0]
  delete listener['@type']
  delete routes['@type']
  delete routes.vhds
  routes.validate_clusters = false
  delete manager.rds
  delete manager.access_log
  listener.name = name
  // There is no control plane here, so none of Envoy's subscriptions works.
  manager.http_filters = manager.http_filters.filter(
    ({ config_discovery }: Yaml) => config_discovery === undefined,
  )
  const extProc = manager.http_filters.find((filter: Yaml) => filter.name === 'ext_proc').typed_config
  extProc.grpc_service.envoy_grpc.cluster_name = name
  extProc.message_timeout = '20s'
  const [cold] = routes.virtual_hosts
  // Here, requests that Envoy refuses by itself ask the processor, too.
  const refusing = new Set([
    'no_rule',
    'method_not_allowed',
    'server_header_missing',
    'server_header_invalid',
  ])
  const refusals = cold.routes.filter((route: Yaml) => refusing.has(route.name))
  for (const route of refusals)
    route.typed_per_filter_config = { ext_proc: told(`refused ${route.name}`, false) }
  routes.virtual_hosts.push(
    ...rules.flatMap((rule) => ids.map((id) => virtualHost(rule, id, refusals, cold.routes.at(-1)))),
  )
  for (const route of cold.routes.filter(({ name }: Yaml) => name === 'fallback')) tellName(route)
  manager.route_config = routes
  return {
    listener,
    cluster: { ...cluster, name, load_assignment: { ...cluster.load_assignment, cluster_name: name } },
  }
}

function tellName(route: Yaml): void {
  for (const part of ['route', 'request_headers_to_add', 'response_headers_to_remove']) delete route[part]
  route.direct_response = { status: 200 }
  const header = { key: NAME, value: '%FILTER_STATE(envoy.upstream.dynamic_host:PLAIN)%' }
  route.response_headers_to_add = [{ header }]
}

/** As the control plane makes them (src/xds/learned-routes.ts), except that each request is reported to the processor. */
function virtualHost(rule: Rule, id: string, refusals: readonly Yaml[], ask: Yaml): Yaml {
  const route = (how: string, match: object): Yaml => ({
    ...ask,
    name: how.split(' ', 1)[0],
    match,
    typed_per_filter_config: {
      ...(looksIntoBody(rule) && askingSettings(rule)),
      ext_proc: told(`${how} ${rule.name} ${id}`, looksIntoBody(rule)),
    },
  })
  return {
    name: `zonegate/${rule.prefix}${id}`,
    domains: domainsOf(rule, id),
    routes: [
      ...refusals,
      ...unusualOf(rule).map((headers) => route('unusual', { prefix: '/', headers })),
      route('hot', { prefix: '/' }),
    ],
  }
}

function told(route: string, isBodySent: boolean): object {
  return {
    '@type': TYPE,
    overrides: {
      grpc_initial_metadata: [{ key: ROUTE, value: route }],
      processing_mode: {
        request_header_mode: 'SEND',
        response_header_mode: 'SKIP',
        request_body_mode: isBodySent ? 'BUFFERED' : 'NONE',
      },
    },
  }
}

/** One client connection after another; each request waits for the answer to the one before. */
export class RawClient {
  readonly #port: number
  #socket: Socket | undefined
  #received = ''
  #name: string | undefined
  #wake: () => void = () => undefined

  constructor(port: number) {
    this.#port = port
  }

  /** Of the last answer: what Envoy would have resolved. */
  get name(): string | undefined {
    return this.#name
  }

  /** @returns the answer's status; 0: the connection ended without one */
  async send({ method, target, version, headers, body }: Sent, requestId: string): Promise<number> {
    const socket = this.#open()
    this.#name = undefined
    const lines = [`${method} ${target} HTTP/${version}`, `x-request-id: ${requestId}`]
    for (const [name, value] of headers) lines.push(`${name}: ${value}`)
    lines.push(`content-length: ${body.length}`)
    socket.write(`${lines.join('\r\n')}\r\n\r\n${body}`, 'latin1')
    const deadline = performance.now() + ANSWER_WITHIN_MS
    for (;;) {
      const whole = /^HTTP\/1\.[01] (\d{3})([\s\S]*?)\r\n\r\n/.exec(this.#received)
      const length = Number(/\r\ncontent-length: (\d+)/i.exec(whole?.[2] ?? '')?.[1] ?? 0)
      if (whole !== null && this.#received.length >= whole[0].length + length) {
        this.#received = this.#received.slice(whole[0].length + length)
        this.#name = new RegExp(`\\r\\n${NAME}: (\\S+)`).exec(whole[2] ?? '')?.[1]
        if (/\r\nconnection: close/i.test(whole[2] ?? '') || version === '1.0') this.close()
        return Number(whole[1])
      }
      if (socket.destroyed) return 0
      await this.#more(deadline - performance.now()).catch((error: Error) => {
        throw new Error(
          `${error.message}: ${JSON.stringify({ method, target, version, headers, body: body.slice(0, 300), got: this.#received.slice(0, 300) })}`,
        )
      })
    }
  }

  close(): void {
    this.#socket?.destroy()
    this.#socket = undefined
  }

  #open(): Socket {
    if (this.#socket !== undefined && !this.#socket.destroyed) return this.#socket
    this.#received = ''
    const socket = connect(this.#port, '127.0.0.1')
    socket.setNoDelay(true)
    socket.on('data', (chunk) => {
      this.#received += chunk.toString('latin1')
      this.#wake()
    })
    socket.on('error', () => undefined)
    socket.on('close', () => this.#wake())
    this.#socket = socket
    return socket
  }

  #more(withinMs: number): Promise<void> {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(
        () => {
          this.close()
          reject(new Error('no answer'))
        },
        Math.max(0, withinMs),
      )
      this.#wake = () => {
        clearTimeout(timer)
        resolve()
      }
    })
  }
}

/** The same over HTTP/2: names in lower case, each cookie in a field of its own, a second Host beside `:authority`. */
export class Http2Client {
  readonly #port: number
  #session: ClientHttp2Session | undefined

  constructor(port: number) {
    this.#port = port
  }

  /** @returns the answer's status; 0: the stream was reset, or the request can't be said in HTTP/2 */
  send({ method, target, headers, body }: Sent, requestId: string): Promise<number> {
    const fields: Record<string, string[]> = {}
    for (const [name, value] of headers) {
      const values = name === 'cookie' ? value.split('; ') : [value]
      fields[name.toLowerCase()] = [...(fields[name.toLowerCase()] ?? []), ...values]
    }
    const { host: [authority, host] = [], ...others } = fields
    const lines: OutgoingHttpHeaders = {
      ':method': method,
      ':path': target,
      ...(authority !== undefined && { ':authority': authority }),
      ...(host !== undefined && { host }),
      'x-request-id': requestId,
      ...others,
    }
    return new Promise((resolve, reject) => {
      const stream = this.#open().request(lines, { endStream: body === '' })
      let status = 0
      stream.setTimeout(ANSWER_WITHIN_MS, () => {
        reject(new Error(`no answer: ${JSON.stringify(lines)}`))
        stream.close(constants.NGHTTP2_CANCEL)
        this.close()
      })
      stream.on('response', (answer) => {
        status = answer[':status'] ?? 0
      })
      stream.on('error', () => undefined)
      stream.on('close', () => resolve(status))
      stream.resume()
      if (body !== '') stream.end(Buffer.from(body, 'latin1'))
    })
  }

  close(): void {
    this.#session?.destroy()
    this.#session = undefined
  }

  #open(): ClientHttp2Session {
    if (this.#session !== undefined && !this.#session.destroyed && !this.#session.closed) return this.#session
    const session = connectHttp2(`http://127.0.0.1:${this.#port}`)
    session.on('error', () => undefined)
    this.#session = session
    return session
  }
}
