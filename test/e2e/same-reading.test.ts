import assert from 'node:assert/strict'
import { after, before, suite, test } from 'node:test'
import fc from 'fast-check'
import { IDS, nearMisses, nearMissesOf, plain, type Sent } from '../support/generated-requests.ts'
import {
  Http2Client,
  RawClient,
  type ReadingEnvoy,
  type Readings,
  startReadingEnvoy,
} from '../support/reading-envoy.ts'

/**
 * Envoy's reading of an id against the processor's, on the same requests. What Envoy routes by itself as (rule, id) the processor
 * must take for the same; what Envoy refuses by itself it must refuse for the same reason.
 */

const SEED = 16
const RANDOM_SEED = Math.floor(Math.random() * 2 ** 31)
const SEEDS_HTTP1 = [
  [SEED, 10_000],
  [RANDOM_SEED, 2000],
] as const
const SEEDS_HTTP2 = [
  [SEED, 2500],
  [RANDOM_SEED, 500],
] as const

interface RuleSet {
  readonly title: string
  readonly rules: unknown
  /** False: its headers are not inline, as in an Envoy that was started before they were in zonegate.yaml. */
  readonly inline?: boolean
  /** Requests that say an id plainly: they are hot. */
  readonly plainly: (id: string) => readonly (Partial<Sent> & { readonly rule?: string })[]
}

const header = (name: string, id: string): Partial<Sent> => ({ headers: [[name, id]] })
const query = (id: string): Partial<Sent> => ({ target: `/pay/x?a=1&zone_id=${id}&b=2` })
const path = (id: string): Partial<Sent> => ({ target: `/cb/${id}/x/y.z?a=/../%2e` })
const host = (id: string): Partial<Sent> => ({ headers: [['host', `${id}.CB.test:80`]] })
const cookie = (id: string): Partial<Sent> => ({ headers: [['cookie', `zone_id=${id}; a=1`]] })
const twoCookies = (id: string): Partial<Sent> => ({
  headers: [
    ['cookie', `zone_id=${id}`],
    ['cookie', 'a=1'],
  ],
})
const json = (id: string): Partial<Sent> => ({
  target: '/chat/x',
  headers: [['content-type', 'application/json']],
  body: `{"x":1,"att":{"b":"c","zone":"${id}"},"y":[{}]}`,
})
const form = (id: string): Partial<Sent> => ({
  headers: [['content-type', 'application/x-www-form-urlencoded']],
  body: `a=1&zone_id=${id}&b=2`,
})

const SETS: readonly RuleSet[] = [
  { title: 'a header', rules: {}, plainly: (id) => [header('Server', id)] },
  {
    title: 'a header that is not inline',
    rules: { header: 'x-id' },
    inline: false,
    plainly: (id) => [header('X-Id', id)],
  },
  { title: 'a query', rules: { id: { query: 'zone_id' } }, plainly: (id) => [query(id)] },
  {
    title: 'a path',
    rules: { id: { path: '/cb/{id}/*' } },
    plainly: (id) => [path(id), { target: `/cb/${id}/` }],
  },
  {
    title: 'a path to its end',
    rules: { id: { path: '/cb/zone{id}-x' } },
    plainly: (id) => [{ target: `/cb/zone${id}-x` }, { target: `/cb/zone${id}-x?a` }],
  },
  { title: 'a host', rules: { id: { host: '{id}.cb.test' } }, plainly: (id) => [host(id)] },
  {
    title: 'a cookie',
    rules: { id: { cookie: 'zone_id' } },
    plainly: (id) => [cookie(id), header('Cookie', `zone_id=${id}`), twoCookies(id)],
  },
  { title: 'a JSON member', rules: { id: { json: '/att/zone' } }, plainly: (id) => [json(id)] },
  { title: 'a field of a form', rules: { id: { form: 'zone_id' } }, plainly: (id) => [form(id)] },
  {
    title: 'a query, a path or a header',
    rules: {
      methods: ['POST', 'GET'],
      id: [{ query: 'zone_id' }, { path: '/cb/{id}/*' }, { header: 'x-zone' }],
    },
    plainly: (id) => [query(id), path(id), header('x-zone', id), { method: 'GET', ...query(id) }],
  },
  {
    title: 'a cookie that is not inline',
    rules: { id: { cookie: 'zone_id' } },
    inline: false,
    plainly: (id) => [cookie(id), header('Cookie', `zone_id=${id}`)],
  },
  {
    title: 'a header and a cookie that are not inline, a host or a query',
    rules: {
      id: [{ header: 'x-id' }, { cookie: 'zone_id' }, { host: '{id}.cb.test' }, { query: 'zone_id' }],
    },
    inline: false,
    plainly: (id) => [header('x-id', id), cookie(id), host(id), query(id)],
  },
  {
    title: 'a header, a JSON member or a field of a form',
    rules: { id: [{ header: 'server' }, { json: '/att/zone' }, { form: 'zone_id' }] },
    plainly: (id) => [header('server', id), json(id), form(id)],
  },
  {
    title: 'four rules by path and host',
    rules: [
      { name: 'pay', match: { paths: ['/pay/*'] }, methods: ['POST', 'GET'], id: { query: 'zone_id' } },
      {
        name: 'shop',
        match: {
          hosts: ['7.cb*', '8.CB.test', 'ab-3.cb.test', '12.cb.test', '77*', 'a.cb.test', '0.cb.test'],
        },
        id: { host: '{id}.cb.test' },
      },
      {
        name: 'chat',
        match: { paths: ['/chat/*'], hosts: ['chat.test', 'x.test'] },
        id: [{ header: 'x-zone' }, { json: '/att/zone' }],
      },
      { name: 'rest', id: [{ header: 'server' }, { path: '/cb/{id}/*' }, { cookie: 'zone_id' }] },
    ],
    plainly: (id) => [
      { rule: 'pay', ...query(id) },
      { rule: 'shop', target: '/', ...host(id) },
      { rule: 'chat', ...json(id) },
      { rule: 'chat', target: '/chat/x', ...header('x-zone', id) },
      { rule: 'rest', ...header('server', id) },
      { rule: 'rest', ...path(id) },
      { rule: 'rest', ...cookie(id) },
    ],
  },
]

