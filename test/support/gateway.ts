import {
  closeSync,
  cpSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { stringify } from 'yaml'
import { hostPortOf } from '../../src/config/schema.ts'
import { ensureEnvoy } from '../../src/launch/envoy-binary.ts'
import { type Part, startEnvoy, startProcessor, untilReady } from '../../src/launch/instance.ts'
import { freePort } from './ports.ts'

const ENVOY_FILES = fileURLToPath(new URL('../../envoy', import.meta.url))

export interface GatewayOptions {
  /** zonegate.yaml, without `listen`. */
  readonly config: Readonly<Record<string, unknown>>
  /** Changes to Envoy's files before they are used: file name → edit of its text. */
  readonly edit?: Readonly<Record<string, (text: string) => string>>
  /** `listen` of zonegate.yaml, but for `http`; where it names no other, the processor has a socket. */
  readonly listen?: Readonly<Record<string, unknown>> & { readonly grpc?: string }
  /** Called with the scratch folder before anything starts. */
  readonly prepare?: (folder: string) => void
  /** False: no processor is started, `startProcessor` does it later (or the test serves the socket itself). */
  readonly processor?: boolean
  readonly concurrency?: number
  /** What Envoy's own fence lets through, where it is not `addresses.allow` of the configuration. */
  readonly envoyAllow?: readonly string[]
}

/** A gateway in a scratch folder with ports of its own: real Envoy, real processor. */
export interface TestGateway {
  readonly folder: string
  readonly port: number
  readonly adminPort: number
  readonly httpPort: number
  readonly envoy: Part
  processor: Part | undefined
  startProcessor(): Promise<Part>
  /** Another Envoy in place of one that has ended, on the same ports. */
  startEnvoy(): Promise<Part>
  /** Text of Envoy's log, access log included, or of the processor's. */
  log(of: 'envoy' | 'processor'): string
  /** The value of one of Envoy's counters or gauges; 0 when it is not there. */
  stat(name: string): Promise<number>
  stop(): Promise<void>
}

export async function startGateway(options: GatewayOptions): Promise<TestGateway> {
  const binary = await ensureEnvoy()
  const folder = mkdtempSync(join(tmpdir(), 'zonegate-test-'))
  mkdirSync(join(folder, 'run'))
  cpSync(ENVOY_FILES, join(folder, 'envoy'), { recursive: true })
  options.prepare?.(folder)
  for (const [file, change] of Object.entries(options.edit ?? {})) {
    const path = join(folder, 'envoy', file)
    writeFileSync(path, change(readFileSync(path, 'utf8')))
  }
  const [port, adminPort, httpPort] = [await freePort(), await freePort(), await freePort()]
  writeFileSync(
    join(folder, 'zonegate.yaml'),
    stringify({ ...options.config, listen: { ...options.listen, http: `127.0.0.1:${httpPort}` } }),
  )
  const outputs: number[] = []
  const output = (of: string): number => {
    const descriptor = openSync(join(folder, `${of}.log`), 'a')
    outputs.push(descriptor)
    return descriptor
  }

  const launchProcessor = async (): Promise<Part> => {
    const part = startProcessor(folder, 'zonegate.yaml', output('processor'))
    gateway.processor = part
    await ready(part, httpPort, '/readyz')
    return part
  }
  const ready = async (part: Part, readyPort: number, path: string): Promise<void> => {
    try {
      await untilReady(part, '127.0.0.1', readyPort, path)
    } catch (error) {
      throw new Error(
        `${(error as Error).message}\n${readFileSync(join(folder, `${part.name}.log`), 'utf8')}`,
      )
    }
  }
  const launchEnvoy = (): Part =>
    startEnvoy({
      binary,
      cwd: folder,
      addresses: {
        listen: { host: '127.0.0.1', port },
        admin: { host: '127.0.0.1', port: adminPort },
        processor:
          options.listen?.grpc === undefined ? 'unix:run/processor.sock' : hostPortOf(options.listen.grpc),
        allow: options.envoyAllow ?? allowed(options.config),
      },
      output: output('envoy'),
      concurrency: options.concurrency ?? 1,
    })
  let envoy: Part | undefined
  const gateway: TestGateway = {
    folder,
    port,
    adminPort,
    httpPort,
    processor: undefined,
    get envoy() {
      if (envoy === undefined) throw new Error('Envoy starts when the processor is ready')
      return envoy
    },
    startProcessor: launchProcessor,
    startEnvoy: async () => {
      envoy = launchEnvoy()
      await ready(envoy, adminPort, '/ready')
      return envoy
    },
    log: (of) => readFileSync(join(folder, `${of}.log`), 'utf8'),
    stat: (name) => statOf(adminPort, name),
    stop: async () => {
      await Promise.all([envoy?.stop('SIGKILL'), gateway.processor?.stop('SIGKILL')])
      for (const descriptor of outputs) closeSync(descriptor)
      rmSync(folder, { recursive: true, force: true })
    },
  }
  try {
    if (options.processor !== false) await launchProcessor()
    await gateway.startEnvoy()
  } catch (error) {
    await gateway.stop()
    throw error
  }
  return gateway
}

function allowed(config: GatewayOptions['config']): readonly string[] {
  const addresses = config['addresses'] as { readonly allow?: readonly string[] } | undefined
  return addresses?.allow ?? []
}

async function statOf(adminPort: number, name: string): Promise<number> {
  const response = await fetch(
    `http://127.0.0.1:${adminPort}/stats?format=json&filter=${encodeURIComponent(`^${name}$`)}`,
  )
  const { stats } = (await response.json()) as { stats: { name?: string; value?: number }[] }
  return stats.find((stat) => stat.name === name)?.value ?? 0
}
