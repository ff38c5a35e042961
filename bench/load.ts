/**
 * `npm run load`: floods the cold path with requests of each kind. Every answer must be the expected one, no stream to the
 * processor may fail, and memory must not grow. Exit code 1 when one of these does not hold.
 */

import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { startNameserver } from '../demo/nameserver.ts'
import { type Flood, flood } from './flood.ts'
import { describeMachine } from './machine.ts'
import { type Memory, memoryOf, type ProbedZonegate, startProbed } from './probed.ts'
import { endAllOnExit, Processes, untilListening } from './processes.ts'
import { align, renderMachine } from './report.ts'
import { readStats } from './systems/envoy.ts'
import { receiverPort, searchDomain, type Zone } from './zones.ts'

const help = `npm run load [-- OPTIONS]

Floods Zonegate's cold path with requests of each kind. Fails when an answer is not the expected one, when a stream to the
processor fails, or when memory grows. Needs only Envoy and Node.

  --requests 60000     requests of each kind, after a warm-up with a third of that
  --connections 64     connections at once
  --workers 2          workers of Envoy
  --help
`

interface Kind {
  readonly title: string
  readonly request: string
  readonly expected: string
  /** False: Envoy refuses it without asking the processor. */
  readonly asks: boolean
}

const post = (id: string | undefined) =>
  `POST /callback HTTP/1.1\r\nhost: callback.test\r\n${id === undefined ? '' : `server: ${id}\r\n`}content-length: 5\r\n\r\nhello`

/** Not an address of `npm run bench`, which may run at the same time. */
const zone: Zone = { id: '1', hostName: `zone1-default.${searchDomain}`, address: '127.0.2.254' }

const kinds: readonly Kind[] = [
  { title: 'forwarded', request: post(zone.id), expected: '200', asks: true },
  {
    title: 'not a POST',
    request: `GET /callback HTTP/1.1\r\nhost: callback.test\r\nserver: ${zone.id}\r\n\r\n`,
    expected: '405 method_not_allowed',
    asks: false,
  },
  { title: 'no server header', request: post(undefined), expected: '403 server_header_missing', asks: false },
  { title: 'invalid id', request: post('no_such.id'), expected: '403 server_header_invalid', asks: true },
  { title: 'unknown zone', request: post('999999'), expected: '502 name_not_found', asks: true },
]

const receiverPath = fileURLToPath(new URL('../demo/receiver.ts', import.meta.url))

/** Counters that must be 0 at the end. */
const failures = [
  'cluster.processor.upstream_rq_tx_reset',
  'cluster.processor.upstream_rq_rx_reset',
  'http.callback.ext_proc.streams_failed',
  'http.callback.ext_proc.message_timeouts',
] as const
const asked = 'http.callback.ext_proc.streams_started'

/**
 * What a kind of request may add after its warm-up. 3 MiB of allocated or live memory show a leak of 50 bytes a request.
 * RSS gets a larger bound because allocators keep memory for later.
 */
const growthMaxBytes: Memory = {
  envoyAllocated: 3 * 2 ** 20,
  envoyRss: 16 * 2 ** 20,
  processorLive: 3 * 2 ** 20,
  processorRss: 16 * 2 ** 20,
}

interface Result {
  readonly kind: Kind
  readonly seen: Flood
  readonly before: Memory
  readonly after: Memory
  readonly faults: readonly string[]
}

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      requests: { type: 'string', default: '60000' },
      connections: { type: 'string', default: '64' },
      workers: { type: 'string', default: '2' },
      help: { type: 'boolean', default: false },
    },
  })
  if (values.help) {
    console.log(help)
    return 0
  }
  const amount = { requests: Number(values.requests), connections: Number(values.connections) }
  const processes = new Processes()
  const listen = ['--listen', `${zone.address}:${receiverPort}`]
  const receiver = await processes.start('receiver', process.execPath, [receiverPath, ...listen])
  await untilListening(receiver, zone.address, receiverPort)
  const nameserver = await startNameserver('127.0.0.1', 0, { [zone.hostName]: [zone.address] })
  try {
    const zonegate = await startProbed(
      {
        zones: [zone],
        workers: Number(values.workers),
        nameservers: [{ address: '127.0.0.1', port: nameserver.address().port }],
        ttlSeconds: 5,
        processes,
        requestIds: true,
      },
      { learned: false, accessLog: true },
    )
    const results: Result[] = []
    for (const kind of kinds) {
      console.log(`${kind.title}: ${kind.expected}`)
      results.push(await floodWith(zonegate, kind, amount))
    }
    const counted = await readStats(zonegate.adminPort, failures)
    return report(results, counted, amount)
  } finally {
    await processes.stop()
    nameserver.close()
  }
}

