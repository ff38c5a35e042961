/** What nameservers send, and what the network makes of it. */
import assert from 'node:assert/strict'
import { isIP } from 'node:net'
import * as fc from 'fast-check'
import { AddressResolver } from '../../src/dns/address-resolver.ts'
import type { Answer } from '../../src/dns/answer.ts'
import { decodeMessage, isMalformed } from '../../src/dns/decode.ts'
import { type DomainName, parseDomainName } from '../../src/dns/domain-name.ts'
import { encodeMessage } from '../../src/dns/encode.ts'
import type { ExchangeOptions, ExchangeOutcome } from '../../src/dns/exchange.ts'
import { type Message, RecordType, type ResourceRecord } from '../../src/dns/message.ts'
import { NameserverSet } from '../../src/dns/nameservers.ts'
import { isResponseTo } from '../../src/dns/query.ts'
import { parseResolvConf } from '../../src/dns/resolv-conf.ts'
import { StubResolver } from '../../src/dns/stub-resolver.ts'
import type { Transport } from '../../src/dns/transport.ts'
import { addressPolicy } from '../../src/routing/denied-addresses.ts'
import { decoded, messages } from '../support/dns-messages.ts'
import { type Target, target } from './target.ts'
import { mutated } from './text.ts'

const HEADER_OCTETS = 12
/** The root as owner, type, class, TTL and length. */
const RECORD_OCTETS_MIN = 11

const octets = fc.uint8Array({ maxLength: 2000, size: 'max' }).map((array) => Buffer.from(array))

/** A response to `zone1.test`, type A: true, slightly off, or nonsense. */
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
type Reply = { octets: (query: Buffer) => Buffer } | { outcome: 'timeout' | 'unreachable' }
const replies: fc.Arbitrary<Reply> = fc.oneof(
  { weight: 6, arbitrary: responses() },
  {
    weight: 1,
    arbitrary: fc.constantFrom({ outcome: 'timeout' } as const, { outcome: 'unreachable' } as const),
  },
)

function responses(): fc.Arbitrary<Reply> {
  return fc
    .tuple(answerRecords, messages, fc.constantFrom(0, 0, 0, 2, 3, 5), fc.boolean(), mutations())
    .map(([answers, noise, rcode, noisy, mutate]) => ({
      octets: (query) => {
        const asked = decoded(query)
        const message: Message = noisy
          ? { ...noise, id: asked.id, response: true, questions: asked.questions }
          : { ...asked, response: true, recursionAvailable: true, rcode, answers, edns: null }
        return mutate(encodeMessage(message))
      },
    }))
}

/** Changes a few octets behind the question, now and then. */
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

/** The resolver over a network that answers with these in turn, and silence afterwards. */
async function resolve(script: readonly Reply[]): Promise<{ answer: Answer; queries: number }> {
  let [nowMs, queries] = [0, 0]
  const timers = { now: () => nowMs, start: () => ({ cancel: () => undefined }) }
  const nameservers = new NameserverSet(() => undefined)
  nameservers.replace(['a', 'b'].map((text) => ({ host: '127.0.0.1', port: 53, text })))
  const outcomeOf = ({ query, deadlineMs }: ExchangeOptions): ExchangeOutcome => {
    const reply = script[queries++] ?? { outcome: 'timeout' }
    if ('octets' in reply) {
      const response = reply.octets(query)
      nowMs += 1
      if (isResponseTo(query, response)) return { kind: 'response', octets: response }
    }
    const kind = 'outcome' in reply ? reply.outcome : 'timeout'
    nowMs = kind === 'timeout' ? Math.max(nowMs, deadlineMs) : nowMs + 1
    return { kind }
  }
  const exchange: Transport['udp'] = async (options, read) => read(outcomeOf(options))
  const onEvent = (): void => undefined
  const settings = { timeoutMs: 300, attempts: 2, rotate: false, useTcp: false }
  const stub = new StubResolver(nameservers, () => settings, {
    timers,
    transport: { udp: exchange, tcp: exchange, close: () => undefined },
    randomId: () => 4711,
    onEvent,
  })
  const resolver = new AddressResolver(
    stub,
    { family: 'ipv4', ttlSeconds: { min: 5, max: 60 }, negativeTtlSecondsMax: 30, budgetMs: 1500 },
    { timers, random: () => 0.5, admit: ADMIT, onEvent },
  )
  return { answer: (await resolver.resolve(NAME, true, null)).answer, queries }
}

const ADMIT = addressPolicy([])
/** Two rounds over two nameservers, each with EDNS, without, and over TCP, once for the name and once for its alias. */
const QUERIES_MAX = 2 * 2 * 3 * 2

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
      assert.equal(new Set(answer.addresses).size, answer.addresses.length)
      for (const address of answer.addresses) assert.ok(isIP(address) === 4 && ADMIT(address), address)
      for (const address of answer.denied) assert.ok(!ADMIT(address), address)
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
      // Read again after it was written down, it says the same.
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
