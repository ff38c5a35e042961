import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { ensureEnvoy } from '../../src/launch/envoy-binary.ts'
import { freePort } from '../../test/support/ports.ts'
import { type Child, type Installed, runCommand, untilListening } from '../processes.ts'
import type { Running, Setting } from './system.ts'

/** An extension's configuration with its protobuf type. */
export function typed(type: string, fields: object): object {
  return { '@type': `type.googleapis.com/envoy.${type}`, ...fields }
}

export function socketAddress(address: string, port: number): object {
  return { socket_address: { address, port_value: port } }
}

/**
 * A cluster with one known address.
 * @param hostname the Host that `auto_host_rewrite` sets
 */
export function staticCluster(name: string, address: string, port: number, hostname?: string): object {
  const named = hostname === undefined ? {} : { hostname }
  const endpoint = { endpoint: { address: socketAddress(address, port), ...named } }
  return {
    name,
    type: 'STATIC',
    connect_timeout: '1s',
    load_assignment: { cluster_name: name, endpoints: [{ lb_endpoints: [endpoint] }] },
  }
}

export interface EnvoyParts {
  readonly virtualHost: object
  /** Filters before the router. */
  readonly filters?: readonly object[]
  readonly clusters: readonly object[]
}

/** The leanest bootstrap: no access log, no x-envoy headers, no idle timers of streams. */
export function bootstrap(setting: Setting, port: number, adminPort: number, parts: EnvoyParts): object {
  const router = {
    name: 'envoy.filters.http.router',
    typed_config: typed('extensions.filters.http.router.v3.Router', {
      dynamic_stats: false,
      suppress_envoy_headers: true,
    }),
  }
  const connectionManager = typed(
    'extensions.filters.network.http_connection_manager.v3.HttpConnectionManager',
    {
      stat_prefix: 'callback',
      generate_request_id: setting.requestIds,
      server_header_transformation: 'PASS_THROUGH',
      stream_idle_timeout: '0s',
      route_config: {
        name: 'callback',
        virtual_hosts: [{ name: 'all', domains: ['*'], ...parts.virtualHost }],
      },
      http_filters: [...(parts.filters ?? []), router],
    },
  )
  const chain = {
    filters: [{ name: 'envoy.filters.network.http_connection_manager', typed_config: connectionManager }],
  }
  return {
    admin: { address: socketAddress('127.0.0.1', adminPort) },
    static_resources: {
      listeners: [{ name: 'callback', address: socketAddress('127.0.0.1', port), filter_chains: [chain] }],
      clusters: parts.clusters,
    },
  }
}

export async function envoyInstalled(): Promise<Installed> {
  try {
    return { version: `Envoy ${await envoyVersion(await ensureEnvoy(console.log))}` }
  } catch (error) {
    return { missing: `no Envoy: ${(error as Error).message}` }
  }
}

/** `envoy --version` starts with a commit hash that may look like a version, so take the number between slashes. */
async function envoyVersion(envoy: string): Promise<string> {
  const { text } = await runCommand(envoy, ['--version'])
  return text.match(/\/(\d+\.\d+\.\d+)/)?.[1] ?? 'unknown version'
}

export async function startEnvoy(setting: Setting, parts: EnvoyParts): Promise<Running> {
  const [port, adminPort] = [await freePort(), await freePort()]
  const envoy = await runEnvoy(setting, JSON.stringify(bootstrap(setting, port, adminPort, parts)))
  await untilListening(envoy, '127.0.0.1', port, startWithinMs)
  return { port, children: [envoy] }
}

/** Envoy needs seconds to read thousands of clusters. */
export const startWithinMs = 60_000

/** Starts Envoy in the scratch folder. The configuration is JSON or YAML. */
export async function runEnvoy(
  { processes, workers, under = [] }: Setting,
  configuration: string,
): Promise<Child> {
  const config = join(processes.scratch, 'envoy.config.yaml')
  writeFileSync(config, configuration)
  const [command, ...args] = [
    ...under,
    await ensureEnvoy(),
    '-c',
    config,
    '--concurrency',
    `${workers}`,
    '--disable-hot-restart',
    '--log-level',
    'warning',
    '--file-flush-interval-msec',
    '200',
  ] as const
  return processes.start('envoy', command, args)
}

/** Counters and gauges by name, from Envoy's admin interface. Names that Envoy does not know are missing. */
export async function readStats(adminPort: number, names: readonly string[]): Promise<Map<string, number>> {
  const filter = `^(${names.map((name) => name.replaceAll('.', '\\.')).join('|')})$`
  const page = await readPage(adminPort, `/stats?filter=${encodeURIComponent(filter)}`)
  return new Map(
    [...page.matchAll(/^(\S+): (\d+)$/gm)].map(([, name, value]) => [name as string, Number(value)]),
  )
}

/** One counter or gauge. Throws when Envoy does not know it. */
export async function readStat(adminPort: number, name: string): Promise<number> {
  const value = (await readStats(adminPort, [name])).get(name)
  if (value === undefined) throw new Error(`Envoy has no statistic ${name}`)
  return value
}

export interface Durations {
  readonly count: number
  readonly totalMs: number
}

/** A histogram of milliseconds. Envoy merges the records of its threads every 5 seconds (stats_flush_interval). */
export async function readDurations(adminPort: number, name: string): Promise<Durations> {
  const page = await readPage(
    adminPort,
    `/stats/prometheus?filter=${encodeURIComponent(`^${name.replaceAll('.', '\\.')}$`)}`,
  )
  const value = (suffix: string) =>
    Number(page.match(new RegExp(`^\\S+_${suffix}(?:\\{[^}]*\\})? ([\\d.e+]+)$`, 'm'))?.[1] ?? 0)
  return { count: value('count'), totalMs: value('sum') }
}

/** Memory that Envoy's allocator has handed out and not got back, in bytes. */
export async function readAllocatedBytes(adminPort: number): Promise<number> {
  const { allocated } = JSON.parse(await readPage(adminPort, '/memory')) as { allocated: string }
  return Number(allocated)
}

async function readPage(adminPort: number, path: string): Promise<string> {
  const response = await fetch(`http://127.0.0.1:${adminPort}${path}`, {
    signal: AbortSignal.timeout(10_000),
  })
  if (!response.ok) throw new Error(`Envoy's admin page ${path} answered ${response.status}`)
  return response.text()
}
