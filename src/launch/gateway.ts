import { connect, createServer } from 'node:net'
import { join, resolve } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import {
  ADMIN_VARIABLE,
  addressesOf,
  LISTEN_VARIABLE,
  readFallbackDns,
  tracingOf,
} from '../config/envoy-settings.ts'
import { hostPortOf, parseAddressPort } from '../config/host-port.ts'
import { ConfigError, loadConfig } from '../config/load.ts'
import { rulesOf } from '../config/rules.ts'
import type { Config } from '../config/schema.ts'
import { ENVOY_FOLDER, RUN_FOLDER, readEnvoyFiles, textBefore, writeRendered } from '../envoy-files/folder.ts'
import { generate } from '../envoy-files/generated.ts'
import {
  type HostPort,
  namesClusterOf,
  renderBootstrap,
  renderListener,
  renderRoutes,
} from '../envoy-files/render.ts'
import { ensureEnvoy } from './envoy-binary.ts'
import { drainEnvoy, type Part, startEnvoy, startProcessor, untilListening, untilReady } from './instance.ts'
import { leftoversText, runningParts } from './leftovers.ts'
import { NotYet, supervise } from './supervisor.ts'
import { untilParentGone } from './watch.ts'

export interface GatewayOptions {
  /** The folder with `envoy/`, in which the launcher creates `run/`. */
  readonly root: string
  readonly configPath: string | undefined
  /** `address:port` of Envoy's listener, and below of its admin page. */
  readonly listen: string
  readonly admin: string
  /** Share the listener's address with another Zonegate, which the operator stops afterwards. */
  readonly reusePort?: boolean
  readonly onReady: () => void
}

const say = (text: string): void => {
  process.stderr.write(`zonegate: ${text}\n`)
}

/**
 * Runs Envoy and the processor as one foreground command. It starts both, restarts a part that ends by itself while the other
 * goes on, and stops both, draining Envoy first. Returns after Ctrl-C, SIGTERM, or the end of the parent.
 * @throws Error if a part can't start or does not stay up; both parts have ended by then
 */
export async function runGateway(options: GatewayOptions): Promise<void> {
  const listen = addressPort('--listen', options.listen)
  const admin = addressPort('--admin', options.admin)
  const configPath = options.configPath === undefined ? undefined : resolve(options.configPath)
  const { config } = loadConfig(configPath, process.env)
  const http = hostPortOf(config.listen.http)
  const binary = await ensureEnvoy(say)
  await checkNothingRuns(options, config, { listen, admin, http })

  const stopped = stopSignal()
  const parts = new Map<string, Part>()
  const running = async (part: Part, port: HostPort, path: string): Promise<Part> => {
    parts.set(part.name, part)
    try {
      await untilReady(part, port.host, port.port, path)
    } catch (error) {
      await part.stop('SIGKILL')
      throw error
    }
    return part
  }
  const files = new FilesInForce(options, configPath, config)
  const starts = {
    processor: () =>
      running(startProcessor(options.root, configPath, 'inherit', files.environment()), http, '/readyz'),
    envoy: () =>
      files.withEnvoyConfig(async () => {
        const part = startEnvoy({ binary, cwd: options.root, output: 'inherit' })
        await running(part, admin, '/ready')
        await untilListening(admin).catch(async (error: Error) => {
          await part.stop()
          throw error
        })
        return part
      }),
  }
  // Settles when nothing may be restarted any more.
  const ending = Promise.withResolvers<void>()
  const seams = { say, stopped: Promise.race([stopped, ending.promise]), now: () => performance.now(), sleep }
  try {
    const processor = await Promise.race([stopped, starts.processor()])
    const envoy = processor && (await Promise.race([stopped, starts.envoy()]))
    if (processor === undefined || envoy === undefined) return
    options.onReady()
    const failure = await Promise.race([
      stopped,
      supervise(processor, { start: starts.processor, ...seams }),
      supervise(envoy, { start: starts.envoy, ...seams }),
    ])
    if (failure !== undefined) throw new Error(failure)
    say('stopping after Envoy has finished its requests')
    await drainEnvoy(parts.get('envoy') ?? envoy, admin)
  } finally {
    ending.resolve()
    await Promise.all([...parts.values()].map((part) => part.stop()))
  }
}

/**
 * The files and settings with which parts start. An operator may break a file while the parts run. A restarted part gets the
 * saved files if they are sound, but keeps the settings on which the other part depends.
 */
class FilesInForce {
  readonly #root: string
  readonly #configPath: string | undefined
  readonly #first: Config
  /** Environment variables with Envoy's addresses, for the processor, which renders Envoy's files. */
  readonly #addresses: NodeJS.ProcessEnv
  /** The bootstrap with which Envoy last started. */
  #envoyConfig: string | undefined
  /** The listener with which Envoy last started. */
  #listener: string | undefined
  #refusedEnvoyConfig: string | undefined

  constructor(
    { root, listen, admin }: Pick<GatewayOptions, 'root' | 'listen' | 'admin'>,
    configPath: string | undefined,
    first: Config,
  ) {
    this.#root = root
    this.#configPath = configPath
    this.#first = first
    this.#addresses = { [LISTEN_VARIABLE]: listen, [ADMIN_VARIABLE]: admin }
  }