const LONG_NAME = 's_'.repeat(32)
const LONG_PATH = `/${'sk/'.repeat(80)}`
const LONG_HOST = `.${'sk.'.repeat(80)}test`
const LONG_PATTERN = `${'sk.'.repeat(25)}test1`
/** The largest that zonegate.yaml may have, in one way or another, with a request that is hot. */
const LARGEST: readonly RuleSet[] = [
  {
    title: 'a long query',
    rules: { id: { query: LONG_NAME } },
    plainly: (id) => [{ target: `/?${LONG_NAME}=${id}` }],
  },
  {
    title: 'a long path',
    rules: { id: { path: `${LONG_PATH}{id}/*` } },
    plainly: (id) => [{ target: `${LONG_PATH}${id}/x` }],
  },
  {
    title: 'a long host',
    rules: { id: { host: `{id}${LONG_HOST}` } },
    plainly: (id) => [{ headers: [['host', `${id}${LONG_HOST}`]] }],
  },
  {
    title: 'a long cookie',
    rules: { id: { cookie: LONG_NAME } },
    plainly: (id) => [{ headers: [['cookie', `${LONG_NAME}=${id}`]] }],
  },
  {
    title: 'eight long places',
    rules: {
      id: [
        { cookie: LONG_NAME },
        { query: LONG_NAME },
        { path: `${LONG_PATH}{id}/*` },
        { host: `{id}${LONG_HOST}` },
        { header: 's'.repeat(128) },
        { query: '_'.repeat(64) },
        { query: 'k'.repeat(64) },
        { header: 'x-zone' },
      ],
    },
    inline: false,
    plainly: (id) => [
      { target: `/?${LONG_NAME}=${id}` },
      { target: `/?${'_'.repeat(64)}=${id}` },
      { target: `${LONG_PATH}${id}/x` },
      { headers: [['host', `${id}${LONG_HOST}`]] },
      { headers: [['cookie', `${LONG_NAME}=${id}`]] },
      { target: `/?${'k'.repeat(64)}=${id}` },
      { headers: [['x-zone', id]] },
    ],
  },
  {
    title: 'sixteen methods, and long hosts',
    rules: [
      {
        name: 'a',
        match: { hosts: [LONG_PATTERN, ...Array.from({ length: 60 }, (_, at) => `h${at}.test`)] },
        methods: [
          'POST',
          ...Array.from({ length: 15 }, (_, at) => 'SK'.repeat(15) + String.fromCharCode(65 + at)),
        ],
        id: { query: 'id' },
      },
      {
        name: 'b',
        match: { paths: Array.from({ length: 64 }, (_, at) => `/p${at}/*`) },
        id: { query: 'id' },
      },
    ],
    plainly: (id) => [
      { rule: 'a', target: `/?id=${id}`, headers: [['host', `${LONG_PATTERN.toUpperCase()}:80`]] },
      { rule: 'a', target: `/?id=${id}`, headers: [['host', 'H59.test']] },
      { rule: 'b', target: `/p63/x?id=${id}` },
    ],
  },
  {
    title: 'sixteen rules',
    rules: [
      ...Array.from({ length: 15 }, (_, at) => ({
        name: `r${at}`,
        match: { paths: [`/p${at}/*`, `/q${at}/*`], hosts: ['x.test', 'y.test'] },
        id: [
          { query: 'a' },
          { cookie: 'b' },
          { header: 'x-zone' },
          { path: `/p${at}/{id}` },
          { host: '{id}.y' },
        ],
      })),
      { name: 'rest' },
    ],
    inline: false,
    plainly: (id) => [
      { rule: 'r0', target: `/p0/?a=${id}` },
      { rule: 'r14', target: `/q14/?a=${id}` },
      { rule: 'r14', target: `/p14/${id}` },
      { rule: 'rest', headers: [['server', id]] },
    ],
  },
]

