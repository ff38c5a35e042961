/** Fuzzes DNS, with messages that nameservers may send and networks may damage. */
import assert from 'node:assert/strict'
import { type AddressInfo, createServer, isIP } from 'node:net'
import * as fc from 'fast-check'
import { encodeMessage } from '../../demo/dns-encode.ts'
import { AddressResolver } from '../../src/dns/address-resolver.ts'
import { type Answer, areEndpoints } from '../../src/dns/answer.ts'
import { type DomainName, parseDomainName } from '../../src/dns/domain-name.ts'
import {
  decodeMessage,
  encodeQuery,
  isMalformed,
  isResponseTo,
  type Message,
  RecordType,
  type ResourceRecord,
} from '../../src/dns/message.ts'
import { NameserverSet } from '../../src/dns/nameservers.ts'
import { parseResolvConf } from '../../src/dns/resolv-conf.ts'
import { ServiceResolver } from '../../src/dns/service-resolver.ts'
import { type Resolution, StubResolver } from '../../src/dns/stub-resolver.ts'
import { TcpConnections } from '../../src/dns/tcp.ts'
import {
  createTransport,
  type NameserverAddress,
  type Query,
  type Reply,
  type Transport,
} from '../../src/dns/transport.ts'
import { addressPolicy, portPolicy } from '../../src/routing/denied-addresses.ts'
import { nodeTimers } from '../../src/timers.ts'
import { addressesOf } from '../support/dns.ts'
import { decoded, messages } from '../support/dns-messages.ts'
import { frame } from '../support/nameserver.ts'
import { type Target, target } from './target.ts'
import { mutated } from './text.ts'

const HEADER_OCTETS = 12
/** The root as owner, type, class, TTL and length. */
const RECORD_OCTETS_MIN = 11

const octets = fc.uint8Array({ maxLength: 2000, size: 'max' }).map((array) => Buffer.from(array))

/** A response to `zone1.test`, type A: correct, slightly wrong, or nonsense. */
const NAME = parseDomainName('zone1.test') as DomainName
const answerRecords = fc.array(
  fc.oneof(
    fc.record({
      name: fc.constantFrom('zone1.test', 'alias.test', 'other.test'),
      ttlSeconds: fc.nat({ max: 200 }),
      type: fc.constant('A' as const),
      address: fc.oneof(fc.ipV4(), fc.constantFrom('127.0.0.1', '169.254.169.254', '10.0.0.1', '0.0.0.0')),
    }),
    fc.record({
      name: fc.constantFrom('zone1.test', 'alias.test'),
      ttlSeconds: fc.nat({ max: 200 }),
      type: fc.constant('CNAME' as const),
      target: fc.constantFrom('zone1.test', 'alias.test', 'other.test'),
    }),
  ) as fc.Arbitrary<unknown> as fc.Arbitrary<ResourceRecord>,
  { maxLength: 40, size: 'max' },
)
/** Of a service: its records, hosts and their addresses, and what may not be a target. */
const SERVICE = parseDomainName('_pay._tcp.zone1.test') as DomainName
const serviceRecords = fc.array(
  fc.oneof(
    fc.record({
      name: fc.constantFrom(SERVICE, 'alias.test'),
      ttlSeconds: fc.nat({ max: 200 }),
      type: fc.constant('SRV' as const),
      priority: fc.oneof(fc.nat({ max: 3 }), fc.nat({ max: 0xffff })),
      weight: fc.oneof(fc.nat({ max: 3 }), fc.nat({ max: 0xffff })),
      port: fc.oneof(fc.constantFrom(9000, 9001, 22, 0), fc.nat({ max: 0xffff })),
      target: fc.oneof(
        fc.constantFrom('host1.test', 'host2.test', 'alias.test', '', SERVICE, '10.0.0.1'),
        fc.nat({ max: 40 }).map((n) => `host${n}.test`),
      ),
    }),
    fc.record({
      name: fc.constantFrom('host1.test', 'host2.test', 'alias.test'),
      ttlSeconds: fc.nat({ max: 200 }),
      type: fc.constant('A' as const),
      address: fc.oneof(fc.ipV4(), fc.constantFrom('127.0.0.1', '10.0.0.1', '10.0.0.2')),
    }),
    fc.record({
      name: fc.constantFrom(SERVICE, 'host1.test', 'alias.test'),
      ttlSeconds: fc.nat({ max: 200 }),
      type: fc.constant('CNAME' as const),
      target: fc.constantFrom('host1.test', 'alias.test', SERVICE),
    }),
  ) as fc.Arbitrary<unknown> as fc.Arbitrary<ResourceRecord>,
  { maxLength: 40, size: 'max' },
)
const FITS_MOSTLY = fc.nat({ max: 9 }).map((n) => n > 0)
type ScriptedReply = { octets: (query: Buffer) => Buffer } | { outcome: 'timeout' | 'unreachable' }
const replies = repliesWith(answerRecords, fc.constant(false))