type Amount = { readonly requests: number; readonly connections: number }

async function floodWith(zonegate: ProbedZonegate, kind: Kind, amount: Amount): Promise<Result> {
  const { port, adminPort } = zonegate
  const options = { port, connections: amount.connections, request: kind.request }
  await flood({ ...options, requests: Math.ceil(amount.requests / 3) })
  const before = await memoryOf(zonegate)
  const askedBefore = (await readStats(adminPort, [asked])).get(asked) ?? 0
  const seen = await flood({ ...options, requests: amount.requests })
  const askedCount = ((await readStats(adminPort, [asked])).get(asked) ?? 0) - askedBefore
  const after = await memoryOf(zonegate)

  const faults = [...seen.outcomes]
    .filter(([outcome]) => outcome !== kind.expected)
    .map(([outcome, count]) => `${count} × ${outcome} instead of ${kind.expected}`)
  const mustAsk = kind.asks ? amount.requests : 0
  if (askedCount !== mustAsk) faults.push(`the processor was asked ${askedCount} times instead of ${mustAsk}`)
  for (const [name, max] of Object.entries(growthMaxBytes) as [keyof Memory, number][]) {
    const growth = after[name] - before[name]
    if (growth > max) faults.push(`${name} grew by ${mebibytes(growth)} MiB; the bound is ${mebibytes(max)}`)
  }
  const dead = [zonegate.envoy, zonegate.processor].find((child) => child.ended() !== undefined)
  if (dead !== undefined) faults.push(dead.ended() as string)
  return { kind, seen, before, after, faults }
}

function report(results: readonly Result[], counted: ReadonlyMap<string, number>, amount: Amount): number {
  console.log(`\n${renderMachine(describeMachine(), new Map([['node', `Node ${process.versions.node}`]]))}`)
  console.log(
    `${amount.requests} requests of each kind on ${amount.connections} connections; MiB after the warm-up > at the end\n`,
  )
  const change = ({ before, after }: Result, name: keyof Memory) =>
    `${mebibytes(before[name])} > ${mebibytes(after[name])}`
  const lines = results.map((result) => [
    result.kind.title,
    result.kind.expected,
    `${result.seen.outcomes.get(result.kind.expected) ?? 0}`,
    (amount.requests / result.seen.seconds).toFixed(0),
    result.seen.p50Ms.toFixed(1),
    result.seen.p99Ms.toFixed(1),
    change(result, 'envoyAllocated'),
    change(result, 'envoyRss'),
    change(result, 'processorLive'),
    change(result, 'processorRss'),
  ])
  console.log(align([columns, ...lines], [1]))
  console.log()
  for (const name of failures) console.log(`${name}: ${counted.get(name) ?? 'missing'}`)

  const faults = results.flatMap(({ kind, faults }) => faults.map((fault) => `${kind.title}: ${fault}`))
  for (const name of failures) if (counted.get(name) !== 0) faults.push(`${name} is not 0`)
  for (const fault of faults) console.log(`FAULT: ${fault}`)
  console.log(faults.length === 0 ? 'no fault' : `${faults.length} faults`)
  return faults.length === 0 ? 0 : 1
}

const columns = [
  'kind',
  'expected',
  'got',
  'req/s',
  'p50 ms',
  'p99 ms',
  'Envoy allocated',
  'Envoy RSS',
  'processor live',
  'processor RSS',
]

function mebibytes(bytes: number): string {
  return (bytes / 2 ** 20).toFixed(1)
}

endAllOnExit()
main().then(
  (code) => process.exit(code),
  (error: unknown) => {
    console.error(`load: ${(error as Error).message}`)
    process.exit(1)
  },
)