suite('the largest rules that zonegate.yaml may have', () => {
  const placeOf = places(LARGEST)
  for (const set of LARGEST)
    test(`are taken by Envoy, and hot: ${set.title}`, () => findHot(placeOf(set), set))
})

suite('what Envoy reads in a request and what the processor reads', () => {
  const placeOf = places(SETS)
  for (const set of SETS)
    test(`are the same, and plain requests are hot: ${set.title}`, () => findHot(placeOf(set), set))

  for (const [seed, count] of SEEDS_HTTP1)
    test(`are the same over HTTP/1: ${count} requests, seed ${seed}`, async () => {
      const outcome = await compare(seed, count, (set, requests) => {
        const { envoy, port } = placeOf(set)
        return inTurn(envoy, new RawClient(port), requests)
      })
      assert.ok((outcome['hot'] ?? 0) > count / 20, JSON.stringify(outcome))
    })

  for (const [seed, count] of SEEDS_HTTP2)
    test(`are the same over HTTP/2: ${count} requests, seed ${seed}`, async () => {
      const outcome = await compare(seed, count, (set, requests) => {
        const { envoy, port } = placeOf(set)
        const withHost = requests.map((request, at) => inHttp2(request, requests[(at * 7) % requests.length]))
        return inTurn(envoy, new Http2Client(port), withHost)
      })
      assert.ok((outcome['hot'] ?? 0) > count / 20, JSON.stringify(outcome))
    })
})

/** Beside those above, those in which several places of one kind are alike. */
const AWAY_SETS: readonly RuleSet[] = [
  ...SETS,
  {
    title: 'two paths, two hosts, two cookies',
    rules: {
      id: [
        { path: '/cb/{id}/*' },
        { path: '/cb/zone{id}-x' },
        { host: '{id}.cb.test' },
        { host: 'z{id}.cb.test' },
        { cookie: 'zone_id' },
        { cookie: 'server' },
      ],
    },
    plainly: (id) => [path(id), { target: '/', ...host(id) }, cookie(id)],
  },
  {
    title: 'ids of digits, and a long name',
    rules: { idPattern: '^(?:[0-9]{1,3}|ab-\\d)$', host: '{id}-{service}.x.{search}' },
    plainly: () => [header('server', '12')],
  },
]

suite('what Envoy resolves by itself while the processor is away', () => {
  const placeOf = places([...AWAY_SETS, ...LARGEST], true)
  for (const set of [...AWAY_SETS, ...LARGEST])
    test(`is what the processor would, for plain requests: ${set.title}`, async () => {
      const { envoy, port } = placeOf(set)
      const wanted = IDS.flatMap((id) => set.plainly(id).map(({ rule: _, ...sent }) => plain(sent)))
      const readings = await inTurn(envoy, new RawClient(port), wanted)
      for (const [at, { name, processor }] of readings.entries()) {
        assert.equal(name?.toLowerCase(), processor, JSON.stringify(wanted[at]))
        assert.match(processor ?? '', /\.game\.test$/)
      }
    })

  for (const [seed, count] of SEEDS_HTTP1)
    test(`is never anything else: ${count} requests, seed ${seed}`, async () => {
      let [resolved, refused] = [0, 0]
      for (const [index, set] of AWAY_SETS.entries()) {
        const { envoy, port } = placeOf(set)
        const numRuns = Math.ceil(count / AWAY_SETS.length)
        const requests = fc.sample(requestsOf(set), { seed: seed + index, numRuns })
        const readings = await inTurn(envoy, new RawClient(port), requests)
        for (const [at, { name, processor }] of readings.entries()) {
          const told = `${set.title}, seed ${seed}: ${JSON.stringify(requests[at])}`
          if (name !== undefined) assert.equal(name.toLowerCase(), processor, told)
          if (name === undefined) refused += 1
          else resolved += 1
        }
      }
      assert.ok(resolved > count / 20 && refused > count / 20, `${resolved} resolved, ${refused} refused`)
    })
})

/** Where a set of rules is in force. */
interface Place {
  readonly envoy: ReadingEnvoy
  readonly port: number
}