/** @param fitting true: of the records those that the question is for, under its name */
function repliesWith(
  records: fc.Arbitrary<ResourceRecord[]>,
  fitting: fc.Arbitrary<boolean>,
): fc.Arbitrary<ScriptedReply> {
  return fc.oneof(
    { weight: 6, arbitrary: responses(records, fitting) },
    {
      weight: 1,
      arbitrary: fc.constantFrom({ outcome: 'timeout' } as const, { outcome: 'unreachable' } as const),
    },
  )
}

function responses(
  records: fc.Arbitrary<ResourceRecord[]>,
  fit: fc.Arbitrary<boolean>,
): fc.Arbitrary<ScriptedReply> {
  return fc
    .tuple(records, messages, fc.constantFrom(0, 0, 0, 2, 3, 5), fc.boolean(), mutations(), fit)
    .map(([all, noise, rcode, noisy, mutate, fits]) => ({
      octets: (query) => {
        const asked = decoded(query)
        const [question] = asked.questions
        const fitting = (record: ResourceRecord): ResourceRecord[] =>
          record.type !== 'other' && RecordType[record.type] === question?.type
            ? [{ ...record, name: question.name }]
            : []
        const answers = fits ? all.flatMap(fitting) : all
        const message: Message =
          noisy && !fits
            ? { ...noise, id: asked.id, response: true, questions: asked.questions }
            : { ...asked, response: true, recursionAvailable: true, rcode, answers, edns: null }
        return mutate(encodeMessage(message))
      },
    }))
}

/** Sometimes changes a few octets behind the question. */
function mutations(): fc.Arbitrary<(octets: Buffer) => Buffer> {
  const change = fc.tuple(fc.nat(), fc.nat({ max: 255 }))
  return fc.oneof(
    fc.constant((message: Buffer) => message),
    fc.array(change, { minLength: 1, maxLength: 4 }).map((changes) => (message: Buffer) => {
      const copy = Buffer.from(message)
      for (const [at, value] of changes) copy[at % copy.length] = value
      return copy
    }),
  )
}

