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
import { ConfigError, loadConfig } from '../config/load.ts'
import { rulesOf } from '../config/rules.ts'
import { type Config, hostPortOf, parseAddressPort } from '../config/schema.ts'
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
  /** The folder with `envoy/`; `run/` is made in it. */
  readonly root: string
  readonly configPath: string | undefined
  /** `host:port` of Envoy's listener and of its admin page. */
  readonly listen: string
  readonly admin: string
  /** Take requests beside another Zonegate on the same address, which is stopped afterwards. */
  readonly reusePort?: boolean
  readonly onReady: () => void
}

const say = (text: string): void => {
  process.stderr.write(`zonegate: ${text}\n`)
}

/**
 * Envoy and the processor as one foreground command: up together, down together, Envoy drained first. In between, the one
 * that ends by itself is started again while the other goes on. Returns after Ctrl-C, SIGTERM, or the end of the parent.
 * @throws Error with the reason, once nothing runs any more, where a part can't be started or kept alive
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
  // From here on nothing is started again.
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
    say('stopping: Envoy finishes its requests first')
    await drainEnvoy(parts.get('envoy') ?? envoy, admin)
  } finally {
    ending.resolve()
    await Promise.all([...parts.values()].map((part) => part.stop()))
  }
}

/**
 * What parts are started with. Files may be changed, and broken, while they run: a part that is started again gets what is
 * saved where that is good, and may not change what the other one was started with.
 */
class FilesInForce {
  readonly #root: string
  readonly #configPath: string | undefined
  readonly #first: Config
  /** Where Envoy listens, for whoever renders its files. */
  readonly #addresses: NodeJS.ProcessEnv
  #envoyConfig: string | undefined
  /** That Envoy was started with last. */
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
   * What stands above zonegate.yaml for a processor that starts: it must be where Envoy and this launcher look for it.
   * @throws NotYet while zonegate.yaml is at fault: no processor starts with that
   */
  environment(): NodeJS.ProcessEnv {
    const { http, grpc } = this.#first.listen
    const { listen } = this.#config((fault) => {
      throw new NotYet(`${fault}; the processor starts once that is mended`)
    })
    if (listen.http === http && listen.grpc === grpc) return this.#addresses
    say('listen in zonegate.yaml has changed: that takes a new start of all, and stays as it was until then')
    return { ...this.#addresses, ZONEGATE_HTTP: http, ZONEGATE_GRPC: grpc }
  }

  /** Starts Envoy with the file that is saved, or, where that one does not start, with the last one that did. */
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
      // The listener is live: what is saved may never have been Envoy's.
      if (this.#listener !== undefined && listener !== this.#listener) {
        say(
          'envoy/listener.yaml as it is saved is nothing that Envoy takes: Envoy goes on with the one before',
        )
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
    say('envoy/envoy.yaml as it is saved does not start: Envoy goes on with the one before')
    return good
  }

  /** What the processor has written stays: Envoy has accepted it. */
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

/** Settles at the first signal to stop. More of them change nothing: stopping is bounded in time. */
function stopSignal(): Promise<undefined> {
  return new Promise((resolve) => {
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const)
      process.on(signal, () => resolve(undefined))
    void untilParentGone(process.env).then(() => resolve(undefined))
  })
}

/** @throws Error where Envoy, which looks up no name here, would not take it */
function addressPort(option: string, text: string): HostPort {
  const parsed = parseAddressPort(text)
  if (parsed === null)
    throw new Error(`${option}: expected address:port, like 127.0.0.1:8101 or [::1]:8101, got "${text}"`)
  return parsed
}

/** @param reusePort others who share it (SO_REUSEPORT, as every Envoy does) don't count */
async function mustBeFree(name: string, { host, port }: HostPort, reusePort = false): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    const probe = createServer()
    probe.once('error', (error: NodeJS.ErrnoException) => {
      const why = error.code === 'EADDRINUSE' ? 'is in use' : `can't be had (${error.code})`
      reject(new Error(`${host}:${port} (${name}) ${why}; stop what has it, or choose another address`))
    })
    probe.listen({ host, port, exclusive: true, reusePort }, () => probe.close(() => resolve()))
  })
}

/** A socket that nobody answers on is one that was left behind: the processor removes it. */
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