/** Has Envoys for a suite's sets, one for those whose headers are inline and one for the others. */
function places(all: readonly RuleSet[], isAway = false): (set: RuleSet) => Place {
  const known = new Map<RuleSet, Place>()
  before(async () => {
    for (const isInline of [true, false]) {
      const sets = all.filter(({ inline = true }) => inline === isInline)
      const envoy = await startReadingEnvoy(sets, isAway ? [] : IDS, isAway)
      for (const [index, set] of sets.entries()) known.set(set, { envoy, port: envoy.ports[index] ?? 0 })
    }
  })
  after(() =>
    Promise.all([...new Set([...known.values()].map(({ envoy }) => envoy))].map((envoy) => envoy.stop())),
  )
  return (set) => known.get(set) ?? assert.fail(set.title)
}

async function findHot({ envoy, port }: Place, { plainly }: RuleSet): Promise<void> {
  const wanted = IDS.flatMap((id) =>
    plainly(id).map(({ rule = 'default', ...sent }) => ({ rule, id, sent: plain(sent) })),
  )
  assert.ok(wanted.length > 0)
  const client = new RawClient(port)
  const readings = await inTurn(
    envoy,
    client,
    wanted.map(({ sent }) => sent),
  )
  for (const [at, { envoy: route, processor }] of readings.entries()) {
    const { rule, id, sent } = wanted[at] ?? assert.fail()
    assert.deepEqual([route, processor], [`hot ${rule} ${id}`, `${rule} ${id}`], JSON.stringify(sent))
  }
}

/** What Envoy's codec takes: it leaves a connection on which another authority or path came without a word, for 30 s. */
function inHttp2(request: Sent, other: Sent | undefined): Sent {
  const hosts = [request, other]
    .map((one) => one?.headers.find(([name]) => name === 'host')?.[1] ?? '')
    .map((host): [string, string] => ['host', /^[\w.:[\]%-]+$/.test(host) ? host : 'x.test'])
  return {
    ...request,
    target: request.target.replace(/^[^/]*/, '').replace(/[^\w.~:/?[\]@!$&'()*+,;=%-]/g, '%20') || '/',
    // A name beside `:authority` that is another one, now and then.
    headers: [
      ...request.headers.filter(([name]) => name !== 'host'),
      ...hosts.slice(0, (other?.target.length ?? 0) % 3 === 0 ? 2 : 1),
    ],
  }
}

function requestsOf({ plainly }: RuleSet): fc.Arbitrary<Sent> {
  const plain_ = IDS.flatMap((id) => plainly(id).map(({ rule: _, ...sent }) => plain(sent)))
  return fc.oneof(nearMisses, fc.constantFrom(...plain_).chain(nearMissesOf))
}

type Reader = (set: RuleSet, requests: readonly Sent[]) => Promise<Readings[]>

async function compare(seed: number, count: number, read: Reader): Promise<Record<string, number>> {
  const outcome: Record<string, number> = { hot: 0, cold: 0, unusual: 0, refused: 0, none: 0 }
  const each = Math.ceil(count / SETS.length)
  const generated = await Promise.all(
    SETS.map(async (set, index) => {
      const requests = fc.sample(requestsOf(set), { seed: seed + index, numRuns: each })
      return { set, requests, readings: await read(set, requests) }
    }),
  )
  for (const { set, requests, readings } of generated)
    for (const [at, { envoy, processor }] of readings.entries()) {
      const told = `${set.title}, seed ${seed}: ${JSON.stringify(requests[at])}`
      const [kind = 'none', ...what] = envoy?.split(' ') ?? []
      outcome[kind] = (outcome[kind] ?? 0) + 1
      if (kind === 'hot') assert.equal(processor, what.join(' '), told)
      if (kind === 'refused') assert.equal(processor, what.join(' '), told)
    }
  return outcome
}

let nextId = 0

async function inTurn(
  envoy: ReadingEnvoy,
  client: RawClient | Http2Client,
  requests: readonly Sent[],
): Promise<Readings[]> {
  const readings: Readings[] = []
  try {
    for (const request of requests) {
      nextId += 1
      const id = String(nextId)
      const status = await client.send(request, id).catch((error: NodeJS.ErrnoException) => {
        // What Node can't say in HTTP/2: its own checks come first.
        if (
          (client instanceof Http2Client && error.code?.startsWith('ERR_HTTP') === true) ||
          error.code === 'ERR_INVALID_CHAR'
        )
          return 0
        throw error
      })
      const name = client instanceof RawClient ? client.name : undefined
      readings.push({ ...envoy.readingsOf(id, status), ...(name !== undefined && { name }) })
    }
  } finally {
    client.close()
  }
  return readings
}
