import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { ensureEnvoy } from '../../src/launch/envoy-binary.ts'
import { runCommand } from '../commands.ts'
import { freePort } from '../ports.ts'
import { type Child, untilListening } from '../processes.ts'
import type { Installed, Running, Setting } from './system.ts'

/** Envoy as a proxy: what every system that runs on it shares. */

/** An extension's configuration with its protobuf type. */
export function typed(type: string, fields: object): object {
  return { '@type': `type.googleapis.com/envoy.${type}`, ...fields }
}

export function socketAddress(address: string, port: number): object {
  return { socket_address: { address, port_value: port } }
}

/**
 * A cluster with one address that is known beforehand.
 * @param hostname what `auto_host_rewrite` makes of Host
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
  /** Those before the router. */
  readonly filters?: readonly object[]
  readonly clusters: readonly object[]
}

/** A bootstrap as lean as Envoy allows: no access log, no x-envoy headers, no idle timer of streams. */
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

/** `envoy --version` opens with a commit hash that may look like a version: the number stands between slashes. */
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

/** Thousands of clusters take Envoy seconds to read. */
export const startWithinMs = 60_000

/** Starts Envoy in the scratch folder on a configuration given as JSON or YAML. */
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
