import {
  closeSync,
  cpSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parse, stringify } from 'yaml'
import {
  ADMIN_VARIABLE,
  addressesOf,
  LISTEN_VARIABLE,
  readFallbackDns,
  tracingOf,
} from '../../src/config/envoy-settings.ts'
import { loadConfig } from '../../src/config/load.ts'
import { rulesOf } from '../../src/config/rules.ts'
import { renderFolder } from '../../src/envoy-files/folder.ts'
import { generate } from '../../src/envoy-files/generated.ts'
import { ensureEnvoy } from '../../src/launch/envoy-binary.ts'
import { type Part, startEnvoy, startProcessor, untilReady } from '../../src/launch/instance.ts'
import type { Status } from '../../src/status/status.ts'
import { freePort } from './ports.ts'
import { ask, eventually } from './processor.ts'
import { writeZonesInto } from './static-zones.ts'

const ENVOY_FILES = fileURLToPath(new URL('../../envoy', import.meta.url))

/**
 * A test's clients and receivers are in one process, and a slow machine holds that up for half a second now and then:
 * what is shipped would refuse requests that nothing is wrong with. Tests of these values say so, or have their own.
 */
const PATIENCE: readonly [file: string, shipped: RegExp, patient: string][] = [
  ['routes.yaml', /per_try_timeout: 0\.5s/, 'per_try_timeout: 10s'],
  ['listener.yaml', /message_timeout: 2s/, 'message_timeout: 9s'],
  ['envoy.yaml', /\bconnect_timeout: 0\.5s/g, 'connect_timeout: 5s'],
  ['clusters.yaml', /\bconnect_timeout: 1s/g, 'connect_timeout: 5s'],
]
const PATIENT_BUDGET_MS = 8000
const READY_WITHIN_MS = 60_000

export interface GatewayOptions {
  /** zonegate.yaml, without `listen`. */
  readonly config: Readonly<Record<string, unknown>>
  /** Changes to Envoy's files before they are used: file name → edit of its text. */
  readonly edit?: Readonly<Record<string, (text: string) => string>>
  /** `listen` of zonegate.yaml, but for `http`; where it names no other, the processor has a socket. */
  readonly listen?: Readonly<Record<string, unknown>> & { readonly grpc?: string }
  /** Called with the scratch folder before anything starts. */
  readonly prepare?: (folder: string) => void
  /** False: starts no processor. `startProcessor` does it later, or the test serves the socket itself. */
  readonly processor?: boolean
  /** True: keeps the timeouts of the files. Else they are longer, unless `edit` or `config` sets them. */
  readonly timeoutsAsShipped?: boolean
  readonly concurrency?: number
  /**
   * What Envoy's own fence lets through, where it is not `addresses.allow` of the configuration: the cluster `zones` is
   * written into Envoy's own file then, and so not the processor's.
   */
  readonly envoyAllow?: readonly string[]
}

/** A gateway in a scratch folder with ports of its own: real Envoy, real processor. */
export interface TestGateway {
  readonly folder: string
  readonly port: number
  readonly adminPort: number
  readonly httpPort: number
  readonly envoy: Part
  /** Of a processor that makes what Envoy reads here: where its listeners are. */
  readonly environment: Readonly<Record<string, string>>
  processor: Part | undefined
  startProcessor(): Promise<Part>
  /** Starts another Envoy after one has ended, on the same ports. */
  startEnvoy(): Promise<Part>
  /** Saves zonegate.yaml with another part of this name, and resolves when the processor has loaded it. */
  configure(part: string, values: Readonly<Record<string, unknown>>): Promise<void>
  /** Text of Envoy's log, access log included, or of the processor's. */
  log(of: 'envoy' | 'processor'): string
  /** The processor's own. On a connection of its own: the processor that served an earlier call may have been killed since. */
  status(): Promise<Status>
  /** The value of one of Envoy's counters or gauges; 0 if it does not exist. */
  stat(name: string): Promise<number>
  stop(): Promise<void>
}

/** Set where the files are another's than shipped: what an edit is for may be what was taken down. */
export const ATTACKED = 'ZONEGATE_TEST_ATTACKED'

