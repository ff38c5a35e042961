/**
 * `npm run bench:dns`: what a look-up costs. Cache hits in nanoseconds, and cold queries a second beside Node's own
 * resolver (c-ares), in turns against the same nameserver, which runs in a process of its own. Loopback only.
 */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { createSocket } from 'node:dgram'
import { promises } from 'node:dns'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { availableParallelism, tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import type { Answer } from '../src/dns/answer.ts'
import { createDns, type Dns } from '../src/dns/dns.ts'

const USAGE = `npm run bench:dns [-- OPTIONS]

What a look-up costs: cache hits, and cold queries beside Node's own resolver, in turns against one nameserver.
Needs unbound or dnsmasq. Uses 127.0.0.1 only.

  --rounds 9   turns of each resolver; the table shows medians
  --help

Exits with 1 when a cache hit costs more than 1 µs, or cold queries are fewer a second than those of Node's resolver.`

const HIT_NS_MAX = 1000
const RATIO_MIN = 1
const QUERIES_PER_ROUND = 20_000
/** Until V8 has compiled what is hot: a resolver runs for months. */
const WARM_UP_ROUNDS = 3
const CONCURRENCIES = [1, 32, 256]
const HITS = 1_000_000
/** Twice Linux's default; up to it nobody needs privileges. */
const RECEIVE_BUFFER_OCTETS = 425_984

interface Resolver {
  resolve(name: string): unknown
  /** False: not the addresses that were asked for. */
  isGood(answer: unknown): boolean
}

interface Round {
  readonly queriesPerSecond: number
  readonly cpuMicroseconds: number
}

/** Names never asked before, so that no cache answers. */
let serial = 0
const nextName = (): string => `zone${serial++}-default.bench.test`

/** 0: within the bounds. */
async function main(rounds: number): Promise<number> {
  const directory = mkdtempSync(join(tmpdir(), 'zonegate-bench-dns-'))
  const port = await freePort()
  const nameserver = startNameserver(directory, port)
  const address = `127.0.0.1:${port}`
  const dns = newDns(address)
  const end = (): void => {
    dns.close()
    nameserver.process.kill('SIGKILL')
    rmSync(directory, { recursive: true, force: true })
  }
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.once(signal, () => {
      end()
      process.exit(130)
    })
  }
  try {
    await untilUp(address)
    process.stdout.write(
      `node ${process.version}, ${availableParallelism()} CPUs, nameserver: ${nameserver.name}\n\n`,
    )
    const hitNs = benchHits(rounds, dns, await dns.lookup(nextName()))
    const ratios = await benchCold(rounds, dns, address)
    const faults = [
      ...(hitNs > HIT_NS_MAX ? [`a cache hit costs ${hitNs.toFixed(0)} ns, more than ${HIT_NS_MAX}`] : []),
      ...(ratios.some((ratio) => ratio < RATIO_MIN)
        ? ["cold queries are fewer than those of Node's resolver"]
        : []),
    ]
    for (const fault of faults) process.stdout.write(`\nBROKEN  ${fault}\n`)
    return faults.length === 0 ? 0 : 1
  } finally {
    end()
  }
}

function benchHits(rounds: number, dns: Dns, known: { name: string }): number {
  const costs = Array.from({ length: rounds }, () => {
    const startedAt = performance.now()
    for (let count = 0; count < HITS; count++) dns.lookup(known.name)
    return ((performance.now() - startedAt) * 1e6) / HITS
  })
  process.stdout.write(`cache hit: ${median(costs).toFixed(0)} ns (median of ${rounds} × ${HITS})\n\n`)
  return median(costs)
}

/** Queries a second beside Node's, for each number in flight. */
async function benchCold(count: number, dns: Dns, address: string): Promise<number[]> {
  const cares = new promises.Resolver()
  cares.setServers([address])
  const ours: Resolver = {
    resolve: (name) => dns.lookup(name),
    isGood: (answer) => (answer as Answer).kind === 'positive',
  }
  const theirs: Resolver = {
    resolve: (name) => cares.resolve4(name),
    isGood: (answer) => (answer as string[]).length > 0,
  }
  process.stdout.write(`cold queries/s, µs of CPU each (medians of ${count} rounds in turns)\n`)
  process.stdout.write('  in flight            zonegate        node:dns Resolver   ratio\n')
  const ratios: number[] = []
  for (const inFlight of CONCURRENCIES) {
    const rounds: { ours: Round; theirs: Round }[] = []
    for (let round = -WARM_UP_ROUNDS; round < count; round++) {
      const both = { ours: await run(ours, inFlight), theirs: await run(theirs, inFlight) }
      if (round >= 0) rounds.push(both)
    }
    const zonegate = medianRound(rounds.map((round) => round.ours))
    const node = medianRound(rounds.map((round) => round.theirs))
    const ratio = median(rounds.map((round) => round.ours.queriesPerSecond / round.theirs.queriesPerSecond))
    process.stdout.write(
      `  ${String(inFlight).padStart(9)}  ${text(zonegate)}  ${text(node)}  ${ratio.toFixed(2).padStart(6)}\n`,
    )
    ratios.push(ratio)
  }
  return ratios
}