  /**
   * Environment variables for a starting processor. They override `listen` of zonegate.yaml, because Envoy and this launcher
   * look for the processor at its first addresses.
   * @throws NotYet while zonegate.yaml has a fault, with which no processor starts
   */
  environment(): NodeJS.ProcessEnv {
    const { http, grpc } = this.#first.listen
    const { listen } = this.#config((fault) => {
      throw new NotYet(`${fault}; the processor starts once you have corrected that`)
    })
    if (listen.http === http && listen.grpc === grpc) return this.#addresses
    say('listen in zonegate.yaml has changed: it takes effect when you restart Zonegate')
    return { ...this.#addresses, ZONEGATE_HTTP: http, ZONEGATE_GRPC: grpc }
  }

  /** Starts Envoy with the saved bootstrap, or with the last one that worked if Envoy does not start with the saved one. */
  async withEnvoyConfig(start: () => Promise<Part>): Promise<Part> {
    const good = this.#envoyConfig
    const text = this.#renderedOr(good)
    const run = join(this.#root, RUN_FOLDER)
    writeRendered(run, { bootstrap: text })
    const listener = textBefore(run, 'listener')
    try {
      const part = await start()
      this.#envoyConfig = text
      this.#listener = listener
      return part
    } catch (error) {
      // Envoy reads its listener live, so it may have refused the saved one.
      if (this.#listener !== undefined && listener !== this.#listener) {
        say('Envoy refuses the saved envoy/listener.yaml: it goes on with the previous one')
        writeRendered(run, { listener: this.#listener })
      } else if (text !== good) this.#refusedEnvoyConfig = text
      throw error
    }
  }

  #renderedOr(good: string | undefined): string {
    try {
      const text = this.#rendered()
      if (text !== this.#refusedEnvoyConfig || good === undefined) return text
    } catch (error) {
      if (good === undefined) throw error
      say((error as Error).message)
    }
    say('Envoy does not start with the saved envoy/envoy.yaml: it goes on with the previous one')
    return good
  }

  /** Renders Envoy's bootstrap. Leaves a listener and routes that the processor has written: Envoy has accepted them. */
  #rendered(): string {
    const config = this.#config(() => this.#first)
    const generated = generate(rulesOf(config), readFallbackDns(config, process.env), tracingOf(config))
    const addresses = addressesOf(this.#first, this.#addresses)
    const files = readEnvoyFiles(join(this.#root, ENVOY_FOLDER), ENVOY_FOLDER)
    const names = namesClusterOf(files.clusters, generated)
    const run = join(this.#root, RUN_FOLDER)
    if (textBefore(run, 'listener') === undefined)
      writeRendered(run, { listener: renderListener(files.listener, generated, addresses) })
    if (textBefore(run, 'routes') === undefined)
      writeRendered(run, { routes: renderRoutes(files.routes, generated, names) })
    return renderBootstrap(files.bootstrap, generated, addresses, names)
  }

  #config(otherwise: (fault: string) => Config): Config {
    try {
      return loadConfig(this.#configPath, process.env).config
    } catch (error) {
      if (error instanceof ConfigError) return otherwise(error.faults.join('; '))
      throw error
    }
  }
}

/** @throws Error that says what runs, and how to end it */
async function checkNothingRuns(
  { root, reusePort }: GatewayOptions,
  { listen: { grpc } }: Config,
  ports: { listen: HostPort; admin: HostPort; http: HostPort },
): Promise<void> {
  const others = leftoversText(runningParts(root))
  const inUse = async (check: Promise<void>): Promise<void> => {
    await check.catch((error: Error) => {
      throw others === null ? error : new Error(`${error.message} (${others})`)
    })
  }
  await inUse(mustBeFree('--listen', ports.listen, reusePort))
  await inUse(mustBeFree('--admin', ports.admin))
  await inUse(mustBeFree('listen.http', ports.http))
  if (grpc.startsWith('unix:')) await inUse(mustBeSilent(resolve(root, grpc.slice('unix:'.length))))
  if (others !== null) say(others)
}

/** Settles at the first signal to stop. Later signals change nothing, because stopping takes a bounded time. */
function stopSignal(): Promise<undefined> {
  return new Promise((resolve) => {
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const)
      process.on(signal, () => resolve(undefined))
    void untilParentGone(process.env).then(() => resolve(undefined))
  })
}

/** @throws Error unless it is an IP address and a port: Envoy resolves no names here */
function addressPort(option: string, text: string): HostPort {
  const parsed = parseAddressPort(text)
  if (parsed === null)
    throw new Error(`${option}: expected address:port, like 127.0.0.1:8101 or [::1]:8101, got "${text}"`)
  return parsed
}

/** @param reusePort ignore programs that share the address (SO_REUSEPORT), as every Envoy does */
async function mustBeFree(name: string, { host, port }: HostPort, reusePort = false): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    const probe = createServer()
    probe.once('error', (error: NodeJS.ErrnoException) => {
      const why = error.code === 'EADDRINUSE' ? 'is in use' : `can't be used (${error.code})`
      reject(
        new Error(
          `${host}:${port} (${name}) ${why}; stop the program that uses it, or choose another address`,
        ),
      )
    })
    probe.listen({ host, port, exclusive: true, reusePort }, () => probe.close(() => resolve()))
  })
}

/** @throws Error if a processor answers on the socket. The next processor removes a socket on which nobody answers. */
async function mustBeSilent(path: string): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    const peer = connect(path)
    peer.once('error', () => resolve())
    peer.once('connect', () => {
      peer.destroy()
      reject(
        new Error(`another processor listens on ${path}; stop it, or name another socket in listen.grpc`),
      )
    })
  })
}