/** The resolver over a network that sends these replies in turn, and then nothing more. */
async function resolve(
  script: readonly ScriptedReply[],
  name: DomainName = NAME,
): Promise<{ answer: Answer; queries: number; nowMs: number }> {
  let [nowMs, queries] = [0, 0]
  const timers = { now: () => nowMs, start: () => ({ cancel: () => undefined }) }
  const nameservers = new NameserverSet(() => undefined)
  nameservers.replace(['a', 'b'].map((text) => ({ host: '127.0.0.1', port: 53, text })))
  const replyTo = ({ octets, deadlineMs }: Query): Reply => {
    const reply = script[queries++] ?? { outcome: 'timeout' }
    if ('octets' in reply) {
      const response = reply.octets(octets)
      nowMs += 1
      if (isResponseTo(octets, response)) return response
    }
    const kind = 'outcome' in reply ? reply.outcome : 'timeout'
    nowMs = kind === 'timeout' ? Math.max(nowMs, deadlineMs) : nowMs + 1
    return kind
  }
  const send: Transport['send'] = async (query, read) => read(replyTo(query))
  const onEvent = (): void => undefined
  const settings = { timeoutMs: 300, attempts: 2, rotate: false, useTcp: false }
  const stub = new StubResolver(nameservers, () => settings, {
    timers,
    transport: { send, abandon: () => undefined, close: () => undefined },
    randomId: () => 4711,
    onEvent,
    onBug: (error) => assert.fail(error as Error),
  })
  const lifetimes = {
    family: 'ipv4',
    ttlSeconds: { min: 5, max: 60 },
    negativeTtlSecondsMax: 30,
    budgetMs: BUDGET_MS,
  } as const
  const addresses = new AddressResolver(stub, lifetimes, { timers, random: () => 0.5, admit: ADMIT, onEvent })
  const services = new ServiceResolver(addresses, lifetimes, { timers, admitPort: ADMIT_PORT, onEvent })
  const asking = { awaited: true, charge: null, hadAddresses: false }
  const { answer } =
    name === SERVICE
      ? await services.resolve(name, asking, (targets, within) =>
          Promise.all(targets.map(async (target) => (await addresses.resolve(target, within)).answer)),
        )
      : await addresses.resolve(name, asking)
  return { answer, queries, nowMs }
}

const BUDGET_MS = 1500
/** Before each query that has this number: the list becomes this. */
const changes = fc.tuple(
  fc.nat({ max: 12 }),
  fc.uniqueArray(fc.constantFrom('a', 'b', 'c', 'd'), { minLength: 1, maxLength: 3 }),
)

/** Like `resolve`, but the list of nameservers changes during the queries. */
async function resolveWhileChanging(
  moments: readonly (readonly [number, readonly string[]])[],
  script: readonly ScriptedReply[],
): Promise<{ resolution: Resolution; inForce: readonly string[]; nowMs: number }> {
  let [nowMs, queries] = [0, 0]
  const nameservers = new NameserverSet(() => undefined)
  const waiting = new Set<{ text: string; abort: () => void }>()
  const { signal } = new AbortController()
  const send: Transport['send'] = async ({ nameserver, octets, deadlineMs, signal: one }, read) => {
    // Probes run beside the queries, so they must not move the clock.
    if (one !== signal) return read('timeout')
    return new Promise((resolve) => {
      const reply = script[queries]
      const done = (outcome: Reply): void => {
        if (waiting.delete(one)) resolve(read(outcome))
      }
      const one = { text: nameserver.text, abort: (): void => done('aborted') }
      waiting.add(one)
      for (const [at, texts] of moments) if (at === queries) stub.replaceNameservers(listOf(texts))
      queries++
      if (reply !== undefined && 'octets' in reply) {
        nowMs = Math.min(nowMs + 1, deadlineMs)
        const response = reply.octets(octets)
        if (isResponseTo(octets, response)) done(response)
      }
      if (waiting.has(one)) nowMs = Math.max(nowMs, deadlineMs)
      done('timeout')
    })
  }
  const settings = { timeoutMs: 300, attempts: 2, rotate: false, useTcp: false }
  const stub: StubResolver = new StubResolver(nameservers, () => settings, {
    timers: { now: () => nowMs, start: () => ({ cancel: () => undefined }) },
    transport: {
      send,
      abandon: ({ text }) => {
        for (const one of [...waiting]) if (one.text === text) one.abort()
      },
      close: () => undefined,
    },
    randomId: () => 4711,
    onEvent: () => undefined,
    onBug: (error) => assert.fail(error as Error),
  })
  stub.replaceNameservers(listOf(['a', 'b']))
  const resolution = await stub.ask(NAME, 'A', { deadlineMs: BUDGET_MS, signal, charge: null })
  return { resolution, inForce: nameservers.all.map(({ address }) => address.text), nowMs }
}

function listOf(texts: readonly string[]): NameserverAddress[] {
  return texts.map((text) => ({ host: '127.0.0.1', port: 53, text }))
}

