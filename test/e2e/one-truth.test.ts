import assert from 'node:assert/strict'
import { readFileSync, renameSync, writeFileSync } from 'node:fs'
import { connect, createServer, type Server, type Socket } from 'node:net'
import { join } from 'node:path'
import { after, before, suite, test } from 'node:test'
import { isDeepStrictEqual } from 'node:util'
import { parse, stringify } from 'yaml'
import type { Status } from '../../src/status/status.ts'
import { startGateway, type TestGateway } from '../support/gateway.ts'
import { call } from '../support/http.ts'
import { freePort } from '../support/ports.ts'
import { eventually } from '../support/processor.ts'
import { startZoneNameserver, type ZoneNameserver } from '../support/zone-nameserver.ts'
import { POLICIES, type PolicyCase, PROBES, type Probe } from './policies.ts'

/**
 * The same request on both paths, under each policy: to a learned zone, and to one that nobody has asked for before. Octets at
 * the zone and at the caller are the same, but for the id.
 */
const LIVE = '127.0.95.1'
const DEAD = '127.0.95.2'
/** A zone's first request is cold: each of these is used once. */
const COLD_IDS = 4000
const HOT = { live: 'h0000', dead: 'd0000' } as const
const ANSWER_WITHIN_MS = 20_000
/** More than any machine takes to bring a saved cluster to Envoy. */
const SETTLED_WITHIN_MS = 20_000

// biome-ignore lint/suspicious/noExplicitAny: YAML as it comes
type Yaml = any

/** What was seen of one request: each octet, but for id, date and the zone's port. */
interface Seen {
  readonly atZone: readonly string[]
  readonly atCaller: string
}