async function run(resolver: Resolver, inFlight: number): Promise<Round> {
  let left = QUERIES_PER_ROUND
  const cpu = process.cpuUsage()
  const startedAt = performance.now()
  const client = async (): Promise<void> => {
    while (left-- > 0) {
      const name = nextName()
      const answer = await resolver.resolve(name)
      if (!resolver.isGood(answer)) throw new Error(`${name}: ${JSON.stringify(answer)}`)
    }
  }
  await Promise.all(Array.from({ length: inFlight }, client))
  const seconds = (performance.now() - startedAt) / 1000
  const { user, system } = process.cpuUsage(cpu)
  return {
    queriesPerSecond: QUERIES_PER_ROUND / seconds,
    cpuMicroseconds: (user + system) / QUERIES_PER_ROUND,
  }
}

function newDns(nameserver: string): Dns {
  return createDns(
    {
      resolvConf: '/nonexistent',
      nameservers: [nameserver],
      search: 'bench.test',
      budgetMs: 5000,
      ttlSeconds: { min: 300, max: 3600 },
      timeoutMs: 2000,
      attempts: 2,
      rotate: false,
      family: 'ipv4',
      staleSeconds: 0,
      negativeTtlSecondsMax: 30,
      cacheEntriesMax: 10_000,
      queriesInFlightMax: 1024,
      unknownNames: { queriesPerSecond: 1_000_000, queriesBurst: 1_000_000 },
    },
    {
      now: () => performance.now(),
      environment: {},
      admit: () => true,
      admitPort: () => true,
      onEvent: () => {},
    },
  )
}

interface RunningNameserver {
  readonly name: string
  readonly process: ChildProcess
}

/**
 * A nameserver in C that has an address for every name, so that it isn't what is measured. Unbound first: with 256 queries in
 * flight the kernel drops some of those that wait for dnsmasq, whose socket has the default buffer, and each costs a timeout.
 */
function startNameserver(directory: string, port: number): RunningNameserver {
  const run = (command: string, args: string[]): RunningNameserver => ({
    name: command,
    process: spawn(command, args, { stdio: 'inherit' }),
  })
  if (isInstalled('unbound')) {
    const file = join(directory, 'unbound.conf')
    writeFileSync(file, unboundConf(directory, port))
    return run('unbound', ['-d', '-c', file])
  }
  if (isInstalled('dnsmasq')) {
    const address = '--address=/bench.test/10.1.2.3'
    const flags = [
      '--keep-in-foreground',
      '--no-resolv',
      '--no-hosts',
      '--conf-file=/dev/null',
      '--bind-interfaces',
    ]
    return run('dnsmasq', [
      ...flags,
      `--user=${user()}`,
      '--listen-address=127.0.0.1',
      `--port=${port}`,
      '--local-ttl=300',
      address,
    ])
  }
  throw new Error('bench:dns needs unbound or dnsmasq: the nameserver must not be what is measured')
}

function unboundConf(directory: string, port: number): string {
  return `server:
  interface: 127.0.0.1
  port: ${port}
  do-daemonize: no
  chroot: ""
  username: ""
  directory: "${directory}"
  pidfile: ""
  use-syslog: no
  verbosity: 0
  so-rcvbuf: ${RECEIVE_BUFFER_OCTETS}
  local-zone: "bench.test." redirect
  local-data: "bench.test. 300 A 10.1.2.3"
remote-control:
  control-enable: no
`
}

function isInstalled(command: string): boolean {
  return spawnSync(command, ['--help'], { stdio: 'ignore' }).error === undefined
}

function user(): string {
  return process.env['USER'] ?? 'root'
}

async function untilUp(nameserver: string): Promise<void> {
  const resolver = new promises.Resolver({ timeout: 250, tries: 1 })
  resolver.setServers([nameserver])
  for (let triesLeft = 40; ; triesLeft--) {
    try {
      await resolver.resolve4('up.bench.test')
      return
    } catch (error) {
      if (triesLeft === 0) throw error
      await sleep(50)
    }
  }
}

async function freePort(): Promise<number> {
  const socket = createSocket('udp4').bind(0, '127.0.0.1')
  await once(socket, 'listening')
  const { port } = socket.address()
  socket.close()
  return port
}

function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b)
  return sorted[Math.floor(sorted.length / 2)] ?? Number.NaN
}

function medianRound(rounds: readonly Round[]): Round {
  return {
    queriesPerSecond: median(rounds.map((round) => round.queriesPerSecond)),
    cpuMicroseconds: median(rounds.map((round) => round.cpuMicroseconds)),
  }
}

function text({ queriesPerSecond, cpuMicroseconds }: Round): string {
  return `${queriesPerSecond.toFixed(0).padStart(9)} ${cpuMicroseconds.toFixed(1).padStart(8)}`
}

function readRounds(): number {
  const options = {
    rounds: { type: 'string', default: '9' },
    help: { type: 'boolean', default: false },
  } as const
  try {
    const { rounds, help } = parseArgs({ options }).values
    if (help) {
      process.stdout.write(`${USAGE}\n`)
      process.exit(0)
    }
    if (/^[1-9]\d{0,3}$/.test(rounds)) return Number(rounds)
    throw new Error(`--rounds takes a number from 1 to 9999, not ${rounds}`)
  } catch (error) {
    process.stderr.write(`${(error as Error).message}\n\n${USAGE}\n`)
    process.exit(2)
  }
}

process.exitCode = await main(readRounds())