const ADMIT = addressPolicy([])
const ADMIT_PORT = portPolicy([[9000, 9999]])
/** Of records of one name, and of addresses of all their targets together. */
const [TARGETS_MAX, ENDPOINTS_MAX] = [16, 32]
/**
 * Two rounds over two nameservers, each over the port of many, over one of its own, without EDNS and over TCP, once for the
 * name and once for its alias.
 */
const QUERIES_MAX = 2 * 2 * 4 * 2

/**
 * TCP streams that a nameserver may send: the answer, another answer, frames of any length, or zeros, cut anywhere.
 */
const frames = fc.array(
  fc.oneof(
    { weight: 2, arbitrary: fc.constant({ kind: 'answer' } as const) },
    { weight: 1, arbitrary: fc.record({ kind: fc.constant('octets' as const), octets }) },
    {
      weight: 1,
      arbitrary: fc.record({
        kind: fc.constant('lie' as const),
        length: fc.oneof(fc.nat({ max: 20 }), fc.nat({ max: 0xffff })),
        octets,
      }),
    },
    {
      weight: 1,
      arbitrary: fc.record({ kind: fc.constant('zeros' as const), count: fc.nat({ max: 3000 }) }),
    },
  ),
  { maxLength: 4 },
)
type Frame = typeof frames extends fc.Arbitrary<readonly (infer F)[]> ? F : never

