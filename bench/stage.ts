import { Resolver } from 'node:dns/promises'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { freePort } from '../test/support/ports.ts'
import { openFilesMax } from './machine.ts'
import type { Options } from './options.ts'
import { findCommand, isFree, Processes, untilListening } from './processes.ts'
import { nginxPaths, requireNginx } from './systems/nginx.ts'
import type { Nameserver, Setting, System } from './systems/system.ts'
import { findWrk } from './wrk.ts'
import { firstZones, receiverAddresses, receiverPort, searchDomain, type Zone } from './zones.ts'

/** What every turn of a run shares: load generator, receivers and nameserver. */
export interface Stage {
  readonly processes: Processes
  /** Path of wrk. */
  readonly wrk: string
  readonly receivers: Receivers
  readonly nameserver: Nameserver & { readonly pid: number }
  readonly connections: number
  readonly seconds: number
  readonly requestIds: boolean
}

/** Starts the stage. Adds wrk's version to `versions`. */
export async function setStage(
  options: Options,
  systems: readonly System[],
  versions: Map<string, string>,
): Promise<Stage> {
  const wrk = await findWrk()
  versions.set('wrk', `wrk ${wrk.version}`)
  const connections = connectionsMax(systems, options)
  if (openFilesMax() < connections) {
    throw new Error(
      `this many systems, zones and workers need ${connections} open files; raise the limit (ulimit -n)`,
    )
  }
  const processes = new Processes()
  const receivers = await startReceivers(processes, connections)
  const nameserver = await startNameserver(processes, firstZones(Math.max(...options.zones)))
  const { seconds, requestIds } = options
  return {
    processes,
    wrk: wrk.path,
    receivers,
    nameserver,
    connections: options.connections,
    seconds,
    requestIds,
  }
}

/** The setting of a system with one worker on this stage. */
export function settingOf(
  { nameserver, requestIds }: Stage,
  zones: readonly Zone[],
  processes: Processes,
): Setting {
  return { zones, workers: 1, nameservers: [nameserver], ttlSeconds, processes, requestIds }
}

/** Zonegate closes a connection that was idle for a second, so no more zones than this have one at once. */
const connectedZonesMax = 10_000

/** The connections that the receivers must hold: every system of a case keeps its own, and so does each of its workers. */
function connectionsMax(systems: readonly System[], { zones, workers, connections }: Options): number {
  const perSystem = systems.map(({ connectsByZone }) =>
    Math.max(connectsByZone ? Math.min(Math.max(...zones), connectedZonesMax) : 0, receiverAddresses.length),
  )
  return perSystem.reduce((sum, targets) => sum + targets * Math.max(...workers) + 2 * connections, 1_000)
}

/** The upstreams of all zones: one nginx worker, which answers with the address that it was reached at. */
export interface Receivers {
  readonly pid: number
  /** How many requests it has answered, this question included. */
  served(): Promise<number>
}

async function startReceivers(processes: Processes, connections: number): Promise<Receivers> {
  const nginx = requireNginx()
  // nginx retries a busy port for seconds, and seems to listen meanwhile.
  for (const address of receiverAddresses) {
    if (!(await isFree(address, receiverPort))) {
      throw new Error(`the receivers need ${address}:${receiverPort}, which another program uses`)
    }
  }
  const statusPort = await freePort()
  const config = join(processes.scratch, 'receivers.conf')
  writeFileSync(config, receiversConfiguration(processes.scratch, connections, statusPort))
  const child = await processes.start('receivers', nginx, ['-c', config, '-e', 'stderr'])
  await untilListening(child, receiverAddresses[0] as string, receiverPort)
  return {
    pid: child.pid,
    async served() {
      const page = await (await fetch(`http://127.0.0.1:${statusPort}/`)).text()
      // The third number of stub_status's third line counts requests.
      return Number(page.match(/^\s*\d+ \d+ (\d+)/m)?.[1])
    },
  }
}

/** The receivers never close a connection, because a new one would be charged to the proxy. */
function receiversConfiguration(scratch: string, connections: number, statusPort: number): string {
  return `
worker_processes 1;
daemon off;
events { worker_connections ${connections}; }
http {
  ${nginxPaths(scratch, 'receivers')}
  access_log off;
  keepalive_timeout 1h;
  keepalive_requests 1000000000;
  server {
${receiverAddresses.map((address) => `    listen ${address}:${receiverPort} backlog=4096;`).join('\n')}
    location / { default_type text/plain; return 200 "$server_addr $http_host\\n"; }
  }
  server {
    listen 127.0.0.1:${statusPort};
    location / { stub_status; }
  }
}
pid ${join(scratch, 'receivers.pid')};
`
}

/** No resolver of this machine uses this address; systemd-resolved listens on 127.0.0.53. */
const nameserverAddress = '127.0.1.53'

const ttlSeconds = 60

/** Starts dnsmasq with one A record for each zone. Every other name is NXDOMAIN. */
async function startNameserver(processes: Processes, zones: readonly Zone[]) {
  const dnsmasq = findCommand('dnsmasq')
  if (dnsmasq === undefined) {
    throw new Error('the nameserver is dnsmasq, which is not installed: apt-get install dnsmasq-base')
  }
  const address = nameserverAddress
  const port = await freePort(address)
  const config = join(processes.scratch, 'dnsmasq.conf')
  const records = zones.map((zone) => `host-record=${zone.hostName},${zone.address}`)
  const lines = ['no-resolv', 'no-hosts', `listen-address=${address}`, 'bind-interfaces', `port=${port}`]
  lines.push(`local=/${searchDomain}/`, `local-ttl=${ttlSeconds}`, 'dns-forward-max=1000', ...records)
  writeFileSync(config, `${lines.join('\n')}\n`)
  const child = await processes.start('nameserver', dnsmasq, ['--no-daemon', `--conf-file=${config}`])
  await untilListening(child, address, port)
  if (zones.length > manyRecords) console.log(`the nameserver reads ${zones.length} records`)
  await untilItResolves(`${address}:${port}`, zones.at(-1) as Zone)
  return { address, port, pid: child.pid }
}

const resolvesWithinMs = 600_000
const manyRecords = 20_000

/** dnsmasq listens before it has read its records. The time for it grows by the square of their number: 100,000 take 40 s of CPU. */
async function untilItResolves(nameserver: string, { hostName }: Zone): Promise<void> {
  const resolver = new Resolver({ timeout: 1_000, tries: 1 })
  resolver.setServers([nameserver])
  const deadline = performance.now() + resolvesWithinMs
  for (;;) {
    const fault = await resolver.resolve4(hostName).then(
      () => undefined,
      (error: Error) => error.message,
    )
    if (fault === undefined) return
    if (performance.now() > deadline) throw new Error(`the nameserver ${nameserver} has no answer: ${fault}`)
    await sleep(50)
  }
}