export async function startGateway(options: GatewayOptions): Promise<TestGateway> {
  const binary = await ensureEnvoy()
  const folder = mkdtempSync(join(tmpdir(), 'zonegate-test-'))
  mkdirSync(join(folder, 'run'))
  cpSync(ENVOY_FILES, join(folder, 'envoy'), { recursive: true })
  options.prepare?.(folder)
  for (const [file, change] of Object.entries(options.edit ?? {})) {
    const path = join(folder, 'envoy', file)
    const text = readFileSync(path, 'utf8')
    const changed = change(text)
    if (changed === text && process.env[ATTACKED] === undefined)
      throw new Error(`the edit of ${file} finds nothing to change`)
    writeFileSync(path, changed)
  }
  const [port, adminPort, httpPort] = [await freePort(), await freePort(), await freePort()]
  const config = options.timeoutsAsShipped === true ? options.config : patientConfig(options.config)
  if (options.timeoutsAsShipped !== true) makePatient(join(folder, 'envoy'))
  writeFileSync(
    join(folder, 'zonegate.yaml'),
    stringify({ ...config, listen: { ...options.listen, http: `127.0.0.1:${httpPort}` } }),
  )
  if (options.envoyAllow !== undefined) writeZonesInto(join(folder, 'envoy'), options.envoyAllow)
  const addresses = { [LISTEN_VARIABLE]: `127.0.0.1:${port}`, [ADMIN_VARIABLE]: `127.0.0.1:${adminPort}` }
  const outputs: number[] = []
  const output = (of: string): number => {
    const descriptor = openSync(join(folder, `${of}.log`), 'a')
    outputs.push(descriptor)
    return descriptor
  }

  const launchProcessor = async (): Promise<Part> => {
    const part = startProcessor(folder, 'zonegate.yaml', output('processor'), addresses)
    gateway.processor = part
    await ready(part, httpPort, '/readyz')
    return part
  }
  const ready = async (part: Part, readyPort: number, path: string): Promise<void> => {
    try {
      await untilReady(part, '127.0.0.1', readyPort, path, READY_WITHIN_MS)
    } catch (error) {
      throw new Error(
        `${(error as Error).message}\n${readFileSync(join(folder, `${part.name}.log`), 'utf8')}`,
      )
    }
  }
  const launchEnvoy = (): Part => {
    // As `zonegate render` does it: where no processor runs, nobody else has.
    if (gateway.processor === undefined) {
      const { config } = loadConfig(join(folder, 'zonegate.yaml'))
      renderFolder(
        folder,
        generate(rulesOf(config), readFallbackDns(config, process.env), tracingOf(config)),
        addressesOf(config, addresses),
      )
    }
    return startEnvoy({
      binary,
      cwd: folder,
      output: output('envoy'),
      concurrency: options.concurrency ?? 1,
    })
  }
  let envoy: Part | undefined
  const gateway: TestGateway = {
    folder,
    port,
    adminPort,
    httpPort,
    processor: undefined,
    environment: addresses,
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
    configure: async (part, values) => {
      const file = join(folder, 'zonegate.yaml')
      const config = parse(readFileSync(file, 'utf8'))
      const accepted = async (): Promise<number> => (await gateway.status()).config.reloads.accepted
      const before = await accepted()
      writeFileSync(`${file}.new`, stringify({ ...config, [part]: { ...config[part], ...values } }))
      renameSync(`${file}.new`, file)
      gateway.processor?.process.kill('SIGHUP')
      await eventually('zonegate.yaml is taken over', async () => (await accepted()) > before)
    },
    log: (of) => readFileSync(join(folder, `${of}.log`), 'utf8'),
    status: async () => (await ask(httpPort, '/api/status')).json(),
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

/** Envoy's files in this folder, with patience. */
export function makePatient(folder: string): void {
  for (const [file, shipped, patient] of PATIENCE) {
    const path = join(folder, file)
    writeFileSync(path, readFileSync(path, 'utf8').replace(shipped, patient))
  }
}

function patientConfig(config: GatewayOptions['config']): GatewayOptions['config'] {
  return { ...config, dns: { budgetMs: PATIENT_BUDGET_MS, ...(config['dns'] as object | undefined) } }
}

async function statOf(adminPort: number, name: string): Promise<number> {
  const path = `/stats?format=json&filter=${encodeURIComponent(`^${name}$`)}`
  const { stats }: { stats: { name?: string; value?: number }[] } = (await ask(adminPort, path)).json()
  return stats.find((stat) => stat.name === name)?.value ?? 0
}