export const dnsTargets: readonly Target[] = [
  target('dns: what is encoded decodes to the same', [messages], (message) =>
    assert.deepEqual(decoded(encodeMessage(message)), message),
  ),
  target(
    'dns: any octets decode to what fits them, or are malformed',
    [
      fc.oneof(
        octets,
        messages.chain((message) => mutatedOctets(encodeMessage(message))),
      ),
    ],
    (message) => {
      const before = Buffer.from(message)
      const result = decodeMessage(message)
      assert.deepEqual(message, before, 'the octets are only read')
      if (isMalformed(result)) return
      const records = result.answers.length + result.authorities.length + result.additionals.length
      assert.ok(records * RECORD_OCTETS_MIN + HEADER_OCTETS <= message.length, `${records} records`)
      for (const { type, typeCode, octets: own } of [...result.answers, ...result.additionals] as {
        type: string
        typeCode?: number
        octets?: Buffer
      }[]) {
        if (type !== 'other') continue
        assert.notEqual(typeCode, RecordType.OPT, 'OPT stands apart')
        assert.ok((own?.length ?? 0) < message.length)
      }
      assert.deepEqual(decoded(encodeMessage(result)), result)
    },
  ),
  target(
    'dns: whatever nameservers say, an answer is admitted, bounded and in time',
    [fc.array(replies, { maxLength: 30, size: 'max' })],
    async (script) => {
      const { answer, queries } = await resolve(script)
      assert.ok(queries <= QUERIES_MAX, `${queries} queries`)
      if (answer.kind === 'failure') return
      assert.ok(answer.ttlSeconds >= 0 && answer.ttlSeconds <= 60, `${answer.ttlSeconds} s`)
      if (answer.kind !== 'positive') return assert.ok(answer.ttlSeconds <= 30)
      assert.ok(answer.addresses.length + answer.denied.length > 0)
      assert.ok(answer.addresses.length <= 32 && answer.denied.length <= 32)
      const addresses = addressesOf(answer)
      assert.equal(new Set(addresses).size, addresses.length)
      for (const address of addresses) assert.ok(isIP(address) === 4 && ADMIT(address), address)
      for (const address of answer.denied) assert.ok(!ADMIT(address), address)
    },
  ),
  target(
    'dns: whatever is said of a service and its targets, endpoints are admitted, bounded, in order and in time',
    [fc.array(repliesWith(serviceRecords, FITS_MOSTLY), { maxLength: 60, size: 'max' })],
    async (script) => {
      const { answer, queries, nowMs } = await resolve(script, SERVICE)
      assert.ok(queries <= QUERIES_MAX * (1 + TARGETS_MAX), `${queries} queries`)
      // Each answer takes 1 ms here, and the last ones may arrive together.
      assert.ok(nowMs <= BUDGET_MS + queries, `${nowMs} ms`)
      assert.equal(answer.name, SERVICE)
      if (answer.kind === 'failure') return
      assert.ok(answer.ttlSeconds >= 0 && answer.ttlSeconds <= 60, `${answer.ttlSeconds} s`)
      if (answer.kind !== 'positive') return assert.ok(answer.ttlSeconds <= 30)
      const { addresses: endpoints, denied } = answer
      assert.ok(endpoints.length + denied.length > 0)
      assert.ok(endpoints.length <= ENDPOINTS_MAX && denied.length <= ENDPOINTS_MAX)
      if (endpoints.length === 0) return
      assert.ok(areEndpoints(endpoints))
      const places = endpoints.map(({ address, port }) => `${address}:${port}`)
      assert.equal(new Set(places).size, places.length, 'each place once')
      let rank = 0
      for (const { address, port, priority, weight, srv } of endpoints) {
        assert.ok(isIP(address) === 4 && ADMIT(address), address)
        assert.ok(ADMIT_PORT(port), `port ${port}`)
        assert.ok(priority === rank || priority === ++rank, `priority ${priority} behind ${rank}`)
        assert.ok(Number.isInteger(weight) && weight >= 1, `weight ${weight}`)
        const target = srv?.target ?? ''
        assert.ok(target !== '' && !target.startsWith('_') && !/(?:^|\.)\d+$/.test(target), target)
      }
      assert.equal(endpoints[0]?.priority, 0)
    },
  ),
  target(
    'dns: any stream over TCP, cut anywhere, is its first message, or none',
    [frames, fc.array(fc.nat(), { maxLength: 6 })],
    async (all, cuts) => {
      const query = encodeQuery(4711, NAME, 'A', true)
      const answer = encodeMessage({ ...decoded(query), response: true, rcode: 3 })
      const stream = streamOf(all, answer)
      const at = [0, ...cuts.map((cut) => cut % (stream.length + 1)).sort((a, b) => a - b), stream.length]
      const pieces = at.slice(1).map((end, index) => stream.subarray(at[index], end))
      const reply = await replyOverTcp(query, pieces)
      assert.equal(typeof reply === 'string' ? reply : 'response', firstOf(stream, answer))
      if (typeof reply !== 'string') assert.deepEqual(reply, answer)
    },
  ),
  target(
    'dns: nameservers that change at any moment: each look-up ends in time, and by those in force',
    [fc.array(changes, { maxLength: 12 }), fc.array(replies, { maxLength: 12 })],
    async (moments, script) => {
      const { resolution, inForce, nowMs } = await resolveWhileChanging(moments, script)
      assert.ok(nowMs <= BUDGET_MS, `${nowMs} ms`)
      if (resolution.kind !== 'failure')
        assert.ok(inForce.includes(resolution.nameserver), resolution.nameserver)
    },
  ),
  target(
    'dns: any resolv.conf is refused, or within the bounds of glibc',
    [resolvConfs(), environments()],
    (text, environment) => {
      const conf = parseResolvConf(text, environment)
      if ('invalid' in conf) return assert.ok(conf.invalid.length > 0)
      assert.ok(conf.nameservers.length <= 3)
      for (const nameserver of conf.nameservers) assert.notEqual(isIP(nameserver), 0, nameserver)
      assert.ok(conf.timeoutMs >= 1000 && conf.timeoutMs <= 30_000, `${conf.timeoutMs}`)
      assert.ok(conf.attempts >= 1 && conf.attempts <= 5, `${conf.attempts}`)
      for (const domain of conf.search) assert.equal(parseDomainName(domain), domain)
      // The message must survive encoding and decoding.
      const written = [
        ...conf.nameservers.map((nameserver) => `nameserver ${nameserver}`),
        `options timeout:${conf.timeoutMs / 1000} attempts:${conf.attempts}`,
        ...(conf.search.length > 0 ? [`search ${conf.search.join(' ')}`] : []),
      ].join('\n')
      const again = parseResolvConf(written, {})
      assert.ok(!('invalid' in again))
      const { nameservers, timeoutMs, attempts, search } = conf
      assert.deepEqual(
        { nameservers, timeoutMs, attempts, search },
        {
          nameservers: again.nameservers,
          timeoutMs: again.timeoutMs,
          attempts: again.attempts,
          search: again.search,
        },
      )
    },
  ),
]

