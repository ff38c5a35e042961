import { drainEnvoy } from '../../src/launch/instance.ts'
import { type Balancer, startBalancer } from './balancer.ts'
import { type GatewayOptions, startGateway, type TestGateway } from './gateway.ts'

/** Gateways that share nothing, behind one TCP balancer, like pods in a cluster. */
export interface Fleet {
  readonly pods: readonly TestGateway[]
  readonly port: number
  /** What Kubernetes does with a pod's Envoy: no new connections as soon as the balancer knows, then SIGTERM, which drains, then another one. */
  replaceEnvoy(pod: TestGateway): Promise<void>
  stop(): Promise<void>
}

export async function startFleet(size: number, options: GatewayOptions): Promise<Fleet> {
  const pods: TestGateway[] = []
  let balancer: Balancer | undefined
  const stop = async (): Promise<void> => {
    await Promise.all([balancer?.stop(), ...pods.map((pod) => pod.stop())])
  }
  try {
    for (let i = 0; i < size; i += 1) pods.push(await startGateway(options))
    const started = await startBalancer(pods.map(({ port }) => port))
    balancer = started
    const replaceEnvoy = async (pod: TestGateway): Promise<void> => {
      await started.serve(pods.filter((other) => other !== pod).map(({ port }) => port))
      await drainEnvoy(pod.envoy, { host: '127.0.0.1', port: pod.adminPort })
      await pod.startEnvoy()
      await started.serve(pods.map(({ port }) => port))
    }
    return { pods, port: started.port, replaceEnvoy, stop }
  } catch (error) {
    await stop()
    throw error
  }
}

/** Ids of the zones that this gateway's Envoy has learned. */
export async function learnedIds({ adminPort }: { adminPort: number }): Promise<Set<string>> {
  const response = await fetch(`http://127.0.0.1:${adminPort}/config_dump?resource=dynamic_route_configs`)
  const text = await response.text()
  const names = [...text.matchAll(/"name": "zonegate\/([^"]+)"/g)].map(([, id]) => id ?? '')
  // Without the cold path's virtual host and those of a proof (src/xds/proof.ts).
  return new Set(names.filter((id) => id !== 'cold' && !id.startsWith('.')))
}
