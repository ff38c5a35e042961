import { mkdtempSync, openSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { stringify } from 'yaml'
import { ensureEnvoy } from '../../src/launch/envoy-binary.ts'
import { startPart, untilReady } from '../../src/launch/instance.ts'
import { freePort } from './ports.ts'
import { eventually } from './processor.ts'

/** A TCP load balancer in front of gateways, as a cloud's or a cluster's: an Envoy that only passes bytes on. */
export interface Balancer {
  readonly port: number
  /** Gateways that are left out get no new connections; existing ones continue. */
  serve(ports: readonly number[]): Promise<void>
  stop(): Promise<void>
}

/** A connection that a gateway refuses is tried at the next one. */
const CONNECT_ATTEMPTS_MAX = 5

export async function startBalancer(ports: readonly number[]): Promise<Balancer> {
  const folder = mkdtempSync(join(tmpdir(), 'zonegate-balancer-'))
  const [port, adminPort] = [await freePort(), await freePort()]
  const write = (chosen: readonly number[]): void => {
    writeFileSync(join(folder, 'endpoints.yaml.tmp'), stringify(endpoints(ports, chosen)))
    renameSync(join(folder, 'endpoints.yaml.tmp'), join(folder, 'endpoints.yaml'))
  }
  const serve = async (chosen: readonly number[]): Promise<void> => {
    write(chosen)
    await eventually('the balancer has taken it over', async () => {
      const served = await healthy(adminPort)
      return ports.every((one) => served.has(one) === chosen.includes(one))
    })
  }
  write(ports)
  writeFileSync(join(folder, 'envoy.yaml'), stringify(bootstrap(port, adminPort)))
  const args = ['-c', 'envoy.yaml', '--disable-hot-restart', '--log-level', 'warn', '--concurrency', '1']
  const output = openSync(join(folder, 'log'), 'a')
  const part = startPart('balancer', await ensureEnvoy(), args, { cwd: folder, output })
  const stop = async (): Promise<void> => {
    await part.stop('SIGKILL')
    rmSync(folder, { recursive: true, force: true })
  }
  try {
    await untilReady(part, '127.0.0.1', adminPort, '/ready')
  } catch (error) {
    const log = readFileSync(join(folder, 'log'), 'utf8')
    await stop()
    throw new Error(`${(error as Error).message}\n${log}`)
  }
  return { port, serve, stop }
}

/** Ports that it gives connections to. */
async function healthy(adminPort: number): Promise<Set<number>> {
  const text = await (await fetch(`http://127.0.0.1:${adminPort}/clusters`)).text()
  return new Set(
    [...text.matchAll(/^gateways::127\.0\.0\.1:(\d+)::health_flags::healthy$/gm)].map(([, port]) =>
      Number(port),
    ),
  )
}

const socketAddress = (port: number): object => ({
  socket_address: { address: '127.0.0.1', port_value: port },
})

function endpoints(ports: readonly number[], chosen: readonly number[]): object {
  const lbEndpoints = ports.map((port) => ({
    endpoint: { address: socketAddress(port) },
    health_status: chosen.includes(port) ? 'HEALTHY' : 'DRAINING',
  }))
  const type = 'type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment'
  return {
    resources: [{ '@type': type, cluster_name: 'gateways', endpoints: [{ lb_endpoints: lbEndpoints }] }],
  }
}

function bootstrap(port: number, adminPort: number): object {
  const proxy = {
    '@type': 'type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy',
    stat_prefix: 'balancer',
    cluster: 'gateways',
    max_connect_attempts: CONNECT_ATTEMPTS_MAX,
  }
  const filters = [{ name: 'envoy.filters.network.tcp_proxy', typed_config: proxy }]
  const cluster = {
    name: 'gateways',
    type: 'EDS',
    connect_timeout: '1s',
    lb_policy: 'ROUND_ROBIN',
    eds_cluster_config: { eds_config: { path_config_source: { path: './endpoints.yaml' } } },
    health_checks: [
      {
        timeout: '0.5s',
        interval: '0.5s',
        unhealthy_threshold: 1,
        healthy_threshold: 1,
        tcp_health_check: {},
      },
    ],
    common_lb_config: { healthy_panic_threshold: { value: 0 } },
  }
  return {
    node: { id: 'balancer', cluster: 'balancer' },
    admin: { address: socketAddress(adminPort) },
    static_resources: {
      listeners: [{ name: 'balancer', address: socketAddress(port), filter_chains: [{ filters }] }],
      clusters: [cluster],
    },
  }
}