function streamOf(all: readonly Frame[], answer: Buffer): Buffer {
  return Buffer.concat(
    all.map((one) => {
      if (one.kind === 'answer') return frame(answer)
      if (one.kind === 'octets') return frame(one.octets)
      if (one.kind === 'zeros') return Buffer.alloc(one.count)
      const length = Buffer.alloc(2)
      length.writeUInt16BE(one.length, 0)
      return Buffer.concat([length, one.octets])
    }),
  )
}

/** What the first frame of a stream contains: the answer, a part of it, or nothing useful. */
function firstOf(stream: Buffer, answer: Buffer): 'response' | 'malformed' | 'unreachable' {
  if (stream.length < 2) return 'unreachable'
  const length = stream.readUInt16BE(0)
  if (stream.length < 2 + length) return 'unreachable'
  return stream.subarray(2, 2 + length).equals(answer) ? 'response' : 'malformed'
}

/** The reply to a query over TCP from a peer that sends these pieces, then closes. */
async function replyOverTcp(query: Buffer, pieces: readonly Buffer[]): Promise<Reply> {
  const server = createServer((socket) => {
    socket.on('error', () => undefined)
    socket.once('data', async () => {
      for (const piece of pieces) {
        if (!socket.writable) return
        if (piece.length > 0) socket.write(piece)
        await new Promise((done) => setImmediate(done))
      }
      socket.end()
    })
  })
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done))
  const { port } = server.address() as AddressInfo
  const fail = (error: unknown): never => assert.fail(error as Error)
  const transport = createTransport(
    nodeTimers(() => performance.now(), fail),
    new TcpConnections(fail),
    fail,
  )
  try {
    const nameserver = { host: '127.0.0.1', port, text: `127.0.0.1:${port}` }
    const deadlineMs = performance.now() + 10_000
    const { signal } = new AbortController()
    return await transport.send(
      { nameserver, protocol: 'tcp', octets: query, deadlineMs, signal, ownPort: false },
      (reply) => reply,
    )
  } finally {
    transport.close()
    server.close()
  }
}

function mutatedOctets(message: Buffer): fc.Arbitrary<Buffer> {
  return mutations().map((mutate) => mutate(message))
}

function resolvConfs(): fc.Arbitrary<string> {
  const word = fc.constantFrom(
    'nameserver',
    'search',
    'domain',
    'options',
    'sortlist',
    '#',
    ';',
    '10.0.0.1',
    '::1',
    'fe80::1%eth0',
    '1.2.3',
    'game.test',
    '.',
    'a..b',
    'timeout:3',
    'timeout:99',
    'timeout:-1',
    'attempts:0',
    'rotate',
    'use-vc',
    'no-reload',
    'ndots:15',
    'timeout:',
    '\t',
    '\r',
    '\0',
  )
  const line = fc.array(fc.oneof({ weight: 8, arbitrary: word }, fc.string()), { maxLength: 6 })
  const text = fc
    .array(line, { maxLength: 12 })
    .map((lines) => lines.map((words) => words.join(' ')).join('\n'))
  return fc.oneof(
    text,
    mutated(['nameserver 10.0.0.1\nsearch a.test b.test\noptions timeout:2 attempts:3 rotate\n']),
  )
}

function environments(): fc.Arbitrary<{ LOCALDOMAIN?: string; RES_OPTIONS?: string }> {
  const text = fc.oneof(fc.constantFrom('', 'a.test b.test', 'timeout:7 rotate attempts:9'), fc.string())
  return fc.record({ LOCALDOMAIN: text, RES_OPTIONS: text }, { requiredKeys: [] })
}