suite('one truth on both paths', () => {
  let gateway: TestGateway
  let nameserver: ZoneNameserver
  let zone: RawZone
  let shipped: { readonly routes: Yaml; readonly clusters: Yaml }
  let cold = 0
  let policies = 0

  before(async () => {
    const port = await freePort(LIVE)
    zone = await RawZone.start(LIVE, port)
    const ids = Array.from({ length: COLD_IDS }, (_, n) => String(n + 1).padStart(4, '0'))
    const names = (kind: string, host: string) =>
      ['0000', ...ids].map((id): [string, string[]] => [`zone${kind}${id}-default.game.test`, [host]])
    nameserver = await startZoneNameserver(Object.fromEntries([...names('h', LIVE), ...names('d', DEAD)]))
    gateway = await startGateway({
      config: {
        rules: { port },
        dns: { nameservers: [nameserver.address], search: 'game.test' },
        addresses: { allow: ['127.0.95.0/24'] },
      },
      edit: { 'listener.yaml': withFilters },
    })
    shipped = {
      routes: parse(readFileSync(file('routes.yaml'), 'utf8')),
      clusters: parse(readFileSync(file('clusters.yaml'), 'utf8')),
    }
  })
  after(async () => {
    await gateway?.stop()
    await nameserver?.close()
    await zone?.stop()
  })

  const file = (name: string): string => join(gateway.folder, 'envoy', name)
  const save = (name: string, content: object): void => {
    writeFileSync(`${file(name)}.new`, stringify(content, { aliasDuplicateObjects: false }))
    renameSync(`${file(name)}.new`, file(name))
  }
  const coldId = (dead: boolean): string => `${dead ? 'd' : 'h'}${String(++cold).padStart(4, '0')}`

  const send = async (id: string, { target, headers = '', body = '' }: Probe): Promise<Seen> => {
    const framing = headers.includes('transfer-encoding') ? '' : `content-length: ${body.length}\r\n`
    const socket = connect(gateway.port, '127.0.0.1')
    socket.write(
      `POST ${target} HTTP/1.1\r\nhost: callback.test\r\nserver: ${id}\r\nx-request-id: r\r\n${framing}${headers}connection: close\r\n\r\n${body}`,
    )
    let answer = ''
    socket.setEncoding('latin1').on('data', (text: string) => {
      answer += text
      // What is refused before its body is there stays open for the rest.
      const head = answer.indexOf('\r\n\r\n') + 4
      const length = /\r\ncontent-length: (\d+)/i.exec(answer.slice(0, head))?.[1]
      if (head >= 4 && length !== undefined && answer.length >= head + Number(length)) socket.destroy()
    })
    await new Promise<void>((done, failed) => {
      socket.setTimeout(ANSWER_WITHIN_MS, () => socket.destroy(new Error(`no answer: ${target}: ${answer}`)))
      socket.on('error', failed)
      socket.on('close', () => done())
    })
    const plain = (text: string): string =>
      text
        .replaceAll(id, 'ID')
        .replace(/date: [^\r]*/i, 'date: DATE')
        .replace(/affinity="?[^;]*/, 'affinity=A')
    return { atZone: zone.take().map(plain), atCaller: plain(answer) }
  }
  const asked = (): Promise<number> => gateway.stat('cluster.processor.upstream_rq_total')
  const isHot = async (id: string): Promise<boolean> => {
    const before = await asked()
    await call(gateway.port, {
      headers: [
        ['server', id],
        ['x-user', '7'],
      ],
      body: 'x',
    })
    zone.take()
    return (await asked()) === before
  }
  const policy = async (): Promise<Status['policy']> => (await gateway.status()).policy

  /** Saves the policy with a mark in each answer of a zone, and returns when both paths show it. */
  const apply = async (given: PolicyCase): Promise<void> => {
    const mark = `p${++policies}`
    const { routes, clusters } = structuredClone(shipped)
    const [configuration] = routes.resources
    const [host] = configuration.virtual_hosts
    const at = host.routes.findIndex(({ name }: Yaml) => name === 'forward')
    merge(configuration, given.configuration ?? {})
    merge(host, given.virtualHost ?? {})
    merge(host.routes[at], given.forward ?? {})
    merge(host.routes[at + 1], given.ask ?? {})
    // In the answer whoever makes it: a zone, or Envoy in its place.
    merge(host.routes[at], { response_headers_to_add: [{ header: { key: 'x-policy', value: mark } }] })
    save('routes.yaml', routes)
    const [cluster] = clusters.resources
    merge(cluster, given.cluster ?? {})
    const [options] = Object.values(cluster.typed_extension_protocol_options)
    merge(options as object, given.http ?? {})
    save('clusters.yaml', clusters)
    const shows = async (id: string): Promise<boolean> =>
      (await send(id, PROBES.session)).atCaller.includes(`x-policy: ${mark}`)
    const reasons = async (): Promise<string> => (await policy()).reasons.join('\n')
    const wanted = new RegExp(given.named === undefined ? '^$' : `\\b${given.named}\\b`)
    await eventually(`${given.title}: the processor has read it`, async () => wanted.test(await reasons()))
    // With a cluster of which zones understand nothing there are no answers to carry a mark.
    if (given.named !== undefined && given.cluster !== undefined) return
    await eventually(`${given.title}: the cold path follows`, () => shows(coldId(false)))
    // Both zones' virtual hosts come in one push; what nobody answers carries no mark.
    await eventually(`${given.title}: learned zones follow`, () => shows(HOT.live))
    if (given.named === undefined)
      for (const id of [HOT.live, HOT.dead]) await eventually(`${given.title}: ${id} is hot`, () => isHot(id))
    zone.take()
  }

  for (const given of POLICIES)
    test(given.title, async () => {
      await apply(given)
      assert.deepEqual((await policy()).faults, [])
      if (given.named !== undefined) assert.equal(await isHot(HOT.live), false)
      const all: string[] = []
      if (given.named !== undefined && given.cluster !== undefined) return
      for (const name of ['plain', ...(given.probes ?? [])] as const) {
        const probe: Probe = PROBES[name]
        const dead = probe.dead === true
        // A cluster arrives apart from the routes: both may be on their way for a moment.
        const deadline = performance.now() + SETTLED_WITHIN_MS
        for (;;) {
          const viaProcessor = await send(coldId(dead), probe)
          const before = await asked()
          const direct = await send(dead ? HOT.dead : HOT.live, probe)
          if (given.named === undefined && given.conditional !== true)
            assert.equal(await asked(), before, `${name}: it was hot`)
          const isSettled = (given.cluster ?? given.http) === undefined || performance.now() > deadline
          if (!isSettled && (!isDeepStrictEqual(direct, viaProcessor) || !isShown(given, direct))) continue
          assert.deepEqual(direct, viaProcessor, name)
          all.push(...direct.atZone, direct.atCaller)
          break
        }
      }
      if (given.shows !== undefined) assert.match(all.join('\n'), given.shows)
    })
})

/** Filters that an operator has put in front of the router, off unless a route turns them on. */
function withFilters(text: string): string {
  const router = /^( *)- name: envoy\.filters\.http\.router\n/m
  return text.replace(
    router,
    (line, indent: string) => `${indent}- name: cors
${indent}  typed_config: { "@type": type.googleapis.com/envoy.extensions.filters.http.cors.v3.Cors }
${indent}- name: limit
${indent}  typed_config: { "@type": type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit, stat_prefix: limit }
${line}`,
  )
}

function isShown({ shows }: PolicyCase, { atZone, atCaller }: Seen): boolean {
  return shows === undefined || shows.test([...atZone, atCaller].join('\n'))
}

/** Mappings are merged, lists of header changes and of conditions appended to, all else is replaced; null takes away. */
function merge(into: Yaml, fields: object): void {
  for (const [key, value] of Object.entries(fields)) {
    if (value === null) delete into[key]
    else if (/_to_(?:add|remove)$|^headers$/.test(key))
      into[key] = [...(Array.isArray(into[key]) ? into[key] : []), ...value]
    else if (typeof value === 'object' && !Array.isArray(value) && typeof into[key] === 'object')
      merge(into[key], value)
    else into[key] = structuredClone(value)
  }
}

/** A zone's receiver that keeps every octet of each request. */
class RawZone {
  readonly #server: Server
  readonly #sockets = new Set<Socket>()
  #requests: string[] = []

  static async start(host: string, port: number): Promise<RawZone> {
    const zone = new RawZone()
    await new Promise<void>((done) => zone.#server.listen(port, host, done))
    return zone
  }

  private constructor() {
    this.#server = createServer((socket) => {
      this.#sockets.add(socket)
      let received = ''
      socket.on('error', () => undefined)
      socket.once('close', () => this.#sockets.delete(socket))
      socket.setEncoding('latin1').on('data', (text: string) => {
        received += text
        for (let end = endOf(received); end > 0; end = endOf(received)) {
          this.#requests.push(`from ${socket.remoteAddress}\r\n${received.slice(0, end)}`)
          answer(socket, received)
          received = received.slice(end)
        }
      })
    })
  }

  /** The requests since the last time. */
  take(): string[] {
    const taken = this.#requests
    this.#requests = []
    return taken
  }

  async stop(): Promise<void> {
    const closed = new Promise<void>((done) => this.#server.close(() => done()))
    for (const socket of this.#sockets) socket.destroy()
    await closed
  }
}

/** Where the first request of these octets ends; 0 where it doesn't yet. */
function endOf(received: string): number {
  // Another protocol: its first line, and no answer.
  if (received.startsWith('PRI ')) return Math.min(received.length, 'PRI * HTTP/2.0'.length)
  const head = received.indexOf('\r\n\r\n') + 4
  if (head < 4) return 0
  if (/\r\ntransfer-encoding: chunked/i.test(received.slice(0, head))) {
    const last = received.indexOf('0\r\n\r\n', head)
    return last < 0 ? 0 : last + 5
  }
  const length = Number(/\r\ncontent-length: (\d+)/i.exec(received)?.[1] ?? 0)
  return received.length >= head + length ? head + length : 0
}

function answer(socket: Socket, request: string): void {
  const reply = (status: string, more = ''): void =>
    void socket.write(
      `HTTP/1.1 ${status}\r\nserver: zone\r\nX-Zone: Z\r\nset-cookie: a=1\r\nset-cookie: b=2\r\n${more}content-length: 2\r\n\r\nok`,
    )
  if (request.startsWith('PRI ')) socket.destroy()
  else if (/^POST \S*\/silent/.test(request)) return
  else if (/^POST \S*\/slow/.test(request)) setTimeout(() => reply('200 OK'), 1000)
  else if (/^POST \S*\/failing/.test(request)) reply('503 Service Unavailable', 'x-again: yes\r\n')
  else if (/^POST \S*\/redirecting/.test(request)) reply('302 Found', 'location: /elsewhere\r\n')
  else reply('200 OK')
}
